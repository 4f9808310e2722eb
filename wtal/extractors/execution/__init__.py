"""Frames to features: windows, flow and backbones at work on one video after another.

Start with `extraction_line.py`: its `_features` shows the path of a video's frames.
"""
