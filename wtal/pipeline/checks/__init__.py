"""Checks of the input and of what was learned: labels, lengths."""
