"""Viewing of detections: a page with video players, the file of its verdicts, and a server for both."""
