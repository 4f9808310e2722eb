"""Evaluation of detections by mAP, shared by `wtal evaluate`, `wtal run` and `wtal compare`; and other metrics.

`evaluate` scores the detection files of one or several seeds; `compare_sources` compares two of them; proposals and
video-level labels have metrics of their own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from wtal.data.classifications import holds_classifications, read_classifications
from wtal.data.detections import read_detections
from wtal.data.names import match_ids
from wtal.data.segments import Detection
from wtal.data.store import FeatureStore
from wtal.data.tally import first_names
from wtal.errors import UsageError
from wtal.eval import Evaluation, compare_detections, evaluate_detections, evaluate_labels, evaluate_proposals
from wtal.eval.bootstrap import AVERAGE
from wtal.eval.classification import best_scores
from wtal.eval.curves import precision_recall
from wtal.eval.proposals import ProposalEvaluation
from wtal.eval.protocols import DEFAULT_PROTOCOL, INPUT, find_protocol
from wtal.eval.thresholds import parse_tious
from wtal.pipeline.judging.ground_truth import Rules, read_ground_truth, rules_of
from wtal.pipeline.judging.sources import Question, Source, not_learned, only_source, untrained
from wtal.pipeline.judging.tables import Figures, tiou_row
from wtal.pipeline.progress import SILENT, Reporter
from wtal.pipeline.runs import UNTRAINED
from wtal.report.judge import few_tious, precision_by_tiou, precision_recall_curves, recall_by_proposals
from wtal.report.page import Picture

TASKS = ("detection", "proposals", "classification")


@dataclass(frozen=True)
class Judgement:
    """Metrics as a table and as JSON types, and their sources, whose stamps the JSON repeats."""

    figures: Figures
    value: dict[str, Any]
    sources: tuple[Source, ...]

    @property
    def tuned(self) -> bool:
        """True if annotated times took part in training or in the settings."""
        return any(source.tuned for source in self.sources)

    @property
    def random(self) -> tuple[str, ...]:
        """Streams of features with random weights."""
        return tuple(dict.fromkeys(stream for source in self.sources for stream in source.random))

    @property
    def not_learned(self) -> tuple[str, ...]:
        """Classes called not learned by held-out labels."""
        return tuple(dict.fromkeys(label for source in self.sources for label in not_learned(source.stamps)))

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON types, in fractions, with the stamps that apply."""
        stamps = {
            "tuned_with_segments": self.tuned,
            "random_weights": list(self.random),
            "not_learned": list(self.not_learned),
        }
        return self.value | {key: stamp for key, stamp in stamps.items() if stamp}

    def pictures(self, reporter: Reporter = SILENT) -> tuple[Picture, ...]:
        """Draw the figures."""
        return ()


@dataclass(frozen=True)
class DetectionJudgement(Judgement):
    """Mean average precision of detections; `evaluations` has one entry per source."""

    rules: Rules
    evaluations: tuple[Evaluation, ...]
    judged: Sequence[Mapping[str, Sequence[Detection]]]

    def pictures(self, reporter: Reporter = SILENT) -> tuple[Picture, ...]:
        """Draw mAP by threshold, and for a single source its precision-recall curves."""
        named = zip(self.sources, self.evaluations, strict=True)
        by_tiou = precision_by_tiou({source.name: evaluation.mAP for source, evaluation in named})
        if len(self.sources) > 1:
            reporter.say("precision-recall curves need a single seed; pass one of them")
            return (by_tiou,)
        truth, tious = self.rules.truth, few_tious(self.rules.tious)
        settings = (tious, self.rules.protocol, truth.ambiguous, self.rules.ties)
        curves = precision_recall(truth.annotations, self.judged[0], *settings)
        return (by_tiou, precision_recall_curves(curves, tious))


@dataclass(frozen=True)
class ProposalJudgement(Judgement):
    """Average recall of class-agnostic proposals."""

    evaluation: ProposalEvaluation

    def pictures(self, reporter: Reporter = SILENT) -> tuple[Picture, ...]:
        """Draw recall by the number of proposals."""
        return (recall_by_proposals(self.evaluation),)


def evaluate(sources: Sequence[Source], question: Question, reporter: Reporter = SILENT) -> DetectionJudgement:
    """Evaluate detections: mean average precision at each threshold and of each class, for each seed.

    All sources are evaluated by the rules of the first.

    Raises:
        UsageError: when the subset does not exist or has no segments, or a rule is refused.
    """
    rules = rules_of(sources[0], question)
    truth = rules.truth
    judged = [truth.judged(source, reporter) for source in sources]
    truth.tell_lengths(sources, judged, reporter)
    evaluations = tuple(
        evaluate_detections(truth.annotations, detections, rules.tious, rules.protocol, truth.ambiguous, rules.ties)
        for detections in judged
    )
    value = evaluations[0].to_json() if len(evaluations) == 1 else {"mAP": over_seeds(evaluations)}
    odd = _without_ap(sources, evaluations)
    value = {**rules.named, **value, **{key: labels for key, labels in odd.items() if labels}}
    figures = _detection_figures(sources, evaluations, odd)
    return DetectionJudgement(figures, value, tuple(sources), rules, evaluations, judged)


def compare_sources(
    path: Path, other: Path, question: Question, draws: int, seed: int, reporter: Reporter = SILENT
) -> Judgement:
    """Evaluate the difference of two detection files, or of two seeds, with bootstrap intervals.

    Raises:
        UsageError: as in `evaluate`, or when either is a run of several seeds.
    """
    first, second = only_source(path, question), only_source(other, question)
    rules = rules_of(first, question)
    truth = rules.truth
    a, b = (truth.judged(source, reporter) for source in (first, second))
    truth.tell_lengths((first, second), (a, b), reporter)
    settings = (rules.tious, rules.protocol, truth.ambiguous, draws, seed)
    comparison = compare_detections(truth.annotations, a, b, *settings, ties=rules.ties)
    rows = {
        (f"@{key}" if ":" not in key and key != AVERAGE else key): _interval_cells(vars(figure))
        for key, figure in comparison.figures.items()
    }
    title = f"A is {path}, B is {other}; {comparison.confidence:.0%} intervals of {draws} draws of videos, seed {seed}"
    value = {**rules.named, **comparison.to_json()}
    return Judgement(Figures(rows, title=title), value, (first, second))


def judge_proposals(source: Source, question: Question, reporter: Reporter = SILENT) -> ProposalJudgement:
    """Evaluate proposals, whatever their class: average recall at average numbers of proposals.

    Raises:
        UsageError: when a protocol or its ties are named, or ranges, which only protocols use.
    """
    _refuse("proposals", {"--protocol": question.protocol, "--ambiguous": question.ambiguous} | _ties(question))
    truth = read_ground_truth(source.annotations, source.subset)
    tious = None if question.tious is None else parse_tious(question.tious)
    judged = truth.judged(source, reporter)
    truth.tell_lengths((source,), (judged,), reporter)
    evaluation = evaluate_proposals(truth.annotations, judged, tious)
    value = evaluation.to_json()
    rows = {
        "AR": {**{f"AN {number}": recall for number, recall in evaluation.recall_at.items()}, "area": evaluation.area}
    }
    for tiou, recalls in value["recall"].items():
        rows[f"recall@{tiou}"] = {f"AN {number}": recall for number, recall in recalls.items()}
    return ProposalJudgement(Figures(rows, ("area",)), value, (source,), evaluation)


def judge_labels(source: Source, question: Question, reporter: Reporter = SILENT) -> Judgement:
    """Evaluate video-level scores by their mean average precision.

    The scores are a run's own, those of a classification file, or in a detection file the best score of each label.

    Raises:
        UsageError: when thresholds, ranges of time or ties are given.
    """
    _refuse("classification", {"--tiou": question.tious, "--ambiguous": question.ambiguous} | _ties(question))
    truth = read_ground_truth(source.annotations, source.subset)
    protocol = find_protocol(question.protocol or DEFAULT_PROTOCOL)
    scores, origin = _scores(source, question)
    matched = match_ids([video.id for video in truth.records], scores)
    labels = {video.id: video.labels for video in truth.records}
    evaluation = evaluate_labels(labels, {name: scores[key] for name, key in matched.items()}, protocol.interpolated)
    hits = {f"hit@{k}": value for k, value in evaluation.hit_at.items()}
    rows = {"mAP": {"AP": evaluation.mAP, **hits}, **{label: {"AP": value} for label, value in evaluation.ap.items()}}
    return Judgement(Figures(rows, tuple(hits), title=f"scores are {origin}"), evaluation.to_json(), (source,))


def over_seeds(evaluations: Sequence[Evaluation]) -> dict[str, dict[str, Any]]:
    """Return mAP at each threshold, as fractions: `{"0.5": {"mean": .., "seeds": [..]}, ..}`."""
    tables = [evaluation.to_json()["mAP"] for evaluation in evaluations]
    return {
        tiou: {"mean": fmean(table[tiou] for table in tables), "seeds": [table[tiou] for table in tables]}
        for tiou in tables[0]
    }


def _refuse(task: str, options: Mapping[str, object]) -> None:
    """Refuse options that would have no effect."""
    named = [option for option, value in options.items() if value is not None]
    if named:
        raise UsageError(f"--task {task} has its own definition and ignores {named[0]}; leave it out")


def _ties(question: Question) -> dict[str, object]:
    return {} if question.ties == INPUT else {"--ties": question.ties}


def _scores(source: Source, question: Question) -> tuple[Mapping[str, Mapping[str, float]], str]:
    """Return scores by video and label, and a description of their origin."""
    run, chosen = source.run, question.streams is not None or question.stage is not None
    if run is not None and run.activations_folder().is_dir() and not chosen:
        store = FeatureStore.open(run.activations_folder())
        scores = {name: dict(zip(run.classes, store[name].info["video_scores"], strict=True)) for name in store.ids}
        return scores, "the head's own"
    if holds_classifications(source.file):
        return read_classifications(source.file), "those of the file"
    return best_scores(read_detections(source.file)), "the highest of each label's detections"


def _without_ap(sources: Sequence[Source], evaluations: Sequence[Evaluation]) -> dict[str, list[str]]:
    """Return the evaluated classes that no source detects, or trained on, under their JSON keys."""
    undetected = set.intersection(*(set(result.undetected) for result in evaluations))
    unknown = set.intersection(*(set(untrained(source.stamps)) for source in sources))
    classes = evaluations[0].ap
    return {
        "undetected": [label for label in classes if label in undetected],
        UNTRAINED: [label for label in classes if label in unknown],
    }


def _detection_figures(
    sources: Sequence[Source], evaluations: Sequence[Evaluation], odd: Mapping[str, Sequence[str]]
) -> Figures:
    """Tabulate mAP and each class of one source, or the mean over several and each of them."""
    rows = {source.name: tiou_row(result.mAP) for source, result in zip(sources, evaluations, strict=True)}
    if len(evaluations) == 1:
        top = tiou_row(evaluations[0].mAP)
        rows = {"mAP": top, **{label: tiou_row(values) for label, values in evaluations[0].ap.items()}}
    else:
        top = {column: fmean(row[column] for row in rows.values()) for column in next(iter(rows.values()))}
        rows = {"mAP": top, **rows}
    notes = dict.fromkeys(note for result in evaluations for note in result.notes)
    if unknown := odd[UNTRAINED]:
        named = first_names([repr(label) for label in unknown])
        notes[f"classes absent from all training videos, so that their AP is meaningless: {len(unknown)} ({named})"] = (
            None
        )
    return Figures(rows, tuple(column for column in top if column.startswith(AVERAGE)), tuple(notes))


def _interval_cells(figure: Mapping[str, Any]) -> dict[str, float]:
    """Return both sides of a comparison and their difference, each with the ends of its interval."""
    cells: dict[str, float] = {}
    for key, name in {"first": "A", "second": "B", "difference": "A - B"}.items():
        cells |= {name: figure[key].value, f"{name} low": figure[key].low, f"{name} high": figure[key].high}
    return {**cells, "A ahead": figure["ahead"]}
