"""The commands as functions, with the same defaults and workspace; interrupted calls resume.

Nothing is printed. What a command says on stderr goes to the logger `wtal` at level INFO, and its progress to a
function of the caller. Errors are those of `wtal.errors`.
"""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, overload

from wtal.config import assignments_of
from wtal.data.detections import read_detections
from wtal.data.store import FeatureStore
from wtal.errors import ConfigError, OverrideError, UsageError
from wtal.eval.protocols import INPUT
from wtal.extractors.execution.config import ExtractConfig
from wtal.pipeline.chain import RunOptions, RunResult
from wtal.pipeline.chain import run as run_chain
from wtal.pipeline.detect import detect as detect_in_store
from wtal.pipeline.detect import ids_in_subset, refuse_without_videos
from wtal.pipeline.devices import AUTOMATIC, MOST_JOBS, check_seeds, pick_device
from wtal.pipeline.ensembles.train_members import recipe_of
from wtal.pipeline.extraction.extract import ExtractResult
from wtal.pipeline.extraction.extract import extract as fill_store
from wtal.pipeline.extraction.machine import Machine
from wtal.pipeline.extraction.spread import reading_ahead
from wtal.pipeline.judging.evaluate import (
    TASKS,
    DetectionJudgement,
    Judgement,
    judge_labels,
    judge_proposals,
)
from wtal.pipeline.judging.evaluate import evaluate as judge_detections
from wtal.pipeline.judging.sources import Question, only_source, sources
from wtal.pipeline.learn import learn
from wtal.pipeline.new_videos.detect_new import NewDetections, detect_new
from wtal.pipeline.new_videos.detector import Detector
from wtal.pipeline.new_videos.open_model import open_detector, open_model
from wtal.pipeline.progress import Progress, ReporterTo
from wtal.pipeline.recipe import DEFAULT_RECIPE
from wtal.pipeline.runs import Run, open_run
from wtal.pipeline.workspace import Workspace, default_workspace
from wtal.refusals import listed

AnyPath = str | os.PathLike[str]
Paths = AnyPath | Iterable[AnyPath]
Strings = str | Iterable[str]

_LOGGER = logging.getLogger("wtal")
_WORKSPACE = "WTAL_WORKSPACE"
_TASK = TASKS[0]


class ExtractSettings(TypedDict, total=False):
    """Settings of the section `[extract]` of a recipe; docs/recipes.md says what each means and its default."""

    backbone: str
    streams: Iterable[str]
    flow: str
    reader: str
    fps: str | float
    stride: int
    tail: Literal["pad", "drop"]
    zero: Literal["file", "picture"]
    runtime: Literal["torch", "openvino"]
    precision: Literal["float32", "bfloat16", "float16"]
    crops: Literal[1, 10]
    dtype: Literal["float32", "float16"]


def extract(
    videos: Paths,
    *,
    weights: Strings = (),
    out: AnyPath | None = None,
    jobs: int | Literal["auto"] = "auto",
    device: str = "auto",
    workspace: AnyPath | None = None,
    progress: Progress | None = None,
    **settings: Unpack[ExtractSettings],
) -> ExtractResult:
    """Extract snippet features of videos, and of folders of them, into a store; as `wtal extract`.

    Videos that the store already holds are skipped. The result has the `store`'s folder, the `videos` asked for and
    `failures`, id -> reason. `jobs` "auto" takes the fastest number of processes on this machine.

    >>> extraction = wtal.extract("videos", fps=5, workspace="workspace")
    >>> len(extraction.videos), extraction.failures
    (4, {})

    Raises:
        UsageError: when a path or a name does not exist, or a setting is refused.
        WeightsError: when weights are missing or do not fit.
        StoreError: when `out` holds something else.
    """
    try:
        config = ExtractConfig.parse(settings, "extract")
    except ConfigError as error:
        raise OverrideError(str(error)) from None
    with _workspace(workspace) as home:
        machine = Machine(_jobs(jobs), pick_device(device, several=True))
        return fill_store(
            _paths(videos), config, home, _strings(weights), _path(out), machine, ReporterTo(progress, _LOGGER)
        )


def train(
    recipe: AnyPath = DEFAULT_RECIPE,
    *,
    store: AnyPath | None = None,
    annotations: AnyPath | None = None,
    seeds: int | Iterable[int] = 0,
    check: bool = False,
    verdicts: bool = True,
    settings: Mapping[str, Any] | None = None,
    device: str = "auto",
    workspace: AnyPath | None = None,
    progress: Progress | None = None,
) -> list[Run]:
    """Train a run per seed from features and video-level labels; as `wtal train`.

    `store` and `annotations` are the workspace's only ones by default. `settings` are values of the recipe, as `--set`
    takes them: `{"train": {"steps": 500}}` or `{"train.steps": 500}`.

    >>> (run,) = wtal.train(annotations="annotations.json", workspace="workspace",
    ...                     settings={"head": {"name": "basnet"}, "train": {"steps": 3}})
    >>> run.finished, run.seed, run.classes
    (True, 0, ('bouncing', 'circling', 'pulsing', 'spinning', 'swinging'))

    Raises:
        UsageError: when the call is wrong or ambiguous.
        ConfigError: when the recipe is refused.
        WtalError: when no video has both features and labels.
    """
    numbers = _seeds(seeds)
    resolved = recipe_of(os.fspath(recipe), assignments_of(settings))
    with _workspace(workspace) as home:
        features, labels = _path(store) or home.only_store(), _path(annotations) or home.only_annotations()
        told = ReporterTo(progress, _LOGGER)
        return learn(features, labels, resolved, numbers, home, check, verdicts, pick_device(device), told)


def run(
    videos: Paths,
    *,
    labels: AnyPath | None = None,
    annotations: AnyPath | None = None,
    recipe: AnyPath = DEFAULT_RECIPE,
    seeds: int | Iterable[int] = 0,
    weights: Strings = (),
    use_labels: bool = False,
    quick: bool = False,
    check: bool | None = None,
    refine: bool | None = None,
    challenge: str | None = None,
    report: bool = True,
    verdicts: bool = True,
    jobs: int | Literal["auto"] = "auto",
    settings: Mapping[str, Any] | None = None,
    device: str = "auto",
    workspace: AnyPath | None = None,
    progress: Progress | None = None,
) -> RunResult:
    """Extract, train, detect, and judge where there is ground truth; as `wtal run`.

    Either `labels` (a table of `video,label`, or a folder per class) or `annotations` says what the videos show.
    The result has the `runs`, the files of their `detections` and `tables`, the `judgement` where there is ground
    truth, the `report`'s page, and `extracted`, with failures. The same call resumes an interrupted one.

    >>> result = wtal.run("videos", annotations="annotations.json", quick=True, report=False, workspace="workspace",
    ...                   settings={"extract.fps": 5, "train.steps": 3, "evaluate.test_subset": "training"})
    >>> result.extracted.failures, [path.name for path in result.detections]
    ({}, ['detections.json'])
    >>> 0 <= result.judgement.evaluations[0].mAP[0.5] <= 1
    True

    Raises:
        UsageError: when the call is wrong, or nothing can be trained on.
        ConfigError: when the recipe is refused.
    """
    if (annotations is None) == (labels is None):
        raise UsageError("pass either annotations or labels: training needs the labels of the videos")
    numbers = _seeds(seeds)
    resolved = recipe_of(os.fspath(recipe), assignments_of(settings), quick, refine)
    checks = bool(resolved.ensemble.members) if check is None else check
    with _workspace(workspace) as home:
        machine = Machine(jobs=_jobs(jobs), device=pick_device(device))
        options = RunOptions(numbers, _strings(weights), use_labels, challenge or "", checks, report, verdicts, machine)
        source = _path(annotations) or _path(labels)
        assert source is not None
        return run_chain(_paths(videos), source, resolved, home, options, ReporterTo(progress, _LOGGER))


def load(model: AnyPath | Run, device: str = "auto") -> Detector:
    """Open a file of `wtal pack`, a run or its folder; its `detect("video.mp4")` returns the detections in a video.

    >>> detector = wtal.load(run.folder)
    >>> detections = detector.detect("videos/training_00.mp4")
    >>> all(0 <= d.start < d.end and d.label in detector.classes for d in detections)
    True

    Raises:
        UsageError: when there is neither a run nor a packed model.
        WtalError: when the file is damaged, or this machine cannot make the model's features.
    """
    return open_detector(model.folder if isinstance(model, Run) else Path(model), pick_device(device))


def detect(
    model: AnyPath | Run | None = None,
    videos: Paths | None = None,
    *,
    use_labels: bool = False,
    subset: str | None = None,
    streams: str | None = None,
    stage: int | None = None,
    out: AnyPath | None = None,
    weights: Strings = (),
    jobs: int | Literal["auto"] = "auto",
    settings: Mapping[str, Any] | None = None,
    device: str = "auto",
    workspace: AnyPath | None = None,
    progress: Progress | None = None,
) -> NewDetections:
    """Detect in new videos, or in every video of a run's store; as `wtal detect`.

    `model` is a run, its folder or a packed model; None is the newest finished run of the workspace. `settings` are
    values of the localization: `{"localize": {"smooth": 1.0}}`; `streams` is short for `localize.streams`, and `subset`
    restricts the run's own videos. The result has `results`, video id -> detections in seconds, best first; `failures`,
    id -> reason; and the files that hold them.

    >>> smooth = wtal.detect(run, settings={"localize.smooth": 1.0}, workspace="workspace")
    >>> sorted(smooth.results)[0], smooth.table.suffix
    ('training_00', '.csv')
    >>> new = wtal.detect(run, "videos/training_01.mp4", workspace="workspace")
    >>> list(new.results), dict(new.failures)
    (['training_01'], {})

    Raises:
        UsageError: when the call is wrong, a path does not exist, or the folder holds several seeds.
        WtalError: when the run is not finished, or this machine cannot make the model's features.
    """
    assignments, told = assignments_of(settings), ReporterTo(progress, _LOGGER)
    if streams is not None:
        assignments.append(f"localize.streams={streams}")
    with _workspace(workspace) as home:
        source = model.folder if isinstance(model, Run) else _path(model)
        if videos is None:
            refuse_without_videos(source, _path(out), _strings(weights), _jobs(jobs))
            own = open_run(source or home.newest_run())
            config = own.localize(assignments)
            only = None if subset is None else ids_in_subset(own, subset)
            file = detect_in_store(own, config, use_labels, only, pick_device(device), told, stage)
            return NewDetections(read_detections(file), {}, file, file.with_suffix(".csv"), (own.store_folder(),))
        if use_labels or subset is not None or stage is not None:
            raise UsageError(
                "use_labels, subset and stage apply only to the videos of the run's own store; leave them out"
            )
        with reading_ahead(_jobs(jobs)):
            opened = open_model(source or home.newest_run())
            detector = Detector(opened, Machine(_jobs(jobs), pick_device(device)), _strings(weights), assignments)
            return detect_new(detector, _paths(videos), home, _path(out), told)


@overload
def evaluate(
    source: AnyPath | Run,
    *,
    task: Literal["detection"] = ...,
    annotations: AnyPath | None = ...,
    subset: str | None = ...,
    tiou: str | float | Iterable[float] | None = ...,
    protocol: str | None = ...,
    ties: str = ...,
    ambiguous: AnyPath | None = ...,
    streams: str | None = ...,
    stage: int | None = ...,
    progress: Progress | None = ...,
) -> DetectionJudgement: ...


@overload
def evaluate(
    source: AnyPath | Run,
    *,
    task: Literal["proposals", "classification"],
    annotations: AnyPath | None = ...,
    subset: str | None = ...,
    tiou: str | float | Iterable[float] | None = ...,
    protocol: str | None = ...,
    ties: str = ...,
    ambiguous: AnyPath | None = ...,
    streams: str | None = ...,
    stage: int | None = ...,
    progress: Progress | None = ...,
) -> Judgement: ...


def evaluate(
    source: AnyPath | Run,
    *,
    task: str = _TASK,
    annotations: AnyPath | None = None,
    subset: str | None = None,
    tiou: str | float | Iterable[float] | None = None,
    protocol: str | None = None,
    ties: str = INPUT,
    ambiguous: AnyPath | None = None,
    streams: str | None = None,
    stage: int | None = None,
    progress: Progress | None = None,
) -> Judgement:
    """Judge a run's detections, or those of a file, against annotated segments; as `wtal evaluate`.

    Arguments that are None default to the run's own values, or for a file to those of the command. `tiou` is
    `start:stop:step`, or thresholds. The `evaluations` of the result, one per seed, have `mAP`, threshold -> fraction;
    `to_json()` is what `--json` prints.

    >>> judged = wtal.evaluate(smooth.file, annotations="annotations.json", subset="training", tiou=[0.3, 0.5])
    >>> list(judged.evaluations[0].mAP)
    [0.3, 0.5]

    Raises:
        UsageError: when there is nothing to judge, the subset has no segments, or a rule is refused.
    """
    if task not in TASKS:
        raise UsageError(f"task: wanted {listed(TASKS)}, got {task!r}")
    thresholds = tiou if tiou is None or isinstance(tiou, str) else ",".join(map(str, _listed(tiou)))
    question = Question(_path(annotations), subset, thresholds, protocol, _path(ambiguous), streams, stage, ties)
    path, told = source.folder if isinstance(source, Run) else Path(source), ReporterTo(progress, _LOGGER)
    if task == _TASK:
        return judge_detections(sources(path, question), question, told)
    judge = judge_proposals if task == "proposals" else judge_labels
    return judge(only_source(path, question), question, told)


def open_store(store: AnyPath | None = None, *, workspace: AnyPath | None = None) -> FeatureStore:
    """Open a feature store; by default the workspace's only one.

    `store["video"].streams["rgb"]` is a memory-mapped (T, D) array, `store.grid("video")` its clock.

    >>> store = wtal.open_store(workspace="workspace")
    >>> len(store), store.dims
    (4, {'flow': 1332, 'rgb': 656})

    Raises:
        UsageError: when there is none, or more than one.
        StoreError: when it is missing or damaged.
    """
    return FeatureStore.open(_path(store) or Workspace(_path(workspace) or default_workspace()).only_store())


@contextmanager
def _workspace(folder: AnyPath | None) -> Iterator[Workspace]:
    """Run a block in a workspace: weights are kept in it too, and processes look for it in the environment."""
    home = Workspace(_path(folder) or default_workspace())
    before = os.environ.get(_WORKSPACE)
    os.environ[_WORKSPACE] = str(home.root)
    try:
        yield home
    finally:
        if before is None:
            del os.environ[_WORKSPACE]
        else:
            os.environ[_WORKSPACE] = before


def _path(path: AnyPath | None) -> Path | None:
    return None if path is None else Path(path)


def _paths(paths: Paths) -> list[Path]:
    return [Path(path) for path in _listed(paths)]


def _strings(texts: Strings) -> tuple[str, ...]:
    return tuple(_listed(texts))


def _jobs(jobs: int | Literal["auto"]) -> int:
    if jobs == "auto":
        return AUTOMATIC
    if not isinstance(jobs, int) or isinstance(jobs, bool) or not 1 <= jobs <= MOST_JOBS:
        raise UsageError(f"jobs: wanted 'auto' or a number from 1 to {MOST_JOBS}, got {jobs!r}")
    return jobs


def _seeds(seeds: int | Iterable[int]) -> tuple[int, ...]:
    return check_seeds(_listed(seeds), seeds)


def _listed(values: Any) -> list[Any]:
    """Return several values, or one, as a list."""
    single = isinstance(values, str | os.PathLike) or not isinstance(values, Iterable)
    return [values] if single else list(values)
