"""Detections -> a clip of each, a table of them, and a reel of the best."""

import csv
import io
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO, NamedTuple

from joblib import Parallel, delayed

from wtal.config import digest
from wtal.data.files import free_bytes, megabytes, room_for, swept, write_atomic
from wtal.data.regular import require_regular
from wtal.data.segments import Detection
from wtal.data.store.writer import file_fingerprint
from wtal.data.video_ids import readable
from wtal.errors import DiskFullError, UsageError, VideoError, WtalError
from wtal.extractors.decoding.player_clock import first_picture, player_clock
from wtal.extractors.decoding.probe import probe
from wtal.extractors.decoding.reader import VideoInfo
from wtal.extractors.viewing.clip import (
    copied_bytes,
    copy_clip,
    copy_suffix,
    encode_clip,
    encoded_bytes,
    encoded_suffix,
    mark_of,
)
from wtal.extractors.viewing.reel import RATE, SIZE, TitledStretch, write_reel
from wtal.extractors.viewing.stretch import Stretch, stretches
from wtal.pipeline.exchange.export_detections import check_classes, files_below, files_in_question, open_source
from wtal.pipeline.exchange.export_names import TakenPaths, safe_name
from wtal.pipeline.progress import SILENT, Reporter
from wtal.pipeline.viewing.located import detections_file
from wtal.report.export_text import plain, safe_cell, score_text, seconds_text, titled
from wtal.report.selection import Selection

TABLE = "clips.csv"
_COLUMNS = ("file", "video", "number", "label", "score", "start (s)", "end (s)", "earlier (s)", "cut")
_SCHEME = "wtal-clip 1"
"""Prefix of a clip's comment, to be raised when clips change."""
_VIDEO_BYTES, _LABEL_BYTES = 100, 60
"""Maximum bytes of the video's and of the label's part of a clip's name."""
_SPARE = 1.2
"""Factor on the estimated bytes that must be free."""


@dataclass(frozen=True)
class Clips:
    """Clips, the number already present, their table, the reel, notes, and video (or `reel`) -> reason for failure."""

    files: tuple[Path, ...]
    before: int
    table: Path
    reel: Path | None
    notes: tuple[str, ...]
    failures: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return paths, counts, notes and failures as JSON types."""
        return {
            "files": [str(file) for file in self.files],
            "before": self.before,
            "table": str(self.table),
            "reel": str(self.reel) if self.reel else None,
            "notes": list(self.notes),
            "failures": [{"video": video, "reason": reason} for video, reason in self.failures.items()],
        }


class _Part(NamedTuple):
    """A detection in a player's seconds, its part of the file, and the estimated bytes of its clip."""

    detection: Detection
    part: Stretch
    size: int


@dataclass(frozen=True)
class _PlannedClips:
    """Clips of a video, with their file extension; and the number of detections outside of it."""

    info: VideoInfo
    fingerprint: str
    suffix: str
    parts: tuple[_Part, ...]
    outside: int


@dataclass(frozen=True)
class _Clip:
    video: str
    number: int
    detection: Detection
    info: VideoInfo
    part: Stretch
    size: int
    path: Path
    mark: str

    @property
    def earlier(self) -> float:
        """Seconds by which the clip begins before the detection."""
        return 0.0 if self.part.keyframe is None else max(0.0, float(self.part.start - self.part.keyframe))


def cut_clips(
    source: Path,
    out: Path,
    videos: Path,
    selection: Selection = Selection(),  # noqa: B008 - frozen
    reencode: bool = False,
    reel: int | None = None,
    force: bool = False,
    jobs: int = 1,
    reporter: Reporter = SILENT,
) -> Clips:
    """Cut each detection of a run, a detection file or a folder of `wtal detect` from its video, below `videos`.

    Clips are copied from the preceding keyframe, or re-encoded with `reencode`. Existing clips are kept; another file
    of the same name is replaced only with `force`. `reel` is the number of detections in a reel.

    Raises:
        UsageError: when the run, file, folder or class does not exist, or a file is in the way.
        DiskFullError: when there is not enough space for the clips.
        WtalError: when nothing can be cut.
    """
    given = open_source(detections_file(source), with_store=False)
    check_classes(selection, given.detections)
    files = files_below(given.detections, videos)
    failures = {video: f"no file of this name below {videos}" for video in given.detections if video not in files}
    failures |= files_in_question(given.detections, files, videos)
    plans, unreadable = _plans(given.detections, files, selection, reencode, jobs, reporter)
    failures.update(unreadable)
    clips = _named(plans, out, reencode)
    _require_free_names(clips, out, force)
    lacking = [clip for clip in clips if mark_of(clip.path) != clip.mark]
    best = sorted(clips, key=lambda clip: -clip.detection.score)[: reel or 0]
    _require_room(lacking, best, out, jobs)
    failed = _cut(lacking, reencode, jobs, reporter)
    for clip, reason in failed.items():
        failures.setdefault(clip.video, f"{clip.path.name}: {reason}")
    present = [clip for clip in clips if clip not in failed]
    if failures and not present:
        video, reason = next(iter(failures.items()))
        raise WtalError(f"nothing could be cut: {readable(video)}: {reason}")
    table = write_atomic(out / TABLE, _table(present, reencode).encode("utf-8", "surrogateescape"))
    shown = [clip for clip in best if clip not in failed]
    try:
        reel_file = _reel(shown, out, reporter) if shown else None
    except VideoError as error:
        reel_file, failures["reel"] = None, str(error)
    return Clips(
        tuple(clip.path for clip in present),
        len(clips) - len(lacking),
        table,
        reel_file,
        tuple(_notes(plans, present)),
        failures,
    )


def _plans(
    detections: Mapping[str, Sequence[Detection]],
    files: Mapping[str, Path],
    selection: Selection,
    reencode: bool,
    jobs: int,
    reporter: Reporter,
) -> tuple[dict[str, _PlannedClips], dict[str, str]]:
    """Return the planned clips of each video, and video -> reason why its file cannot be read."""
    calls = (delayed(_plan)(file, detections[video], selection, reencode) for video, file in files.items())
    plans, failures = {}, {}
    with reporter.task("look", len(files), "video") as task:
        for video, plan in zip(files, Parallel(n_jobs=jobs, return_as="generator")(calls), strict=True):
            if isinstance(plan, str):
                failures[video] = plan
            else:
                plans[video] = plan
            task.advance()
    return plans, failures


def _plan(file: Path, detections: Sequence[Detection], selection: Selection, reencode: bool) -> _PlannedClips | str:
    try:
        clock, info = player_clock(file), probe(file)
        first, start = first_picture(info)
        chosen, outside = selection.of(detections, float(clock.duration))
        spans = [(Fraction(d.start), Fraction(d.end)) for d in chosen]
        parts = []
        for detection, part in zip(chosen, stretches(info, first, spans), strict=True):
            rate = clock.rate or info.rate or Fraction(25)
            size = encoded_bytes(clock.size, rate, part.seconds) if reencode else copied_bytes(info, part)
            late = float(start)
            shown = replace(detection, start=detection.start + late, end=detection.end + late)
            parts.append(_Part(shown, part, size))
        suffix = encoded_suffix() if reencode else copy_suffix(info)
        return _PlannedClips(info, file_fingerprint(file), suffix, tuple(parts), outside)
    except VideoError as error:
        return str(error)
    except OSError as error:
        return f"the file cannot be read any more: {error.strerror}"


def _named(plans: Mapping[str, _PlannedClips], out: Path, reencode: bool) -> list[_Clip]:
    """Return clips under unique names that sort by video, number, label and start."""
    digits = max(3, *(len(str(len(plan.parts))) for plan in plans.values())) if plans else 3
    taken, clips = TakenPaths(), []
    for video, plan in plans.items():
        for number, (detection, part, size) in enumerate(plan.parts, 1):
            name = (
                f"{safe_name(video, _VIDEO_BYTES)}_{number:0{digits}d}_{safe_name(detection.label, _LABEL_BYTES)}"
                f"_{seconds_text(detection.start)}s{plan.suffix}"
            )
            begin = part.start if reencode or part.keyframe is None else part.keyframe
            last = 0.0 if reencode else float(part.last - begin)
            identity = digest([plan.fingerprint, str(part.start), str(part.end), str(begin), reencode], 16)
            mark = f"{_SCHEME} {identity} {last:.3f}"
            clips.append(_Clip(video, number, detection, plan.info, part, size, out / taken.take(Path(name)), mark))
    return clips


def _require_free_names(clips: Sequence[_Clip], out: Path, force: bool) -> None:
    """Refuse to overwrite files other than our clips."""
    if force:
        return
    listed = _listed(out / TABLE)
    if listed is None:
        raise UsageError(f"{out / TABLE} is not a table of clips; choose another --out, or replace it with --force")
    for path in (*(clip.path for clip in clips), out / f"reel{encoded_suffix()}"):
        if path.exists() and path.name not in listed and not (mark_of(path) or "").startswith(_SCHEME):
            raise UsageError(
                f"{path} exists and is not a clip by wtal; choose another --out, or replace it with --force"
            )


def _listed(table: Path) -> set[str] | None:
    """Return the names in a table of clips; None if it is not one."""
    require_regular(table)
    if not table.exists():
        return set()
    rows = list(csv.reader(io.StringIO(table.read_text(encoding="utf-8", errors="replace"), newline="")))
    return {row[0].removeprefix("'") for row in rows[1:] if row} if rows and tuple(rows[0]) == _COLUMNS else None


def _require_room(lacking: Sequence[_Clip], best: Sequence[_Clip], out: Path, jobs: int) -> None:
    """Refuse clips that will not fit, before cutting any; while one is published it needs twice its size."""
    sizes = sorted((clip.size for clip in lacking), reverse=True)
    reel = encoded_bytes(SIZE, RATE, sum(clip.part.seconds for clip in best)) if best else 0
    wanted, free = int(_SPARE * (sum(sizes) + sum(sizes[:jobs]) + 2 * reel)), free_bytes(out)
    if wanted > free:
        raise DiskFullError(
            f"clips of about {megabytes(wanted)} do not fit on the disk of {out} with {megabytes(free)} free; "
            "free some space, choose another --out, or fewer clips with --top or --min-score"
        )


def _cut(clips: Sequence[_Clip], reencode: bool, jobs: int, reporter: Reporter) -> dict[_Clip, str]:
    """Write clips, with videos in parallel; return clip -> reason for failure."""
    by_video: dict[str, list[_Clip]] = {}
    for clip in clips:
        by_video.setdefault(clip.video, []).append(clip)
    calls = (delayed(_cut_video)(own, reencode) for own in by_video.values())
    failures: dict[_Clip, str] = {}
    with (reporter if clips else SILENT).task("cut", len(clips), "clip") as task, swept(clip.path for clip in clips):
        for (video, own), reasons in zip(
            by_video.items(), Parallel(n_jobs=jobs, return_as="generator")(calls), strict=True
        ):
            failures.update({clip: reason for clip, reason in zip(own, reasons, strict=True) if reason})
            task.advance(len(own), readable(video))
    return failures


def _cut_video(clips: Sequence[_Clip], reencode: bool) -> list[str]:
    """Write the clips of a video; return for each the reason for its failure, or ""."""
    write = encode_clip if reencode else copy_clip
    reasons = []
    for clip in clips:
        try:
            _publish(clip.path, lambda file, c=clip: write(c.info, c.part, file, c.path.suffix, c.mark))  # type: ignore[misc]
            reasons.append("")
        except VideoError as error:
            reasons.append(str(error))
    return reasons


def _publish(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Write a seekable file, whole or not at all; its draft is unnamed and vanishes with the process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with room_for(path), TemporaryFile(dir=path.parent) as draft:
        write(draft)
        draft.seek(0)
        write_atomic(path, lambda file: shutil.copyfileobj(draft, file, 1 << 20))


def _reel(best: Sequence[_Clip], out: Path, reporter: Reporter) -> Path:
    path = out / f"reel{encoded_suffix()}"
    stretches = [
        TitledStretch(
            clip.info, clip.part, plain(f"{titled(clip.detection)} - {clip.video} at {clip.detection.start:.1f} s")
        )
        for clip in best
    ]
    mark = f"{_SCHEME} {digest([(clip.mark, s.title) for clip, s in zip(best, stretches, strict=True)], 16)} 0.000"
    if mark_of(path) != mark:
        with reporter.task("reel", 1, "file") as task:
            _publish(path, lambda file: write_reel(stretches, file, path.suffix, mark))
            task.advance()
    return path


def _table(clips: Sequence[_Clip], reencode: bool) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows(_row(clip, reencode) for clip in clips)
    return text.getvalue()


def _row(clip: _Clip, reencode: bool) -> Iterator[str]:
    d = clip.detection
    seconds = map(seconds_text, (d.start, d.end, 0.0 if reencode else clip.earlier))
    names = (safe_cell(clip.path.name), safe_cell(plain(clip.video)), str(clip.number), safe_cell(plain(d.label)))
    return iter((*names, score_text(d.score), *seconds, "encoded" if reencode else "copied"))


def _notes(plans: Mapping[str, _PlannedClips], clips: Sequence[_Clip]) -> Iterator[str]:
    if outside := sum(plan.outside for plan in plans.values()):
        yield f"{outside} detections lie outside their video and were left out"
    if not clips:
        yield "no detection was selected"
