"""Files of other programs, read by several packages."""
