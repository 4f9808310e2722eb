"""Layers and losses that several heads share."""
