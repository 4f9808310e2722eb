"""A collection -> one folder with a page that opens from disk: `index.html`, its scripts, data and pictures."""

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from joblib import Parallel, cpu_count, delayed

from wtal.config import digest
from wtal.data.files import megabytes, write_atomic
from wtal.data.locks import alone
from wtal.data.segments import Detection
from wtal.data.verdicts import read_verdicts
from wtal.data.video_ids import readable
from wtal.errors import VideoError
from wtal.extractors.viewing.look import COLUMNS, Look, look
from wtal.pipeline.exchange.export_detections import named, unsure_clocks
from wtal.pipeline.progress import SILENT, Reporter
from wtal.pipeline.viewing.copies import Proxies, make_copies
from wtal.pipeline.viewing.gather import Collection, ShownVideo
from wtal.report import site_data

_SITE = Path(site_data.__file__).with_name("site")
_PICTURED = 20
"""Number of detections of a video that get pictures: the best."""
_EFFORT, _MOST = 36.0, 5.0
"""Seconds of a core for the pictures of all videos together, and the maximum for one."""


@dataclass(frozen=True)
class Report:
    """The page, notes for the user, and video -> reason why it has neither player nor pictures."""

    page: Path
    notes: tuple[str, ...]
    unseen: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return page, notes and reasons as JSON types."""
        return {"page": str(self.page), "notes": list(self.notes), "unseen": dict(self.unseen)}


class _Seen(NamedTuple):
    """The pictures of a video's file, or the reason why there are none; and the detections that have pictures."""

    sight: Look | None
    reason: str
    pictured: tuple[int, ...]


def write_report(
    collection: Collection,
    out: Path | None = None,
    proxies: Proxies = "needed",
    reporter: Reporter = SILENT,
) -> Report:
    """Write the page of a collection, by default into its own folder. Existing copies are reused.

    Raises:
        WtalError: when the disk has no space for the copies or the page, or the file of verdicts is damaged.
    """
    folder = (out or collection.folder).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    seen = dict(zip([video.id for video in collection.videos], _looks(collection, proxies, reporter), strict=True))
    copies, uncopied = make_copies(
        {
            video.id: (video.file, sight)
            for video in collection.videos
            if (sight := seen[video.id].sight) and video.file
        },
        folder / "proxies",
        proxies,
        reporter,
    )
    unseen = {video: sight.reason for video, sight in seen.items() if sight.reason}
    notes = [*_unsure(collection, seen), *_strips(seen, copies)]
    notes += [f"no copy for browsers: {readable(video)}: {reason}" for video, reason in uncopied.items()]
    with alone(folder / ".lock"):
        data = _write_data(collection, seen, copies, folder)
        index = _index(collection, seen, data.name, [*notes, *(f"{readable(v)}: {r}" for v, r in unseen.items())])
        write_atomic(data / "index.js", index.encode())
        page = write_atomic(folder / "index.html", _page(data.name).encode())
        for old in folder.glob("data-*"):
            if old != data:
                shutil.rmtree(old)
    return Report(page, tuple(notes), unseen)


def _looks(collection: Collection, proxies: Proxies, reporter: Reporter) -> Iterator[_Seen]:
    videos = collection.videos
    present = sum(video.file is not None for video in videos)
    effort = min(_MOST, _EFFORT / max(1, present))
    jobs = min(int(cpu_count()), max(1, present // 8))
    calls = (delayed(_look)(video, proxies == "never", effort) for video in videos)
    with (reporter if present else SILENT).task("look", len(videos), "video") as task:
        for seen in Parallel(n_jobs=jobs, return_as="generator")(calls):
            task.advance()
            yield seen


def _look(video: ShownVideo, strip: bool, effort: float) -> _Seen:
    order = sorted(range(len(video.detections)), key=lambda i: -video.detections[i].score)[:_PICTURED]
    if video.file is None:
        return _Seen(None, "", ())
    seconds = [t - video.begins for i in order for t in _moments(video.detections[i])]
    poster = seconds[1] if seconds else (video.duration or 0) / 2
    try:
        return _Seen(look(video.file, seconds, poster, video.duration, strip, effort), "", tuple(order))
    except VideoError as error:
        return _Seen(None, str(error), ())


def _moments(detection: Detection) -> tuple[float, float, float]:
    """Return three times in a detection, in seconds: just after its start, its middle, and just before its end."""
    margin = min(0.1, detection.duration / 4)
    return detection.start + margin, (detection.start + detection.end) / 2, detection.end - margin


def _unsure(collection: Collection, seen: Mapping[str, _Seen]) -> list[str]:
    """Return notes on the videos without a file, or with several, and on unverified clocks."""
    questions = collection.in_question
    notes = [f"{readable(video)}: {why}" for video, why in questions.items()]
    without = [video.id for video in collection.videos if video.file is None and video.id not in questions]
    notes += [f"videos without a file: {named(without)}; give their folder with --videos"] if without else []
    late = [video for video, (sight, _, _) in seen.items() if sight and sight.start]
    return notes + unsure_clocks(late, collection.counted)


def _strips(seen: Mapping[str, _Seen], copies: Mapping[str, str]) -> list[str]:
    """Return a note on the videos shown as filmstrips because they have no copy."""
    left = [sight for video, (sight, _, _) in seen.items() if sight and sight.unplayed and video not in copies]
    if not left:
        return []
    reasons = ", ".join(sorted({sight.unplayed for sight in left}))
    size = sum(sight.copy_bytes for sight in left)
    return [
        f"{len(left)} videos are shown as filmstrips, as browsers do not play {reasons}; --proxies needed makes "
        f"copies of about {megabytes(size)}"
    ]


def _write_data(collection: Collection, seen: Mapping[str, _Seen], copies: Mapping[str, str], folder: Path) -> Path:
    """Write scripts, data and pictures into a folder of their own, named after their content."""
    temporary = folder / ".data.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    content = hashlib.sha256()

    def write(name: str, value: bytes) -> None:
        write_atomic(temporary / name, value)
        content.update(name.encode() + value)

    try:
        for asset in sorted(_SITE.iterdir()):
            if asset.suffix in (".js", ".css"):
                write(asset.name, asset.read_bytes())
        classes = {label: i for i, label in enumerate(collection.classes)}
        for number, video in enumerate(collection.videos):
            sight = seen[video.id].sight
            entry = _entry(video, seen[video.id], classes, _source(video, sight, copies, folder))
            write(f"{number:05}.js", site_data.script("video", number, entry).encode())
            if sight:
                write(f"{number:05}-poster.jpg", sight.poster)
                if sight.sheet:
                    write(f"{number:05}.jpg", sight.sheet)
        data = folder / f"data-{content.hexdigest()[:12]}"
        if data.exists():
            shutil.rmtree(data)
        temporary.replace(data)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return data


def _source(video: ShownVideo, sight: Look | None, copies: Mapping[str, str], folder: Path) -> str:
    """Return the address of the video that the page plays, relative to it; "" if there is none."""
    if video.id in copies:
        return f"proxies/{copies[video.id]}"
    if sight is None or sight.unplayed or video.file is None:
        return ""
    return quote(os.fsencode(Path(os.path.relpath(video.file.absolute(), folder)).as_posix()))


def _entry(video: ShownVideo, seen: _Seen, classes: Mapping[str, int], source: str) -> dict[str, Any]:
    shift, end = _clock(video, seen.sight)
    entry: dict[str, Any] = {
        "shift": shift,
        "end": end,
        "step": seen.sight.step if seen.sight else 0.04,
        "source": source,
        "detections": site_data.segments(video.detections, classes),
        "annotations": site_data.segments(video.annotations, classes),
        "labels": None if video.labels is None else [classes[label] for label in video.labels if label in classes],
        "why": _why(video, seen),
    }
    if seen.sight and seen.sight.sheet:
        width, height = seen.sight.tile
        strip = [round(second, 3) for second in seen.sight.strip]
        entry["sheet"] = {"width": width, "height": height, "columns": COLUMNS, "strip": strip}
        entry["sheet"]["pictured"] = list(seen.pictured)
        entry["size"] = list(seen.sight.size)
    if video.curves:
        curves = video.curves.classes
        entry["curves"] = {
            "begins": video.curves.begins,
            "step": video.curves.step,
            "classes": {classes[label]: site_data.levels(curves[label]) for label in curves if label in video.classes},
            "attention": None if video.curves.attention is None else site_data.levels(video.curves.attention),
        }
    return entry


def _clock(video: ShownVideo, sight: Look | None) -> tuple[float, float]:
    """Return the conversion of the file's seconds to the player's, and the player's second at which the video ends."""
    shift = float(sight.start) - video.begins if sight else 0.0
    shift = 0.0 if abs(shift) < 1e-9 else shift
    last = max((d.end for d in (*video.detections, *video.annotations)), default=0.0)
    if sight:
        return shift, sight.end
    return shift, video.begins + video.duration if video.duration else max(last, 0.1)


def _why(video: ShownVideo, seen: _Seen) -> str:
    if video.file is None:
        return "The file of this video is unknown. Show it with wtal report --videos FOLDER."
    if seen.sight is None:
        return f"The file of this video cannot be read: {seen.reason}"
    return f"Browsers cannot play this video because of {seen.sight.unplayed}." if seen.sight.unplayed else ""


def _index(collection: Collection, seen: Mapping[str, _Seen], data: str, notes: Sequence[str]) -> str:
    names = collection.classes
    classes = {label: i for i, label in enumerate(names)}
    videos = []
    for video in collection.videos:
        shift, end = _clock(video, seen[video.id].sight)
        row: dict[str, Any] = {"id": video.id, "end": round(end, 3), "poster": seen[video.id].sight is not None}
        row["found"] = site_data.summary_row(video.detections, classes, shift, end)
        videos.append(row)
    before = read_verdicts(collection.verdicts).model_dump(mode="json") if collection.verdicts.exists() else None
    scores = [site_data.rounded(detection.score) for video in collection.videos for detection in video.detections]
    content = {
        "title": collection.title,
        "key": digest(str(collection.source), 16),
        "data": data,
        "least": site_data.parting_score(scores),
        "classes": [{"name": label, "check": collection.checked.get(label)} for label in names],
        "videos": videos,
        "failures": [[video, reason] for video, reason in collection.failures.items()],
        "notes": list(notes),
        "verdicts": before,
    }
    return site_data.script("index", content)


def _page(data: str) -> str:
    return (_SITE / "index.html").read_text(encoding="utf-8").replace("DATA", data)
