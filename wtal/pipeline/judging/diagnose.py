"""A run or a detection file -> a page on why it scores what it scores."""

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
from wtal.eval.outcomes import ERRORS
from wtal.eval.proposals import ProposalEvaluation
from wtal.eval.protocols import find_protocol
from wtal.eval.thresholds import tiou_key
from wtal.pipeline.judging.evaluate import Question, Source, judged_of, only_source, rules_of
from wtal.pipeline.judging.ground_truth import GroundTruth
from wtal.pipeline.judging.run_pictures import run_sections
from wtal.pipeline.judging.tables import Figures
from wtal.pipeline.progress import SILENT, Reporter
from wtal.report.characteristics import characteristic_sections
from wtal.report.errors import error_sections
from wtal.report.judge import few_tious, precision_by_tiou, precision_recall_curves, recall_by_proposals
from wtal.report.page import Page, Section, Table, write_page
from wtal.report.style import drawable

_CROWDED = 0.9


@dataclass(frozen=True)
class Show:
    """What to draw of a run's head: these videos, or the best, the median and the worst; and the seed of t-SNE."""

    videos: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class Report:
    """The page, and the same as a table and as JSON types."""

    page: Path
    figures: Figures
    value: dict[str, Any]
    stamps: tuple[str, ...]


@dataclass(frozen=True)
class _Found:
    """What the judge says of one detection file."""

    source: Source
    truth: GroundTruth
    protocol: str
    buckets: str
    detections: Mapping[str, Sequence[Detection]]
    diagnosis: Diagnosis
    proposals: ProposalEvaluation
    curves: dict[str, tuple[PrecisionRecallCurve, ...]]
    stamps: tuple[str, ...]


def diagnose(
    path: Path,
    question: Question,
    at: float | None = None,
    buckets: str | None = None,
    out: Path | None = None,
    show: Show | None = None,
    reporter: Reporter = SILENT,
) -> Report:
    """Write `index.html`, its pictures and `diagnosis.json` into `out`, by default beside what is diagnosed.

    `at` is the threshold that most figures are at, by default the nearest to 0.5. `buckets` names the edges that
    annotations are divided by, by default those of the protocol's collection. `show` is what a run's head sees in
    single videos; None, or a file, has none of that.

    Raises:
        UsageError: when a run has several seeds, `at` is none of the thresholds, `out` is a file, or `show` names a
            video that is not judged, or videos of a file.
        MissingExtraError: when matplotlib is not installed.
    """
    drawable()
    source = only_source(path, question)
    if source.folder is None and show is not None and show.videos:
        raise UsageError(f"--videos draws what a run's head sees, {path} is a file")
    folder = out or _beside(source)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out is a folder, {folder} is a file")
    found = _judge(source, question, buckets, reporter)
    k = _place(found.diagnosis.tious, at)
    sections = (
        _precision(found),
        *error_sections(found.diagnosis, k),
        *characteristic_sections(found.diagnosis, k),
        _proposals(found),
        *_seen(found, question, found.diagnosis.tious[k], show, reporter),
    )
    value = _value(found)
    write_json(folder / "diagnosis.json", value)
    page = write_page(Page(_title(source), sections, _facts(found), found.stamps), folder)
    return Report(page, _table(found.diagnosis), {"page": str(page), **value}, found.stamps)


def _beside(source: Source) -> Path:
    """`report` in a run's seed, with the marks of its detections' name; beside a file, named after it."""
    if source.folder is not None:
        return source.folder / f"report{source.file.stem.removeprefix('detections')}"
    return source.file.with_name(f"{source.file.stem}-report")


def _judge(source: Source, question: Question, buckets: str | None, reporter: Reporter) -> _Found:
    truth, tious, protocol = rules_of(source, question)
    detections = judged_of(source, truth, reporter)
    chosen = buckets or ("activitynet" if find_protocol(protocol).tious.startswith("0.5") else "thumos14")
    durations = {video.id: video.duration for video in truth.records}
    rules = (protocol, truth.ambiguous)
    return _Found(
        source,
        truth,
        protocol,
        chosen,
        detections,
        diagnose_detections(truth.annotations, detections, tious, *rules, durations, chosen),
        evaluate_proposals(truth.annotations, detections),
        precision_recall(truth.annotations, detections, few_tious(tious), *rules),
        _stamps(source),
    )


def _place(tious: Sequence[float], at: float | None) -> int:
    k = int(np.argmin([abs(tiou - (0.5 if at is None else at)) for tiou in tious]))
    if at is not None and abs(tious[k] - at) > 1e-9:
        raise UsageError(f"--at {tiou_key(at)} is none of the thresholds: {', '.join(map(tiou_key, tious))}")
    return k


def _precision(found: _Found) -> Section:
    evaluation = found.diagnosis.evaluation
    means = {**evaluation.averages, "all": evaluation.average}
    tables = (
        Table("Percent, by threshold of tIoU", {"mAP": {tiou_key(t): _percent(v) for t, v in evaluation.mAP.items()}}),
        Table("Percent, mean over thresholds", {"mAP": {name: _percent(value) for name, value in means.items()}}),
    )
    by_tiou = precision_by_tiou({found.source.name: evaluation.mAP})
    curves = precision_recall_curves(found.curves, few_tious(evaluation.tious))
    return Section("Mean average precision", "", tables, (by_tiou, curves))


def _proposals(found: _Found) -> Section:
    rows = {"AR": {f"{number} a video": _percent(value) for number, value in found.proposals.recall_at.items()}}
    table = Table("Average recall (%) at average numbers of proposals", rows)
    return Section("Recall of proposals", "", (table,), (recall_by_proposals(found.proposals),))


def _seen(found: _Found, question: Question, at: float, show: Show | None, reporter: Reporter) -> list[Section]:
    if show is None or found.source.folder is None:
        return []
    return run_sections(found.source.folder, show.videos, show.seed, question, at, reporter)


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f}"


def _title(source: Source) -> str:
    if source.folder is None:
        return f"Diagnosis of {source.file.name}"
    folder = source.folder.resolve()
    return f"Diagnosis of {folder.parent.name}, {source.name}"


def _facts(found: _Found) -> dict[str, str]:
    """What was judged, how, and what a reader must know of it."""
    diagnosis, records = found.diagnosis, found.truth.records
    judged, classes = diagnosis.counts[0].sum(), len(diagnosis.evaluation.ap)
    facts = {
        "detections": f"{judged} of {classes} classes, {found.source.file}",
        "annotations": f"{diagnosis.annotations} in {len(records)} videos of {found.truth.subset}, {found.truth.file}",
        "protocol": found.protocol,
        "thresholds": ", ".join(map(tiou_key, diagnosis.tious)),
        "buckets": found.buckets,
    }
    notes = [*diagnosis.evaluation.notes, *_remarks(found)]
    return facts | ({"notes": "; ".join(notes)} if notes else {})


def _remarks(found: _Found) -> list[str]:
    """Sentences on what the buckets do not show."""
    remarks = []
    unknown = sum(1 for video in found.truth.records if video.annotations and not video.duration)
    if unknown:
        remarks.append(f"annotated videos whose duration the annotations do not give, left out of coverage: {unknown}")
    for name, buckets in found.diagnosis.characteristics.items():
        most = max(buckets, key=lambda one: one.annotations)
        if found.buckets != "fifths" and most.annotations > _CROWDED * sum(one.annotations for one in buckets):
            remarks.append(f"nearly all annotations have {name} {most.name}; --buckets fifths divides them evenly")
    return remarks


def _stamps(source: Source) -> tuple[str, ...]:
    """What a detection file says of itself that a reader must know."""
    # A run's record says what went into it, the end of its file also how it was detected; a file has been asked.
    made, stamps = source.stamps if source.folder is None else read_made(source.file), []
    if source.random:
        streams = ", ".join(source.random)
        stamps.append(f"random weights: the features of {streams} come from an untrained network")
    if source.tuned or made.get("tuned_with_segments"):
        stamps.append("tuned with segments: some of the annotated times chose the step or the settings that are used")
    if made.get("use_labels"):
        stamps.append("narrowed by labels: each video was searched for its own classes only")
    return tuple(stamps)


def _value(found: _Found) -> dict[str, Any]:
    """Everything in figures, fractions all."""
    return {
        "detections": str(found.source.file),
        "annotation_file": str(found.truth.file),
        "subset": found.truth.subset,
        "protocol": found.protocol,
        "buckets": found.buckets,
        "stamps": list(found.stamps),
        "notes": [*found.diagnosis.evaluation.notes, *_remarks(found)],
        **found.diagnosis.to_json(),
        "proposals": found.proposals.to_json(),
    }


def _table(found: Diagnosis) -> Figures:
    """A column a threshold: mAP, what each kind of error costs, what is missed; 100 in all."""
    cost = found.removal
    shown = [f"@{tiou_key(tiou)}" for tiou in found.tious]
    rows = {"mAP": cost.mean_ap, **dict(zip(ERRORS, cost.shared.T, strict=True)), "missed": 1 - cost.recall}
    return Figures(
        {name: dict(zip(shown, values.tolist(), strict=True)) for name, values in rows.items()},
        notes=found.evaluation.notes,
        title="where the points go: mAP, what false positives of each kind cost it, and what no detection finds",
    )
