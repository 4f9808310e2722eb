"""The researcher's path on THUMOS14's real labels: published layout in, every head trained by its recipe, one table.

No THUMOS14 features can be had here, so they are made: random ones, to which every snippet inside a true segment adds
the direction of its class, in the layout that W-TALC published (one object array of (T, D) arrays, 16 frames a snippet
at 25 fps), 2 x 64 wide. What is learned and found on them says that heads, recipes, times and the judge are right on
real label files; it says nothing of the methods' rank on real features.
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
"""A subset's name in either label file -> THUMOS14's own: the validation videos train, the test videos are judged."""
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
"""One localization for all heads, beside each paper's own."""
SIGNALS = {
    "case": ("cas", "sigmoid"),
    "facnet": ("cas", "softmax"),
    "stpn": ("product", "sigmoid"),
    "wtalc": ("cas", "none"),
}
"""What is thresholded and scored in it: class probabilities times attention, but that CASE's activations hold its
attention, FAC-Net has none, STPN's classes are independent of one another, and W-TALC has neither attention nor a class
of background."""
_ARRAYS = ("videoname", "subset", "labels", "labels_all", "segments", "duration")
_RATE = Fraction(25, 16)
_WIDTH = 64
_DIRECTIONS = 8
"""Dimensions of a stream that a class's direction lies in."""


def main(argv: Sequence[str] | None = None) -> None:
    """Make the features, import them, train and judge all heads."""
    parser = arguments(__doc__)
    parser.add_argument("--heads", nargs="+", default=HEADS.names(), help="heads to train")
    options = parser.parse_args(argv)
    run(options)


def run(options: argparse.Namespace) -> None:
    """The table with the common localization, and the one with the papers' own."""
    place = Workspace(options.workspace / "planted")
    annotations, features = plant(options.data / "annotations", place.root / "source")
    store = import_features(features, annotations, place).store
    for name, common in (("planted-common", True), ("planted-own", False)):
        title = "Planted THUMOS14, " + ("one localization for all" if common else "each paper's own localization")
        rows = [
            row
            for head in options.heads
            for row in planned_rows([str(RECIPES / f"{head}.toml")], None, common_of(head) if common else ())
        ]
        made = compare(rows, options.seeds, annotations, place, store, title, reporter=options.reporter)
        keep(made, name, options.out, perfect(annotations, store, made))


def common_of(head: str) -> tuple[str, ...]:
    """The common localization, on a head's own signal."""
    signal, activation = SIGNALS.get(head, ("product", "softmax"))
    own = (f"localize.signal={signal}", "localize.score_signal=signal", f"localize.activation={activation}")
    return (*COMMON, *own)


def plant(source: Path, target: Path) -> tuple[Path, Path]:
    """THUMOS14's two label files -> W-TALC's annotation folder and feature file of the videos that both have.

    Raises:
        UsageError: when the two do not agree on a video's subset.
    """
    ours, theirs = (read_annotations(source / name) for name in ("thumos14/gt.json", "Thumos14reduced-Annotations"))
    kept = [name for name in theirs.videos if name in ours.videos]
    for name in kept:
        one, other = (SUBSETS[dataset.videos[name].subset] for dataset in (ours, theirs))
        if one != other:
            raise UsageError(f"{name} is in {one} of one label file and in {other} of the other")
    folder, features = target / "annotations", target / "features.npy"
    if features.is_file():
        return folder, features
    folder.mkdir(parents=True, exist_ok=True)
    write_labels(folder, theirs, kept)
    arrays = np.empty(len(kept), dtype=object)
    arrays[:] = list(planted_features(theirs, kept))
    with features.open("wb") as file:
        np.save(file, arrays, allow_pickle=True)
    return folder, features


def planted_features(dataset: Dataset, names: Sequence[str]) -> list[NDArray[np.float32]]:
    """Videos -> (T, 2 * 64) features, a vector for 16 frames at 25 fps: noise, and the directions of what is shown."""
    rng = np.random.default_rng(0)
    directions = {label: _direction(rng) for label in dataset.classes}
    found = []
    for name in names:
        video = dataset.videos[name]
        length = max(1, int((video.duration or 0) * _RATE))
        middles = (np.arange(length) + 0.5) / float(_RATE)
        x = np.abs(rng.standard_normal((length, 2 * _WIDTH))) * 0.4
        for one in video.annotations:
            x[(middles >= one.start) & (middles < one.end)] += directions[one.label]
        found.append(x.astype(np.float32))
    return found


def _direction(rng: np.random.Generator) -> NDArray[np.float64]:
    streams = []
    for _ in range(2):
        stream = np.zeros(_WIDTH)
        stream[rng.choice(_WIDTH, _DIRECTIONS, replace=False)] = rng.uniform(1.0, 3.0, _DIRECTIONS)
        streams.append(stream)
    return np.concatenate(streams)


def write_labels(folder: Path, dataset: Dataset, names: Sequence[str]) -> None:
    """W-TALC's annotation arrays of some videos."""
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
        "labels": [[one.label for one in video.annotations] for video in videos],
        "segments": [[[one.start, one.end] for one in video.annotations] for video in videos],
    }
    for name, rows in lists.items():
        array = np.empty(len(rows), dtype=object)
        array[:] = rows
        np.save(folder / f"{name}.npy", array, allow_pickle=True)


def perfect(annotations: Path, store: Path, made: Comparison) -> Mapping[str, float]:
    """The mAP that a head would reach which knows exactly which snippets show what, through the common localization."""
    dataset, features = read_annotations(annotations), FeatureStore.open(store)
    settings = {key: value for key, _, value in (one.removeprefix("localize.").partition("=") for one in COMMON)}
    config = LocalizeConfig.parse(settings)
    rules = made.rows[0].plan.recipe.evaluate
    records = {video.id: video for video in dataset.select(rules.test_subset)}
    found = {}
    for name, key in match_ids(list(records), features.ids).items():
        grid = features.grid(key)
        cas = np.zeros((grid.num_snippets, len(dataset.classes)), dtype=np.float32)
        for label in records[name].labels:
            shown = [one for one in records[name].annotations if one.label == label]
            cas[:, dataset.classes.index(label)] = grid.mask(shown)
        scores = np.isin(dataset.classes, records[name].labels).astype(np.float32)
        found[name] = localize(Activations(cas, None, scores), grid, dataset.classes, config)
    truth = {name: records[name].annotations for name in found}
    return {
        f"{tiou:g}": value for tiou, value in evaluate_detections(truth, found, parse_tious(rules.tiou)).mAP.items()
    }


if __name__ == "__main__":
    main(sys.argv[1:])
