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
from wtal.data.kinds import DETECTION_FILE
from wtal.data.names import match_ids
from wtal.data.segments import Annotation, Detection
from wtal.data.store import FeatureStore
from wtal.data.store.index import FAILURES
from wtal.errors import WtalError
from wtal.models.localization.config import LocalizeConfig
from wtal.models.localization.signals import class_activations
from wtal.pipeline.activations import read_activations
from wtal.pipeline.exchange.export_detections import files_below, files_in_question
from wtal.pipeline.runs import Run
from wtal.pipeline.viewing.located import LocatedDetections, locate
from wtal.report.selection import in_time

_POINTS = 600
"""Maximum points of a curve; for more snippets, the highest of each group is drawn."""


@dataclass(frozen=True)
class ActivationCurves:
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
    curves: ActivationCurves | None = None

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
class _RunData:
    """Data of a run besides its detections; empty for a stand-alone file."""

    durations: Mapping[str, float] = field(default_factory=dict)
    curves: Callable[[str], ActivationCurves | None] = lambda video: None
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
    located = locate(source)
    file, run = located.file, located.run
    origin = read_made(file)
    detections = read_detections(file)
    known = _of_run(run) if run else _RunData(failures=_failures_beside(file))
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
        _title(located),
        file,
        tuple(shown),
        verdicts_of(origin),
        {video: reason for video, reason in known.failures.items() if video not in detections},
        located.page_folder,
        located.verdicts_file,
        bool(origin),
        files_in_question(detections, own, folder) if files is None else {},
    )


def _of_run(run: Run) -> _RunData:
    """Return a run's remaining data: its store and its annotations may be missing."""
    try:
        dataset = run.annotations()
    except WtalError:
        dataset = None
    try:
        store = run.store()
    except WtalError:
        return _RunData(curves=_curves_of(run), annotations=dataset)
    durations = {video: store.grid(video).duration for video in store.ids}
    return _RunData(durations, _curves_of(run), store.failures, dataset)


def _curves_of(run: Run) -> Callable[[str], ActivationCurves | None]:
    """Return a function video -> its curves, from the activations in a run's folder."""
    try:
        folder = run.activations_folder()
    except WtalError:  # a refined run whose teacher is missing
        return lambda video: None
    if not (folder / "index.json").is_file():
        return lambda video: None
    store, config, classes = FeatureStore.open(folder), run.recipe.localize, run.classes
    return lambda video: _curves(store, video, classes, config) if video in store else None


def _curves(store: FeatureStore, video: str, classes: tuple[str, ...], config: LocalizeConfig) -> ActivationCurves:
    activations, grid = read_activations(store[video], classes)
    every = -(-grid.num_snippets // _POINTS)
    values = class_activations(activations, config)
    if config.activation == "none" and not (values.min() >= 0 and values.max() <= 1):
        values = (values - values.min()) / max(values.max() - values.min(), 1e-9)
    attention = None if activations.attention is None else _highest(activations.attention, every)
    curves = {label: _highest(values[:, i], every) for i, label in enumerate(classes)}
    return ActivationCurves(grid.to_segment(0, 0).start, float(grid.period) * every, curves, attention)


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


def _title(located: LocatedDetections) -> str:
    file, run, folder = located.file, located.run, located.run_folder
    if run is None:
        return file.stem if file.name != DETECTION_FILE else f"{file.parent.name}"
    return folder.name if run.ensemble else f"{folder.parent.name}, {folder.name}"
