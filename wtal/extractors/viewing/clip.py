"""Clips of a video with sound: packets unchanged from the preceding keyframe, or re-encoded with exact borders."""

from collections.abc import Iterator
from fractions import Fraction
from heapq import merge
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import av
from av.audio.frame import AudioFrame
from av.codec.codec import UnknownCodecError
from av.container import OutputContainer
from av.video.frame import VideoFrame

from wtal.data.files import is_full
from wtal.errors import VideoError
from wtal.extractors.decoding.probe import opened
from wtal.extractors.decoding.reader import VideoInfo
from wtal.extractors.viewing.proxy import REPEATABLE, has_h264
from wtal.extractors.viewing.stretch import SOUND_RATE, Stretch, opened_before, pictures, sounds

UNIT = Fraction(1, 90000)
_PICTURES_OF_MP4 = ("h264", "hevc", "av1", "vp9", "mpeg4", "mpeg2video", "mpeg1video")
_SOUNDS_OF_MP4 = ("aac", "mp3", "mp2", "ac3", "eac3", "alac", "opus", "flac")
_PICTURE_BITS, SOUND_BITS = 0.2, 128_000
"""Bits per pixel and frame, for estimating sizes, and per second of sound."""
_FORMATS = {".mp4": "mp4", ".mkv": "matroska", ".webm": "webm"}
_BEHIND = 5
"""Seconds of picture after a part at which the search for its sound ends."""
Timed = tuple[Fraction, int, Fraction, VideoFrame | AudioFrame]
"""Start of a picture (kind 0) or of sound (kind 1), the kind, and the end of a picture."""


def copy_suffix(info: VideoInfo) -> str:
    """Return the extension for copies of a video: `.mp4` if that supports its codecs, else `.mkv`."""
    with opened(info.path) as container:
        sound = container.streams.best("audio", related=container.streams[info.stream])
        held = sound is None or sound.codec_context.codec.canonical_name in _SOUNDS_OF_MP4
    return ".mp4" if held and info.codec in _PICTURES_OF_MP4 else ".mkv"


def encoded_suffix() -> str:
    """Return the extension of encoded clips."""
    return ".mp4" if has_h264() else ".webm"


def copied_bytes(info: VideoInfo, part: Stretch) -> int:
    """Estimate the size of a copy in bytes, from the bit rate of the file."""
    size = info.path.stat().st_size
    begin = part.start if part.keyframe is None else part.keyframe
    return int(min(1.0, float((part.end - begin) / info.duration) if info.duration else 1.0) * size) + 4096


def encoded_bytes(size: tuple[int, int], rate: Fraction, seconds: float) -> int:
    """Estimate the size of an encoded clip in bytes."""
    return int(seconds * (size[0] * size[1] * float(rate) * _PICTURE_BITS + SOUND_BITS) / 8) + 4096


def copy_clip(info: VideoInfo, part: Stretch, file: BinaryIO, suffix: str, mark: str) -> None:
    """Write a part unchanged, from its keyframe on; `mark` becomes the comment of the file.

    Raises:
        VideoError: when it cannot be copied.
        OSError: when there is no space for it.
    """
    if part.first is not None:
        raise VideoError("it cannot be copied, its timestamps jump or run backwards: cut it with --reencode")
    if part.keyframe is None:
        raise VideoError("it cannot be copied, no preceding keyframe has a time: cut it with --reencode")
    try:
        with writing(file, suffix, mark) as out:
            _copy(info, part, part.keyframe, out)
    except (av.error.FFmpegError, ValueError) as error:
        if is_full(error):
            raise
        raise VideoError(f"no clip could be copied: {reason_of(error)}") from None


def _copy(info: VideoInfo, part: Stretch, keyframe: Fraction, out: OutputContainer) -> None:
    with opened_before(info, part) as (container, picture, sound):
        streams = [stream for stream in (picture, sound) if stream is not None]
        targets = {stream.index: _target(out, stream, info) for stream in streams}
        count, heard = 0, sound is None
        for packet in container.demux(*streams):
            if not packet.size or packet.pts is None:
                continue
            lag = part.lag if packet.stream.index == info.stream else 0
            time = packet.pts * packet.time_base - lag
            if packet.stream.index == info.stream:
                if count >= part.packets:
                    heard |= time > part.end + _BEHIND
                elif count or (time == keyframe and packet.is_keyframe):
                    count += 1
                    # Pictures before the keyframe depend on missing ones.
                    if time >= keyframe:
                        _mux(packet, targets, out, keyframe + lag)
            elif time >= part.end + (packet.duration or 0) * packet.time_base:
                heard = True  # a packet more than the part has: some muxers take the encoder's delay off the front
            elif time >= keyframe:
                _mux(packet, targets, out, keyframe)
            if heard and count >= part.packets:
                break
    if count < part.packets:
        raise VideoError(f"no clip could be copied: {part.packets - count} pictures are missing where it was read")


def _target(out: OutputContainer, stream: Any, info: VideoInfo) -> Any:
    try:
        return out.add_stream_from_template(stream)
    except UnknownCodecError:  # a decoder without an encoder of the same name: dav1d
        context = stream.codec_context
        name, size = context.codec.canonical_name, {"width": context.width, "height": context.height}
        target: Any = out.add_mux_stream(name, rate=stream.average_rate, **size)
        if info.rotation or info.mirrored:
            target.set_display_rotation(info.rotation, hflip=info.mirrored)
        return target


def _mux(packet: Any, targets: dict[int, Any], out: OutputContainer, zero: Fraction) -> None:
    shift = round(zero / packet.time_base)
    packet.pts -= shift
    packet.dts = None if packet.dts is None else packet.dts - shift
    packet.stream = targets[packet.stream.index]
    out.mux(packet)


def encode_clip(info: VideoInfo, part: Stretch, file: BinaryIO, suffix: str, mark: str) -> None:
    """Encode a part, from its start to its end; `mark` becomes the comment of the file.

    Raises:
        VideoError: when nothing in it decodes, or the encoder refuses it.
        OSError: when there is no space for it.
    """
    try:
        frames = pictures(info, part)
        first = next(frames, None)
        if first is None:
            raise VideoError("no picture of the clip could be decoded")
        with writing(file, suffix, mark) as out:
            size = (first[2].width + first[2].width % 2, first[2].height + first[2].height % 2)
            stream = add_picture(out, size, info.rate or Fraction(25))
            _look_alike(stream, first[2], info)
            timed: Iterator[Timed] = ((start, 0, end, _even(frame, size)) for start, end, frame in frames)
            heard: Iterator[Timed] | None = None
            if has_sound(info):
                heard = ((start, 1, start, frame) for start, frame in sounds(info, part))
            opening: Timed = (first[0], 0, first[1], _even(first[2], size))
            write_streams(out, stream, chain([opening], timed), heard)
    except (av.error.FFmpegError, ValueError) as error:
        if is_full(error):
            raise
        raise VideoError(f"no clip could be encoded: {reason_of(error)}") from None


def add_picture(out: OutputContainer, size: tuple[int, int], rate: Fraction) -> Any:
    """Add a stream for pictures (width, height), good enough for editing."""
    h264 = has_h264()
    options = {"crf": "18", "preset": "veryfast"} if h264 else {"crf": "24", "b": "0", "deadline": "realtime"}
    rate = min(rate, Fraction(120)).limit_denominator(1001)
    stream: Any = out.add_stream("libx264" if h264 else "libvpx-vp9", rate=rate, options=options)
    stream.width, stream.height = size
    stream.pix_fmt = "yuv420p"
    stream.codec_context.time_base = UNIT
    stream.codec_context.gop_size = max(1, round(rate))
    return stream


def write_streams(
    out: OutputContainer, picture: Any, pictures: Iterator[Timed], sounds: Iterator[Timed] | None
) -> None:
    """Encode pictures and sound in the order of time, each picture for the time that it is shown."""
    sound: Any = None
    if sounds is not None:
        sound = out.add_stream("aac" if has_h264() else "libopus", rate=SOUND_RATE, layout="stereo")
        sound.bit_rate = SOUND_BITS
    lengths: dict[int, int] = {}
    for start, kind, end, frame in merge(pictures, sounds or (), key=lambda timed: timed[:2]):
        if kind:
            out.mux(sound.encode(frame))
            continue
        pts = round(start / UNIT)
        if lengths and pts <= max(lengths):
            continue
        frame.pts, frame.time_base, lengths[pts] = pts, UNIT, max(1, round(end / UNIT) - pts)
        _mux_pictures(out, picture, picture.encode(frame), lengths)
    _mux_pictures(out, picture, picture.encode(), lengths)
    if sound:
        out.mux(sound.encode())


def _mux_pictures(out: OutputContainer, picture: Any, packets: Any, lengths: dict[int, int]) -> None:
    for packet in packets:
        packet.duration = round(lengths[packet.pts] * UNIT / packet.time_base)
        out.mux(packet)


def _look_alike(stream: Any, frame: VideoFrame, info: VideoInfo) -> None:
    """Give a stream the display properties of its source frames: rotation, pixel aspect and colours."""
    context = stream.codec_context
    with opened(info.path) as container:
        source: Any = container.streams[info.stream]
        shape, colours = source.codec_context.sample_aspect_ratio, source.codec_context
        if shape:
            context.sample_aspect_ratio = shape
        for name in ("color_primaries", "color_trc", "colorspace", "color_range"):
            setattr(context, name, getattr(colours, name))
    if info.rotation or info.mirrored:
        stream.set_display_rotation(info.rotation, hflip=info.mirrored)


def _even(frame: VideoFrame, size: tuple[int, int]) -> VideoFrame:
    """Convert a picture to the pixel format of the encoder, with its own colours."""
    if (frame.width, frame.height, frame.format.name) != (*size, "yuv420p"):
        frame = frame.reformat(*size, format="yuv420p")
    frame.pict_type = 0
    return frame


def has_sound(info: VideoInfo) -> bool:
    """Return whether a video has any sound."""
    with opened(info.path) as container:
        return bool(container.streams.audio)


def writing(file: BinaryIO, suffix: str, mark: str) -> OutputContainer:
    """Open a file for writing a clip; `mark` becomes its comment."""
    out = av.open(file, "w", format=_FORMATS[suffix], options=REPEATABLE)
    out.metadata["comment"] = mark
    return out


def reason_of(error: Exception) -> str:
    """Return the message of ffmpeg or PyAV for an error."""
    return getattr(error, "strerror", None) or str(error)


def mark_of(path: Path) -> str | None:
    """Return the comment of a clip, None if the file is not one or is truncated."""
    try:
        with opened(path) as container:
            mark = next((text for key, text in container.metadata.items() if key.lower() == "comment"), None)
            if path.suffix == ".mp4":  # whose index comes last
                return mark
            end = max((float(p.pts * p.time_base) for p in container.demux(video=0) if p.size and p.pts), default=0.0)
    except (av.error.FFmpegError, OSError):
        return None
    return mark if mark and end >= last_of(mark) - 0.01 else None


def last_of(mark: str) -> float:
    """Return the second of the last picture recorded in a mark."""
    return float(mark.rpartition(" ")[2])
