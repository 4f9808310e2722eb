"""Folds of a collection with held-out sources: training videos are cut into clips and recomposed.

The videos of these collections are composed of clips, and share them: if videos are held out, the training videos show
the same people in the same places, often the same clip. Here all clips of a source are on one side.

1. Clips. A video is cut at the borders of its segments and, between them, where one thumbnail differs from the next.
2. Sources. Two clips have the same source if any two of their thumbnails (first, last, median) are close to each other;
   an action and a clip between actions never share a source.
3. Folds. Sources are dealt to the folds, large ones first, each to the fold with the least of its class.
4. Videos. From each training video, the features of its clips on one side are joined in order; if two actions become
   neighbours, a clip without an action, from the same side, goes between them.

Segments are used to cut and to judge, never to train.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from wtal.data.dataset import Dataset, VideoRecord
from wtal.data.grid import SnippetGrid
from wtal.data.segments import Annotation, Segment
from wtal.data.store import FeatureStore
from wtal.data.store.writer import StoreWriter

TRAINING, HELD_OUT = "training", "held-out"
NEAR = {"kth": (0.012, 0.004), "ucf": (0.07, 0.07), "ut": (0.02, 0.003)}
"""Collection -> largest mean difference of thumbnails of one source, in [0, 1]: of actions, and of other clips."""
CUT = 0.12
"""Least mean difference of consecutive thumbnails of different clips."""
STEP = 0.2
"""Seconds from one thumbnail to the next."""
SHORTEST = 0.3
"""Least seconds between two segments to form a clip."""
BETWEEN = 1.5
"""Least seconds of a clip to go between two actions."""

Thumbnails = NDArray[np.float32]


@dataclass(frozen=True)
class Clip:
    """Part of a video: seconds, its label or "", and (3, 24, 32, 3) thumbnails: first, last and median."""

    video: str
    start: float
    end: float
    label: str
    thumbnails: Thumbnails


def clips_of(file: Path, record: VideoRecord, duration: float) -> Iterator[Clip]:
    """Cut a video of `duration` seconds into clips."""
    times, thumbnails = _thumbnails(file)
    for start, end, label in _parts(record, duration):
        inside = np.flatnonzero((times >= start + 0.05) & (times < end - 0.05))
        if not len(inside):
            continue
        change = np.abs(np.diff(thumbnails[inside], axis=0)).mean(axis=(1, 2, 3))
        cuts = [] if label else [*(inside[1:][change > CUT])]
        for low, high in zip([inside[0], *cuts], [*cuts, inside[-1] + 1], strict=True):
            own = thumbnails[low:high]
            looks = np.stack([own[0], own[-1], np.median(own, axis=0)])
            begin = start if low == inside[0] else float(times[low])
            yield Clip(record.id, begin, end if high == inside[-1] + 1 else float(times[high]), label, looks)


def _parts(record: VideoRecord, duration: float) -> Iterator[tuple[float, float, str]]:
    """Yield the segments of a video and the parts between them, in order: seconds, and a label or ""."""
    at = 0.0
    for annotation in sorted(record.annotations, key=lambda annotation: annotation.start):
        if annotation.start - at > SHORTEST:
            yield at, annotation.start, ""
        yield annotation.start, annotation.end, annotation.label
        at = annotation.end
    if duration - at > SHORTEST:
        yield at, duration, ""


def _thumbnails(file: Path) -> tuple[NDArray[np.float64], Thumbnails]:
    """Decode seconds (N,) and thumbnails (N, 24, 32, 3) in [0, 1], one every `STEP` seconds."""
    times: list[float] = []
    images: list[NDArray[np.float32]] = []
    with av.open(str(file)) as container:
        for frame in container.decode(video=0):
            if not times or frame.time >= times[-1] + STEP - 1e-6:
                times.append(float(frame.time))
                images.append(frame.reformat(32, 24, "rgb24").to_ndarray().astype(np.float32) / np.float32(255))
    return np.array(times), np.stack(images)


def source_folds(clips: Sequence[Clip], near: tuple[float, float], count: int) -> list[int]:
    """Deal clips to `count` folds so that all clips of a source are in one fold; `near` is a value of `NEAR`."""
    sources = _sources(clips, near)
    sizes = Counter(sources)
    shares: Counter[tuple[int, str]] = Counter()
    fold_of: dict[int, int] = {}
    order = np.random.default_rng(0).permutation(sorted(sizes))
    for source in sorted(order.tolist(), key=lambda source: -sizes[source]):
        labels = [clip.label for clip, own in zip(clips, sources, strict=True) if own == source]
        loads = [sum(shares[fold, label] for label in labels) for fold in range(count)]
        fold_of[source] = int(np.argmin(loads))
        shares.update((fold_of[source], label) for label in labels)
    return [fold_of[source] for source in sources]


def _sources(clips: Sequence[Clip], near: tuple[float, float]) -> list[int]:
    """Number of each clip's source: the lowest clip linked to it, directly or through others."""
    looks = np.stack([clip.thumbnails.reshape(3, -1) for clip in clips])  # (N, 3, pixels)
    labelled = np.array([bool(clip.label) for clip in clips])
    source = list(range(len(clips)))
    for i, clip in enumerate(clips):
        pairs = [np.abs(looks[: i + 1, a] - looks[i, b]).mean(axis=1) for a in range(3) for b in range(3)]
        close = np.min(pairs, axis=0) < (near[0] if clip.label else near[1])
        linked = {source[j] for j in np.flatnonzero(close & (labelled[: i + 1] == labelled[i]))}
        source = [min(linked) if own in linked else own for own in source]
    return source


def recompose(
    store: FeatureStore, dataset: Dataset, clips: Sequence[Clip], folds: Sequence[int], fold: int, out: Path
) -> Dataset:
    """Write the features of the training videos and of those held out in `fold`; return their annotations.

    Their subsets are `TRAINING` and `HELD_OUT`. Videos that the store `out` already has are left alone.
    """
    rng = np.random.default_rng(1)
    videos: dict[str, VideoRecord] = {}
    writer = StoreWriter.open(out, store.identity)
    for subset in (TRAINING, HELD_OUT):
        side = [clip for clip, own in zip(clips, folds, strict=True) if (own == fold) == (subset == HELD_OUT)]
        fillers = [clip for clip in side if not clip.label and clip.end - clip.start > BETWEEN]
        by_video: dict[str, list[Clip]] = {}
        for clip in side:
            by_video.setdefault(clip.video, []).append(clip)
        for video, own in by_video.items():
            record = _write(store, writer, f"{subset}-{video}", subset, _apart(own, fillers, rng))
            if record:
                videos[record.id] = record
    writer.publish()
    return Dataset(dataset.classes, videos)


def _apart(clips: Sequence[Clip], fillers: Sequence[Clip], rng: np.random.Generator) -> list[Clip]:
    """Put a filler between any two neighbouring actions."""
    sequence: list[Clip] = []
    for clip in clips:
        if sequence and sequence[-1].label and clip.label:
            sequence.append(fillers[int(rng.integers(len(fillers)))])
        sequence.append(clip)
    return sequence


def _write(
    store: FeatureStore, writer: StoreWriter, name: str, subset: str, clips: Sequence[Clip]
) -> VideoRecord | None:
    """Write the rows of clips, one after the other, as a video; return None if no snippet has its middle in them."""
    rows: dict[str, list[NDArray[np.floating]]] = {stream: [] for stream in store.dims}
    parts: list[tuple[Clip, int, float]] = []
    count = 0
    for clip in clips:
        source = store.grid(clip.video)
        inside = np.flatnonzero(source.mask([Segment(clip.start, clip.end)]))
        if not len(inside):
            continue
        first = int(inside[0])
        parts.append((clip, count, source.to_segment(first, first).start))
        for stream, values in store[clip.video].streams.items():
            rows[stream].append(values[inside])
        count += len(inside)
    if not count:
        return None
    model = store.grid(clips[0].video)
    grid = SnippetGrid(model.fps, int(count * model.stride), model.stride, model.span, model.tail)
    if not writer.done(name):
        writer.write(name, grid, {stream: np.concatenate(own) for stream, own in rows.items()}, {}, name)
    annotations = tuple(
        Annotation(max(0.0, clip.start + shift), min(clip.end + shift, grid.end), clip.label)
        for clip, row, before in parts
        if clip.label and clip.start + (shift := grid.to_segment(row, row).start - before) < grid.end
    )
    labels = tuple(sorted({annotation.label for annotation in annotations}))
    return VideoRecord(name, grid.duration, subset, labels, annotations)
