"""Frames to features: windows, flow and backbones at work on one video after another."""
