"""Files without a rate, a duration, or a last packet: their last frame is shown, and lasts as long as the others."""

from dataclasses import replace
from fractions import Fraction

import av
import pytest

from tests.extractors.decoding.test_resample import INFO, frames, sample
from tests.support.videos import constant, number_in, numbered_image, write_video
from wtal.errors import VideoError
from wtal.extractors.decoding.probe import probe
from wtal.extractors.decoding.resample import Sampler
from wtal.extractors.readers import READERS, read

RATES = (Fraction(1, 5), Fraction(1, 2), Fraction(1), Fraction(2), Fraction(10), Fraction(25), Fraction(50))


def even(path, rate, count, codec, pixel_format="yuv420p", mux=None):
    """Write numbered frames at a constant rate."""
    with av.open(str(path), "w", options=mux or {}) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixel_format
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(numbered_image(number, 64, 48), format="rgb24")
            frame.pts, frame.time_base, frame.duration = number, 1 / rate, 1
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def hide(path, *keys):
    """Give keys of FLV's metadata other names."""
    content = path.read_bytes()
    for key in keys:
        assert key in content
        content = content.replace(key, key[:-1] + b"x")
    path.write_bytes(content)
    return path


UNTIMED = "carry no timestamp: they were placed after the previous frame"
BARE = {"flvflags": "no_metadata"}
KINDS = {
    "bare.flv": lambda path, *times: even(path, *times, "flv", mux=BARE),
    "no-rate.flv": lambda path, *times: hide(even(path, *times, "flv"), b"framerate"),
    "no-rate-no-end.flv": lambda path, *times: hide(even(path, *times, "flv"), b"framerate", b"duration"),
    "short.wmv": lambda path, *times: even(path, *times, "wmv2"),
    "h264.flv": lambda path, *times: even(path, *times, "libx264", mux=BARE),
    "stream.ts": lambda path, *times: even(path, *times, "libx264"),
    "raw.h264": lambda path, *times: even(path, *times, "libx264"),
    "live.webm": lambda path, *times: even(path, *times, "libvpx", mux={"live": "1"}),
    "small.gif": lambda path, *times: even(path, *times, "gif", "rgb8"),
    "plain.avi": lambda path, *times: even(path, *times, "mpeg4"),
}


def sampled(path, rate, reader="pyav"):
    """Numbers of the frames at a rate, the end in seconds, and the notes."""
    info = probe(path)
    sampler = Sampler(read(info, reader), info, Fraction(rate))
    numbers = [number_in(image) for image in sampler]
    return numbers, float(sampler._clock.end), sampler.summary(reader).notes


@pytest.mark.parametrize("count", [2, 3, 7, 30])
@pytest.mark.parametrize("rate", RATES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_the_last_frame_is_not_lost(tmp_path, kind, rate, count):
    if kind == "stream.ts":
        count += 5  # ffmpeg recognizes no shorter ones
    path = KINDS[kind](tmp_path / kind, rate, count)
    numbers, end, notes = sampled(path, rate)
    assert numbers == list(range(count))
    assert end == pytest.approx(float(count / rate), abs=0.003)
    assert notes == ((f"{count} frames {UNTIMED}",) if kind == "raw.h264" else ())


@pytest.mark.parametrize("keys", [(), (b"framerate", b"duration")])
def test_a_last_frame_that_ends_the_declared_duration_stays(tmp_path, keys):
    """The duration of such a file is the time of its last frame."""
    times, unit = [*constant(25, 6), Fraction(4)], Fraction(1, 1000)
    path = write_video(tmp_path / "still.flv", times, unit=unit, codec="flv", mux={} if keys else BARE)
    hide(path, *keys)
    assert float(probe(path).declared_end) == 4
    numbers, _, notes = sampled(path, 25)
    assert numbers[:101] == [*range(5), *[5] * 95, 6]
    assert notes == ()


def delay(path, frames, seconds):
    """Move the times of some frames of FLV, in the heads of its tags: type, 3 bytes of size, 4 of milliseconds, ..."""
    content, at, number = bytearray(path.read_bytes()), 13, 0
    while at < len(content):
        if content[at] == 9:
            if number in frames:
                late = int.from_bytes(content[at + 4 : at + 7]) + 1000 * seconds
                content[at + 4 : at + 7] = late.to_bytes(3)
            number += 1
        at += 15 + int.from_bytes(content[at + 1 : at + 4])
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("stray", [[119], [118, 119], [60], [50, 51, 52], [0]], ids=str)
def test_stray_frames_are_told_without_a_rate(tmp_path, stray):
    path = delay(KINDS["bare.flv"](tmp_path / "stray.flv", Fraction(25), 120), stray, 10)
    numbers, _, notes = sampled(path, 25)
    assert numbers == list(range(120))
    assert notes == (f"{len(stray)} timestamps are far from their neighbours: the frames were moved between them",)


def test_the_last_of_frames_at_any_times_lasts_as_long_as_their_mean():
    info = replace(INFO, rate=None, rate_guessed=True)
    numbers, summary = sample(frames([0, 1, Fraction(3, 2), 3], duration=0), fps=2, info=info)
    assert numbers == [0, 0, 1, 2, 2, 2, 3, 3]
    assert summary.frames == 8
    assert sample(frames([0], duration=0), info=info)[0] == [0]
    assert sample(frames([5, 5, 5], duration=0), info=info)[0] == [2]


def test_a_rate_that_is_the_tick_of_the_clock_is_none(tmp_path):
    info = probe(KINDS["bare.flv"](tmp_path / "two.flv", Fraction(10), 2))
    assert (info.rate, info.rate_guessed, info.declared_frame_duration) == (None, True, 0)
    info = probe(even(tmp_path / "two.mp4", Fraction(10), 2, "libx264"))
    assert (info.rate, info.rate_guessed, info.declared_frame_duration) == (10, False, Fraction(1, 10))


@pytest.mark.parametrize("reader", READERS.names())
@pytest.mark.parametrize("kind", ["bare.flv", "no-rate.flv", "short.wmv"])
def test_all_readers_agree(tmp_path, kind, reader):
    if reason := READERS.load(reader).why_not():
        pytest.skip(f"{reader}: {reason}")
    for rate, count in ((Fraction(10), 2), (Fraction(2), 7), (Fraction(1, 2), 7)):
        path = KINDS[kind](tmp_path / kind, rate, count)
        try:
            assert sampled(path, rate, reader)[:2] == sampled(path, rate)[:2]
        except VideoError as error:
            if "use --reader pyav" not in str(error):
                raise


def write_repeating(path, shown, repeated):
    """Write NUT at 25 frames per second that ends in empty packets; the last picture is shown again at each."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for number in range(shown):
            frame = av.VideoFrame.from_ndarray(numbered_image(number, 64, 48), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        for number in range(shown, shown + repeated):
            packet = av.Packet(b"")
            packet.stream, packet.time_base = stream, Fraction(1, 25)
            packet.pts = packet.dts = number
            packet.duration = 1
            container.mux(packet)
    return path


@pytest.mark.parametrize("repeated", [1, 5, 60])
def test_empty_packets_at_the_end_repeat_the_last_picture(tmp_path, repeated):
    path = write_repeating(tmp_path / "x.nut", 10, repeated)
    numbers, end, notes = sampled(path, 25)
    assert numbers == [*range(10), *[9] * repeated]
    assert end == pytest.approx((10 + repeated) / 25)
    assert notes == ()
    for reader in ("decord", "opencv", "torchcodec"):
        if READERS.load(reader).why_not() is None:
            with pytest.raises(VideoError, match="does not repeat the last picture for empty packets"):
                sampled(path, 25, reader)
