"""decord, read in sequence: a fast path for the files that it is right on (`choose.py` says which).

Its own timestamps are 32-bit floats, and of edit lists and damage it tells nothing. So the packets of the file are
read first, without decoding: their exact times are the frames' times, and where decord's table of frames disagrees
with them the file is refused. A damaged file is refused as a whole, since how far decord gets on it changes from run to run.
"""

import importlib.util
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np

from wtal.errors import VideoError, require
from wtal.extractors.probe import OPTIONS
from wtal.extractors.video import TimedFrame, VideoInfo

_Shown = list[tuple[Fraction, Fraction]]


def version() -> str:
    """Version of decord.

    Raises:
        MissingExtra: when decord is not installed.
    """
    return str(_decord().__version__)


def why_not() -> str | None:
    """The reason, where decord is not installed."""
    return None if importlib.util.find_spec("decord") else "it is not installed; run: pip install 'wtal[decord]'"


def frames(info: VideoInfo) -> Iterator[TimedFrame]:
    """Frames in shown order, native size.

    Raises:
        MissingExtra: when decord is not installed.
        VideoError: when decord cannot read the whole file, or its table of frames is not that of the packets.
    """
    decord = _decord()
    if info.rotation or info.video_streams > 1:
        raise VideoError("decord takes neither rotated files nor several video streams: use --reader pyav")
    shown = _packet_times(info)
    try:
        reader = decord.VideoReader(str(info.path))
        _require_agreement(reader, shown)
        for time, duration in shown:
            image = reader.next().asnumpy()
            if image.shape != (info.height, info.width, 3):
                raise VideoError("decord gives pictures of a wrong size for this file: use --reader pyav")
            yield TimedFrame(time, duration, image)
    except (decord.DECORDError, StopIteration) as error:
        raise VideoError(f"decord cannot decode the file ({_short(error)}): use --reader pyav") from None


def _decord() -> Any:
    decord = require("decord", "decord")
    decord.logging.set_level(decord.logging.QUIET)
    return decord


def _packet_times(info: VideoInfo) -> _Shown:
    """Times and durations in seconds of the stream's frames, in shown order, from its packets alone.

    Raises:
        VideoError: when a packet has no time or cannot be read.
    """
    stamps: list[tuple[int, int]] = []
    try:
        with av.open(str(info.path), options=OPTIONS) as container:
            for packet in container.demux(container.streams[info.stream]):
                if not packet.size or packet.is_discard:
                    continue
                if packet.pts is None:
                    raise VideoError("decord is not used on files without timestamps: use --reader pyav")
                stamps.append((packet.pts, packet.duration or 0))
    except av.error.FFmpegError as error:
        raise VideoError(f"the packets of the file cannot be read: {error.strerror}") from None
    nominal = info.frame_duration
    return [(pts * info.time_base, duration * info.time_base or nominal) for pts, duration in sorted(stamps)]


def _require_agreement(reader: Any, shown: _Shown) -> None:
    if len(reader) != len(shown):
        raise VideoError(f"decord sees {len(reader)} frames, the file has {len(shown)}: use --reader pyav")
    times = np.array([float(time) for time, _ in shown])
    found = np.asarray(reader.get_frame_timestamp(np.arange(len(shown)))[:, 0], dtype=np.float64)
    if not np.allclose(found - found[0], times - times[0], rtol=1e-6, atol=2e-3):
        raise VideoError("decord's timestamps are not those of the file: use --reader pyav")


def _short(error: Exception) -> str:
    """The last part of a message of decord's, which begins with places in its source code."""
    lines = str(error).strip().splitlines()
    return lines[0].rpartition(": ")[2].strip() if lines else type(error).__name__
