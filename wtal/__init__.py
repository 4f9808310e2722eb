"""Weakly-supervised temporal action localization: raw videos in, detections out, from video-level labels only."""

__version__ = "0.1.0"
