"""Detections of a run or a file, and all data on their videos shown on a page."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wtal.data.annotations import read_annotations
from wtal.data.dataset import Dataset, VideoRecord
from wtal.data.detections import BEGINS, read_detections, read_made, verdicts_of
from wtal.data.files import read_json
from wtal.data.kinds import require_detections
from wtal.data.names import match_ids
from wtal.data.segments import Annotation, Detection
from wtal.data.store import FeatureStore
from wtal.data.store.index import FAILURES
from wtal.errors import UsageError, WtalError
from wtal.models.localization.config import LocalizeConfig
from wtal.models.localization.signals import class_activations
from wtal.pipeline.activations import read_activations
from wtal.pipeline.exchange.export_detections import files_below, files_in_question
from wtal.pipeline.runs import Run, holds_run, is_run, open_run
from wtal.pipeline.workspace import Workspace
from wtal.report.selection import in_time

_DETECTIONS = "detections.json"
_POINTS = 600
"""Maximum points of a curve; for more snippets, the highest of each group is drawn."""


@dataclass(frozen=True)
class Curves:
    """Class activations and attention in [0, 1], a value every `step` seconds from `begins` (the file's seconds)."""

    begins: float
    step: float
    classes: Mapping[str, NDArray[np.floating[Any]]]
    attention: NDArray[np.floating[Any]] | None


@dataclass(frozen=True)
class ShownVideo:
    """A video of a page. Times are those of the detection file, in which its first picture comes at `begins`.

    `duration` is that of the picture, None if unknown. `labels` are None if the video is unlabelled.
    """

    id: str
    detections: tuple[Detection, ...]
    begins: float = 0.0
    duration: float | None = None
    file: Path | None = None
    labels: tuple[str, ...] | None = None
    annotations: tuple[Annotation, ...] = ()
    curves: Curves | None = None

    @property
    def classes(self) -> set[str]:
        """Class names of detections and annotations."""
        return {d.label for d in self.detections} | {a.label for a in self.annotations}


@dataclass(frozen=True)
class Collection:
    """Content of a page: videos, the label check's verdict by class, video -> reason for failure, and notes.

    `folder` is the default folder of its page, and `verdicts` the file of verdicts. `counted` is False if the detection
    file does not state its origin of time: the first picture is then assumed. `in_question` is video -> a sentence on
    the files that share its name, of which none is shown.
    """

    title: str
    source: Path
    videos: tuple[ShownVideo, ...]
    checked: Mapping[str, str]
    failures: Mapping[str, str]
    folder: Path
    verdicts: Path
    counted: bool = True
    in_question: Mapping[str, str] = field(default_factory=dict)

    @property
    def classes(self) -> list[str]:
        """Class names of detections, annotations and the label check, sorted."""
        return sorted({*self.checked, *(label for video in self.videos for label in video.classes)})


@dataclass(frozen=True)
class _Known:
    """Data of a run besides its detections; empty for a stand-alone file."""

    durations: Mapping[str, float] = field(default_factory=dict)
    curves: Callable[[str], Curves | None] = lambda video: None
    failures: Mapping[str, str] = field(default_factory=dict)
    annotations: Dataset | None = None


def gather(
    source: Path,
    folder: Path | None = None,
    files: Mapping[str, Path] | None = None,
    annotations: Path | None = None,
) -> Collection:
    """Gather the content of a page for a run with one seed, a detection file, or a folder of `wtal detect`.

    `files` is video -> its file; otherwise files are searched for below `folder`.

    Raises:
        UsageError: when the path does not exist, or a run has several seeds or no detections yet.
        FormatError: when a file is not in its layout.
    """
    file, run = _located(source)
    origin = read_made(file)
    detections = read_detections(file)
    known = _of_run(run) if run else _Known(failures=_failures_beside(file))
    dataset = read_annotations(annotations) if annotations else known.annotations
    own = files_below(detections, folder) if files is None else files
    begins: Mapping[str, float] = origin.get(BEGINS, {})
    records = _records(dataset, detections)
    shown = []
    for video, segments in detections.items():
        record = records.get(video)
        shown.append(
            ShownVideo(
                video,
                in_time(segments),
                begins.get(video, 0.0),
                known.durations.get(video),
                own.get(video),
                record.labels if record else None,
                record.annotations if record else (),
                known.curves(video),
            )
        )
    return Collection(
        _title(file, run),
        file,
        tuple(shown),
        verdicts_of(origin),
        {video: reason for video, reason in known.failures.items() if video not in detections},
        _page_folder(file, run),
        _verdicts_file(file, run),
        bool(origin),
        files_in_question(detections, own, folder) if files is None else {},
    )


def detections_file(source: Path) -> Path:
    """Return the detection file of a run, of a folder of `wtal detect`, or the file itself.

    Raises:
        UsageError: when there is none.
    """
    if source.is_file():
        require_detections(source)
        return source.absolute()
    return _located(source)[0]


def _located(source: Path) -> tuple[Path, Run | None]:
    """Return the detection file of a source, and its run, which is opened once."""
    if source.is_file():
        file = detections_file(source)
        return file, run_of(file)
    if not source.exists():
        raise UsageError(f"{source} does not exist; pass a run's folder or a detection file")
    if not holds_run(source) and (source / _DETECTIONS).is_file():
        return (source / _DETECTIONS).absolute(), None
    run = open_run(source)
    return run.detections().absolute(), run


def _of_run(run: Run) -> _Known:
    """Return a run's remaining data: its store and its annotations may be missing."""
    try:
        dataset = run.annotations()
    except WtalError:
        dataset = None
    try:
        store = run.store()
    except WtalError:
        return _Known(curves=_curves_of(run), annotations=dataset)
    durations = {video: store.grid(video).duration for video in store.ids}
    return _Known(durations, _curves_of(run), store.failures, dataset)


def _curves_of(run: Run) -> Callable[[str], Curves | None]:
    """Return a function video -> its curves, from the activations in a run's folder."""
    try:
        folder = run.activations_folder()
    except WtalError:  # a refined run whose teacher is missing
        return lambda video: None
    if not (folder / "index.json").is_file():
        return lambda video: None
    store, config, classes = FeatureStore.open(folder), run.recipe.localize, run.classes
    return lambda video: _curves(store, video, classes, config) if video in store else None


def _curves(store: FeatureStore, video: str, classes: tuple[str, ...], config: LocalizeConfig) -> Curves:
    activations, grid = read_activations(store[video], classes)
    every = -(-grid.num_snippets // _POINTS)
    values = class_activations(activations, config)
    if config.activation == "none" and not (values.min() >= 0 and values.max() <= 1):
        values = (values - values.min()) / max(values.max() - values.min(), 1e-9)
    attention = None if activations.attention is None else _highest(activations.attention, every)
    curves = {label: _highest(values[:, i], every) for i, label in enumerate(classes)}
    return Curves(grid.to_segment(0, 0).start, float(grid.period) * every, curves, attention)


def _highest(values: NDArray[np.floating[Any]], every: int) -> NDArray[np.floating[Any]]:
    """Reduce (T,) -> (ceil(T / every),) to the highest of each group."""
    return np.maximum.reduceat(values, np.arange(0, len(values), every))


def _failures_beside(file: Path) -> dict[str, str]:
    beside = file.with_name(FAILURES)
    content = read_json(beside) if beside.is_file() else {}
    return {str(video): str(reason) for video, reason in content.items()} if isinstance(content, dict) else {}


def _records(dataset: Dataset | None, detections: Mapping[str, Any]) -> dict[str, VideoRecord]:
    if dataset is None:
        return {}
    return {own: dataset.videos[video] for video, own in match_ids(dataset.videos, detections).items()}


def _title(file: Path, run: Run | None) -> str:
    if run is None:
        return file.stem if file.name != _DETECTIONS else f"{file.parent.name}"
    return run.folder.name if run.ensemble else f"{run.folder.parent.name}, {run.folder.name}"


def page_folder(file: Path) -> Path:
    """Return the default folder of a detection file's page: in its run, or else next to it."""
    return _page_folder(file, run_of(file))


def _page_folder(file: Path, run: Run | None) -> Path:
    if run is None:
        return file.with_name(f"{file.stem}-report")
    mark = file.stem.removeprefix("detections")
    return run.folder / f"report{mark}"


def verdicts_file(file: Path) -> Path:
    """Return the file of verdicts on a detection file: in its run's workspace, or else next to it.

    Verdicts are therefore kept when a new training makes a new run.
    """
    return _verdicts_file(file, run_of(file))


def _verdicts_file(file: Path, run: Run | None) -> Path:
    if run is None:
        return file.with_name(f"{file.stem}-verdicts.json")
    folders = [folder.parent for folder in run.folder.parents if folder.name == "runs"]
    return Workspace(folders[0]).verdicts if folders else run.folder / "verdicts.json"


def run_of(file: Path) -> Run | None:
    """Return the run of a detection file; None for a stand-alone file."""
    return Run.open(file.parent.parent) if is_run(file.parent.parent) else None
