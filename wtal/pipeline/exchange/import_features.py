"""Published features -> a store, each video on the grid of its layout, its annotations, or the exporter's note."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from wtal.config import digest
from wtal.data.annotations import read_annotations
from wtal.data.dataset import Dataset
from wtal.data.files import file_sha256
from wtal.data.grid import SnippetGrid
from wtal.data.layout import Item, Streams
from wtal.data.layouts import LAYOUTS, guess_layout
from wtal.data.published.layout_note import Note
from wtal.data.published.row_clock import RowClock
from wtal.data.regular import require_regular
from wtal.data.store import FeatureStore
from wtal.data.store.checksums import rows_crc32
from wtal.data.store.writer import StoreWriter, file_fingerprint
from wtal.data.tally import first_names
from wtal.errors import FormatError, UsageError
from wtal.pipeline.checks.lengths import length_notes
from wtal.pipeline.extraction.reasons import oddities
from wtal.pipeline.progress import SILENT, Reporter
from wtal.pipeline.workspace import Workspace

SAMPLE = 20
"""Number of videos whose length is checked against the annotations before any is imported."""

APART = 1.15
"""Ratio by which rows and durations may differ in most of the sample; rates of published sets differ by more."""

FAR = 5.0
"""Ratio beyond which rows and a duration cannot belong to the same video."""

Specs = Mapping[str, tuple[int, str]]
"""Stream -> (D, type)."""


@dataclass(frozen=True)
class Imported:
    """The store's folder, video -> reason why it could not be imported, and oddities of length."""

    store: Path
    failures: Mapping[str, str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Published:
    """Files of a layout: their videos, the known columns, and the exporter's note."""

    layout: str
    items: list[Item]
    dims: Mapping[str, int]
    note: Note | None

    def video_id(self, item: Item) -> str:
        """Return the id of a video of the set, possibly renamed by the exporter."""
        known = self.note.videos if self.note else {}
        return known[item.name][0] if item.name in known else item.name


def read_published(
    features: Path, annotations: Path | None, layout: str = "", dims: Mapping[str, int] | None = None
) -> Published:
    """List the videos of published features, by the given `layout` or the one detected from the files.

    Raises:
        UsageError: when a path does not exist, or the layout is unknown or ambiguous.
        FormatError: when the files are not of this layout.
    """
    if not features.exists():
        raise UsageError(f"{features} does not exist; pass a folder or file of features")
    if annotations is not None and not annotations.exists():
        raise UsageError(f"--annotations: {annotations} does not exist; pass a folder or file of annotations")
    for path in filter(None, (features, annotations)):
        require_regular(path)
    note = Note.read(features)
    name = layout or (note.layout if note else guess_layout(features))
    if note and note.layout != name:
        note = None
    known = dims or ({stream: dim for stream, (dim, _) in note.streams.items()} if note else {})
    return Published(name, LAYOUTS.load(name).read(features, annotations, known), known, note)


def import_features(
    features: Path,
    annotations: Path | None,
    workspace: Workspace,
    layout: str = "",
    backbone: str = "",
    fps: str = "",
    stride: str = "",
    dims: Mapping[str, int] | None = None,
    reporter: Reporter = SILENT,
) -> Imported:
    """Import published features, a file or a folder, into a store in the workspace.

    Without `layout`, it is detected from the files. `fps` and `stride` (frames per row), if empty, are each video's own
    where `wtal` exported them or files next to the rows state them, else the layout's own; `dims` splits the columns
    into streams. Videos that cannot be read, have no row, hold non-finite numbers, or cover less than a fifth or more
    than five times their annotated duration are recorded as failures. An interrupted import resumes; two at once wait
    for each other video by video.

    Raises:
        UsageError: when a path does not exist, the layout is unknown or ambiguous, a rate or a name is invalid, or the
            layout's rate contradicts the annotated durations for more than half of a sample.
        FormatError: when the files are not of this layout, or no video can be imported.
    """
    published = read_published(features, annotations, layout, dims)
    name, note, items, known = published.layout, published.note, published.items, published.dims
    module = LAYOUTS.load(name)
    if note or fps or stride:
        items = [replace(item, grid=None) for item in items]
    stated = any(item.grid for item in items)
    dataset = None if annotations is None else read_annotations(annotations)
    clock = RowClock.make((module.FPS, module.STRIDE), note, _durations(dataset), fps, stride)
    scale = _check_durations(items, clock, features, given=bool(fps or stride), reporter=reporter)
    marks = _marks(items)
    maker = _plain(backbone or (note.backbone if note else module.BACKBONE))
    identity = {
        "backbone": maker,
        "layout": name,
        "source": digest(marks, 64),
        **clock.identity([item.name for item in items]),
        "dims": dict(known),
        **({"clocks": "stated beside the rows"} if stated else {}),
    }
    readable = "stated" if stated else clock.readable
    target = workspace.features / f"{maker}-imported-{readable}-{digest(identity)}"
    imported = _fill(target, identity, items, clock, scale, marks, reporter)
    store = FeatureStore.open(imported.store)
    odd = oddities(store, store.ids).items()
    lines = [f"{kind}: {len(videos)} of {len(store)} ({first_names(videos)})" for kind, videos in odd]
    notes = (*lines, *(() if dataset is None else length_notes(dataset, store)))
    for line in notes:
        reporter.say(line)
    return replace(imported, notes=notes)


def _plain(backbone: str) -> str:
    """Return a name that does not lead into another folder.

    Raises:
        UsageError: when it does.
    """
    if Path(backbone).name != backbone:
        raise UsageError(f"--backbone takes a plain name, got {backbone!r}; give one without a path")
    return backbone


def _durations(dataset: Dataset | None) -> dict[str, float]:
    return {} if dataset is None else {video.id: video.duration for video in dataset.videos.values() if video.duration}


def _check_durations(items: Sequence[Item], clock: RowClock, features: Path, given: bool, reporter: Reporter) -> float:
    """Refuse a layout's rate that contradicts these files: it would shift every time.

    Most videos of the sample decide, rather than the few with odd rows or durations. Return the median ratio of the
    time covered by rows to the video's duration, where the user's own rate is used despite a mismatch.
    """
    shares, lasting = [], []
    for item in [item for item in items if item.grid is None and clock.duration(item.name)][:SAMPLE]:
        with suppress(FormatError):  # reported when its turn comes
            share = clock.coverage(item.name, len(next(iter(item.load().values()))))
            if share:
                shares.append(share)
                lasting.append(clock.duration(item.name) or 0.0)
    fitting = [share for share in shares if 1 / APART <= share <= APART]
    if 2 * len(fitting) >= len(shares):
        return 1.0
    covered = sum(share * seconds for share, seconds in zip(shares, lasting, strict=True))
    text = f"rows cover {covered:.1f} s, the videos last {sum(lasting):.1f} s"
    if not given:
        raise UsageError(f"{features}: at the layout's rate, {text}; give the rate of this set with --fps and --stride")
    reporter.say(text)
    return median(shares)


def _marks(items: Sequence[Item]) -> dict[str, str]:
    """Return digests that distinguish each video's files from others of the same names; a shared file is read whole."""
    files = {item.files for item in items}
    if len(files) == 1:
        whole = digest([file_sha256(file) for file in next(iter(files))], 32)
        return {item.name: whole for item in items}
    return {item.name: digest([file_fingerprint(file) for file in item.files], 32) for item in items}


def _fill(
    target: Path,
    identity: Mapping[str, Any],
    items: Sequence[Item],
    clock: RowClock,
    scale: float,
    marks: Mapping[str, str],
    reporter: Reporter,
) -> Imported:
    """Write the usable videos; the first one determines the streams of all."""
    writer: StoreWriter | None = None
    failed: dict[str, str] = {}
    expected: Specs = {}
    with reporter.task("import", len(items), "video") as task:
        for item in items:
            video = clock.video_id(item.name)
            if writer is None or not writer.done(video):
                try:
                    streams, notes = _read(item, clock.note, expected)
                    grid = _grid(clock, item, streams)
                    _refuse_another(clock, item.name, grid, scale)
                except FormatError as error:
                    failed[video] = str(error)
                    reporter.say(f"not imported: {video}: {error}")
                else:
                    expected = expected or _specs(streams)
                    weights = _weights(streams, clock.note, identity["source"])
                    writer = writer or StoreWriter.open(target, {**identity, "weights": weights})
                    with writer.claim(video, wait=True) as mine:
                        if mine:
                            info = {"reader": f"imported {identity['layout']}", **({"notes": notes} if notes else {})}
                            writer.write(video, grid, streams, info, marks[item.name])
            task.advance(note=video)
    if writer is None:
        raise FormatError(f"no video could be imported; {'; '.join(f'{k}: {v}' for k, v in list(failed.items())[:1])}")
    for video, reason in failed.items():
        writer.fail(video, reason)
    return Imported(writer.publish().path, dict(sorted(failed.items())))


def _read(item: Item, note: Note | None, expected: Specs) -> tuple[Streams, list[str]]:
    """Return a video's streams in the types in which they were exported, and notes on it.

    Raises:
        FormatError: when the streams are unusable.
    """
    streams, notes = item.load(), []
    lengths = {len(values) for values in streams.values()}
    if max(lengths) - min(lengths) == 1:
        streams = {name: values[: min(lengths)] for name, values in streams.items()}
        notes = ["one stream had a row more than the other; it was cut"]
    elif len(lengths) > 1:
        raise FormatError(f"its streams have {' and '.join(f'{len(v)} rows of {k}' for k, v in streams.items())}")
    noted = note.streams if note else {}
    streams = {k: v.astype(noted[k][1], copy=False) if k in noted else v for k, v in streams.items()}
    _refuse_unusable(streams, expected)
    exported = note.checksums.get(item.name, {}) if note else {}
    if any(exported[name] != rows_crc32(values) for name, values in streams.items() if name in exported):
        notes.append("its numbers differ from those that were exported")
    return streams, notes


def _refuse_unusable(streams: Streams, expected: Specs) -> None:
    if not len(next(iter(streams.values()))):
        raise FormatError("it has no rows of features")
    for name, values in streams.items():
        if not np.isfinite(values).all():
            raise FormatError(f"{name} holds numbers that are not finite")
    if expected and _specs(streams) != expected:
        raise FormatError(f"it has {_listed(_specs(streams))}, earlier videos {_listed(expected)}")


def _refuse_another(clock: RowClock, name: str, grid: SnippetGrid, scale: float) -> None:
    """Refuse rows that cover a small part, or many times, of the annotated duration of the video."""
    duration = clock.duration(name)
    if duration and not 1 / FAR < grid.duration / duration / scale < FAR:
        raise FormatError(
            f"its rows cover {grid.duration:.6g} s, its annotated duration is {duration:.6g} s: one is wrong, "
            "or belongs to another video; correct the duration or the rows"
        )


def _grid(clock: RowClock, item: Item, streams: Streams) -> SnippetGrid:
    rows = len(next(iter(streams.values())))
    grid = item.grid(rows) if item.grid else clock.grid(item.name, rows)
    if rows != grid.num_snippets:
        raise FormatError(f"it has {rows} rows, the exporter's note says {grid.num_snippets}")
    return grid


def _specs(streams: Streams) -> Specs:
    return {name: (values.shape[1], str(values.dtype)) for name, values in sorted(streams.items())}


def _listed(specs: Specs) -> str:
    return ", ".join(f"{name} {dim} x {dtype}" for name, (dim, dtype) in specs.items())


def _weights(streams: Streams, note: Note | None, source: str) -> dict[str, Any]:
    """Return stream -> source its features were learned from, as noted by the exporter, else read from the files."""
    exported = note.weights if note else {}
    return {name: exported.get(name, {"weights": {"imported": source[:16]}}) for name in sorted(streams)}
