"""decord, read in sequence, for files that it handles correctly.

Its own timestamps are 32-bit floats, and it does not report edit lists and damage. Therefore the packets of the file
are read first, without decoding: their exact times are used, and if decord's table of frames disagrees with them, the
file is refused. So are files whose picture size may change midway (new parameter sets), and damaged files as a whole,
since the frames that decord recovers vary from run to run.
"""

import importlib.util
from collections.abc import Iterator
from typing import Any

import numpy as np

from wtal.errors import VideoError, require
from wtal.extractors.decoding.limits import MIXED_CODECS, require_within
from wtal.extractors.decoding.packets import PacketTimes, shown_times
from wtal.extractors.decoding.reader import TimedFrame, VideoInfo

_HANGS = ("mpegts",)


def version() -> str:
    """Return the version of decord.

    Raises:
        MissingExtra: when decord is not installed.
    """
    return str(_decord().__version__)


def why_not() -> str | None:
    """Return the reason if decord is not installed."""
    return None if importlib.util.find_spec("decord") else "it is not installed; run: pip install 'wtal[decord]'"


def frames(info: VideoInfo) -> Iterator[TimedFrame]:
    """Yield frames in shown order, native size.

    Raises:
        MissingExtra: when decord is not installed.
        VideoError: when decord cannot read the whole file, or its table of frames is not that of the packets.
    """
    decord = _decord()
    if info.rotation or info.mirrored or info.video_streams > 1:
        raise VideoError("decord supports neither rotated files nor several video streams: use --reader pyav")
    if kinds := {info.container, info.codec} & {*_HANGS, *MIXED_CODECS}:
        raise VideoError(f"decord is not reliable on {', '.join(sorted(kinds))}: use --reader pyav")
    require_within(info, "decord", wide_colours=True, odd_sides=False)
    times = shown_times(info, "decord")
    try:
        reader = decord.VideoReader(str(info.path))
        _require_agreement(reader, times)
        for time, duration in times:
            image = reader.next().asnumpy()
            if image.shape != (info.height, info.width, 3):
                raise VideoError("decord returns pictures of a wrong size for this file: use --reader pyav")
            yield TimedFrame(time, duration, image)
    except (decord.DECORDError, StopIteration) as error:
        raise VideoError("decord cannot decode this file: use --reader pyav") from error


def _decord() -> Any:
    decord = require("decord", "decord")
    decord.logging.set_level(decord.logging.QUIET)
    return decord


def _require_agreement(reader: Any, shown: PacketTimes) -> None:
    if len(reader) != len(shown):
        raise VideoError(f"decord sees {len(reader)} frames, but the file has {len(shown)}: use --reader pyav")
    times = np.array([float(time) for time, _ in shown])
    decoded = np.asarray(reader.get_frame_timestamp(np.arange(len(shown)))[:, 0], dtype=np.float64)
    if not np.allclose(decoded - decoded[0], times - times[0], rtol=1e-6, atol=2e-3):
        raise VideoError("decord's timestamps are not those of the file: use --reader pyav")
