"""A researcher's path on THUMOS14's real labels: published layout in, every head trained by its recipe, one table.

THUMOS14 features are replaced by planted ones: random numbers, to which every snippet inside a true segment adds the
direction of its class, in W-TALC's published layout (one object array of (T, D) arrays, 16 frames per snippet at 25
fps), 2 x 64 wide. The results confirm heads, recipes, times and the judge on real label files; they do not rank the
methods on real features.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments._run import arguments, keep
from wtal.data.annotations import read_annotations
from wtal.data.dataset import Dataset
from wtal.data.names import match_ids
from wtal.data.store import FeatureStore
from wtal.errors import UsageError
from wtal.eval import evaluate_detections
from wtal.eval.thresholds import parse_tious
from wtal.models.heads import HEADS
from wtal.models.localization.config import LocalizeConfig
from wtal.models.localization.localize import localize
from wtal.models.localization.signals import Activations
from wtal.pipeline.comparison.compare import Comparison, compare, planned_rows
from wtal.pipeline.exchange.import_features import import_features
from wtal.pipeline.workspace import Workspace

RECIPES = Path(__file__).with_name("planted")
SUBSETS = {"train": "validation", "training": "validation", "validation": "validation", "test": "test"}
"""Name of a subset in either label file -> THUMOS14's own: validation videos train, test videos are judged."""
COMMON = (
    "localize.streams=fused",
    "localize.range=class",
    "localize.upsample=8",
    "localize.min_length=1",
    "localize.threshold_start=0.1",
    "localize.threshold_stop=0.95",
    "localize.threshold_step=0.1",
    "localize.second_signal=none",
    "localize.grouping=runs",
    "localize.class_from=video_scores",
    "localize.class_threshold=0.1",
    "localize.max_classes=0",
    "localize.inner=mean",
    "localize.inflation=0.25",
    "localize.outer_weight=1.0",
    "localize.video_weight=0.2",
    "localize.suppression=hard",
    "localize.overlap=tiou",
    "localize.nms_tiou=0.5",
)
"""Common localization of all heads, in addition to each paper's own."""
SIGNALS = {
    "case": ("cas", "sigmoid"),
    "facnet": ("cas", "softmax"),
    "stpn": ("product", "sigmoid"),
    "wtalc": ("cas", "none"),
}
"""Signals that differ from class probabilities times attention: CASE's activations include its attention, FAC-Net has
none, STPN's classes are independent of one another, and W-TALC has neither attention nor a background class."""
_ARRAYS = ("videoname", "subset", "labels", "labels_all", "segments", "duration")
_RATE = Fraction(25, 16)
_WIDTH = 64
_DIRECTIONS = 8
"""Dimensions of a stream with a component of a class's direction."""


def main(argv: Sequence[str] | None = None) -> None:
    """Plant the features, import them, and train and judge all heads."""
    parser = arguments(__doc__)
    parser.add_argument("--heads", nargs="+", default=HEADS.names(), help="heads to train")
    options = parser.parse_args(argv)
    run(options)


def run(options: argparse.Namespace) -> None:
    """Write the table with the common localization, and the one with the papers' own."""
    workspace = Workspace(options.workspace / "planted")
    annotations, features = plant(options.data / "annotations", workspace.root / "source")
    store = import_features(features, annotations, workspace).store
    for name, common in (("planted-common", True), ("planted-own", False)):
        title = "Planted THUMOS14, " + ("one localization for all" if common else "each paper's own localization")
        rows = [
            row
            for head in options.heads
            for row in planned_rows([str(RECIPES / f"{head}.toml")], None, common_of(head) if common else ())
        ]
        comparison = compare(rows, options.seeds, annotations, workspace, store, title, reporter=options.reporter)
        keep(comparison, name, options.out, perfect(annotations, store, comparison))


def common_of(head: str) -> tuple[str, ...]:
    """Common localization, with a head's own signal."""
    signal, activation = SIGNALS.get(head, ("product", "softmax"))
    own = (f"localize.signal={signal}", "localize.score_signal=signal", f"localize.activation={activation}")
    return (*COMMON, *own)


def plant(source: Path, target: Path) -> tuple[Path, Path]:
    """Write W-TALC's annotation folder and feature file for the videos in both label files of THUMOS14.

    Raises:
        UsageError: when the two disagree on a video's subset.
    """
    full, reduced = (read_annotations(source / name) for name in ("thumos14/gt.json", "Thumos14reduced-Annotations"))
    names = [name for name in reduced.videos if name in full.videos]
    for name in names:
        left, right = (SUBSETS[dataset.videos[name].subset] for dataset in (full, reduced))
        if left != right:
            raise UsageError(f"{name} is in {left} of one label file and in {right} of the other")
    folder, features = target / "annotations", target / "features.npy"
    if features.is_file():
        return folder, features
    folder.mkdir(parents=True, exist_ok=True)
    write_labels(folder, reduced, names)
    arrays = np.empty(len(names), dtype=object)
    arrays[:] = list(planted_features(reduced, names))
    with features.open("wb") as file:
        np.save(file, arrays, allow_pickle=True)
    return folder, features


def planted_features(dataset: Dataset, names: Sequence[str]) -> list[NDArray[np.float32]]:
    """Features (T, 2 * 64) per video, one vector per 16 frames at 25 fps: noise plus directions of classes."""
    rng = np.random.default_rng(0)
    directions = {label: _direction(rng) for label in dataset.classes}
    features = []
    for name in names:
        video = dataset.videos[name]
        length = max(1, int((video.duration or 0) * _RATE))
        middles = (np.arange(length) + 0.5) / float(_RATE)
        x = np.abs(rng.standard_normal((length, 2 * _WIDTH))) * 0.4
        for annotation in video.annotations:
            x[(middles >= annotation.start) & (middles < annotation.end)] += directions[annotation.label]
        features.append(x.astype(np.float32))
    return features


def _direction(rng: np.random.Generator) -> NDArray[np.float64]:
    streams = []
    for _ in range(2):
        stream = np.zeros(_WIDTH)
        stream[rng.choice(_WIDTH, _DIRECTIONS, replace=False)] = rng.uniform(1.0, 3.0, _DIRECTIONS)
        streams.append(stream)
    return np.concatenate(streams)


def write_labels(folder: Path, dataset: Dataset, names: Sequence[str]) -> None:
    """Write W-TALC's annotation arrays of some videos."""
    videos = [dataset.videos[name] for name in names]
    columns = {
        "videoname": [name.encode() for name in names],
        "subset": [SUBSETS[video.subset].encode() for video in videos],
        "classlist": [label.encode() for label in dataset.classes],
        "duration": [float(video.duration or 0) for video in videos],
    }
    for name, values in columns.items():
        np.save(folder / f"{name}.npy", np.array(values))
    lists = {
        "labels_all": [list(video.labels) for video in videos],
        "labels": [[annotation.label for annotation in video.annotations] for video in videos],
        "segments": [[[annotation.start, annotation.end] for annotation in video.annotations] for video in videos],
    }
    for name, rows in lists.items():
        array = np.empty(len(rows), dtype=object)
        array[:] = rows
        np.save(folder / f"{name}.npy", array, allow_pickle=True)


def perfect(annotations: Path, store: Path, comparison: Comparison) -> Mapping[str, float]:
    """Compute the mAP of a perfect mask of the snippets through the common localization, tiou -> fraction."""
    dataset, features = read_annotations(annotations), FeatureStore.open(store)
    settings = {key: value for key, _, value in (item.removeprefix("localize.").partition("=") for item in COMMON)}
    config = LocalizeConfig.parse(settings)
    rules = comparison.rows[0].plan.recipe.evaluate
    records = {video.id: video for video in dataset.select(rules.test_subset)}
    detections = {}
    for name, key in match_ids(list(records), features.ids).items():
        grid = features.grid(key)
        cas = np.zeros((grid.num_snippets, len(dataset.classes)), dtype=np.float32)
        for label in records[name].labels:
            annotations_of_class = [item for item in records[name].annotations if item.label == label]
            cas[:, dataset.classes.index(label)] = grid.mask(annotations_of_class)
        scores = np.isin(dataset.classes, records[name].labels).astype(np.float32)
        detections[name] = localize(Activations(cas, None, scores), grid, dataset.classes, config)
    truth = {name: records[name].annotations for name in detections}
    return {
        f"{tiou:g}": value
        for tiou, value in evaluate_detections(truth, detections, parse_tious(rules.tiou)).mAP.items()
    }


if __name__ == "__main__":
    main(sys.argv[1:])
