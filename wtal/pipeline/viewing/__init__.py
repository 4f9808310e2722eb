"""Detections as people look at them: a page with players, the file of their verdicts, and a server for both."""
