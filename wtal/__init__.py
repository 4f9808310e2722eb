"""Weakly-supervised temporal action localization: raw videos in, detections out, from video-level labels only."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wtal.pipeline.new_videos.detector import Detector

__version__ = "0.1.0"


def load(model: str | Path, device: str = "cpu") -> "Detector":
    """Open a file of `wtal pack`, or a run's folder; its `detect("video.mp4")` returns the detections in a video.

    Raises:
        wtal.errors.WtalError: when the file is damaged, or this machine cannot make the model's features.
    """
    from wtal.pipeline.new_videos.open_model import open_detector

    return open_detector(Path(model), device)
