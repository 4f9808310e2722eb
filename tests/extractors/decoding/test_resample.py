"""Clock of the design: the frame at second j / fps, and the sampler's notes on odd files."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wtal.data.grid import frame_count
from wtal.errors import VideoError
from wtal.extractors.decoding.frame_size import FrameSize, scale, scaled_size
from wtal.extractors.decoding.reader import TimedFrame, VideoBroken, VideoInfo
from wtal.extractors.decoding.resample import Sampler

INFO = VideoInfo(
    path=Path("x.mp4"),
    container="mov,mp4",
    codec="h264",
    pixel_format="yuv420p",
    width=2,
    height=1,
    rotation=0,
    time_base=Fraction(1, 1000),
    rate=Fraction(25),
    start=Fraction(0),
    duration=None,
    frames=None,
    stream=0,
    video_streams=1,
    edited=False,
)


def frames(times, duration=Fraction(1, 25), sizes=None):
    for number, time in enumerate(times):
        width = sizes[number] if sizes else 2
        yield TimedFrame(Fraction(time), Fraction(duration), np.full((1, width, 3), number % 256, np.uint8))


def sample(source, fps=25, info=INFO):
    sampler = Sampler(iter(source), info, Fraction(fps))
    numbers = [int(image[0, 0, 0]) for image in sampler]
    return numbers, sampler.summary("pyav")


def by_definition(times, duration, fps):
    count = frame_count(fps, times[-1] + duration - times[0])
    return [max(k for k, t in enumerate(times) if t - times[0] <= Fraction(j) / fps) for j in range(count)]


positive = st.fractions(min_value=Fraction(1, 200), max_value=2, max_denominator=1000)


@settings(deadline=None, max_examples=200)
@given(
    start=st.fractions(min_value=-5, max_value=5, max_denominator=90),
    gaps=st.lists(positive, max_size=20),
    duration=st.fractions(min_value=0, max_value=2, max_denominator=1000),
    fps=st.fractions(min_value=Fraction(1, 2), max_value=60, max_denominator=1001),
)
def test_the_law_of_the_clock(start, gaps, duration, fps):
    times = [start]
    for gap in gaps:
        times.append(times[-1] + gap)
    numbers, summary = sample(frames(times, duration), fps)
    assert numbers == by_definition(times, duration, fps)
    assert summary.frames == len(numbers)
    assert summary.decoded == len(times)
    assert summary.start == start


def test_same_rate_is_the_identity():
    numbers, summary = sample(frames(Fraction(k, 25) for k in range(50)))
    assert numbers == list(range(50))
    assert summary.shortfall == 0
    assert summary.notes == ()


def test_half_and_double_rate():
    times = [Fraction(k, 25) for k in range(10)]
    assert sample(frames(times), Fraction(25, 2))[0] == [0, 2, 4, 6, 8]
    assert sample(frames(times), 50)[0] == [k // 2 for k in range(20)]


def test_one_frame_without_duration_is_one_frame():
    assert sample(frames([3], duration=0))[0] == [0]


def test_images_come_out_while_frames_come_in():
    taken = 0

    def counting():
        nonlocal taken
        for frame in frames(Fraction(k, 30) for k in range(10_000)):
            taken += 1
            yield frame

    for number, _ in enumerate(Sampler(counting(), INFO, Fraction(25))):
        assert taken <= (number + 1) * 30 / 25 + 3


def test_a_frame_that_stays_is_the_same_object_and_takes_no_memory():
    images = list(Sampler(frames([0, 400]), INFO, Fraction(25)))
    assert len(images) == 10_001
    assert len({id(image) for image in images}) == 2


def test_small_step_back_replaces_the_frame_before():
    numbers, summary = sample(frames([0, Fraction(1, 25), Fraction(3, 25), Fraction(2, 25), Fraction(4, 25)]))
    assert numbers == [0, 1, 1, 3, 4]
    assert "1 timestamps run backwards" in summary.notes[0]


def test_clock_that_starts_anew_goes_on():
    numbers, summary = sample(frames([100, Fraction(2501, 25), 0, Fraction(1, 25)]))
    assert numbers == [0, 1, 2, 3]
    assert "jumps 1 times" in summary.notes[0]


def test_jump_far_beyond_the_declared_end_is_closed():
    info = replace(INFO, duration=Fraction(4, 25))
    assert sample(frames([0, Fraction(1, 25), 50_000, 50_000 + Fraction(1, 25)]), info=info)[0] == [0, 1, 2, 3]


def test_long_gap_is_kept_where_no_end_is_declared():
    assert len(sample(frames([0, 20]))[0]) == 501


def test_file_that_breaks_ends_there():
    def broken():
        yield from frames(Fraction(k, 25) for k in range(86))
        raise VideoBroken("reading was interrupted after 86 frames: bad data")

    numbers, summary = sample(broken(), info=replace(INFO, duration=Fraction(10)))
    assert numbers == list(range(86))
    assert summary.shortfall == 10 - Fraction(86, 25)
    assert summary.notes == (
        "reading was interrupted after 86 frames: bad data",
        "ends 6.560 s before its declared end",
    )


@pytest.mark.parametrize(("of_file", "missing", "noted"), [(False, 1, True), (True, 1, False), (True, 30, True)])
def test_shortfall_has_one_frame_of_slack_and_a_second_where_only_the_file_says(of_file, missing, noted):
    info = replace(INFO, duration=Fraction(50 + missing, 25), duration_of_file=of_file)
    summary = sample(frames(Fraction(k, 25) for k in range(50)), info=info)[1]
    assert summary.shortfall == (Fraction(missing, 25) if noted else 0)


def test_less_than_a_frame_is_no_shortfall():
    info = replace(INFO, duration=Fraction(505, 250))
    assert sample(frames(Fraction(k, 25) for k in range(50)), info=info)[1].shortfall == 0


def test_changing_size_and_missing_timestamps_are_noted():
    source = list(frames([0, Fraction(1, 25), Fraction(2, 25)], sizes=[2, 3, 2]))
    source[2] = replace(source[2], guessed=True)
    summary = sample(source)[1]
    assert (summary.width, summary.height) == (2, 1)
    assert "size changes" in summary.notes[0]
    assert "1 frames carry no timestamp" in summary.notes[1]


def test_nothing_at_all_is_an_error_and_the_summary_waits():
    with pytest.raises(VideoError, match="no frame"):
        list(Sampler(iter(()), INFO, Fraction(25)))
    sampler = Sampler(frames([0, 1]), INFO, Fraction(25))
    next(iter(sampler))
    with pytest.raises(ValueError, match="after the last image"):
        sampler.summary("pyav")


@pytest.mark.parametrize(
    ("width", "height", "short", "enlarge", "wanted"),
    [
        (640, 360, 256, True, (455, 256)),
        (360, 640, 256, True, (256, 455)),
        (160, 120, 256, True, (341, 256)),
        (160, 120, 256, False, (160, 120)),
        (256, 256, 256, True, (256, 256)),
        (1, 1, 256, False, (1, 1)),
        (4000, 1, 256, False, (4000, 1)),
    ],
)
def test_scaled_size(width, height, short, enlarge, wanted):
    assert scaled_size(width, height, FrameSize(short, enlarge)) == wanted


def test_scale_keeps_what_fits_and_averages_when_shrinking():
    image = np.zeros((4, 4, 3), np.uint8)
    image[:, ::2] = 200
    assert scale(image, (4, 4)) is image
    assert np.array_equal(scale(image, (2, 2)), np.full((2, 2, 3), 100, np.uint8))
    assert scale(image, (8, 6)).shape == (6, 8, 3)
