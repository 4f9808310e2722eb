"""Purpose of the second stage: THUMOS14's real labels, and planted actions with borders that no threshold can find.

Features are made as in `experiments.planted`: noise, and a direction per class, in W-TALC's layout, 2 x 64 wide. Here a
class's direction says that an action is there, and not where it begins and ends. Each ingredient is of real footage:

- Soft, late and early onsets. The direction rises over a ramp of random length whose middle lies before or behind the
  border, and falls alike. A run-up looks like any run until the pole is planted, a thrower is known before he turns and
  after he has thrown, and annotators chose the border by an event, not by how well the class can be recognized. Any
  threshold is off by a random share of the action's length, to either side.
- Faint actions. Each has a strength of its own: cameras are near or far.
- Gaps. In some actions the direction is absent for a stretch: a cut to the audience, somebody in front, a change of
  the camera. A threshold makes two moments of them.
- Cues of borders. One direction shows at the start of every action, another at its end, whatever the class: somebody
  sets off, somebody comes to rest, the camera changes. Both show elsewhere too: people set off and come to rest
  between actions. As every video has them, labels of videos cannot teach a head what they mean; segments that are
  right on average can teach it to a network that regresses borders.

Videos are those of nine athletic exercises, which last longer than a few of the snippets of 0.64 s, up to 200 s long.
Features know the annotated times; training sees the labels of videos alone, as everywhere.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments._run import arguments, keep
from experiments.planted import RECIPES, SUBSETS, common_of, write_labels
from wtal.data.annotations import read_annotations
from wtal.data.dataset import Dataset, VideoRecord
from wtal.data.segments import Annotation
from wtal.models.heads import HEADS
from wtal.pipeline.comparison.compare import PlannedRow, compare, planned_rows
from wtal.pipeline.exchange.import_features import import_features
from wtal.pipeline.workspace import Workspace

NAME = "planted-borders"
PLANTING = 1
"""Seed of the planted features. The settings of `Footage` were chosen on planting 0."""
SOURCE = Path("annotations") / "Thumos14reduced-Annotations"
TOGETHER = "basnet+rskp+bm"
"""The teacher: the three heads that a personal collection is given by default, from one seed each."""
FUSION = (
    "localize.suppression=fusion",
    "localize.overlap=lower",
    "localize.nms_tiou=0.25",
    "localize.fusion_temperature=0.2",
)
"""GauFuse's fusion (CVPR 2023) in place of suppression, without a student."""
TRUSTED = ("refine.score_power=0.5", "refine.border_share=0.5")
"""The student, which alone sees the cues of borders, counts as much as its teacher."""
TIOUS = "evaluate.tiou=0.5:0.9:0.1"
_PERIOD = 16 / 25
_FINE = 8
"""Positions of a snippet at which it is seen what is shown; its features are their mean."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Footage:
    """Settings of the planted features; lengths are shares of the action's unless said otherwise."""

    classes: tuple[str, ...] = (
        "CleanAndJerk",
        "GolfSwing",
        "HammerThrow",
        "HighJump",
        "JavelinThrow",
        "LongJump",
        "PoleVault",
        "Shotput",
        "ThrowDiscus",
    )
    """Videos that show no other class are taken."""
    longest: float = 200.0
    """Longer videos are left out; in seconds."""
    videos: int = 100
    """Taken of each subset at most, evenly from its list."""
    width: int = 64
    """Numbers of a stream."""
    noise: float = 0.4
    """Standard deviation of the noise, whose absolute values are added everywhere."""
    dimensions: int = 8
    """Dimensions of a stream that a direction lies in."""
    values: tuple[float, float] = (1.0, 2.5)
    """Range of a class's direction there."""
    cue_values: tuple[float, float] = (2.0, 4.0)
    """Range of a cue's direction there."""
    faintest: float = 0.6
    """Least strength of an action; the largest is 1."""
    shift: float = 0.3
    """The middle of a ramp lies so far before or behind the border, at most."""
    outward: float = 0.08
    """All middles lie so much farther out: scores by contrast would else find cores, and miss by a mean."""
    ramp: float = 0.8
    """Longest ramp."""
    gap_share: float = 0.1
    """Share of the actions that have a gap."""
    gap: tuple[float, float] = (0.2, 0.4)
    """Range of a gap's length."""
    margin: float = 0.2
    """Nearest that a gap comes to a border."""
    cue: float = 0.4
    """Seconds that a cue reaches to either side."""
    elsewhere: float = 0.5
    """Cues of each kind in the background, per action."""


def main(argv: Sequence[str] | None = None) -> None:
    """Make the features, train and judge all heads, their ensemble and its student."""
    parser = arguments(__doc__)
    parser.add_argument("--heads", nargs="+", default=HEADS.names(), help="heads to train beside the ensemble")
    run(parser.parse_args(argv))


def run(options: argparse.Namespace) -> None:
    """One table: heads with the common localization and with their own, the ensemble, fusion, the student."""
    place = Workspace(options.workspace / NAME)
    annotations, features = plant(options.data / SOURCE, place.root / f"source-{PLANTING}", Footage(), PLANTING)
    store = import_features(features, annotations, place).store
    rows = [*ensemble_rows(), *head_rows(options.heads)]
    title = "Planted borders over THUMOS14"
    keep(compare(rows, options.seeds, annotations, place, store, title, reporter=options.reporter), NAME, options.out)


def ensemble_rows() -> list[PlannedRow]:
    """The ensemble with the common localization, with fusion, and its second stage."""
    path, common = str(RECIPES / "ensemble.toml"), (*common_of(TOGETHER), TIOUS)
    (fused,) = planned_rows([path], None, (*common, *FUSION))
    teacher, refined = planned_rows([path], None, (*common, *TRUSTED), second_stage=True)
    names = (TOGETHER, f"{TOGETHER}, fusion", f"{TOGETHER}, second stage")
    return [replace(row, name=name) for row, name in zip((teacher, fused, refined), names, strict=True)]


def head_rows(heads: Sequence[str]) -> list[PlannedRow]:
    """Each head with the common localization and with its own."""
    rows = []
    for head in heads:
        for name, settings in ((head, common_of(head)), (f"{head}, own localization", ())):
            (row,) = planned_rows([str(RECIPES / f"{head}.toml")], None, (*settings, TIOUS))
            rows.append(replace(row, name=name))
    return rows


def plant(source: Path, target: Path, footage: Footage, seed: int = 0) -> tuple[Path, Path]:
    """W-TALC's annotation folder -> the same of the chosen videos, and their feature file."""
    folder, features = target / "annotations", target / "features.npy"
    if features.is_file():
        return folder, features
    dataset = chosen(read_annotations(source), footage)
    folder.mkdir(parents=True, exist_ok=True)
    write_labels(folder, dataset, list(dataset.videos))
    arrays = np.empty(len(dataset.videos), dtype=object)
    arrays[:] = list(planted_features(dataset, footage, np.random.default_rng(seed)))
    with features.open("wb") as file:
        np.save(file, arrays, allow_pickle=True)
    return folder, features


def chosen(dataset: Dataset, footage: Footage) -> Dataset:
    """The videos of both subsets that show nothing but the footage's classes and are short enough."""
    videos: dict[str, VideoRecord] = {}
    for subset in dict.fromkeys(SUBSETS.values()):
        own = [video for video in dataset.videos.values() if SUBSETS[video.subset] == subset and _fits(video, footage)]
        places = np.linspace(0, len(own) - 1, min(footage.videos, len(own))).round().astype(int)
        videos |= {own[place].id: own[place] for place in places}
    return Dataset(tuple(label for label in dataset.classes if label in footage.classes), videos)


def _fits(video: VideoRecord, footage: Footage) -> bool:
    shown = set(video.labels)
    return bool(video.annotations) and shown <= set(footage.classes) and (video.duration or 0) <= footage.longest


def planted_features(dataset: Dataset, footage: Footage, rng: np.random.Generator) -> Iterator[NDArray[np.float32]]:
    """Videos -> (T, 2 * width) features each, a vector for 16 frames at 25 fps."""
    directions = {label: _direction(footage, footage.values, rng) for label in dataset.classes}
    cues = np.stack([_direction(footage, footage.cue_values, rng) for _ in range(2)])
    for video in dataset.videos.values():
        length = max(1, int((video.duration or 0) / _PERIOD))
        times = (np.arange(length * _FINE) + 0.5) * _PERIOD / _FINE
        x = shown_borders(times, video.annotations, footage, rng).T @ cues
        for label, strength in shown_classes(times, video.annotations, footage, rng).items():
            x += strength[:, None] * directions[label]
        x = x.reshape(length, _FINE, -1).mean(axis=1)
        yield (x + footage.noise * np.abs(rng.standard_normal(x.shape))).astype(np.float32)


def _direction(footage: Footage, values: tuple[float, float], rng: np.random.Generator) -> Floats:
    """(2 * width,): a direction in both streams."""
    streams = np.zeros((2, footage.width))
    for stream in streams:
        places = rng.choice(footage.width, footage.dimensions, replace=False)
        stream[places] = rng.uniform(*values, footage.dimensions)
    return streams.ravel()


def shown_classes(
    times: Floats, actions: Sequence[Annotation], footage: Footage, rng: np.random.Generator
) -> Mapping[str, Floats]:
    """Seconds (N,) -> how strongly each class shows there, (N,) each."""
    shown = {action.label: np.zeros(len(times)) for action in actions}
    for action in actions:
        shown[action.label] = np.maximum(shown[action.label], _strength(times, action, footage, rng))
    return shown


def _strength(times: Floats, action: Annotation, footage: Footage, rng: np.random.Generator) -> Floats:
    """Seconds (N,) -> how strongly one action shows there: ramps about its borders, and a gap in some."""
    length = action.end - action.start
    middles = np.array([action.start, action.end]) + footage.outward * length * np.array([-1, 1])
    middles += rng.uniform(-footage.shift, footage.shift, 2) * length
    ramps = np.maximum(rng.uniform(0, footage.ramp, 2) * length, 1e-6)
    rise = np.clip((times - middles[0]) / ramps[0] + 0.5, 0, 1)
    fall = np.clip((middles[1] - times) / ramps[1] + 0.5, 0, 1)
    strength: Floats = np.minimum(rise, fall) * rng.uniform(footage.faintest, 1)
    if rng.random() < footage.gap_share:
        gap = rng.uniform(*footage.gap) * length
        start = rng.uniform(action.start + footage.margin * length, action.end - footage.margin * length - gap)
        strength[(times >= start) & (times < start + gap)] = 0
    return strength


def shown_borders(times: Floats, actions: Sequence[Annotation], footage: Footage, rng: np.random.Generator) -> Floats:
    """Seconds (N,) -> where the cues of starts and of ends show, (2, N) of 0 and 1: at borders, and elsewhere."""
    near = [(times >= one.start - footage.cue) & (times < one.end + footage.cue) for one in actions]
    free = times[~np.any(near, axis=0)]
    most = int(len(free) * _PERIOD / _FINE / (4 * footage.cue))
    shown = np.zeros((2, len(times)))
    for row, borders in zip(shown, ([one.start for one in actions], [one.end for one in actions]), strict=True):
        count = min(int(rng.poisson(footage.elsewhere * len(actions))), most)
        for second in (*borders, *rng.choice(free, count, replace=False)):
            row[np.abs(times - second) < footage.cue] = 1
    return shown


if __name__ == "__main__":
    main(sys.argv[1:])
