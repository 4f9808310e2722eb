"""One backbone a file."""
