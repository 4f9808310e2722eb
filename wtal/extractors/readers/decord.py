"""decord, read in sequence: a fast path for the files that it is right on (`decoding/reader_choice.py` says which).

Its own timestamps are 32-bit floats, and of edit lists and damage it tells nothing. So the packets of the file are
read first, without decoding: their exact times are the frames' times, and where decord's table of frames disagrees
with them the file is refused. So is one whose picture size may change within (it carries new parameter sets on the
way), and a damaged one as a whole, since how far decord gets on it changes from run to run.
"""

import importlib.util
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.packet import Packet

from wtal.errors import VideoError, require
from wtal.extractors.decoding.probe import OPTIONS
from wtal.extractors.decoding.reader import TimedFrame, VideoInfo

# Codec -> byte of the header with the width of the lengths; mask, shift and value of a parameter set's type.
_UNIT_TYPES = {"h264": (4, 31, 0, 7), "hevc": (21, 63, 1, 33)}

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
        raise VideoError("decord cannot decode this file: use --reader pyav") from error


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
                if packet.is_keyframe and _renews_parameters(packet, info.codec):
                    raise VideoError("decord does not follow a change of the picture size: use --reader pyav")
                stamps.append((packet.pts, packet.duration or 0))
    except av.error.FFmpegError as error:
        raise VideoError(f"the packets of the file cannot be read: {error.strerror}") from None
    nominal = info.frame_duration
    return [(pts * info.time_base, duration * info.time_base or nominal) for pts, duration in sorted(stamps)]


def _renews_parameters(packet: "Packet[Any]", codec: str) -> bool:
    """Return whether an H.264 or HEVC packet brings a sequence parameter set that the stream's header lacks.

    In mp4 and Matroska a packet is a row of units, each behind its length (ISO/IEC 14496-15, 5.3.2 and 8.3.2).
    """
    header = packet.stream.codec_context.extradata or b""
    if codec not in _UNIT_TYPES or len(header) < 23 or header[0] != 1:
        return codec in _UNIT_TYPES
    length_byte, mask, shift, parameter_set = _UNIT_TYPES[codec]
    width = (header[length_byte] & 3) + 1
    data, at = bytes(packet), 0
    while at + width < len(data):
        end = at + width + int.from_bytes(data[at : at + width])
        unit = data[at + width : end]
        if unit and (unit[0] >> shift & mask) == parameter_set and unit not in header:
            return True
        at = end
    return False


def _require_agreement(reader: Any, shown: _Shown) -> None:
    if len(reader) != len(shown):
        raise VideoError(f"decord sees {len(reader)} frames, the file has {len(shown)}: use --reader pyav")
    times = np.array([float(time) for time, _ in shown])
    decoded = np.asarray(reader.get_frame_timestamp(np.arange(len(shown)))[:, 0], dtype=np.float64)
    if not np.allclose(decoded - decoded[0], times - times[0], rtol=1e-6, atol=2e-3):
        raise VideoError("decord's timestamps are not those of the file: use --reader pyav")
