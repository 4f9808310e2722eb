"""A stream's packets, read without decoding: exact times to check readers without exact times against."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
from av.packet import Packet

from wtal.errors import VideoError
from wtal.extractors.decoding.probe import opened
from wtal.extractors.decoding.reader import VideoInfo

PacketTimes = list[tuple[Fraction, Fraction]]
"""Time and duration in seconds of each packet."""

# Codec -> byte of the header with the width of the lengths; mask, shift and value of a parameter set's type.
_UNIT_TYPES = {"h264": (4, 31, 0, 7), "hevc": (21, 63, 1, 33)}

_REORDERED = 17
"""Maximum frames by which decoding may precede display: the limit of H.264 and HEVC, plus the frame itself."""


def packet_times(info: VideoInfo, reader: str) -> PacketTimes:
    """Return times and durations of the stream's packets in the order of decoding; 0 for an undeclared duration.

    Raises:
        VideoError: when a packet has no time, brings new parameters or cannot be read, or the last ones are empty;
            naming the `reader`.
    """
    stamps: list[tuple[int, int]] = []
    repeated = False
    try:
        with opened(info.path) as container:
            for packet in container.demux(container.streams[info.stream]):
                repeated = not packet.size and (repeated or packet.pts is not None)
                if not packet.size or packet.is_discard:
                    continue
                if packet.pts is None:
                    raise VideoError(f"{reader} is not used on files without timestamps: use --reader pyav")
                if packet.is_keyframe and _renews_parameters(packet, info.codec):
                    raise VideoError(f"{reader} does not follow a change of the picture size: use --reader pyav")
                stamps.append((packet.pts, packet.duration or 0))
    except av.error.FFmpegError as error:
        raise VideoError(f"the packets of the file cannot be read: {error.strerror}") from None
    if repeated:
        raise VideoError(f"{reader} does not repeat the last picture for empty packets: use --reader pyav")
    nominal = info.declared_frame_duration
    return [(pts * info.time_base, duration * info.time_base or nominal) for pts, duration in stamps]


def shown_times(info: VideoInfo, reader: str) -> PacketTimes:
    """Return times and durations in seconds of the frames in shown order, from the packets alone.

    Raises:
        VideoError: as `packet_times`, and when the timestamps jump; naming the `reader`.
    """
    times = packet_times(info, reader)
    if not _is_in_order(times, info):
        raise VideoError(f"{reader} is not used on files whose timestamps jump: use --reader pyav")
    return sorted(times)


def _is_in_order(times: PacketTimes, info: VideoInfo) -> bool:
    """Return whether sorted times are those of the shown frames: none twice, none long before one decoded earlier."""
    behind = max(Fraction(1), _REORDERED * info.frame_duration)
    latest = times[0][0] if times else Fraction(0)
    for time, _ in times:
        if time < latest - behind:
            return False
        latest = max(latest, time)
    return len({time for time, _ in times}) == len(times)


def _renews_parameters(packet: "Packet[Any]", codec: str) -> bool:
    """Return whether an H.264 or HEVC packet contains a sequence parameter set that the stream's header lacks."""
    if codec not in _UNIT_TYPES:
        return False
    length_byte, mask, shift, parameter_set = _UNIT_TYPES[codec]
    header, data = packet.stream.codec_context.extradata or b"", bytes(packet)
    lengths = len(header) > length_byte and header[0] == 1
    units = _units(data, (header[length_byte] & 3) + 1) if lengths else data.split(b"\0\0\1")
    kinds = [unit.rstrip(b"\0") for unit in units if unit and (unit[0] >> shift & mask) == parameter_set]
    return any(unit not in header for unit in kinds)


def _units(data: bytes, width: int) -> Iterator[bytes]:
    """Yield units of a packet of mp4 or Matroska, each preceded by its length (ISO/IEC 14496-15, 5.3.2 and 8.3.2)."""
    at = 0
    while at + width < len(data):
        end = at + width + int.from_bytes(data[at : at + width])
        yield data[at + width : end]
        at = end
