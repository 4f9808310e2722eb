"""Print detections in new videos."""

import json
import sys
from collections.abc import Sequence

import click

from wtal.commands._console import FINISHED_WITH_FAILURES
from wtal.data.detections import to_json
from wtal.data.segments import Detection
from wtal.data.video_ids import readable
from wtal.pipeline.new_videos.detect_new import NewDetections
from wtal.pipeline.new_videos.watch import ProcessedFile

_SHOWN = 5
"""Maximum number of detections printed per video."""


def show_new(new: NewDetections) -> None:
    """Print the best detections of each video, and the path of all of them."""
    for video, detections in new.results.items():
        click.echo(readable(video))
        click.echo("\n".join(f"  {line}" for line in _lines(detections)))
    click.echo(f"detections  {new.file}\n            {new.table}")


def _lines(detections: Sequence[Detection]) -> list[str]:
    if not detections:
        return ["nothing was found"]
    shown = detections[:_SHOWN]
    width = max(len(detection.label) for detection in shown)
    lines = [f"{d.label:<{width}} {d.start:9.2f} {d.end:9.2f} s   score {d.score:.3g}" for d in shown]
    return [*lines, f"and {len(detections) - _SHOWN} more"] if len(detections) > _SHOWN else lines


def show_processed(name: str, file: ProcessedFile, as_json: bool) -> None:
    """Print the detections in a video of a watched folder; as JSON, in one line."""
    if as_json:
        entries = [to_json(detection) for detection in file.detections]
        failure = {"failure": file.reason} if file.reason else {}
        click.echo(json.dumps({"video": name, "detections": entries, **failure}))
    else:
        lines = [f"failed: {file.reason}"] if file.reason else _lines(file.detections)
        click.echo(readable("\n".join([name, *(f"  {line}" for line in lines)])))
    sys.stdout.flush()


def finish_new(new: NewDetections) -> None:
    """If videos failed, print a line and exit with 3."""
    if new.failures:
        total = len(new.results) + len(new.failures)
        click.echo(f"{len(new.failures)} of {total} videos failed; {new.failures_file}", err=True)
        sys.exit(FINISHED_WITH_FAILURES)
