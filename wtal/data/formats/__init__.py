"""One annotation file format a file."""
