"""Read a video's headers, or explain why the file is not a video."""

import math
import re
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.sidedata.sidedata import Type
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from wtal.data.regular import NOT_REGULAR, is_pipe
from wtal.errors import VideoError
from wtal.extractors.decoding.edit_list import joins_or_changes_speed
from wtal.extractors.decoding.reader import VideoInfo

# Only plain files may be opened, even by a file that refers to others (a playlist).
_OPTIONS = {"protocol_whitelist": "file"}
# Since version 19 such texts are no trouble anyway.
_TEXTS: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
_STILL_FORMATS = ("image2", "tty", "ico")
# ISO/IEC 23008-12 and the AVIF specification, for single pictures. Sequences of pictures are avis, hevc, msf1.
_STILL_BRANDS = frozenset({"avif", "heic", "heim", "heis", "heix", "j2ki", "jpeg", "mif1", "miaf"})
_DEFAULT_BONUS = 5_000_000
_CLOCK = re.compile(r"([0-9]{1,9}):([0-9]{1,9}):([0-9]{1,9}(?:\.[0-9]{1,12})?)")
_TICKS = 1000
_PROGRESSIVE = (0, 1)  # unknown, progressive
# ITU-T H.273: BT.709, unspecified, BT.470, BT.601, SMPTE 240; with their curves, gamma, linear, and those of BT.2020.
_PRIMARIES = frozenset({1, 2, 4, 5, 6, 7})
_CURVES = frozenset({1, 2, 4, 5, 6, 7, 8, 11, 14, 15})


def probe(path: Path) -> VideoInfo:
    """Read the headers of the video at `path`, for the stream that the ffmpeg command would choose.

    That is the one with most pixels, where a default mark counts as much as five million of them; cover pictures are
    not video. The orientation is that of the first frame's display matrix, to the nearest right angle.

    Raises:
        VideoError: with the reason, when the file is missing, empty, unreadable or contains no video.
    """
    path = path.absolute()
    _require_file(path)
    try:
        with opened(path) as container:
            return _describe(path, container)
    except av.error.FFmpegError as error:
        raise VideoError(f"not a video that ffmpeg can open: {error.strerror}") from None
    except OSError as error:
        raise VideoError(f"the file cannot be opened: {error.strerror}") from None


def opened(path: Path) -> InputContainer:
    """Open a file for its packets; titles and other texts in it that are not UTF-8 are ignored."""
    container: InputContainer = av.open(str(path), options=_OPTIONS, **_TEXTS)
    return container


def exact(number: Any) -> Fraction | None:
    """Return a rational number of PyAV as a fraction, None if it has none; PyAV 19 has a class of its own for them."""
    return Fraction(number.numerator, number.denominator) if number else None


def _require_file(path: Path) -> None:
    if not path.exists():
        raise VideoError("the file does not exist")
    if path.is_dir():
        raise VideoError("a folder, not a video file")
    if is_pipe(path):
        raise VideoError(NOT_REGULAR)
    if path.stat().st_size == 0:
        raise VideoError("the file is empty (0 bytes)")


def _describe(path: Path, container: InputContainer) -> VideoInfo:
    stream = _choose_stream(container)
    start = (stream.start_time or 0) * _time_base(stream)
    duration, is_whole_file = _declared_duration(container, stream, start)
    context = stream.codec_context
    rate, rate_guessed = _rate(stream)
    first = _first_frame(container, stream)
    rotation, mirrored = (0, False) if first is None else _orientation(first)
    return VideoInfo(
        path=path,
        container=container.format.name,
        codec=context.codec.canonical_name,
        pixel_format=context.pix_fmt or "unknown",
        width=context.width,
        height=context.height,
        time_base=_time_base(stream),
        rate=rate,
        start=start,
        duration=duration,
        duration_of_file=is_whole_file,
        frames=stream.frames or None,
        stream=stream.index,
        video_streams=len(_videos(container)),
        edited=any(entry.is_discard for entry in stream.index_entries),
        rotation=rotation,
        mirrored=mirrored,
        file_start=start if container.start_time is None else Fraction(container.start_time, av.time_base),
        reassembled=container.format.name.startswith("mov") and joins_or_changes_speed(path, stream.id),
        interlaced=context.field_order not in _PROGRESSIVE or (first is not None and first.interlaced_frame),
        wide_colours=first is not None and _wide_colours(first),
        reordered=context.has_b_frames,
        rate_guessed=rate_guessed,
    )


def _videos(container: InputContainer) -> list[VideoStream]:
    return [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]


def _choose_stream(container: InputContainer) -> VideoStream:
    videos = _videos(container)
    if not videos:
        kinds = sorted({stream.type for stream in container.streams if stream.type})
        pictures = " and a cover picture" if container.streams.video else ""
        raise VideoError(f"no video stream: the file holds {', '.join(set(kinds) - {'video'}) or 'nothing'}{pictures}")
    if (brand := container.metadata.get("major_brand", "").strip()) in _STILL_BRANDS:
        raise VideoError(f"a picture or text, not a video (format {brand})")
    if container.format.name in _STILL_FORMATS or container.format.name.endswith("_pipe"):
        raise VideoError(f"a picture or text, not a video (format {container.format.name})")
    decodable = [stream for stream in videos if stream.codec_context]
    if not decodable:
        raise VideoError("no decoder for its video stream: it is damaged, or this build of ffmpeg lacks its codec")
    return max(decodable, key=_preference)


def _preference(stream: VideoStream) -> int:
    context = stream.codec_context
    bonus = _DEFAULT_BONUS if stream.disposition & Disposition.default else 0
    return context.width * context.height + bonus


def _time_base(stream: VideoStream) -> Fraction:
    return exact(stream.time_base) or Fraction(1, av.time_base)


def _rate(stream: VideoStream) -> tuple[Fraction | None, bool]:
    """Return the average frame rate, None if it is unknown, and whether libav guessed it from the first few frames.

    In files that declare no rate (FLV without metadata, ASF), it guesses the number of ticks per second of a clock in
    milliseconds after two frames, and 1 for slower rates.
    """
    if average := exact(stream.average_rate):
        return average, False
    guessed = exact(stream.guessed_rate)
    return (None if guessed and guessed >= _TICKS and guessed * _time_base(stream) == 1 else guessed), True


def _declared_duration(container: InputContainer, stream: VideoStream, start: Fraction) -> tuple[Fraction | None, bool]:
    """Return the declared seconds of the stream, and whether only the whole file's end is known."""
    if stream.duration:
        return stream.duration * _time_base(stream), False
    if end := _clock_text(stream.metadata.get("DURATION", "")):
        return max(end - start, Fraction(0)), False
    if not container.duration:
        return None, False
    end = Fraction((container.start_time or 0) + container.duration, av.time_base)
    return max(end - start, Fraction(0)), True


def _clock_text(text: str) -> Fraction | None:
    """Parse `HH:MM:SS.fraction`, Matroska's notation for a stream's end, to seconds."""
    clock = _CLOCK.fullmatch(text.strip())
    if not clock:
        return None
    hours, minutes, seconds = map(Fraction, clock.groups())
    return 3600 * hours + 60 * minutes + seconds


def _first_frame(container: InputContainer, stream: VideoStream) -> VideoFrame | None:
    """Return the first frame that decodes; a file without any is detected by the reader."""
    try:
        return next(container.decode(stream), None)
    except av.error.FFmpegError:
        return None


def _orientation(frame: VideoFrame) -> tuple[int, bool]:
    """Return the degrees counter-clockwise to rotate by, to the nearest right angle, and whether to mirror first.

    The display matrix (a, b, u, c, d, v, ...) maps the stored pixel of column x and row y to a x + c y to the right and
    b x + d y down: it mirrors if a d < b c (ISO/IEC 14496-12, 6.2.2).
    """
    matrix = frame.side_data.get(Type.DISPLAYMATRIX)  # type: ignore[call-overload] # its stub has other keys
    if matrix is not None:
        a, b, _, c, d, *_ = struct.unpack("=9i", bytes(matrix))
        if a * d < b * c:
            return round(math.degrees(math.atan2(b, -a)) / 90) * 90 % 360, True
    return round(frame.rotation / 90) * 90 % 360, False


def _wide_colours(frame: VideoFrame) -> bool:
    return frame.color_primaries not in _PRIMARIES or frame.color_trc not in _CURVES
