"""Corrections made in another program -> verdicts."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wtal.data.detections import BEGINS, read_detections, read_made
from wtal.data.files import read_head
from wtal.data.kinds import EMPTY, OF_TEXT, kind_of, require_kind
from wtal.data.names import match_ids, nearest
from wtal.data.segments import Detection, Segment
from wtal.data.verdicts import (
    Answer,
    Judged,
    Verdict,
    Verdicts,
    changing,
    merge_verdicts,
    read_verdicts,
    write_verdicts,
)
from wtal.data.video_ids import readable
from wtal.errors import FormatError, UsageError, VideoError, WrongKindError, WtalError
from wtal.pipeline.exchange.export_detections import ExportSource, export_records, files_in_question, open_source
from wtal.pipeline.exchange.export_names import export_names
from wtal.pipeline.progress import SILENT, Reporter
from wtal.pipeline.review.earlier import unrepeated, without
from wtal.pipeline.review.other_options import lacking_classes, require_all_exported
from wtal.pipeline.runs import holds_run
from wtal.pipeline.viewing.located import locate
from wtal.refusals import listed
from wtal.report.corrections import Correction, ExportedSegment, corrections, joined_origins
from wtal.report.export_text import frame_span
from wtal.report.exports import EXPORTS, Export, ExportVideo
from wtal.report.fit import fit, shown_labels
from wtal.report.imports import IMPORTS, Mark, Reviewed
from wtal.report.selection import Selection

_ROUNDING = 0.0006
"""Tolerance in seconds for times in formats that write milliseconds."""
_SHORT = 0.02
"""Half a frame, in seconds, if the rate is unknown."""

_DOWNLOAD = "download it again from the page"
"""Remedy for a damaged file of verdicts that a browser downloaded."""


@dataclass(frozen=True)
class Review:
    """Verdicts read, and their file; `changed` differ from earlier answers. `untouched` videos have none."""

    file: Path
    verdicts: Verdicts
    changed: tuple[Verdict, ...]
    untouched: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Answer -> number of verdicts."""
        return dict(Counter(verdict.verdict for verdict in self.verdicts.verdicts))

    def to_json(self) -> dict[str, Any]:
        """Return the file, counts, videos and notes as JSON types."""
        return {
            "verdicts": str(self.file),
            "counts": self.counts,
            "looked_at": list(self.verdicts.looked_at),
            "changed": [verdict.model_dump(mode="json") for verdict in self.changed],
            "untouched": list(self.untouched),
            "notes": list(self.notes),
        }


@dataclass
class _Reading:
    """Verdicts of the files read so far, and the videos compared."""

    verdicts: list[Verdict] = field(default_factory=list)
    looked_at: list[str] = field(default_factory=list)
    untouched: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    compared: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class _Origin:
    """Detections of a source as in their file, the settings of their export, and labels as displayed in programs.

    `in_question` is video -> a sentence on the files that share its name.
    """

    detections: Mapping[str, Sequence[Detection]]
    begins: Mapping[str, float]
    from_picture: Mapping[str, Sequence[Detection]]
    records: Mapping[str, ExportVideo]
    shown: Mapping[str, str]
    selection: Selection
    in_question: Mapping[str, str]


def import_verdicts(
    source: Path,
    files: Sequence[Path],
    program: str | None = None,
    looked_at: bool = False,
    selection: Selection = Selection(),  # noqa: B008 - frozen
    videos: Path | None = None,
    reporter: Reporter = SILENT,
    replace: bool = False,
) -> Review:
    """Compare files of other programs with the export of a run or a detection file; save the changes as verdicts.

    Without `program`, each file's is detected from its content; verdicts downloaded from the page by a browser are
    accepted unchanged. `looked_at` means that all videos of the files were reviewed completely. `selection` and
    `videos` are those of the export. `replace` removes earlier verdicts on the videos of the files, so that answers
    can be withdrawn; a file of the page has all videos.

    Raises:
        UsageError: when a file's program is unknown, or the missing detections seem not to have been exported.
        FormatError: when a file is malformed, or names no video of the source.
        WtalError: when no video of a file can be compared.
    """
    located = locate(source)
    programs = [None if program is None and _is_of_page(file) else program or guess_program(file) for file in files]
    for file in files:
        _require_text(file, program or listed(IMPORTS.names()))
    given = open_source(located.run if located.run and holds_run(source) else located.file, videos is None)
    origin, notes = _origin(located.file, given, selection, videos, reporter)
    target = located.verdicts_file
    reading = _Reading(notes=notes)
    verdicts = Verdicts()
    for file, own_program in zip(files, programs, strict=True):
        if own_program is None:
            own = read_verdicts(file, _DOWNLOAD)
        else:
            own = _read(file, own_program, origin, looked_at, reading)
            require_all_exported(own.verdicts, selection)
            reading.notes += lacking_classes(file, own.verdicts, selection)
        verdicts, _ = merge_verdicts(verdicts, own)
    covered = None if None in programs else reading.compared
    with changing(target):
        before = read_verdicts(target) if target.exists() else Verdicts()
        merged, changed = merge_verdicts(without(before, covered) if replace else before, verdicts)
        if merged != before:
            write_verdicts(merged, target)
    reading.notes += unrepeated(before, verdicts, merged, covered, replace)
    return Review(target, verdicts, changed, tuple(reading.untouched), tuple(reading.notes))


def _is_of_page(file: Path) -> bool:
    head = read_head(file)
    return head.lstrip()[:1] == "{" and '"verdicts"' in head and '"looked_at"' in head


def guess_program(file: Path) -> str:
    """Return the name of the only program that could have written a file.

    Raises:
        UsageError: when there is no file, or it matches no program or several.
    """
    _require_text(file, listed(IMPORTS.names()))
    fitting = [name for name in IMPORTS.names() if IMPORTS.load(name).sniff(file)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise UsageError(f"{file} could be from {' or '.join(fitting)}; name the program with --from")
    raise WrongKindError(
        f"{file}: wanted a file saved by {listed(IMPORTS.names())}, got {kind_of(file)}; if it is one, name its "
        "program with --from"
    )


def _require_text(file: Path, program: str) -> None:
    if not file.exists():
        raise UsageError(f"{file} does not exist; pass a file saved by {program}")
    require_kind(file, f"a file saved by {program}", (*OF_TEXT, EMPTY), "wtal export writes files for these programs")


def _content(file: Path, program: str) -> Sequence[Reviewed]:
    """Read a file of a program; one that does not even look like its files is of another kind."""
    leaf = IMPORTS.load(program)
    try:
        return leaf.read(file)
    except FormatError as error:
        if leaf.sniff(file):
            raise
        raise WrongKindError(f"{error}; it looks like {kind_of(file)}, not like a file saved by {program}") from None


def _origin(
    file: Path, given: ExportSource, selection: Selection, videos: Path | None, reporter: Reporter
) -> tuple[_Origin, list[str]]:
    records, notes, unreadable = export_records(given, videos, selection, reporter)
    notes += [f"{readable(video)} was not compared: {reason}" for video, reason in unreadable.items()]
    shown = shown_labels(sorted({d.label for record in records for d in record.detections}))
    begins: Mapping[str, float] = read_made(file).get(BEGINS, {})
    own = {record.id: record for record in records}
    files = {record.id: record.file for record in records if record.file}
    in_question = files_in_question(own, files, videos)
    return _Origin(read_detections(file), begins, given.detections, own, shown, selection, in_question), notes


def _read(file: Path, name: str, origin: _Origin, looked_at: bool, reading: _Reading) -> Verdicts:
    leaf, export = IMPORTS.load(name), EXPORTS.load(name).EXPORT
    content = _content(file, name)
    labels = list(origin.shown)
    origin = dataclasses.replace(origin, shown=shown_labels(labels, export.reserved))
    originals = dict(zip(leaf.spelled([origin.shown[label] for label in labels]), labels, strict=True))
    owners = _owners(content, list(origin.records.values()))
    if not content:
        reading.notes.append(f"{file.name}: it has no annotated video")
    unknown = [reviewed.video for number, reviewed in enumerate(content) if number not in owners]
    if content and not owners:
        known = nearest(content[0].video, list(origin.records))
        hint = f"; the nearest is {known!r}" if known else ""
        raise FormatError(f"{file}: the detections have no video {readable(content[0].video)!r}{hint}")
    reading.notes += [f"{file.name}: {readable(video)} is not a video of the detections" for video in unknown]
    verdicts: list[Verdict] = []
    finished: list[str] = []
    strange = Counter[str]()
    refusals: list[str] = []
    for number, video in owners.items():
        reviewed, record = content[number], origin.records[video]
        reading.notes += [f"{file.name}: {readable(video)}: {note}" for note in reviewed.notes]
        try:
            changes = _compare(reviewed, record, export, origin, originals, str(file))
        except VideoError as error:
            reason = origin.in_question.get(video, str(error))
            refusals.append(f"{file.name}: {readable(video)} was not compared: {reason}")
            continue
        reading.compared.add(video)
        seen = looked_at or reviewed.looked_at
        if not seen and all(change.change == "unchanged" for change in changes):
            reading.untouched.append(video)
            continue
        finished += [video] if seen else []
        shift = (float(record.start) if export.clock == "player" else 0.0) - origin.begins.get(video, 0.0)
        for change in changes:
            elsewhere = [c.segment for c in changes if c is not change and c.label == change.label and c.segment]
            verdicts += _verdicts(video, change, elsewhere, shift, _tolerance(record))
        strange.update(change.label for change in changes if change.label not in origin.shown)
    if owners and len(refusals) == len(owners):
        raise WtalError(refusals[0])
    reading.notes += refusals
    reading.notes += [
        f"{file.name}: {count} segments of {label!r}, a class without detections" for label, count in strange.items()
    ]
    return Verdicts(
        verdicts=tuple({verdict.subject: verdict for verdict in verdicts}.values()), looked_at=tuple(finished)
    )


def _owners(content: Sequence[Reviewed], records: Sequence[ExportVideo]) -> dict[int, str]:
    """Map the index of a video in a file to the id of its detections, exact names first."""
    exported = export_names(records, exact=False)
    names = (
        {record.id: record.id for record in records},
        {str(record.file): record.id for record in records if record.file},
        {record.relative: record.id for record in records if record.relative},
        {str(path): record.id for path, record in zip(exported, records, strict=True)},
    )
    owners: dict[int, str] = {}
    for known in names:
        for rank in range(1 + max((len(reviewed.otherwise) for reviewed in content), default=0)):
            free = {name: video for name, video in known.items() if video not in owners.values()}
            wanted = {
                called[rank]: number
                for number, reviewed in enumerate(content)
                if number not in owners and len(called := (reviewed.video, *reviewed.otherwise)) > rank
            }
            owners |= {wanted[name]: free[other] for name, other in match_ids(wanted, free).items()}
    return dict(sorted(owners.items()))


def _compare(
    reviewed: Reviewed,
    record: ExportVideo,
    export: Export,
    origin: _Origin,
    originals: Mapping[str, str],
    where: str,
) -> list[Correction]:
    """Compare a video of a file with its export; times are those of the format's clock.

    Raises:
        VideoError: when the format cannot hold the video, or counts frames of an unknown rate.
    """
    rate = reviewed.rate or record.rate
    in_frames = any(entry.unit == "frames" for entry in reviewed.marks)
    if in_frames and rate is None:
        raise VideoError("times are in frames of unknown rate; give the folder of the videos with --videos")
    labels = {shown: label for label, shown in origin.shown.items()}
    fitted, _ = fit(record, export, origin.shown)
    alone = _alone(record, export, origin)
    written = set(fitted.detections)
    joins = export.overlaps != "any" or origin.selection.merge is not None
    exported = []
    for own in fitted.detections:
        first, after = frame_span(own, rate) if in_frames else (own.start, own.end)
        segment = Segment(float(first / rate), float(after / rate)) if in_frames and rate else own
        label = own.label if export.exact else labels[own.label]
        origins = joined_origins(own, written, [pair for pair in alone if joins or pair[1] == own])
        exported.append(ExportedSegment(segment, label, origins))
    present = [(_seconds(entry, rate), originals.get(entry.label, entry.label)) for entry in reviewed.marks]
    return corrections(exported, present, _tolerance(record))


def _alone(record: ExportVideo, export: Export, origin: _Origin) -> list[tuple[Detection, Detection]]:
    """Return each detection of a video as in its file, paired with its export when it is the only one."""
    choice = dataclasses.replace(origin.selection, merge=None, top=None)
    pairs = []
    for own, counted in zip(origin.detections[record.id], origin.from_picture[record.id], strict=True):
        chosen, _ = choice.of([counted], record.duration)
        fitted, _ = fit(dataclasses.replace(record, detections=chosen), export, origin.shown)
        pairs += [(own, exported) for exported in fitted.detections]
    return pairs


def _seconds(entry: Mark, rate: Any) -> Segment:
    if entry.unit == "seconds" or rate is None:
        return Segment(entry.start, entry.end)
    return Segment(float(entry.start / rate), float(entry.end / rate))


def _tolerance(record: ExportVideo) -> float:
    return (0.5 / float(record.rate) if record.rate else _SHORT) + _ROUNDING


def _verdicts(
    video: str, change: Correction, elsewhere: Sequence[Segment], shift: float, tolerance: float
) -> Iterator[Verdict]:
    """Yield the verdicts of a change, in seconds of the detection file: `shift` less than those of the format.

    `elsewhere` are the other segments of the class. A moved segment applies to each of its joined detections that
    overlap it. The others are wrong, unless a segment elsewhere overlaps them, which has a verdict of its own.
    """
    origins = change.exported.detections if change.exported else ()
    if change.change == "new":
        assert change.segment
        own = (change.segment.start - shift, change.segment.end - shift)
        yield Verdict(video=video, label=change.label, verdict="missed", segment=own, detection=None)
    elif change.change == "moved" and origins:
        assert change.segment
        assert change.exported
        before, after = change.exported.segment, change.segment
        first, last = min(origin.start for origin in origins), max(origin.end for origin in origins)
        start = first if abs(after.start - before.start) <= tolerance else after.start - shift
        end = last if abs(after.end - before.end) <= tolerance else after.end - shift
        moved = (min(start, end), max(start, end))
        inside = [origin for origin in origins if _overlap(origin, Segment(*moved))] or origins[:1]
        for origin in origins:
            judged = _judged(origin)
            if origin in inside:
                yield Verdict(video=video, label=change.label, verdict="moved", segment=moved, detection=judged)
            elif not any(_overlap(origin, Segment(own.start - shift, own.end - shift)) for own in elsewhere):
                yield Verdict(video=video, label=change.label, verdict="no", segment=None, detection=judged)
    else:
        for origin in origins:
            answer: Answer = "yes" if change.change == "unchanged" else "no"
            yield Verdict(video=video, label=change.label, verdict=answer, segment=None, detection=_judged(origin))


def _overlap(first: Segment, second: Segment) -> bool:
    return first.start < second.end and second.start < first.end


def _judged(detection: Detection) -> Judged:
    return Judged(segment=(detection.start, detection.end), score=detection.score)
