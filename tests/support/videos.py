"""Videos for tests whose frames show their own number."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition

COLUMNS, ROWS = 4, 3


def numbered_image(number: int, width: int, height: int) -> np.ndarray:
    """Picture (H, W, 3) of 4 x 3 black or white blocks: the bits of `number`, lowest first."""
    rows, columns = np.arange(height) * ROWS // height, np.arange(width) * COLUMNS // width
    bit = rows[:, None] * COLUMNS + columns[None, :]
    return np.repeat(((number >> bit & 1) * 255).astype(np.uint8)[..., None], 3, axis=2)


def number_in(image: np.ndarray) -> int:
    """Read the number drawn by `numbered_image`, after compression and scaling."""
    height, width = image.shape[:2]
    number = 0
    for bit in range(ROWS * COLUMNS):
        y, x = (2 * (bit // COLUMNS) + 1) * height // (2 * ROWS), (2 * (bit % COLUMNS) + 1) * width // (2 * COLUMNS)
        number |= int(image[y - 2 : y + 3, x - 2 : x + 3].mean() > 127) << bit
    return number


def write_video(
    path: Path,
    times: Sequence[Fraction],
    *,
    size: tuple[int, int] = (64, 48),
    unit: Fraction = Fraction(1, 12000),
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    pixel_format: str = "yuv420p",
    rotation: int = 0,
    mux: dict[str, str] | None = None,
    first_number: int = 0,
) -> Path:
    """Write frame k at `times[k]` seconds (multiples of `unit`) with the number first_number + k drawn into it."""
    with av.open(str(path), "w", options=mux or {}) as container:
        _encode(
            container, _add_stream(container, codec, size, unit, options, pixel_format, rotation), times, first_number
        )
    return path


def constant(rate: Fraction | int, count: int, start: Fraction | int = 0) -> list[Fraction]:
    """Times of `count` frames at a constant `rate`."""
    return [start + k / Fraction(rate) for k in range(count)]


def write_two_streams(path: Path, times: Sequence[Fraction], small: tuple[int, int], large: tuple[int, int]) -> Path:
    """Write a file with two video streams: the numbers begin at 1000 in the first, smaller one, at 0 in the second."""
    unit = Fraction(1, 12000)
    with av.open(str(path), "w") as container:
        streams = [_add_stream(container, "libx264", size, unit, None, "yuv420p", 0) for size in (small, large)]
        streams[1].disposition = Disposition.default
        for stream, first in zip(streams, (1000, 0), strict=True):
            _encode(container, stream, times, first)
    return path


def write_changing_size(path: Path, first: tuple[int, int], second: tuple[int, int], count: int) -> Path:
    """Write H.264 at 25 frames per second whose picture size changes after `count` of 2 * `count` frames."""
    with av.open(str(path), "w") as container:
        stream = _add_stream(container, "libx264", first, Fraction(1, 12000), {"bf": "0"}, "yuv420p", 0)
        _encode(container, stream, constant(25, count), 0)
        context = av.CodecContext.create("libx264", "w")
        context.width, context.height = second
        context.pix_fmt, context.time_base, context.options = "yuv420p", Fraction(1, 12000), {"bf": "0"}
        for k in range(count, 2 * count):
            frame = av.VideoFrame.from_ndarray(numbered_image(k, *second), format="rgb24")
            frame.pts, frame.time_base, frame.duration = k * 480, Fraction(1, 12000), 480
            _mux_into(container, stream, context.encode(frame))
        _mux_into(container, stream, context.encode(None))
    return path


def _mux_into(container, stream, packets) -> None:
    for packet in packets:
        packet.stream = stream
        container.mux(packet)


def _add_stream(container, codec, size, unit, options, pixel_format, rotation):
    stream = container.add_stream(codec, rate=25, options=options or {})
    stream.width, stream.height = size
    stream.pix_fmt = pixel_format
    stream.codec_context.time_base = unit
    if rotation:
        stream.set_display_rotation(rotation)
    return stream


def _encode(container, stream, times, first_number) -> None:
    unit = stream.codec_context.time_base
    ends = [*times[1:], times[-1] + (times[-1] - times[-2] if len(times) > 1 else Fraction(1, 25))]
    for k, (time, end) in enumerate(zip(times, ends, strict=True)):
        frame = av.VideoFrame.from_ndarray(
            numbered_image(first_number + k, stream.width, stream.height), format="rgb24"
        )
        frame.pts, frame.time_base, frame.duration = round(time / unit), unit, round((end - time) / unit)
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def chunks(frames, sizes):
    """Yield the frames in chunks of the given sizes, in turn."""
    start, turn = 0, 0
    while start < len(frames):
        size = sizes[turn % len(sizes)]
        yield frames[start : start + size]
        start, turn = start + size, turn + 1


def restamp(source: Path, target: Path, shifts: dict[int, Fraction | int]) -> Path:
    """Copy a video, packet by packet, with the times of some frames (counted as shown) moved by seconds."""
    with av.open(str(source)) as read, av.open(str(target), "w") as written:
        stream = written.add_stream_from_template(read.streams.video[0])
        packets = [packet for packet in read.demux(read.streams.video[0]) if packet.size]
        number = {pts: k for k, pts in enumerate(sorted(packet.pts for packet in packets))}
        for packet in packets:
            packet.pts += round(shifts.get(number[packet.pts], 0) / packet.time_base)
            packet.stream = stream
            written.mux(packet)
    return target


def write_with_sound(path, video_start, seconds=2):
    """Write a video at 25 frames per second that begins at `video_start`, with sound from 0."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"bf": "0"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        sound = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000 * seconds), np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts = 8000, 0
        container.mux(sound.encode(frame))
        for number in range(25 * seconds):
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 5 * number, np.uint8), format="rgb24")
            picture.pts = round((video_start + number / 25) * 1000)
            picture.time_base, picture.duration = Fraction(1, 1000), 40
            container.mux(video.encode(picture))
        container.mux(video.encode())
        container.mux(sound.encode())
    return path
