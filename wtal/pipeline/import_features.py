"""Published features -> a store, each with its rate and grid."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wtal.config import digest
from wtal.data.grid import SnippetGrid
from wtal.data.store_writer import StoreWriter
from wtal.errors import UsageError
from wtal.pipeline.progress import SILENT, Reporter
from wtal.pipeline.workspace import Workspace
from wtal.registry import LAYOUTS

DEFAULT_LAYOUT = "wtalc-joint"


@dataclass(frozen=True)
class Imported:
    """The store's folder, and video -> why it could not be imported."""

    store: Path
    failures: Mapping[str, str]


def import_features(
    features: Path,
    annotations: Path,
    workspace: Workspace,
    layout: str = DEFAULT_LAYOUT,
    backbone: str = "i3d",
    fps: str = "",
    stride: str = "",
    dims: Mapping[str, int] | None = None,
    reporter: Reporter = SILENT,
) -> Imported:
    """A file of features and the annotations that name its videos -> a store in the workspace.

    `fps` and `stride` (frames of a row) are the layout's own where they are empty; `dims` splits the columns into
    streams. Videos without a row, or with numbers that are not finite, are recorded as failures.

    Raises:
        UsageError: when a path does not exist, the layout is unknown, or a rate is none.
        FormatError: when the file is not of this layout.
    """
    for path in (features, annotations):
        if not path.exists():
            raise UsageError(f"there is nothing at {path}")
    module = LAYOUTS.load(layout)
    rate, step = _positive("fps", fps or module.FPS), _positive("stride", stride or module.STRIDE)
    source = _sha256(features)
    identity: dict[str, Any] = {
        "backbone": backbone,
        "layout": layout,
        "source": source,
        "names": digest([str(name) for name in _names(annotations)], 16),
        "fps": str(rate),
        "stride": str(step),
        "dims": dict(dims or {}),
    }
    target = workspace.features / f"{backbone}-imported-{step}x{step}@{rate}-{digest(identity)}"
    writer, failed = None, {}
    with reporter.task("import", len(_names(annotations)), "video") as task:
        for video, streams in module.read(features, annotations, dims or {}):
            if writer is None:
                learned = {name: {"weights": {"imported": source[:16]}} for name in streams}
                writer = StoreWriter.open(target, {**identity, "weights": learned})
            reason = _problem(streams)
            if reason:
                failed[video] = reason
                writer.fail(video, reason)
            elif not writer.done(video):
                rows = len(next(iter(streams.values())))
                # The rows are all that is known of a video's length: what they cover, no more.
                grid = SnippetGrid(rate, int(rows * step), step, max(1, int(step)), "drop")
                writer.write(video, grid, streams, {"reader": f"imported {layout}"}, source[:16])
            task.advance()
    if writer is None:
        raise UsageError(f"{features} holds no video")
    for video, reason in failed.items():
        reporter.say(f"not imported: {video}: {reason}")
    return Imported(writer.publish().path, failed)


def _names(annotations: Path) -> list[str]:
    from wtal.data.formats.wtalc import video_names

    return video_names(annotations)


def _problem(streams: Mapping[str, NDArray[np.float32]]) -> str:
    if not len(next(iter(streams.values()))):
        return "it has no row of features"
    broken = [name for name, values in streams.items() if not np.isfinite(values).all()]
    return f"{broken[0]} holds numbers that are not finite" if broken else ""


def _positive(what: str, text: str) -> Fraction:
    try:
        value = Fraction(text)
    except (ValueError, ZeroDivisionError):
        value = Fraction(0)
    if value <= 0:
        raise UsageError(f"--{what} is a positive number or fraction, got {text!r}")
    return value


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
