"""Pipeline stages; each turns paths into a path."""
