"""One video library a file: each turns a file into frames with exact times."""
