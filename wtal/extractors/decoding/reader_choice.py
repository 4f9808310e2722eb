"""Choose the reader of a file: the rule behind `--reader auto`.

PyAV is the reference and right everywhere. decord is chosen only where it was measured to return the same frames and
timestamps, bit for bit, and to be at least about as fast. Everything that rules it out is listed in `_OBSTACLES`, each
with the observed behaviour.
"""

from collections.abc import Callable
from typing import Any

from wtal.extractors.decoding.reader import VideoInfo, load_reader
from wtal.extractors.readers import READERS

REFERENCE = "pyav"
_FAST = "decord"
_RULE = 1
_LEAST_PIXELS = 1920 * 1080
_CONTAINERS = frozenset({"mov", "mp4", "matroska"})
_CODECS = frozenset({"h264", "hevc"})
_PIXEL_FORMATS = frozenset({"yuv420p", "yuvj420p"})

_OBSTACLES: tuple[tuple[str, Callable[[VideoInfo], bool]], ...] = (
    # It hangs on MPEG-TS and duplicates frames of MPEG-PS.
    ("a container other than mp4, mov or matroska", lambda info: not _CONTAINERS & set(info.container.split(","))),
    # AV1 does not open, MPEG-4 yields wrong frames, and VP8 and VP9 may change their size from frame to frame.
    ("a codec other than H.264 or HEVC", lambda info: info.codec not in _CODECS),
    # Its colours differ for more than 8 bits and for subsampling other than 4:2:0.
    ("pixels other than 8 bit 4:2:0", lambda info: info.pixel_format not in _PIXEL_FORMATS),
    # Its colours differ along the border, and pictures narrower than a row of its buffer come out too wide.
    ("odd picture sides", lambda info: bool(info.width % 2 or info.height % 2)),
    # It converts the colours of fields as if they were a whole picture.
    ("interlaced video", lambda info: info.interlaced),
    ("rotation", lambda info: info.rotation != 0 or info.mirrored),
    # It shows frames hidden by an edit list.
    ("an edit list that hides frames", lambda info: info.edited),
    ("several video streams", lambda info: info.video_streams != 1),
    # Its timestamps then begin at 0 or elsewhere, depending on the container.
    ("a start that is not 0", lambda info: info.start != 0),
    # Truncated files have no duration or do not open.
    ("no declared duration", lambda info: not info.duration),
    ("pictures below 1920x1080, where it is no faster", lambda info: info.width * info.height < _LEAST_PIXELS),
)


def choose(info: VideoInfo, policy: str) -> tuple[str, str]:
    """Return the reader for a file, and the reason: the named one, or for `auto` the fastest reliable on the file.

    Raises:
        UsageError: when the reader `policy` is unknown.
        VideoError: when the named reader cannot be used on this machine.
    """
    if policy != "auto":
        load_reader(policy)
        return policy, "asked for"
    if obstacle := next((reason for reason, applies in _OBSTACLES if applies(info)), None):
        return REFERENCE, f"auto: the reference; not decord because of {obstacle}"
    if reason := _why_not_fast():
        return REFERENCE, f"auto: the reference; decord cannot be used: {reason}"
    return _FAST, "auto: measured right on files of this kind"


def reader_identity(policy: str) -> dict[str, Any]:
    """Return as JSON the requested reader or rule, and the versions of the readers that may decode under it.

    Raises:
        UsageError: when the reader `policy` is unknown.
        VideoError: when the named reader cannot be used on this machine.
    """
    if policy != "auto":
        return {"policy": policy, "versions": {policy: load_reader(policy).version()}}
    usable = [REFERENCE] if _why_not_fast() else [REFERENCE, _FAST]
    return {"policy": f"auto-{_RULE}", "versions": {name: load_reader(name).version() for name in usable}}


def _why_not_fast() -> str | None:
    return READERS.load(_FAST).why_not()
