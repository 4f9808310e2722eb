"""Video files to frames: headers, the choice of a reader, resampling in time and size, and the reader process."""
