"""What `wtal evaluate` answers: detections, proposals or video-level labels of runs and files, and pairs of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from wtal.data.classifications import holds_classifications, read_classifications
from wtal.data.dataset import match_ids
from wtal.data.detections import read_detections, read_made
from wtal.data.segments import Detection
from wtal.data.store import FeatureStore
from wtal.errors import UsageError
from wtal.eval import Evaluation, compare_detections, evaluate_detections, evaluate_labels, evaluate_proposals
from wtal.eval.bootstrap import AVERAGE
from wtal.eval.classification import best_scores
from wtal.eval.curves import precision_recall
from wtal.eval.protocols import DEFAULT_PROTOCOL, find_protocol
from wtal.eval.thresholds import covered_ranges, parse_tious, tiou_key
from wtal.pipeline.detect import stamps
from wtal.pipeline.judging.ground_truth import (
    GroundTruth,
    check_ambiguous,
    over_seeds,
    own_detections,
    read_ground_truth,
)
from wtal.pipeline.judging.tables import Figures
from wtal.pipeline.progress import SILENT, Reporter
from wtal.pipeline.recipe import EvaluateConfig
from wtal.pipeline.train import resolve
from wtal.pipeline.workspace import read_run, seed_folders
from wtal.report.judge import few_tious, precision_by_tiou, precision_recall_curves, recall_by_proposals
from wtal.report.page import Picture

TASKS = ("detection", "proposals", "classification")


@dataclass(frozen=True)
class Question:
    """What is to be judged; None takes the run's own, or of a file the default."""

    annotations: Path | None = None
    subset: str | None = None
    tious: str | None = None
    protocol: str | None = None
    ambiguous: Path | None = None
    streams: str | None = None
    stage: int | None = None


@dataclass(frozen=True)
class Answer:
    """Figures as a table and as JSON types, what must be said beside them, and their pictures.

    `tuned`: annotated times took part in training or in the settings. `random`: streams of features whose weights were
    random.
    """

    figures: Figures
    value: dict[str, Any]
    tuned: bool = False
    draw: Callable[[], tuple[Picture, ...]] = tuple
    random: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """A detection file, the rules of the run that it is of, and what the run or the file says of itself."""

    name: str
    file: Path
    folder: Path | None
    annotations: Path
    subset: str
    tious: str
    stamps: Mapping[str, Any]

    @property
    def tuned(self) -> bool:
        """Whether annotated times took part."""
        return self.stamps.get("tuned_with_segments") is True

    @property
    def random(self) -> tuple[str, ...]:
        """Streams of features whose weights were random."""
        weights = self.stamps.get("weights")
        said = weights.items() if isinstance(weights, dict) else ()
        return tuple(stream for stream, one in said if str(one).startswith("random"))


def sources(path: Path, question: Question) -> list[Source]:
    """The detection files of a run, one a seed, or the file itself.

    Raises:
        UsageError: when there is nothing, or when a file comes without annotations or with a run's options.
    """
    if not path.exists():
        raise UsageError(f"there is nothing at {path}; name a run's folder or a detection file")
    if path.is_dir():
        return [_of_run(folder, question) for folder in seed_folders(path)]
    if question.streams is not None or question.stage is not None:
        raise UsageError(f"--streams and --stage are of a run's folder, {path} is a file")
    if question.annotations is None:
        raise UsageError(f"--annotations is needed to judge the file {path}")
    rules = EvaluateConfig()
    subset = question.subset or rules.test_subset
    return [Source(path.name, path, None, question.annotations, subset, rules.tiou, read_made(path))]


def _of_run(folder: Path, question: Question) -> Source:
    run = read_run(folder)
    rules = run["recipe"]["evaluate"]
    return Source(
        f"seed {folder.name.removeprefix('seed-')}",
        own_detections(folder, question.streams, question.stage),
        folder,
        question.annotations or resolve(folder, run["annotations"]),
        question.subset or rules["test_subset"],
        rules["tiou"],
        stamps(run),
    )


def ask_detection(path: Path, question: Question, reporter: Reporter = SILENT) -> Answer:
    """Mean average precision at each threshold, and of each class; of a run with several seeds, of each seed."""
    found = sources(path, question)
    truth, tious, protocol = rules_of(found[0], question)
    judged = [judged_of(one, truth, reporter) for one in found]
    results = [evaluate_detections(truth.annotations, one, tious, protocol, truth.ambiguous) for one in judged]
    value = results[0].to_json() if len(results) == 1 else {"mAP": over_seeds(results)}
    notes = tuple(dict.fromkeys(note for result in results for note in result.notes))
    figures = Figures(_detection_rows(results, [one.name for one in found]), _averages(tious), notes)

    def draw() -> tuple[Picture, ...]:
        by_tiou = precision_by_tiou({one.name: result.mAP for one, result in zip(found, results, strict=True)})
        if len(found) > 1:
            reporter.say("precision-recall curves are of one seed: name one of them")
            return (by_tiou,)
        some = few_tious(tious)
        curves = precision_recall(truth.annotations, judged[0], some, protocol, truth.ambiguous)
        return (by_tiou, precision_recall_curves(curves, some))

    return _answer(figures, {"protocol": protocol, **value}, found, draw)


def ask_against(
    path: Path, other: Path, question: Question, draws: int, seed: int, reporter: Reporter = SILENT
) -> Answer:
    """The difference of two files, or of two seeds, with intervals.

    Raises:
        UsageError: when either is a run of several seeds.
    """
    first, second = only_source(path, question), only_source(other, question)
    truth, tious, protocol = rules_of(first, question)
    ours, theirs = (judged_of(one, truth, reporter) for one in (first, second))
    made = compare_detections(truth.annotations, ours, theirs, tious, protocol, truth.ambiguous, draws, seed)
    rows = {
        (f"@{key}" if ":" not in key and key != AVERAGE else key): _columns(vars(one))
        for key, one in made.figures.items()
    }
    title = f"A is {path}, B is {other}; {made.confidence:.0%} intervals of {draws} draws of videos, seed {seed}"
    return _answer(Figures(rows, title=title), {"protocol": protocol, **made.to_json()}, [first, second])


def ask_proposals(path: Path, question: Question, reporter: Reporter = SILENT) -> Answer:
    """Average recall at average numbers of proposals, whatever their class.

    Raises:
        UsageError: when a protocol is named, or ranges that only protocols look at.
    """
    _leave("proposals", {"--protocol": question.protocol, "--ambiguous": question.ambiguous})
    source = only_source(path, question)
    truth = read_ground_truth(source.annotations, source.subset)
    tious = None if question.tious is None else parse_tious(question.tious)
    made = evaluate_proposals(truth.annotations, judged_of(source, truth, reporter), tious)
    named = {f"AN {number}": value for number, value in made.recall_at.items()}
    rows = {"AR": {**named, "area": made.area}}
    for tiou, at in made.to_json()["recall"].items():
        rows[f"recall@{tiou}"] = {f"AN {number}": value for number, value in at.items()}
    return _answer(Figures(rows, ("area",)), made.to_json(), [source], lambda: (recall_by_proposals(made),))


def ask_classification(path: Path, question: Question, reporter: Reporter = SILENT) -> Answer:
    """Mean average precision of video-level scores.

    They are a run's own, those of a classification file, or of a detection file the best score of each label.

    Raises:
        UsageError: when thresholds or ranges of time are named.
    """
    _leave("classification", {"--tiou": question.tious, "--ambiguous": question.ambiguous})
    source = only_source(path, question)
    truth = read_ground_truth(source.annotations, source.subset)
    protocol = find_protocol(question.protocol or DEFAULT_PROTOCOL)
    scores, whose = _scores(source, question)
    matched = match_ids([video.id for video in truth.records], scores)
    labels = {video.id: video.labels for video in truth.records}
    here = {name: scores[theirs] for name, theirs in matched.items()}
    made = evaluate_labels(labels, here, protocol.interpolated)
    hits = {f"hit@{k}": value for k, value in made.hit_at.items()}
    rows = {"mAP": {"AP": made.mAP, **hits}, **{label: {"AP": value} for label, value in made.ap.items()}}
    return _answer(Figures(rows, tuple(hits), title=f"scores are {whose}"), made.to_json(), [source])


def _answer(
    figures: Figures,
    value: dict[str, Any],
    found: Sequence[Source],
    draw: Callable[[], tuple[Picture, ...]] = tuple,
) -> Answer:
    """An answer that repeats what the runs and files it is made of say of themselves."""
    tuned = any(one.tuned for one in found)
    random = tuple(dict.fromkeys(stream for one in found for stream in one.random))
    said = {"tuned_with_segments": tuned, "random_weights": list(random)}
    return Answer(figures, value | {key: one for key, one in said.items() if one}, tuned, draw, random)


def _leave(task: str, options: Mapping[str, object]) -> None:
    """Refuse options that would change nothing."""
    named = [option for option, value in options.items() if value is not None]
    if named:
        raise UsageError(f"--task {task} has a definition of its own, to which {named[0]} is nothing; leave it")


def rules_of(source: Source, question: Question) -> tuple[GroundTruth, tuple[float, ...], str]:
    """Ground truth, thresholds and protocol; a protocol that is named brings its own thresholds."""
    check_ambiguous(question.protocol or DEFAULT_PROTOCOL, question.ambiguous)
    own = source.tious if question.protocol is None else find_protocol(question.protocol).tious
    truth = read_ground_truth(source.annotations, source.subset, question.ambiguous)
    return truth, parse_tious(question.tious or own), question.protocol or DEFAULT_PROTOCOL


def judged_of(source: Source, truth: GroundTruth, reporter: Reporter) -> dict[str, Sequence[Detection]]:
    """The detections that are judged, by the ids of the annotations."""
    # A run's store may hold unlabelled videos beside the collection: nobody knows whether a find there is false.
    return truth.judged(source.file, strangers=source.folder is None, reporter=reporter)


def only_source(path: Path, question: Question) -> Source:
    """The one detection file of a run with one seed, or the file itself.

    Raises:
        UsageError: as `sources`, or when the run has several seeds.
    """
    found = sources(path, question)
    if len(found) > 1:
        raise UsageError(f"{path} has {len(found)} seeds; name one of them, such as {path / 'seed-0'}")
    return found[0]


def _scores(source: Source, question: Question) -> tuple[Mapping[str, Mapping[str, float]], str]:
    """Scores by video and label, and whose they are."""
    chosen = question.streams is not None or question.stage is not None
    if source.folder is not None and (source.folder / "activations").is_dir() and not chosen:
        store, classes = FeatureStore.open(source.folder / "activations"), read_run(source.folder)["classes"]
        scores = {name: dict(zip(classes, store[name].info["video_scores"], strict=True)) for name in store.ids}
        return scores, "the head's own"
    if holds_classifications(source.file):
        return read_classifications(source.file), "those of the file"
    return best_scores(read_detections(source.file)), "the highest of each label's detections"


def _detection_rows(results: list[Evaluation], names: list[str]) -> dict[str, dict[str, float]]:
    if len(results) == 1:
        return {"mAP": _row(results[0].mAP), **{label: _row(values) for label, values in results[0].ap.items()}}
    mean = {tiou: fmean(result.mAP[tiou] for result in results) for tiou in results[0].tious}
    return {"mAP": _row(mean), **{name: _row(one.mAP) for name, one in zip(names, results, strict=True)}}


def _row(by_tiou: Mapping[float, float]) -> dict[str, float]:
    """A figure of each threshold, and the means that papers print."""
    ranges = covered_ranges([*by_tiou])
    means = {f"average {name}": fmean(by_tiou[tiou] for tiou in inside) for name, inside in ranges.items()}
    return {
        **{f"@{tiou_key(tiou)}": value for tiou, value in by_tiou.items()},
        **means,
        "average": fmean(by_tiou.values()),
    }


def _averages(tious: tuple[float, ...]) -> tuple[str, ...]:
    return (*(f"average {name}" for name in covered_ranges(tious)), "average")


def _columns(one: Mapping[str, Any]) -> dict[str, float]:
    shown = {"first": "A", "second": "B", "difference": "A - B"}
    cells: dict[str, float] = {}
    for key, name in shown.items():
        cells |= {name: one[key].value, f"{name} low": one[key].low, f"{name} high": one[key].high}
    return {**cells, "A ahead": one["ahead"]}
