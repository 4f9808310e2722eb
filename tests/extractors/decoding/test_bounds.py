"""False times in a file cost nothing, with every reader: it fails, or the times of its frames count."""

import os
from fractions import Fraction

import av
import pytest

from tests.support.videos import constant, numbered_image, write_video
from wtal.errors import VideoError
from wtal.extractors.decoding.clock import LONGEST_STILL
from wtal.extractors.decoding.player_clock import player_clock
from wtal.extractors.decoding.probe import probe
from wtal.extractors.decoding.resample import Sampler
from wtal.extractors.readers import READERS, read

SECOND = Fraction(1, 1000)
PLAIN = {"bf": "0"}
"""Write files without B-frames, because decord refuses gaps between these by name."""
READER = pytest.mark.parametrize("reader", [name for name in READERS.names() if READERS.load(name).why_not() is None])


def sampled(path, reader, most=2 * LONGEST_STILL):
    """Number of frames at one per second; more than `most` are an error of the test."""
    info, count = probe(path), 0
    for count, _ in enumerate(Sampler(read(info, reader), info, Fraction(1)), 1):
        assert count <= most
    return count


def write_with_a_long_end(path, seconds):
    """Write 30 frames whose last has a duration of `seconds`."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        packets = []
        for number in range(30):
            frame = av.VideoFrame.from_ndarray(numbered_image(number, 64, 48), format="rgb24")
            packets += stream.encode(frame.reformat(format="yuv420p"))
        packets += stream.encode(None)
        packets[-1].duration = int(seconds / packets[-1].time_base)
        for packet in packets:
            container.mux(packet)
    return path


@READER
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
@pytest.mark.parametrize("gap", [4000, 10**5])
def test_a_gap_of_hours_is_the_videos_failure(tmp_path, reader, suffix, gap):
    times = [*constant(25, 30), *constant(25, 30, gap)]
    path = write_video(tmp_path / f"a.{suffix}", times, unit=SECOND, options=PLAIN)
    with pytest.raises(VideoError, match="is the maximum: its clock is wrong"):
        sampled(path, reader)


@READER
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_gap_below_an_hour_is_a_still(tmp_path, reader, suffix):
    path = write_video(
        tmp_path / f"a.{suffix}", [*constant(25, 30), *constant(25, 30, 3000)], unit=SECOND, options=PLAIN
    )
    assert sampled(path, reader) == pytest.approx(3001, abs=1)


@READER
@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_a_frame_that_lasts_a_day_is_the_videos_failure(tmp_path, reader, suffix):
    with pytest.raises(VideoError, match=r"would stay for (100000|99999) s"):
        sampled(write_with_a_long_end(tmp_path / f"a.{suffix}", 10**5), reader)


@READER
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_frame_a_day_is_the_videos_failure(tmp_path, reader, suffix):
    path = write_video(tmp_path / f"a.{suffix}", [Fraction(k * 10**5) for k in range(12)], unit=SECOND, options=PLAIN)
    with pytest.raises(VideoError, match=r"is the maximum|not those of the file"):
        sampled(path, reader)


@READER
def test_stills_for_days_together_are_the_videos_failure(tmp_path, reader):
    path = write_video(tmp_path / "a.mkv", [Fraction(k * 3000) for k in range(60)], unit=SECOND, options=PLAIN)
    with pytest.raises(VideoError, match=r"take more than 24 h in total|not those of the file"):
        sampled(path, reader, most=30 * 3600)


@READER
def test_a_folder_and_a_pipe_are_no_videos(tmp_path, reader):
    (tmp_path / "x.mp4").mkdir()
    os.mkfifo(tmp_path / "y.mp4")
    for name, words in (("x.mp4", "a folder"), ("y.mp4", "not a regular file")):
        with pytest.raises(VideoError, match=words):
            sampled(tmp_path / name, reader)
        with pytest.raises(VideoError, match=words):
            player_clock(tmp_path / name)


def test_a_header_that_claims_much_costs_nothing(tmp_path):
    head = b"YUV4MPEG2 W30000 H30000 F1:100000 Ip A1:1 C420jpeg\nFRAME\n"
    (tmp_path / "a.y4m").write_bytes(head + bytes(100))
    with pytest.raises(VideoError):
        sampled(tmp_path / "a.y4m", "pyav")
