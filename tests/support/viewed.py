"""Small collection with videos, and its page."""

import json
import time
from pathlib import Path

from tests.support.videos import constant, write_video
from wtal.pipeline.viewing.gather import Collection, gather
from wtal.pipeline.viewing.write_report import Report, write_report

DETECTIONS = {
    "first": [("run", 0.5, 1.5, 0.9), ("jump", 1.0, 2.0, 0.8), ("run", 2.4, 3.2, 0.75), ("jump", 0.2, 3.9, 0.05)],
    "second": [("jump", 1.0, 2.5, 0.85)],
    "third": [],
}


def content(detections, **origin):
    results = {
        video: [{"label": label, "score": score, "segment": [start, end]} for label, start, end, score in own]
        for video, own in detections.items()
    }
    return {"results": results, **({"wtal": origin} if origin else {})}


def write_collection(folder: Path, detections=DETECTIONS, **origin) -> Path:
    """Write `videos/` of four seconds and `detections.json`, whose path is returned."""
    videos = folder / "videos"
    videos.mkdir(parents=True)
    for video in detections:
        write_video(videos / f"{video}.mp4", constant(25, 100), size=(160, 120), options={"g": "10"})
    file = folder / "detections.json"
    file.write_text(json.dumps(content(detections, **origin)))
    return file


def report_of(file: Path, proxies="never", **options) -> tuple[Collection, Report]:
    """Write the page of a detection file next to `videos/`."""
    collection = gather(file, file.parent / "videos", **options)
    return collection, write_report(collection, proxies=proxies)


def script(path: Path):
    """Values that a script of a page passes to the page: its last argument."""
    text = path.read_text(encoding="ascii")
    start = text.index("{")
    return json.loads(text[start : text.rindex(")")])


def index_of(report: Report):
    """Content of a page's list of videos."""
    (file,) = report.page.parent.glob("data-*/index.js")
    return script(file)


def entry_of(report: Report, number: int):
    """Content of a video's data."""
    (file,) = report.page.parent.glob(f"data-*/{number:05}.js")
    text = file.read_text(encoding="ascii")
    return json.loads(text[text.index("{") : text.rindex(")")])


def until(page, expression, seconds=60):
    """Wait until an expression is true in a page, whose content policy forbids evaluation of strings."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"not so within {seconds} s: {expression}"
        page.wait_for_timeout(20)
