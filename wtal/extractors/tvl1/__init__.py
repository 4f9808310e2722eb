"""TV-L1 optical flow: its parameters, and an engine for each kind of machine."""
