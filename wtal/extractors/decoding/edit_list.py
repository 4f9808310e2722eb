"""The edit list of a track of an mp4 or mov file, which ffmpeg follows only in part: it joins parts, ignores speeds."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_AT_MOST = 1 << 16
"""Maximum bytes of a list to read."""
_BOXES = 4096
"""Maximum number of boxes of one level to read."""

_Box = tuple[bytes, int, int]


def joins_or_changes_speed(path: Path, track: int) -> bool:
    """Return whether the edit list of the track with that id has several parts, or one at a speed other than 1.

    Empty edits, which delay a track, do not count as parts. Damaged boxes end the search, with the result False.
    Source: ISO/IEC 14496-12, 8.6.6.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            for _, begin, end in _below(file, 0, size, b"moov"):
                for _, begin_of_track, end_of_track in _below(file, begin, end, b"trak"):
                    if _track_id(file, begin_of_track, end_of_track) == track:
                        return _is_odd(file, begin_of_track, end_of_track)
    except (OSError, struct.error):
        return False
    return False


def _below(file: BinaryIO, begin: int, end: int, wanted: bytes) -> Iterator[_Box]:
    """Yield the boxes of a kind between two positions: kind, begin and end of the content."""
    for _ in range(_BOXES):
        if begin + 8 > end:
            return
        file.seek(begin)
        size, kind = struct.unpack(">I4s", file.read(8))
        header = 8
        if size == 1:
            (size,), header = struct.unpack(">Q", file.read(8)), 16
        stop = end if size == 0 else begin + size
        if (size != 0 and size < header) or stop > end:
            return
        if kind == wanted:
            yield kind, begin + header, stop
        begin = stop


def _track_id(file: BinaryIO, begin: int, end: int) -> int | None:
    for _, at, _ in _below(file, begin, end, b"tkhd"):
        file.seek(at)
        version = file.read(1)[0:1]
        file.seek(at + (20 if version == b"\1" else 12))
        return int(struct.unpack(">I", file.read(4))[0])
    return None


def _is_odd(file: BinaryIO, begin: int, end: int) -> bool:
    for _, edits, end_of_edits in _below(file, begin, end, b"edts"):
        for _, at, stop in _below(file, edits, end_of_edits, b"elst"):
            file.seek(at)
            content = file.read(min(stop - at, _AT_MOST))
            version, count = content[0], struct.unpack(">I", content[4:8])[0]
            entry = struct.Struct(">QqI" if version == 1 else ">IiI")
            count = min(count, (len(content) - 8) // entry.size)
            parts = [entry.unpack_from(content, 8 + k * entry.size) for k in range(count)]
            speeds = [speed for _, media_time, speed in parts if media_time >= 0]
            return len(speeds) > 1 or any(speed != 1 << 16 for speed in speeds)
    return False
