"""A run or a detection file -> a page that explains its score."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wtal.data.detections import read_made
from wtal.data.files import write_json
from wtal.data.segments import Detection
from wtal.errors import UsageError
from wtal.eval import Diagnosis, diagnose_detections, evaluate_proposals
from wtal.eval.curves import PrecisionRecallCurve, precision_recall
from wtal.eval.diagnosis.outcomes import ERRORS
from wtal.eval.proposals import ProposalEvaluation
from wtal.eval.protocols import find_protocol
from wtal.eval.thresholds import tiou_key
from wtal.pipeline.judging.ground_truth import Rules, rules_of
from wtal.pipeline.judging.observed import observe
from wtal.pipeline.judging.run_pictures import observed_sections
from wtal.pipeline.judging.sources import Question, Source, not_learned, only_source
from wtal.pipeline.judging.tables import Figures, shown_averages
from wtal.pipeline.judging.taught import taught_section
from wtal.pipeline.progress import SILENT, Reporter
from wtal.pipeline.refinement.lessons import read_rounds
from wtal.pipeline.stamps import TUNED
from wtal.report.characteristics import characteristic_sections
from wtal.report.errors import error_sections
from wtal.report.judge import few_tious, precision_by_tiou, precision_recall_curves, recall_by_proposals
from wtal.report.page import Page, PageTable, Section, write_page
from wtal.report.style import drawable

_CROWDED = 0.9


@dataclass(frozen=True)
class Show:
    """Videos to draw for a run's head, by default the best, the median and the worst; and the seed of t-SNE."""

    videos: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class DiagnosisPage:
    """The written page, and its content as a table and as JSON types."""

    page: Path
    figures: Figures
    value: dict[str, Any]
    stamps: tuple[str, ...]


@dataclass(frozen=True)
class _Judged:
    """All metrics of one detection file."""

    source: Source
    rules: Rules
    buckets: str
    detections: Mapping[str, Sequence[Detection]]
    diagnosis: Diagnosis
    proposals: ProposalEvaluation
    curves: dict[str, tuple[PrecisionRecallCurve, ...]]
    stamps: tuple[str, ...]
    lengths: tuple[str, ...]


def diagnose(
    path: Path,
    question: Question,
    at: float | None = None,
    buckets: str | None = None,
    out: Path | None = None,
    show: Show | None = None,
    reporter: Reporter = SILENT,
) -> DiagnosisPage:
    """Write `index.html`, its pictures and `diagnosis.json` into `out`, by default next to the source.

    `at` is the threshold for most figures, by default the nearest to 0.5. `buckets` selects the edges of the groups of
    annotations, by default those of the protocol's collection. `show` selects the pictures of a run's head in single
    videos; None, or a file as source, means none.

    Raises:
        UsageError: when a run has several seeds, `at` is not one of the thresholds, `out` is a file, or `show` names a
            video that is not evaluated, or videos for a file.
        MissingExtraError: when matplotlib is not installed.
    """
    drawable()
    source = only_source(path, question)
    if source.run is None and show is not None and show.videos:
        raise UsageError(
            f"--videos draws the output of a run's head, but {path} is a file; pass a run's seed, or leave out --videos"
        )
    folder = out or _beside(source)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out takes a folder, and {folder} is a file")
    judged = _judge(source, question, buckets, reporter)
    k = _index_of(judged.diagnosis.tious, at)
    sections = (
        _precision(judged),
        *error_sections(judged.diagnosis, k),
        *characteristic_sections(judged.diagnosis, k),
        _proposals(judged),
        *_head_sections(judged, question, judged.diagnosis.tious[k], show),
    )
    value = _value(judged)
    write_json(folder / "diagnosis.json", value)
    page = write_page(Page(_title(source), sections, _facts(judged), judged.stamps), folder)
    return DiagnosisPage(page, _table(judged.diagnosis), {"page": str(page), **value}, judged.stamps)


def _beside(source: Source) -> Path:
    """Return `diagnosis` in a run's seed, with the suffix of its detections' name; next to a file, named after it."""
    if source.run is not None:
        return source.run.folder / f"diagnosis{source.file.stem.removeprefix('detections')}"
    return source.file.with_name(f"{source.file.stem}-diagnosis")


def _judge(source: Source, question: Question, buckets: str | None, reporter: Reporter) -> _Judged:
    rules = rules_of(source, question)
    truth, tious, protocol = rules.truth, rules.tious, rules.protocol
    detections = truth.judged(source, reporter)
    lengths = truth.length_notes(source, detections)
    for note in lengths:
        reporter.say(note)
    chosen = buckets or ("activitynet" if find_protocol(protocol).tious.startswith("0.5") else "thumos14")
    durations = {video.id: video.duration for video in truth.records}
    settings = (protocol, truth.ambiguous)
    return _Judged(
        source,
        rules,
        chosen,
        detections,
        diagnose_detections(truth.annotations, detections, tious, *settings, durations, chosen, rules.ties),
        evaluate_proposals(truth.annotations, detections),
        precision_recall(truth.annotations, detections, few_tious(tious), *settings, rules.ties),
        _stamps(source),
        lengths,
    )


def _index_of(tious: Sequence[float], at: float | None) -> int:
    k = int(np.argmin([abs(tiou - (0.5 if at is None else at)) for tiou in tious]))
    if at is not None and abs(tious[k] - at) > 1e-9:
        raise UsageError(f"--at {tiou_key(at)} is not one of the thresholds: {', '.join(map(tiou_key, tious))}")
    return k


def _precision(judged: _Judged) -> Section:
    evaluation = judged.diagnosis.evaluation
    means = {name or "all": mean for name, mean in shown_averages(evaluation.mAP).items()}
    tables = (
        PageTable("Percent, by tIoU threshold", {"mAP": {tiou_key(t): _percent(v) for t, v in evaluation.mAP.items()}}),
        PageTable("Percent, mean over thresholds", {"mAP": {name: _percent(value) for name, value in means.items()}}),
    )
    by_tiou = precision_by_tiou({judged.source.name: evaluation.mAP})
    curves = precision_recall_curves(judged.curves, few_tious(evaluation.tious))
    return Section("Mean average precision", "", tables, (by_tiou, curves))


def _proposals(judged: _Judged) -> Section:
    rows = {"AR": {f"{number} per video": _percent(value) for number, value in judged.proposals.recall_at.items()}}
    table = PageTable("Average recall (%) at average numbers of proposals", rows)
    return Section("Recall of proposals", "", (table,), (recall_by_proposals(judged.proposals),))


def _head_sections(judged: _Judged, question: Question, at: float, show: Show | None) -> list[Section]:
    if show is None or judged.source.run is None:
        return []
    observed = observe(judged.source, judged.rules, judged.detections, question, at)
    run = judged.source.run
    taught = [taught_section(run)] if run.refined and read_rounds(run.folder) else []
    return [*taught, *observed_sections(observed, show.videos, show.seed)]


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f}"


def _title(source: Source) -> str:
    if source.run is None:
        return f"Diagnosis of {source.file.name}"
    folder = source.run.folder.resolve()
    return f"Diagnosis of {folder.parent.name}, {source.name}"


def _facts(judged: _Judged) -> dict[str, str]:
    """Return facts on the input and the evaluation."""
    diagnosis, truth = judged.diagnosis, judged.rules.truth
    count, classes = diagnosis.counts[0].sum(), len(diagnosis.evaluation.ap)
    facts = {
        "detections": f"{count} of {classes} classes, {judged.source.file}",
        "annotations": f"{diagnosis.annotations} in {len(truth.records)} videos of {truth.subset}, {truth.file}",
        **judged.rules.named,
        "thresholds": ", ".join(map(tiou_key, diagnosis.tious)),
        "buckets": judged.buckets,
    }
    notes = [*diagnosis.evaluation.notes, *_remarks(judged)]
    return facts | ({"notes": "; ".join(notes)} if notes else {})


def _remarks(judged: _Judged) -> list[str]:
    """Return sentences on length mismatches, and on what the buckets fail to show."""
    remarks = [*judged.lengths]
    unknown = sum(1 for video in judged.rules.truth.records if video.annotations and not video.duration)
    if unknown:
        remarks.append(f"annotated videos without a duration, left out of coverage: {unknown}")
    for name, buckets in judged.diagnosis.characteristics.items():
        fullest = max(buckets, key=lambda bucket: bucket.annotations)
        everything = sum(bucket.annotations for bucket in buckets)
        if judged.buckets != "fifths" and fullest.annotations > _CROWDED * everything:
            remarks.append(f"nearly all annotations have {name} {fullest.name}; --buckets fifths divides them evenly")
    return remarks


def _stamps(source: Source) -> tuple[str, ...]:
    """Return remarks on the origin of a detection file that affect its interpretation."""
    # A run's stamps are those of its training; those of detection are in the detection file itself.
    origin, stamps = source.stamps if source.run is None else read_made(source.file), []
    if source.random:
        streams = ", ".join(source.random)
        stamps.append(f"random weights: the features of {streams} come from an untrained network")
    if source.tuned or origin.get("tuned_with_segments"):
        stamps.append(TUNED)
    doubtful = not_learned(origin)
    if doubtful:
        stamps.append(f"held-out labels show that nothing was learned of {', '.join(doubtful)}")
    if origin.get("use_labels"):
        stamps.append("narrowed by labels: each video was searched for its own classes only")
    return tuple(stamps)


def _value(judged: _Judged) -> dict[str, Any]:
    """Return all figures as JSON types, in fractions."""
    return {
        "detections": str(judged.source.file),
        "annotation_file": str(judged.rules.truth.file),
        "subset": judged.rules.truth.subset,
        **judged.rules.named,
        "buckets": judged.buckets,
        "stamps": list(judged.stamps),
        "notes": [*judged.diagnosis.evaluation.notes, *_remarks(judged)],
        **judged.diagnosis.to_json(),
        "proposals": judged.proposals.to_json(),
    }


def _table(diagnosis: Diagnosis) -> Figures:
    """Tabulate by threshold: mAP, the cost of each kind of error, and the share missed; they sum to 100."""
    cost = diagnosis.removal
    columns = [f"@{tiou_key(tiou)}" for tiou in diagnosis.tious]
    rows = {"mAP": cost.mean_ap, **dict(zip(ERRORS, cost.shared.T, strict=True)), "missed": 1 - cost.recall}
    return Figures(
        {name: dict(zip(columns, values.tolist(), strict=True)) for name, values in rows.items()},
        notes=diagnosis.evaluation.notes,
        title="breakdown of the 100 points: mAP, the cost of each kind of false positive, and missed actions",
    )
