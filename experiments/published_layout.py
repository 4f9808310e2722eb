"""Planted features of published width over THUMOS14's labels, in the files of the real ones.

    python -m experiments.published_layout thumos14 --videos 413 --out FOLDER

FOLDER gets `Thumos14reduced-I3D-JOINTFeatures.npy` (or a folder with one file per video and stream) with rows of 2 x
1024 numbers per 16 frames at 25 fps, and `Thumos14reduced-Annotations` of the same videos. They serve to rehearse
`wtal reproduce`, and confirm files, recipes, times and memory; they do not rank the methods on real features.
"""

import argparse
import shutil
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.planted import SUBSETS, write_labels
from wtal.data.annotations import read_annotations
from wtal.data.dataset import Dataset, VideoRecord
from wtal.data.layout import ExportedVideo
from wtal.data.layouts import LAYOUTS

JOINT, PER_VIDEO = "wtalc-joint", "npy-per-video"
FEATURES, ANNOTATIONS = "Thumos14reduced-I3D-JOINTFeatures", "Thumos14reduced-Annotations"
_RATE = Fraction(25, 16)
_WIDTH = 1024
_DIRECTIONS = 64
"""Dimensions of a stream with a component of a class's direction."""
_NOISE_ROWS = 4099
"""Rows of noise for all videos, each of which starts at a different row."""
_AMBIGUOUS = "Ambiguous_test.txt"

Features = NDArray[np.float32]


def main(argv: Sequence[str] | None = None) -> None:
    """Write the features and the annotations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=["thumos14"])
    parser.add_argument("--videos", type=int, default=413, help="number of videos from both subsets; default: all 413")
    parser.add_argument("--layout", choices=[JOINT, PER_VIDEO], default=JOINT)
    data = Path(__file__).parents[1] / "../shared/data"
    parser.add_argument("--data", type=Path, default=data, help="folder of the reference data")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    for path in write(options.data / "annotations" / ANNOTATIONS, options.out, options.videos, options.layout):
        print(path)


def write(source: Path, out: Path, videos: int, layout: str = JOINT) -> tuple[Path, Path]:
    """Write features and annotations of `videos` videos of W-TALC's annotation folder below `out`."""
    dataset = read_annotations(source)
    names = chosen(dataset, videos)
    labels, target = out / ANNOTATIONS, out / FEATURES
    labels.mkdir(parents=True, exist_ok=True)
    write_labels(labels, dataset, names)
    if (source / _AMBIGUOUS).is_file():
        shutil.copyfile(source / _AMBIGUOUS, labels / _AMBIGUOUS)
    target.mkdir(exist_ok=True)
    LAYOUTS.load(layout).write(target, exported(dataset, names))
    if layout == PER_VIDEO:
        return target, labels
    joint = target.with_suffix(".npy")
    (target / "features.npy").replace(joint)
    shutil.rmtree(target)
    return joint, labels


def chosen(dataset: Dataset, count: int) -> list[str]:
    """Names of `count` videos, evenly spread over the list of both subsets, in its order."""
    names = list(dataset.videos)
    positions = np.linspace(0, len(names) - 1, min(max(count, 1), len(names))).round().astype(int)
    return [names[position] for position in positions]


def exported(dataset: Dataset, names: Sequence[str]) -> list[ExportedVideo]:
    """Videos for a layout to write, whose features are computed on demand."""
    rng = np.random.default_rng(0)
    noise = np.abs(rng.standard_normal((_NOISE_ROWS, 2 * _WIDTH), dtype=np.float32)) * np.float32(0.4)
    directions = {label: _direction(rng) for label in dataset.classes}

    def load(position: int, video: VideoRecord) -> Callable[[], dict[str, Features]]:
        def features() -> dict[str, Features]:
            x = _features(video, noise, directions, 997 * position)
            return {"rgb": x[:, :_WIDTH], "flow": x[:, _WIDTH:]}

        return features

    videos = [dataset.videos[name] for name in names]
    return [ExportedVideo(video.id, SUBSETS[video.subset], load(i, video)) for i, video in enumerate(videos)]


def _features(video: VideoRecord, noise: Features, directions: dict[str, Features], offset: int) -> Features:
    """Features (T, 2 * 1024) of a video: noise plus the directions of each snippet's classes."""
    length = max(1, int((video.duration or 0) * _RATE))
    x = noise[(offset + np.arange(length)) % _NOISE_ROWS]
    middles = (np.arange(length) + 0.5) / float(_RATE)
    for segment in video.annotations:
        x[(middles >= segment.start) & (middles < segment.end)] += directions[segment.label]
    return x


def _direction(rng: np.random.Generator) -> Features:
    direction = np.zeros((2, _WIDTH), dtype=np.float32)
    for stream in direction:
        stream[rng.choice(_WIDTH, _DIRECTIONS, replace=False)] = rng.uniform(0.3, 1.0, _DIRECTIONS)
    return direction.reshape(-1)


if __name__ == "__main__":
    main(sys.argv[1:])
