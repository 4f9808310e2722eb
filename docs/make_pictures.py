"""Draw `docs/images/demo.png` from a finished demo: `python docs/make_pictures.py demo`.

Above, frames of one video of the reported subset; below, on the same seconds, a row with the annotated segments and a
row with the detections of each class that is annotated or detected. Only detections that overlap no better one and have
at least half of the best score are drawn; paler means a lower score. The video is the first of the subset with two
classes, or the one of `--video`: it is not chosen by its results.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wtal.data.annotations import read_annotations
from wtal.data.dataset import Dataset, VideoRecord
from wtal.data.detections import read_detections
from wtal.data.segments import Detection, Segment, tiou
from wtal.errors import UsageError, WtalError
from wtal.pipeline.runs import Run
from wtal.pipeline.workspace import Workspace

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]

PAGE = Path(__file__).with_name("images") / "demo.png"
LARGEST = 200 * 1024
"""Largest size of a picture in bytes."""

_WIDTH, _LEFT, _RIGHT, _TOP = 1200, 210, 30, 16
_FRAMES = 8
_ROW, _GAP, _AXIS = 26, 14, 34
_WHITE, _INK, _GREY, _LINE = (255, 255, 255), (40, 40, 40), (120, 120, 120), (225, 225, 225)
_COLOURS: tuple[Colour, ...] = ((180, 119, 31), (14, 127, 255), (44, 160, 44), (189, 103, 148), (75, 86, 140))
"""Colours in OpenCV's order: blue, green, red."""


def main(argv: Sequence[str] | None = None) -> None:
    """Draw the picture of a video of a demo folder, and write it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("demo", type=Path, help="folder that `wtal demo` made")
    parser.add_argument("--video", help="id of the video to draw")
    parser.add_argument("--out", type=Path, default=PAGE, help="file to write")
    options = parser.parse_args(argv)
    dataset = read_annotations(options.demo / "annotations.json")
    run = Run.open(Workspace(options.demo / "workspace").newest_run())
    video = choose_video(dataset, run.recipe.evaluate.test_subset, options.video)
    found = read_detections(run.folder / "detections" / "detections.json").get(video.id, [])
    picture = draw(options.demo / "videos" / f"{video.id}.mp4", video, clearest(found))
    write(picture, options.out)
    print(options.out)


def choose_video(dataset: Dataset, subset: str, wanted: str | None) -> VideoRecord:
    """Return the video `wanted`, or the first of `subset` with two classes.

    Raises:
        UsageError: when there is none.
    """
    if wanted is not None and wanted in dataset.videos:
        return dataset.videos[wanted]
    for video in dataset.select(subset) if wanted is None else ():
        if len(video.labels) == 2:
            return video
    raise UsageError(f"there is no video {wanted!r}" if wanted else f"no video of {subset!r} shows two classes")


def clearest(detections: Sequence[Detection]) -> list[Detection]:
    """Detections without a better overlapping one and with at least half of the best score, best first."""
    kept: list[Detection] = []
    for one in sorted(detections, key=lambda detection: -detection.score):
        if (not kept or one.score >= kept[0].score / 2) and all(tiou(one, other) == 0 for other in kept):
            kept.append(one)
    return kept


def draw(path: Path, video: VideoRecord, detections: Sequence[Detection]) -> Picture:
    """Draw frames of the file above a time line of annotations and detections, (H, W, 3) uint8, blue first.

    Raises:
        WtalError: when the file cannot be read.
    """
    seconds = video.duration or max(one.end for one in (*video.annotations, *detections))
    strip = _strip(path, seconds)
    labels = sorted({*video.labels, *(one.label for one in detections)})
    rows = [(label, kind) for label in labels for kind in ("annotated", "found")]
    height = _TOP + len(strip) + _GAP + len(rows) * _ROW + len(labels) * _GAP + _AXIS
    page: Picture = np.full((height, _WIDTH, 3), 255, dtype=np.uint8)
    page[_TOP : _TOP + len(strip), _LEFT : _LEFT + strip.shape[1]] = strip
    _write(page, video.id, (16, _TOP + 20), _INK)
    top = _TOP + len(strip) + _GAP
    for number, label in enumerate(labels):
        colour = _COLOURS[number % len(_COLOURS)]
        _write(page, label, (16, top + 18), _INK)
        shown: dict[str, list[tuple[Segment, float]]] = {
            "annotated": [(one, 1.0) for one in video.annotations if one.label == label],
            "found": [(found, _strength(found, detections)) for found in detections if found.label == label],
        }
        for kind, segments in shown.items():
            _row(page, top, kind, segments, colour, seconds)
            top += _ROW
        top += _GAP
    _axis(page, top, seconds)
    return page


def write(picture: Picture, path: Path) -> None:
    """Write a PNG.

    Raises:
        WtalError: when it would take more than `LARGEST` bytes.
    """
    _, encoded = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    if encoded.nbytes > LARGEST:
        raise WtalError(f"{path.name} would take {encoded.nbytes} bytes, wanted at most {LARGEST}; draw fewer frames")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded.tobytes())


def _strip(path: Path, seconds: float) -> Picture:
    """Frames at the middles of `_FRAMES` equal parts of the video, side by side."""
    capture = cv2.VideoCapture(str(path))
    try:
        width = (_WIDTH - _LEFT - _RIGHT) // _FRAMES
        frames = [_frame(capture, (i + 0.5) * seconds / _FRAMES, width) for i in range(_FRAMES)]
    finally:
        capture.release()
    if any(frame is None for frame in frames):
        raise WtalError(f"cannot read the frames of {path}; is the demo complete?")
    return np.concatenate([frame for frame in frames if frame is not None], axis=1)


def _frame(capture: cv2.VideoCapture, second: float, width: int) -> Picture | None:
    capture.set(cv2.CAP_PROP_POS_MSEC, 1000 * second)
    found, image = capture.read()
    if not found:
        return None
    height = round(image.shape[0] * width / image.shape[1])
    small = cv2.resize(image, (width - 2, height), interpolation=cv2.INTER_AREA)
    # Fewer shades make a far smaller PNG without a visible difference at this size.
    return np.pad(np.asarray(small // 8 * 8 + 4, np.uint8), ((0, 0), (1, 1), (0, 0)), constant_values=255)


def _strength(one: Detection, detections: Sequence[Detection]) -> float:
    return one.score / max(other.score for other in detections)


def _row(
    page: Picture, top: int, kind: str, segments: Sequence[tuple[Segment, float]], colour: Colour, seconds: float
) -> None:
    _write(page, kind, (116, top + 18), _GREY)
    cv2.line(page, (_LEFT, top + _ROW // 2), (_WIDTH - _RIGHT, top + _ROW // 2), _LINE, 1)
    for segment, strength in segments:
        first, last = _x(segment.start, seconds), _x(segment.end, seconds)
        paler = tuple(round(255 - (255 - value) * strength) for value in colour)
        cv2.rectangle(page, (first, top + 4), (last, top + _ROW - 4), paler, cv2.FILLED)


def _axis(page: Picture, top: int, seconds: float) -> None:
    cv2.line(page, (_LEFT, top), (_WIDTH - _RIGHT, top), _GREY, 1)
    for second in range(0, int(seconds) + 1, 2):
        cv2.line(page, (_x(second, seconds), top), (_x(second, seconds), top + 5), _GREY, 1)
        _write(page, f"{second} s", (_x(second, seconds) - 8, top + 22), _GREY)


def _x(second: float, seconds: float) -> int:
    return _LEFT + round((_WIDTH - _LEFT - _RIGHT) * second / seconds)


def _write(page: Picture, text: str, place: tuple[int, int], colour: Colour) -> None:
    arguments: dict[str, Any] = {"fontFace": cv2.FONT_HERSHEY_SIMPLEX, "fontScale": 0.5, "thickness": 1}
    cv2.putText(page, text, place, color=colour, lineType=cv2.LINE_AA, **arguments)


if __name__ == "__main__":
    main()
