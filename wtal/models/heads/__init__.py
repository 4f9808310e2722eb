"""One localization head a file."""
