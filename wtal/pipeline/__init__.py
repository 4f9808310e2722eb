"""The stages; each turns paths into a path."""
