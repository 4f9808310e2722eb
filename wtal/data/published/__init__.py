"""Feature sets published or exported as files: the clock of their rows, and the note next to an export."""
