"""The clock of extraction for other purposes: timestamps that jump or run backwards are repaired here too."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise

import av
import numpy as np
from av.video.frame import PictureType
from av.video.stream import VideoStream

from wtal.errors import VideoError
from wtal.extractors.decoding.clock import FrameClock
from wtal.extractors.decoding.probe import exact, opened
from wtal.extractors.decoding.reader import TimedFrame, VideoBroken, VideoInfo
from wtal.extractors.readers import READERS

_LEAP = Fraction(1)
"""Maximum seconds between consecutive packets that are certainly no jump for `FrameClock`."""
_PROOF = 16
"""Number of B-frames decoded in the order of their times that prove the order of all."""
_NOTHING = np.empty(0, np.uint8)


def clock_jumps(info: VideoInfo) -> bool:
    """Tell whether timestamps of a file jump or run backwards: seconds of pictures then differ from its own clock.

    A picture that merely stays is no jump. All frames are decoded if those of the packets, which may be in another
    order, seem to jump. AVI has no times of display, and those that ffmpeg derives are wrong for some B-frames: frames
    of an AVI are decoded until enough B-frames have shown their order. The answer is remembered until the file changes.

    Raises:
        VideoError: when the packets cannot be read, or one picture would stay for too long.
    """
    try:
        status = info.path.stat()
        return _jumps(info, status.st_size, status.st_mtime_ns)
    except (av.error.FFmpegError, OSError) as error:
        raise VideoError(f"the times of its frames cannot be read: {error.strerror}") from None


@lru_cache(maxsize=256)
def _jumps(info: VideoInfo, size: int, changed: int) -> bool:
    """Decide for a file of this size and time of the last change."""
    if info.container == "avi" and info.reordered and _swaps(info):
        return True
    if _largest_step(info) <= _LEAP:
        return False
    return _repairs(FrameClock(_packets(info), info)) and _repairs(frames_of(info))


def _swaps(info: VideoInfo) -> bool:
    """Return whether the presentation times of decoded frames run backwards; damage ends the search."""
    latest, proofs = None, 0
    with opened(info.path) as container, suppress(av.error.FFmpegError):
        stream = container.streams[info.stream]
        assert isinstance(stream, VideoStream)
        stream.thread_type = "AUTO"
        for frame in container.decode(stream):
            if frame.pts is None:
                continue
            if latest is not None and frame.pts < latest:
                return True
            latest = frame.pts
            proofs += frame.pict_type == PictureType.B
            if proofs > _PROOF:
                break
    return False


def _largest_step(info: VideoInfo) -> Fraction:
    """Return the seconds between the two most distant consecutive packets: a quick check, in ticks of the file."""
    with opened(info.path) as container:
        packets = (p for p in container.demux(container.streams[info.stream]) if p.size and not p.is_discard)
        stamps = [stamp for p in packets if (stamp := p.dts if p.pts is None else p.pts) is not None]
    return max((abs(after - before) for before, after in pairwise(stamps)), default=0) * info.time_base


def _repairs(clock: FrameClock) -> bool:
    for _ in clock:
        pass
    return bool(clock.strays or clock.jumps)


def frames_of(info: VideoInfo) -> FrameClock:
    """Return the frames of a file, to be iterated once; a file that breaks after some frames ends there."""
    return FrameClock(_until_broken(READERS.load("pyav").frames(info)), info)


def _until_broken(frames: Iterable[TimedFrame]) -> Iterator[TimedFrame]:
    """Yield frames up to the point where a file breaks."""
    try:
        yield from frames
    except VideoBroken:
        return


def _packets(info: VideoInfo) -> Iterator[TimedFrame]:
    """Yield the time and the duration of each shown packet, without its picture, in the order of the file."""
    with opened(info.path) as container:
        for packet in container.demux(container.streams[info.stream]):
            stamp, unit = packet.dts if packet.pts is None else packet.pts, exact(packet.time_base)
            if packet.size and not packet.is_discard and stamp is not None and unit is not None:
                yield TimedFrame(stamp * unit, (packet.duration or 0) * unit, _NOTHING)
