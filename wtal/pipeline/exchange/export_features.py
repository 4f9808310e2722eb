"""A store -> feature files in a published layout, for other people's code."""

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

from wtal.config import digest
from wtal.data.annotations import read_annotations
from wtal.data.layout import ExportedVideo, Streams, file_name
from wtal.data.layouts import LAYOUTS, NamesVideos
from wtal.data.locks import alone
from wtal.data.published.layout_note import Note
from wtal.data.store import FeatureStore
from wtal.errors import FormatError, UsageError
from wtal.pipeline.progress import SILENT, Reporter

_FIRST = ("rgb", "flow")
"""Streams concatenated before others, in this order."""


def export_features(
    store: Path,
    layout: str,
    out: Path,
    streams: Sequence[str] = (),
    annotations: Path | None = None,
    reporter: Reporter = SILENT,
) -> Path:
    """Write the streams of a store (all, or those named) into the new folder `out`; return it.

    The folder appears once complete; one that already holds this very export is left alone, and another process writing
    it is waited for. `annotations` give the subset of a video, for layouts with one folder per subset. Importing the
    folder restores the same features, ids and grids, bit for bit.

    Raises:
        UsageError: when the folder holds anything else, a stream is unknown, or the layout cannot hold the streams.
        DiskFullError: when there is no space for a file; nothing is left behind.
    """
    opened, module = FeatureStore.open(store), LAYOUTS.load(layout)
    chosen = _chosen(opened, streams)
    names = _names(opened, module.name_of if isinstance(module, NamesVideos) else file_name)
    subsets = _subsets(annotations, opened)
    note = _note(opened, layout, chosen, names)
    _say_other_rate(opened, (module.FPS, module.STRIDE), layout, reporter)
    if not out.name:  # as that of the working directory
        raise _other(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with alone(out.with_name(f".{out.name}.lock")):
        before = _note_in(out)
        marks: dict[str, str] = {}
        if before is not None:
            for video in names.values():
                _load(opened, video, chosen, marks)
            if before != replace(note, content=digest([marks, subsets], 32)):
                raise _other(out)
            reporter.say(f"{out} exists already")
            return out
        with _published(out) as unfinished, reporter.task("export", len(opened), "video") as task:

            def load(video: str) -> Streams:
                task.advance(note=video)
                return _load(opened, video, chosen, marks)

            videos = [
                ExportedVideo(name, subsets.get(video, ""), partial(load, video)) for name, video in names.items()
            ]
            module.write(unfinished, videos)
            replace(note, content=digest([marks, subsets], 32)).write(unfinished)
    return out


def _note_in(out: Path) -> Note | None:
    """Return the note of an existing export; None if there is no folder, or an empty one.

    Raises:
        UsageError: when the folder holds anything else.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    with suppress(FormatError):
        if out.is_dir() and (note := Note.read(out)) is not None:
            return note
    raise _other(out)


def _other(out: Path) -> UsageError:
    return UsageError(f"{out} already holds something else; choose a new or empty folder")


@contextmanager
def _published(out: Path) -> Iterator[Path]:
    """Yield a folder to write into; it is renamed `out` on success, and leaves nothing otherwise."""
    unfinished = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        yield unfinished
        unfinished.rename(out)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _chosen(store: FeatureStore, streams: Sequence[str]) -> tuple[str, ...]:
    if not len(store):
        raise UsageError(f"{store.path} holds no video")
    unknown = [name for name in streams if name not in store.dims]
    if unknown:
        raise UsageError(f"{store.path} has no stream {unknown[0]!r}; it has {', '.join(store.dims)}")
    first = [name for name in _FIRST if name in store.dims]
    return tuple(streams) or (*first, *(name for name in store.dims if name not in first))


def _names(store: FeatureStore, name_of: Callable[[str], str]) -> dict[str, str]:
    """Return name in the files -> id."""
    names: dict[str, str] = {}
    for video in store.ids:
        if names.setdefault(name_of(video), video) != video:
            raise UsageError(
                f"{names[name_of(video)]!r} and {video!r} are the same video in this layout; export only one of them"
            )
    return names


def _subsets(annotations: Path | None, store: FeatureStore) -> Mapping[str, str]:
    if annotations is None:
        return {}
    dataset = read_annotations(annotations)
    return {key: file_name(dataset.videos[name].subset) for name, key in dataset.match(store.ids).items()}


def _say_other_rate(store: FeatureStore, own: tuple[str, str], layout: str, reporter: Reporter) -> None:
    """Report a rate other than the layout's: other programs assume the layout's own and must be given this one."""
    if not all(own):
        return
    layout_period = Fraction(own[1]) / Fraction(own[0])
    grids = [store.grid(video) for video in store.ids]
    other_periods = sorted({grid.period for grid in grids} - {layout_period})
    if other_periods:
        reporter.say(
            f"rows are {float(other_periods[0]):g} s apart in this store; programs that read {layout} take "
            f"{float(layout_period):g} s: set their rate (wtal itself reads wtal.json)"
        )


def _load(store: FeatureStore, video: str, streams: Sequence[str], marks: dict[str, str]) -> Streams:
    """Return a video's streams, and add a digest of their rows to `marks`."""
    features = store[video].streams
    chosen = {name: features[name] for name in streams}
    hasher = hashlib.sha256()
    for values in chosen.values():
        hasher.update(values.tobytes())
    marks[video] = hasher.hexdigest()
    return chosen


def _note(store: FeatureStore, layout: str, streams: Sequence[str], names: Mapping[str, str]) -> Note:
    weights = {name: value for name, value in store.identity.get("weights", {}).items() if name in streams}
    specs = {name: (store.dims[name], store.dtypes[name]) for name in streams}
    grids = {name: (video, store.grid(video)) for name, video in names.items()}
    checksums = {
        name: {stream: crc for stream, crc in store.checksums(video).items() if stream in streams}
        for name, video in names.items()
    }
    backbone = str(store.identity.get("backbone", "unknown"))
    return Note(layout, backbone, weights, specs, grids, checksums=checksums)
