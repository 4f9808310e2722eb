"""Viewing of detections: a page with players, the file of its verdicts, and a server for both."""
