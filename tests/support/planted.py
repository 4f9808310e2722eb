"""Synthetic features with planted actions: each class adds its own direction to the snippets that show it."""

from dataclasses import dataclass

import numpy as np

from wtal.data.segments import Annotation

CLASSES = ("dive", "jump", "throw")
WIDTH = 32
STREAMS = ("rgb", "flow")


@dataclass(frozen=True)
class PlantedVideo:
    id: str
    streams: dict[str, np.ndarray]
    labels: np.ndarray
    annotations: tuple[Annotation, ...]


def planted_videos(count: int, seed: int, seconds_per_snippet: float = 0.5) -> list[PlantedVideo]:
    """Plant `count` videos of about 100 snippets: 1 to 3 actions of one or two classes, 2 streams of 32 dimensions."""
    directions = np.random.default_rng(7).standard_normal((len(CLASSES), len(STREAMS), WIDTH))
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    rng = np.random.default_rng(seed)
    videos = []
    for number in range(count):
        length = int(rng.integers(80, 121))
        features = rng.standard_normal((len(STREAMS), length, WIDTH)) * 0.5
        chosen = rng.choice(len(CLASSES), size=int(rng.integers(1, 3)), replace=False)
        positions = np.sort(rng.choice(length // 20, size=int(rng.integers(1, 4)), replace=False)) * 20
        annotations, present = [], set()
        for position in positions:
            label = int(rng.choice(chosen))
            start, end = int(position + rng.integers(1, 5)), int(position + rng.integers(10, 18))
            features[:, start:end] += 4.0 * directions[label][:, None]
            present.add(label)
            annotations.append(Annotation(start * seconds_per_snippet, end * seconds_per_snippet, CLASSES[label]))
        labels = np.zeros(len(CLASSES), dtype=np.float32)
        labels[sorted(present)] = 1
        streams = dict(zip(STREAMS, features.astype(np.float32), strict=True))
        videos.append(PlantedVideo(f"video-{number:02d}", streams, labels, tuple(annotations)))
    return videos
