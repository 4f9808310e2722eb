"""Textures, and pairs of them whose content moves by whole pixels."""

import cv2
import numpy as np


def texture(height, width, seed=0, blur=2.0):
    noise = np.random.default_rng(seed).standard_normal((height, width)).astype(np.float32)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), blur), None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def pictures(height=48, width=40, motions=((3, -1), (0, 0), (1, 2))):
    """Two stacks of textures, the second with the content moved by whole pixels."""
    pairs = []
    for seed, (dx, dy) in enumerate(motions):
        canvas = texture(height + 20, width + 20, seed)
        moved = canvas[10 - dy : 10 - dy + height, 10 - dx : 10 - dx + width]
        pairs.append((canvas[10 : 10 + height, 10 : 10 + width], moved))
    first, second = zip(*pairs, strict=True)
    return np.stack(first), np.stack(second)
