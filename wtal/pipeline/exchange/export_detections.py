"""Detections -> files of other programs: from which source, of which videos, under which names."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wtal.data.detections import BEGINS, read_detections, read_made, verdicts_of
from wtal.data.files import write_atomic
from wtal.data.kinds import detections_in, require_detections
from wtal.data.names import match_ids, rivals
from wtal.data.regular import require_regular
from wtal.data.segments import Detection
from wtal.data.tally import first_names
from wtal.data.video_ids import readable, short_ids, videos_below
from wtal.errors import UsageError, VideoError, WtalError
from wtal.extractors.decoding.player_clock import player_clock
from wtal.pipeline.exchange.chapter_copies import NAME as CHAPTERS
from wtal.pipeline.exchange.chapter_copies import copy_all
from wtal.pipeline.exchange.export_names import TakenPaths, export_names
from wtal.pipeline.progress import SILENT, Reporter
from wtal.pipeline.runs import Run, open_run
from wtal.registry import suggest
from wtal.report.export_text import plain
from wtal.report.exports import EXPORTS, Export, ExportLeaf, ExportVideo
from wtal.report.fit import fit, shown_labels
from wtal.report.selection import Selection

COPIES = "copies with chapters"
"""Format name for failures of `--into-copies`."""
_NAMED = 3
"""Maximum number of videos named in a line."""


@dataclass(frozen=True)
class Exports:
    """Files written, notes on content that formats could not hold, and (format, video) -> reason for its absence."""

    files: tuple[Path, ...]
    notes: tuple[str, ...]
    failures: Mapping[tuple[str, str], str]

    def to_json(self) -> dict[str, Any]:
        """Return files, notes and failures as JSON types."""
        failures = [{"format": name, "video": video, "reason": text} for (name, video), text in self.failures.items()]
        return {"files": [str(file) for file in self.files], "notes": list(self.notes), "failures": failures}


@dataclass(frozen=True)
class ExportSource:
    """Detections by video, in seconds from the first picture; durations where a store has them; and a folder.

    `counted` is False if the file does not state its origin of time; the first picture is then assumed. `verdicts` maps
    class -> verdict of the label check, empty without a check.
    """

    detections: Mapping[str, Sequence[Detection]]
    durations: Mapping[str, float]
    folder: Path
    counted: bool
    verdicts: Mapping[str, str]


def export(
    source: Path,
    formats: Sequence[str],
    out: Path | None = None,
    selection: Selection = Selection(),  # noqa: B008 - frozen
    videos: Path | None = None,
    force: bool = False,
    reporter: Reporter = SILENT,
    into_copies: bool = False,
) -> Exports:
    """Write the detections of a run or a file in formats of other programs; by default into the folder `exports`.

    `videos` is the folder of the files; a video's own clock and rate are read from its file. An existing file with
    different content is replaced only with `force`. `into_copies` also writes copies with embedded chapters.

    Raises:
        UsageError: when the format, run, file or class does not exist, or a file is in the way.
        WtalError: when nothing can be written.
    """
    if into_copies and CHAPTERS not in formats:
        raise UsageError(f"--into-copies writes chapters; add --to {CHAPTERS}")
    leaves = {name: EXPORTS.load(name) for name in dict.fromkeys(formats)}
    given = open_source(source, with_store=videos is None)
    check_classes(selection, given.detections)
    records, notes, unreadable = export_records(given, videos, selection, reporter)
    sheets, more, failures = _sheets(leaves, records)
    failures = {**{(name, video): text for name in leaves for video, text in unreadable.items()}, **failures}
    if not sheets:
        raise WtalError(f"nothing could be exported: {_first(failures)}")
    target = out or given.folder
    files = _write(sheets, target, force)
    if into_copies:
        labels = sorted({d.label for record in records for d in record.detections})
        shown = shown_labels(labels, leaves[CHAPTERS].EXPORT.reserved)
        copies, lacking = copy_all(records, shown, target, force, reporter)
        files = (*files, *copies)
        failures |= {(COPIES, video): reason for video, reason in lacking.items()}
    return Exports(files, (*notes, *more), failures)


def open_source(source: Path | Run, with_store: bool) -> ExportSource:
    """Read the detections of a run with one seed, of a folder of `wtal detect`, or of a file.

    Durations are read from the run's store, if `with_store`.

    Raises:
        UsageError: when nothing exists there, or a run has several seeds or no detections yet.
        WtalError: when the run's store is needed but missing.
    """
    if isinstance(source, Path) and not source.exists():
        raise UsageError(f"{source} does not exist; pass a run's folder or a detection file")
    if isinstance(source, Path) and (file := detections_in(source)).is_file():
        require_detections(file)
        origin = read_made(file)
        folder = source / "exports" if file != source else file.parent / f"{file.stem}-exports"
        return ExportSource(_from_picture(file, origin), {}, folder, bool(origin), verdicts_of(origin))
    run = source if isinstance(source, Run) else open_run(source)
    origin = read_made(run.detections())
    detections = _from_picture(run.detections(), origin)
    durations = _durations(run, detections) if with_store else {}
    return ExportSource(detections, durations, run.folder / "exports", bool(origin), verdicts_of(origin))


def _from_picture(file: Path, origin: Mapping[str, Any]) -> dict[str, list[Detection]]:
    """Read detections as seconds from the first picture; `origin` is the record that their file has of its making."""
    begins = origin.get(BEGINS, {})
    return {
        video: [replace(d, start=d.start - begins.get(video, 0), end=d.end - begins.get(video, 0)) for d in own]
        for video, own in read_detections(file).items()
    }


def _durations(run: Run, video_ids: Iterable[str]) -> dict[str, float]:
    store = run.store()
    return {video: store.grid(key).duration for video, key in match_ids(video_ids, store.ids).items()}


def check_classes(selection: Selection, detections: Mapping[str, Sequence[Detection]]) -> None:
    """Refuse classes without detections.

    Raises:
        UsageError: naming the first, with the nearest match.
    """
    labels = {d.label for segments in detections.values() for d in segments}
    for label in selection.classes:
        if label not in labels:
            raise UsageError(f"--classes: {label!r} has no detections; {suggest(label, labels)}")


def export_records(
    given: ExportSource, folder: Path | None, selection: Selection, reporter: Reporter
) -> tuple[list[ExportVideo], list[str], dict[str, str]]:
    """Return videos with the chosen detections, notes, and video -> reason why its file cannot be read."""
    files = files_below(given.detections, folder)
    records: list[ExportVideo] = []
    unreadable: dict[str, str] = {}
    outside = 0
    with (reporter if files else SILENT).task("videos", len(given.detections), "video") as task:
        for video, detections in given.detections.items():
            try:
                record = _record(video, files.get(video), folder, given.durations.get(video))
            except VideoError as error:
                unreadable[video] = str(error)
            else:
                chosen, lost = selection.of(detections, record.duration)
                records.append(replace(record, detections=chosen, verdicts=given.verdicts))
                outside += lost
            task.advance()
    notes = [f"{outside} detections lie outside their video and were left out"] if outside else []
    notes += [f"{readable(video)}: {why}" for video, why in files_in_question(given.detections, files, folder).items()]
    notes += _doubts(given.verdicts, {d.label for record in records for d in record.detections})
    notes += unsure_clocks([record.id for record in records if record.start], given.counted)
    without = [record.id for record in records if record.file is None]
    if without:
        notes.append(
            f"videos without a file: {named(without)}; their times count from the first picture, "
            "while players may count from the sound; give the files' folder with --videos"
        )
    return records, notes, unreadable


def unsure_clocks(late: Sequence[str], counted: bool) -> list[str]:
    """Return a note on videos whose picture starts late, if their file is not `counted`: it has no origin of time."""
    if counted or not late:
        return []
    return [
        f"the picture begins after the sound: {named(late)}; the file does not state which it counts from, "
        "and the picture is assumed; the JSON of wtal detect states it"
    ]


def _doubts(verdicts: Mapping[str, str], labels: set[str]) -> list[str]:
    """Return a note on labels among the detections whose verdict in the label check is not "learned", or none."""
    doubtful = [
        f"{label}: {verdict}" for label, verdict in verdicts.items() if verdict != "learned" and label in labels
    ]
    return [f"the label check doubts {', '.join(doubtful)}"] if doubtful else []


def files_below(video_ids: Iterable[str], folder: Path | None) -> dict[str, Path]:
    """Return video -> its file below a folder, matched by wtal's ids, names or paths.

    Raises:
        UsageError: when there is no such folder.
    """
    if folder is None:
        return {}
    if not folder.is_dir():
        raise UsageError(f"--videos takes a folder of videos, and {folder} is not one")
    paths = videos_below(folder)
    names = {readable(path.relative_to(folder.absolute()).as_posix()): path for path in paths}
    by_id = {key: path for path, key in short_ids(dict.fromkeys(paths, folder.absolute())).items()}
    ids = list(video_ids)
    matched = {video: by_id[key] for video, key in match_ids(ids, by_id).items()}
    return {**{video: names[video] for video in ids if video in names}, **matched}


def files_in_question(video_ids: Iterable[str], files: Mapping[str, Path], folder: Path | None) -> dict[str, str]:
    """Return video -> a sentence on its possible files below a folder, for those without one among `files`."""
    lacking = [video for video in video_ids if video not in files]
    if folder is None or not lacking:
        return {}
    names = [readable(path.relative_to(folder.absolute()).as_posix()) for path in videos_below(folder)]
    rivalries = {video: rivals(video, names) for video in lacking}
    return {
        video: f"{len(paths)} files of this name below {folder} ({first_names(paths)}); keep one of them there"
        for video, paths in rivalries.items()
        if len(paths) > 1
    }


def _record(video: str, file: Path | None, folder: Path | None, duration: float | None) -> ExportVideo:
    if file is None or folder is None:
        return ExportVideo(video, (), duration=duration)
    clock = player_clock(file)
    return ExportVideo(
        video,
        (),
        file,
        readable(file.relative_to(folder.absolute()).as_posix()),
        clock.start,
        clock.file_start,
        float(clock.duration),
        clock.rate,
        clock.rate is None,
        clock.frames,
        clock.size,
        clock.sound,
    )


def _sheets(
    leaves: Mapping[str, ExportLeaf], videos: Sequence[ExportVideo]
) -> tuple[dict[Path, str], list[str], dict[tuple[str, str], str]]:
    """Return the content of each file by its path below the folder, notes, and failures."""
    labels = sorted({d.label for video in videos for d in video.detections})
    sheets: dict[Path, str] = {}
    notes: list[str] = []
    failures: dict[tuple[str, str], str] = {}
    taken = TakenPaths()
    # Formats whose file names are dictated by their programs come first, so that others make way.
    for name, leaf in sorted(leaves.items(), key=lambda item: not item[1].EXPORT.beside):
        shown = shown_labels(labels, leaf.EXPORT.reserved)
        fitted, changes, unfit = _fitted(leaf, videos, shown)
        notes += [f"{name}: {change}" for change in _renamed(shown, leaf.EXPORT)]
        notes += [f"{name}: {change}" for change in changes]
        failures.update({(name, video): reason for video, reason in unfit.items()})
        classes = labels if leaf.EXPORT.exact else [shown[label] for label in labels]
        for path, group in _groups(leaf, fitted).items():
            try:
                sheet = leaf.render(group, classes)
            except VideoError as error:
                failures.update({(name, video.id): str(error) for video in group})
                continue
            written = taken.take(path)
            sheets[written] = sheet.text
            notes += [f"{name}: {note}" for note in _not_found_by_itself(leaf.EXPORT, group[0], written)]
            where = f"{readable(group[0].id)}: " if leaf.EXPORT.per == "video" else ""
            notes += [f"{name}: {where}{note}" for note in sheet.notes]
    return sheets, notes, failures


def _not_found_by_itself(export: Export, video: ExportVideo, written: Path) -> list[str]:
    """Return a note if a program that looks for a file next to a video does not find the one written, or none."""
    if not export.beside or video.file is None or written.name == (wanted := video.file.stem + export.suffix):
        return []
    program = export.readers.partition(",")[0]
    return [
        f"{readable(video.id)}: {program} looks for {readable(wanted)}, and that name belongs to another file, so "
        f"{readable(written.name)} does not open with the video; open it by hand, or rename the video and export again"
    ]


def _fitted(
    leaf: ExportLeaf, videos: Sequence[ExportVideo], shown: Mapping[str, str]
) -> tuple[list[ExportVideo], list[str], dict[str, str]]:
    """Return videos fitted to a format, changes by rule, and video -> reason why it does not fit."""
    fitted: list[ExportVideo] = []
    counts: dict[str, dict[str, int]] = defaultdict(dict)
    unfit: dict[str, str] = {}
    for video in videos:
        try:
            record, changes = fit(video, leaf.EXPORT, shown)
        except VideoError as error:
            unfit[video.id] = str(error)
            continue
        verdicts = {shown.get(label, label): verdict for label, verdict in video.verdicts.items()}
        fitted.append(replace(record, verdicts=verdicts))
        for rule, count in changes.items():
            counts[rule][video.id] = count
    notes = [
        f"{sum(of_rule.values())} detections {rule} (videos: {named(list(of_rule))})"
        for rule, of_rule in counts.items()
    ]
    return fitted, notes, unfit


def _renamed(shown: Mapping[str, str], export: Export) -> list[str]:
    """Return a note for each class with a name that the format gives to something else."""
    return [
        f"class {name!r} is named {shown[label]!r}, as the format has its own {name!r}"
        for label in shown
        if (name := plain(label)) in export.reserved and not export.exact
    ]


def _groups(leaf: ExportLeaf, videos: list[ExportVideo]) -> dict[Path, list[ExportVideo]]:
    suffix = leaf.EXPORT.suffix
    if leaf.EXPORT.per == "collection":
        return {Path(f"detections{suffix}"): videos} if videos else {}
    names = export_names(videos, exact=leaf.EXPORT.beside)
    return {name.with_name(name.name + suffix): [video] for name, video in zip(names, videos, strict=True)}


def _write(sheets: Mapping[Path, str], out: Path, force: bool) -> tuple[Path, ...]:
    root = out.resolve()
    contents = {}
    for name, text in sheets.items():
        path = out / name
        if not path.resolve().is_relative_to(root):
            raise UsageError(f"{path} leads out of {out}; remove the link, or choose another --out")
        contents[path] = text.encode("utf-8", "surrogateescape")
    if not force:
        for path, content in contents.items():
            require_regular(path)
            if path.exists() and path.read_bytes() != content:
                raise UsageError(
                    f"{path} already exists with different content; choose another --out, or replace it with --force"
                )
    return tuple(write_atomic(path, content) for path, content in contents.items())


def named(videos: Sequence[str]) -> str:
    """Return the first few of many videos, and their total number."""
    shown = ", ".join(map(readable, videos[:_NAMED]))
    return f"{shown}, ... ({len(videos)} in all)" if len(videos) > _NAMED else shown


def _first(failures: Mapping[tuple[str, str], str]) -> str:
    for (name, video), reason in failures.items():
        return f"{name}: {readable(video)}: {reason}"
    return "there are no videos"
