"""Small copies of videos for browsers: H.264 with AAC, or VP9 with Opus where this ffmpeg has no H.264 encoder.

A copy shows each picture at the same player time as the file itself. If the picture begins late, its first frame is
shown from second 0 on.
"""

from collections.abc import Iterator
from fractions import Fraction
from heapq import merge
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.audio.frame import AudioFrame
from av.container import OutputContainer
from av.video.frame import VideoFrame

from wtal.data.files import atomic_path, room_for
from wtal.data.store.writer import file_fingerprint
from wtal.errors import VideoError
from wtal.extractors.decoding.player_clock import first_picture
from wtal.extractors.decoding.probe import opened, probe
from wtal.extractors.decoding.reader import VideoInfo, image_of
from wtal.extractors.decoding.repaired import frames_of
from wtal.extractors.viewing.pictures import fitted_size

_SIDE = 854
_UNIT = Fraction(1, 90000)
_SCHEME = "2"
"""Part of a copy's name, to be raised when copies change."""
_PICTURE_BITS, _SOUND_BITS = 0.06, 64_000
"""Bits per pixel and frame, for estimating sizes, and per second of sound."""
REPEATABLE = {"fflags": "+bitexact"}
"""Options for equal bytes from equal input: without them, Matroska and WebM have random identifiers."""
_Timed = tuple[Fraction, int, VideoFrame | AudioFrame]


def proxy_name(path: Path) -> str:
    """Return the file name of a video's copy, by its content."""
    return f"{file_fingerprint(path)}-{_SCHEME}{'.mp4' if has_h264() else '.webm'}"


def estimated_bytes(info: VideoInfo, seconds: float) -> int:
    """Estimate the size of a copy in bytes."""
    width, height = fitted_size(info, _SIDE)
    return int(seconds * (width * height / float(info.frame_duration) * _PICTURE_BITS + _SOUND_BITS) / 8)


def write_proxy(path: Path, target: Path) -> None:
    """Encode a video for browsers, whole or not at all.

    Raises:
        VideoError: when it cannot be decoded or encoded.
        DiskFullError: when there is no space for it.
    """
    info = probe(path)
    try:
        with (
            room_for(target),
            atomic_path(target) as temporary,
            av.open(str(temporary), "w", format=target.suffix[1:], options=_mux_options(target)) as out,
        ):
            _encode(info, out, *first_picture(info))
    except av.error.FFmpegError as error:
        raise VideoError(f"no copy for browsers could be made: {error.strerror}") from None


def has_h264() -> bool:
    """Return whether this ffmpeg encodes H.264."""
    return "libx264" in av.codecs_available


def _mux_options(target: Path) -> dict[str, str]:
    return {**REPEATABLE, "movflags": "+faststart"} if target.suffix == ".mp4" else REPEATABLE


def _encode(info: VideoInfo, out: OutputContainer, first: Fraction, start: Fraction) -> None:
    h264 = has_h264()
    width, height = fitted_size(info, _SIDE)
    rate = min(info.rate or Fraction(25), Fraction(60)).limit_denominator(1001)
    options = (
        {"crf": "27", "preset": "veryfast"}
        if h264
        else {"crf": "36", "b": "0", "deadline": "realtime", "cpu-used": "6"}
    )
    picture: Any = out.add_stream("libx264" if h264 else "libvpx-vp9", rate=rate, options=options)
    picture.width, picture.height, picture.pix_fmt = width, height, "yuv420p"
    picture.codec_context.time_base = _UNIT
    picture.codec_context.gop_size = max(1, round(rate))
    sounds = _sounds(info, first - start)
    heard = next(sounds, None)
    sound: Any = None
    if heard is not None:
        sound = out.add_stream("aac" if h264 else "libopus", rate=48000, layout="mono")
        sound.bit_rate = _SOUND_BITS
    streams = [_pictures(info, start), _chained(heard, sounds)]
    for _, kind, frame in merge(*streams, key=lambda timed: timed[:2]):
        out.mux((picture if kind == 0 else sound).encode(frame))
    for stream in filter(None, (picture, sound)):
        out.mux(stream.encode())


def _chained(first: _Timed | None, rest: Iterator[_Timed]) -> Iterator[_Timed]:
    if first is not None:
        yield first
        yield from rest


def _pictures(info: VideoInfo, start: Fraction) -> Iterator[_Timed]:
    """Yield small pictures at seconds of a player, from `start` on; the first one also at 0."""
    size, last = fitted_size(info, _SIDE), -1
    for second, picture in frames_of(info):
        image = np.asarray(cv2.resize(image_of(picture), size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        stamp = round((start + second) / _UNIT)
        for pts in (0, stamp) if last < 0 < stamp else (max(stamp, 0),):
            if pts > last:
                frame = VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base, last = pts, _UNIT, pts
                yield pts * _UNIT, 0, frame


def _sounds(info: VideoInfo, zero: Fraction) -> Iterator[_Timed]:
    """Yield pieces of the first sound track at seconds of a player; none if there is no decodable one."""
    with opened(info.path) as container:
        if not container.streams.audio:
            return
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=48000)
        position: int | None = None
        try:
            for frame in container.decode(audio=0):
                if position is None:
                    time = Fraction(frame.pts or 0) * (frame.time_base or Fraction(1, 48000))
                    position = max(0, round((time - zero) * 48000))
                for piece in resampler.resample(frame):
                    piece.pts, piece.time_base = position, Fraction(1, 48000)
                    yield Fraction(position, 48000), 1, piece
                    position += piece.samples
        except (av.error.FFmpegError, ValueError):
            return
