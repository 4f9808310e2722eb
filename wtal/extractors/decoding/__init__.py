"""Video files to frames: headers, selection of a reader, resampling in time and size, and the reader process."""
