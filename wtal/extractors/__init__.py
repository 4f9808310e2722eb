"""Pixels to features: readers, optical flow, backbones. The only package that imports cv2, av, decord, torchcodec."""

from wtal.extractors.backbones import create_backbone

__all__ = ["create_backbone"]
