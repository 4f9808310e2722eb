"""Video files to frames: headers, resampling in time and size, and the reader process."""
