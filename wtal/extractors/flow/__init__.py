"""One optical flow method a file."""
