"""Each reader with each odd file: the frames of the reference, or a refusal that names the reader."""

import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.support.reference import SHARED, needs_shared
from tests.support.videos import constant, number_in, numbered_image, restamp, write_changing_size, write_video
from wtal.errors import VideoError
from wtal.extractors.decoding.probe import probe
from wtal.extractors.decoding.reader import VideoBroken
from wtal.extractors.readers import READERS, read

INTERLACED = {"flags": "+ildct+ilme", "x264-params": "interlaced=1:log=-1"}
COUNT = 30


@pytest.fixture(params=[name for name in READERS.names() if name != "pyav"])
def reader(request):
    if reason := READERS.load(request.param).why_not():
        pytest.skip(f"{request.param}: {reason}")
    return request.param


def write(path: Path, options=None, pixel_format="yuv420p", codec="libx264", size=(64, 48), rate=25, colours=None):
    """Write a numbered video whose colours are tagged with (primaries, curve, matrix)."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height, stream.pix_fmt = *size, pixel_format
        if colours:
            context = stream.codec_context
            context.color_primaries, context.color_trc, context.colorspace = colours
        for k in range(COUNT):
            image = numbered_image(k, *size)
            image[..., 1] //= 2  # colours, that their conversion shows
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def stills(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for k in range(COUNT):
            frame = av.VideoFrame.from_ndarray(numbered_image(k // 10, 64, 48), format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def interlaced_later(path: Path) -> Path:
    """Write MPEG-2 with interlaced frames from the middle on; the header describes only the first ones."""
    parts = [
        write(path.with_name(f"{number}.mpg"), options, codec="mpeg2video")
        for number, options in enumerate(({}, {"flags": "+ildct+ilme"}))
    ]
    with av.open(str(path), "w") as written:
        stream = None
        for number, part in enumerate(parts):
            with av.open(str(part)) as container:
                stream = stream or written.add_stream_from_template(container.streams.video[0])
                for k, packet in enumerate(p for p in container.demux(video=0) if p.size):
                    packet.pts = packet.dts = (number * COUNT + k) * 3600
                    packet.time_base, packet.stream = Fraction(1, 90000), stream
                    written.mux(packet)
    return path


def one_time(path: Path) -> Path:
    """Write Matroska whose blocks all have the time 0."""
    whole = write(path.with_name("whole.mkv"), {"bf": "0"})
    with av.open(str(whole)) as read_from, av.open(str(path), "w") as written:
        stream = written.add_stream_from_template(read_from.streams.video[0])
        for packet in read_from.demux(video=0):
            if packet.size:
                packet.pts = packet.dts = 0
                packet.stream = stream
                written.mux(packet)
    return path


def damaged(path: Path) -> Path:
    write_video(path, constant(25, 100), options={"g": "10", "bf": "0"})
    with av.open(str(path)) as container:
        entry = container.streams.video[0].index_entries[50]
        place, size = entry.pos, entry.size
    data = bytearray(path.read_bytes())
    data[place : place + size] = b"\xff" * size
    path.write_bytes(data)
    return path


def truncated(path: Path) -> Path:
    write_video(path, constant(25, 100), mux={"movflags": "faststart"}, options={"g": "20"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    return path


def stray(path: Path) -> Path:
    return restamp(write_video(path.with_name("whole.mp4"), constant(25, 60)), path, {20: 10, 40: 10})


KINDS = {
    "interlaced.mp4": lambda p: write(p, INTERLACED, size=(64, 64)),
    "interlaced.mkv": lambda p: write(p, INTERLACED, size=(64, 64)),
    "interlaced.mpg": lambda p: write(p, {"flags": "+ildct+ilme"}, codec="mpeg2video"),
    "later.mkv": interlaced_later,
    "raw.h264": lambda p: write(p),
    "raw.m2v": lambda p: write(p, codec="mpeg2video"),
    "10-bit.mp4": lambda p: write(p, pixel_format="yuv420p10le"),
    "10-bit.mkv": lambda p: write(p, pixel_format="yuv422p10le"),
    "prores.mov": lambda p: write(p, pixel_format="yuv422p10le", codec="prores_ks"),
    "pq.mp4": lambda p: write(p, colours=(9, 16, 9)),
    "hlg.mp4": lambda p: write(p, colours=(9, 18, 9), pixel_format="yuv420p10le"),
    "bt2020.mp4": lambda p: write(p, colours=(9, 14, 9)),
    "bt709.mp4": lambda p: write(p, colours=(1, 1, 1)),
    "srgb.mkv": lambda p: write(p, colours=(1, 13, 1)),
    "subsampled.mkv": lambda p: write(p, pixel_format="yuv410p", codec="ffv1"),
    "gray.mkv": lambda p: write(p, pixel_format="gray", codec="ffv1"),
    "odd.mkv": lambda p: write(p, codec="ffv1", size=(65, 49)),
    "odd.webm": lambda p: write(p, codec="libvpx-vp9", size=(65, 49)),
    "b-frames.avi": lambda p: write(p, {"bf": "3"}),
    "b-frames.mp4": lambda p: write(p, {"bf": "3"}),
    "b-frames-of-1-fps.mp4": lambda p: write(p, {"bf": "3"}, rate=1),
    "mpeg4.avi": lambda p: write(p, codec="mpeg4"),
    "stream.ts": lambda p: write(p, {"bf": "2"}),
    "stream.mpg": lambda p: write(p, codec="mpeg2video"),
    "one-time.mkv": one_time,
    "stills.mkv": stills,
    "damaged.mp4": damaged,
    "truncated.mp4": truncated,
    "stray.mp4": stray,
    "stray.mkv": stray,
    "stray.ts": stray,
    "sizes.mp4": lambda p: write_changing_size(p, (128, 96), (64, 48), 20),
}


def right_or_refused(path: Path, reader: str) -> bool:
    """Compare a reader with the reference; a reader that differs must refuse the file by name."""
    info = probe(path)
    wanted = []
    try:
        wanted.extend(read(info, "pyav"))
    except VideoBroken:
        wanted.append(None)  # no other reader reports damage: it must refuse the file
    came, refusal = [], ""
    try:
        came.extend(read(info, reader))
    except VideoError as error:
        refusal = str(error)
    if refusal:
        assert re.search("use --reader pyav|packets of the file cannot be read", refusal)
        return False
    assert len(came) == len(wanted)
    for frame, other in zip(wanted, came, strict=True):
        assert (frame.time, frame.duration) == (other.time, other.duration)
        assert np.array_equal(frame.image, other.image)
    return True


@pytest.mark.parametrize("kind", KINDS)
def test_frames_of_the_reference_or_a_refusal(tmp_path, kind, reader):
    right_or_refused(KINDS[kind](tmp_path / kind), reader)


@pytest.mark.parametrize("kind", ["bt709.mp4", "gray.mkv", "b-frames.mp4", "b-frames-of-1-fps.mp4", "stills.mkv"])
def test_what_both_are_right_on_is_not_refused(tmp_path, kind, reader):
    assert right_or_refused(KINDS[kind](tmp_path / kind), reader)


def test_opencv_follows_stray_times_as_the_reference_does(tmp_path):
    assert right_or_refused(stray(tmp_path / "stray.mp4"), "opencv")
    assert right_or_refused(stray(tmp_path / "stray.mkv"), "opencv")


def test_colours_that_nobody_can_convert_are_a_reason(tmp_path):
    info = probe(write(tmp_path / "ycgco.mp4", colours=(1, 1, 8)))
    with pytest.raises(VideoError, match="the colours of the frames cannot be converted"):
        list(read(info, "pyav"))


@needs_shared
@pytest.mark.parametrize("name", ["interlaced.mp4", "elementary.h264", "hdr.mov"])
def test_opencv_on_the_cases(name):
    assert not right_or_refused(SHARED / "cases" / "02_opencv_reader" / name, "opencv")


@pytest.mark.slow
@needs_shared
def test_all_odd_files_of_others(reader):
    folder = SHARED / "data" / "odd"
    right = {p.name for p in sorted(folder.iterdir()) if is_video(p) and right_or_refused(p, reader)}
    assert right >= {"bt601_full_range.mp4", "demo_skeleton.mp4", "testsrc2_vp8.webm"}


def is_video(path: Path) -> bool:
    try:
        return bool(probe(path).width)
    except VideoError:
        return False


def test_numbers_survive_the_writer(tmp_path):
    path = write(tmp_path / "x.mp4")
    assert [number_in(frame.image) for frame in read(probe(path), "pyav")] == list(range(COUNT))
