"""Localization of many videos at once, compared with plain loops and with numpy on one class of one video at a time.

The collection has the size of THUMOS14's test set: 212 videos of 1,000 snippets, a search for all 20 classes in each,
and 20 thresholds. Activations are smooth noise with raised stretches. Every variant starts from the same activations
and ends with the same detections, which is checked. The loops run only on the first `--loop-videos` videos.
"""

import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial

import numpy as np

from benchmarks._loops import Settings, localize_class
from benchmarks._report import arguments, report
from benchmarks._turns import rates, rows, short, take_turns
from wtal.data.grid import SnippetGrid
from wtal.data.segments import Detection
from wtal.models.localization.config import LocalizeConfig
from wtal.models.localization.localize import localize_many
from wtal.models.localization.proposals import SignalColumns, contrast, maximal_runs
from wtal.models.localization.signals import Activations, signals_of
from wtal.models.localization.suppression import nms

Video = tuple[Activations, SnippetGrid]

CONFIG = LocalizeConfig(
    signal="product",
    activation="softmax",
    upsample=1,
    threshold_start=0.025,
    threshold_stop=0.51,
    threshold_step=0.025,
    class_threshold=0.0,
    nms_tiou=0.5,
)
"""Localization with twenty thresholds and all classes."""
_MEASURE = "videos_per_s"
_WIDTH = 4.0
"""Standard deviation of the smoothing, in snippets."""


def main(argv: Sequence[str] | None = None) -> None:
    """Time all ways in turns."""
    parser = arguments(__doc__)
    parser.add_argument("--videos", type=int, default=212, help="number of videos")
    parser.add_argument("--snippets", type=int, default=1000, help="snippets per video")
    parser.add_argument("--classes", type=int, default=20, help="classes to search in each video")
    parser.add_argument("--loop-videos", type=int, default=24, help="videos for the loops")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions")
    options = parser.parse_args(argv)
    videos = scene(options.videos, options.snippets, options.classes)
    few = videos[: options.loop_videos]
    check(few)
    size = (
        f"{len(videos)} videos, {options.snippets} snippets, {options.classes} classes, {len(thresholds())} thresholds"
    )
    ways = {"all at once": (at_once, videos), "a class at a time": (by_class, few), "loops": (loops, few)}
    times = take_turns({name: partial(way, part) for name, (way, part) in ways.items()}, options.repeat)
    table, speeds = [], {}
    for name, (_, part) in ways.items():
        table += rows(size, {name: times[name]}, len(part), _MEASURE)
        speeds |= rates({name: times[name]}, len(part))
    ratios = {
        f"all at once / {name}, {size}": short(speeds["all at once"] / speeds[name])
        for name in ("loops", "a class at a time")
    }
    report("localization", table, ratios, options.out)


def scene(count: int, snippets: int, classes: int) -> list[Video]:
    """Activations of `count` videos: smooth noise, five raised stretches per class, and an independent attention."""
    rng = np.random.default_rng(0)
    reach = np.arange(-3 * _WIDTH, 3 * _WIDTH + 1)
    kernel = np.exp(-0.5 * (reach / _WIDTH) ** 2)
    kernel /= kernel.sum()
    videos = []
    for _ in range(count):
        noise = rng.standard_normal((snippets, classes + 1))
        cas = 3 * np.stack([np.convolve(column, kernel, mode="same") for column in noise.T], axis=1)[:snippets]
        for index in range(classes):
            for start in rng.integers(0, snippets, 5):
                cas[start : start + rng.integers(5, 30), index] += 3
        attention = np.convolve(rng.random(snippets), kernel, mode="same")[:snippets]
        scores = rng.random(classes).astype(np.float32)
        grid = SnippetGrid(Fraction(16), snippets * 16, Fraction(16), 16)  # one snippet per second: borders are exact
        videos.append((Activations(cas.astype(np.float32), attention.astype(np.float32), scores), grid))
    return videos


def thresholds() -> list[float]:
    """Thresholds of the scene."""
    values: list[float] = np.arange(CONFIG.threshold_start, CONFIG.threshold_stop, CONFIG.threshold_step).tolist()
    return values


def at_once(videos: Sequence[Video]) -> list[list[Detection]]:
    """Localize all videos with wtal."""
    return list(localize_many(videos, _names(videos), CONFIG))


def by_class(videos: Sequence[Video]) -> list[list[Detection]]:
    """Localize with numpy over positions and thresholds, one class of one video at a time."""
    levels = np.array(thresholds())

    def by_numpy(signal: np.ndarray, score: float) -> list[tuple[int, int, float]]:
        columns = SignalColumns.of([signal[:, None]])
        runs = maximal_runs(columns, levels)
        values = contrast(columns, runs, CONFIG.inflation, CONFIG.outer_weight) + CONFIG.video_weight * score
        best = nms(runs.astype(np.float64), values, CONFIG.nms_tiou)
        return [(int(a), int(b), float(v)) for (a, b), v in zip(runs[best], values[best], strict=True)]

    return _each(videos, by_numpy)


def loops(videos: Sequence[Video]) -> list[list[Detection]]:
    """Localize with plain loops over classes, thresholds and positions."""
    settings = Settings(thresholds(), CONFIG.inflation, CONFIG.outer_weight, CONFIG.video_weight, CONFIG.nms_tiou)
    return _each(videos, lambda signal, score: localize_class(signal.tolist(), score, settings))


def _each(
    videos: Sequence[Video], localize_one: Callable[[np.ndarray, float], list[tuple[int, int, float]]]
) -> list[list[Detection]]:
    """Best detections of every video, in seconds, from `localize_one` for each class."""
    names = _names(videos)
    detections = []
    for activations, grid in videos:
        signal = signals_of(activations, (), range(len(names)), CONFIG).first
        proposals = [
            (score, name, start, end)
            for index, name in enumerate(names)
            for start, end, score in localize_one(signal[:, index], float(activations.video_scores[index]))
        ]
        best = sorted(proposals, key=lambda row: -row[0])[: CONFIG.max_detections]
        segments = [grid.to_segment(start, end - 1) for _, _, start, end in best]
        detections.append([Detection(s.start, s.end, row[1], row[0]) for s, row in zip(segments, best, strict=True)])
    return detections


def _names(videos: Sequence[Video]) -> tuple[str, ...]:
    return tuple(f"class {number}" for number in range(len(videos[0][0].video_scores)))


def check(videos: Sequence[Video]) -> None:
    """Refuse to time ways that disagree.

    Raises:
        ValueError: when a detection is missing in one of them, or its score differs by more than rounding.
    """
    ours = at_once(videos)
    for way in (by_class, loops):
        for left, right in zip(ours, way(videos), strict=True):
            same = len(left) == len(right) and all(
                (a.start, a.end, a.label) == (b.start, b.end, b.label) and abs(a.score - b.score) < 1e-9
                for a, b in zip(sorted(left, key=_order), sorted(right, key=_order), strict=True)
            )
            if not same:
                raise ValueError(f"{way.__name__} and localization of all at once find different detections")


def _order(detection: Detection) -> tuple[str, float, float]:
    return detection.label, detection.start, detection.end


if __name__ == "__main__":
    main(sys.argv[1:])
