"""Timestamps that leap: stray frames, real gaps, and the cost of a file's claims."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from tests.extractors.decoding.test_resample import INFO, frames, sample
from tests.support.reference import SHARED, needs_shared
from tests.support.videos import constant, number_in, restamp, write_video
from wtal.errors import VideoError
from wtal.extractors.decoding.clock import FrameClock
from wtal.extractors.decoding.probe import probe
from wtal.extractors.decoding.resample import Sampler
from wtal.extractors.readers import read

COUNT = 120
STRAY = {
    "one": [60],
    "two": [60, 61],
    "twenty": range(50, 70),
    "two apart": [40, 80],
    "first": [0],
    "first three": range(3),
    "last": [COUNT - 1],
    "last two": range(COUNT - 2, COUNT),
    "last but one": [COUNT - 2],
}


def shifted(stray, seconds, count=COUNT):
    return [Fraction(k, 25) + (seconds if k in stray else 0) for k in range(count)]


@pytest.mark.parametrize("declared", [None, Fraction(COUNT, 25), Fraction(20)])
@pytest.mark.parametrize("seconds", [10, 2, -3, -10, 100, 1_000_000])
@pytest.mark.parametrize("stray", STRAY)
def test_stray_frames_are_put_between_their_neighbours(stray, seconds, declared):
    if stray.startswith("first") and seconds == -3:
        pytest.skip("a camera may begin with a still of three seconds")
    if stray in ("last", "last two") and seconds == 2 and declared != Fraction(COUNT, 25):
        pytest.skip("a still of two seconds at the end is one, where no end is declared before it")
    numbers, summary = sample(frames(shifted(STRAY[stray], seconds)), info=replace(INFO, duration=declared))
    assert numbers == list(range(COUNT))
    assert summary.start == 0
    assert summary.notes[-1].startswith(f"{len(STRAY[stray])} timestamps are far from their neighbours:")


def test_frames_that_stray_in_turns():
    stray = {30: 10, 31: -20, 32: 5, 60: 50, 62: 50, 64: -50}
    numbers, summary = sample(frames([Fraction(k, 25) + stray.get(k, 0) for k in range(COUNT)]))
    assert numbers == list(range(COUNT))
    assert summary.notes == ("6 timestamps are far from their neighbours: the frames were moved between them",)


def test_frames_that_stray_within_a_film_of_stills():
    times = [Fraction(5 * k) for k in range(20)]
    times[7] += 60
    numbers, _ = sample(frames(times, duration=5), fps=Fraction(1, 5), info=replace(INFO, rate=Fraction(1, 5)))
    assert numbers == list(range(20))


def test_a_still_within_the_file_stays_one():
    times = [Fraction(k, 25) for k in range(50)] + [20 + Fraction(k, 25) for k in range(50)]
    numbers, summary = sample(frames(times))
    assert numbers == [*range(49), *[49] * 451, *range(50, 100)]
    assert summary.notes == ("pictures stay for more than 10 s 1 times, the longest for 18.0 s",)


def test_a_still_at_the_end_that_the_file_declares_stays_one():
    source = list(frames([Fraction(k, 25) for k in range(50)] + [Fraction(20)]))
    source[49] = replace(source[49], duration=Fraction(20) - source[49].time)
    assert len(sample(source)[0]) == 501


@pytest.mark.parametrize("restart", [0, -1000])
def test_a_clock_that_begins_anew_for_good_goes_on(restart):
    times = [Fraction(k, 25) + (restart if k >= 300 else 100) for k in range(900)]
    numbers, summary = sample(frame for frame in frames(times))
    assert numbers == [k % 256 for k in range(900)]
    assert summary.notes == ("the clock jumps 1 times: the frames were joined without gaps",)


def test_times_that_are_all_one_are_told():
    numbers, summary = sample(frames([3] * 50))
    assert numbers == [49]
    assert summary.notes == ("49 timestamps repeat the one before: the frame replaced the previous one",)


def test_what_is_held_is_bounded():
    taken = 0

    def counting():
        nonlocal taken
        for frame in frames([*(Fraction(k, 25) for k in range(10)), *(5 + Fraction(k, 25) for k in range(2000))]):
            taken += 1
            yield frame

    for number, _ in enumerate(Sampler(counting(), INFO, Fraction(25))):
        assert taken <= number + 253


@pytest.mark.parametrize("gap", [10_000, 100_000, 10**9])
@pytest.mark.parametrize("behind", [20, 500])
def test_gaps_of_hours_are_refused_at_once(gap, behind):
    times = [*(Fraction(k, 25) for k in range(50)), *(gap + Fraction(k, 5) for k in range(behind))]
    info = replace(INFO, rate=Fraction(5))
    with pytest.raises(VideoError, match=r"the picture at second 1.96 would stay for \d+ s, but 3600 s is the maximum"):
        sample(frames(times), info=info)


def test_a_frame_that_is_said_to_last_for_a_day_is_refused():
    with pytest.raises(VideoError, match=r"second 0\.00 would stay for 100000 s"):
        sample(frames([0], duration=100_000))
    with pytest.raises(VideoError, match="would stay for 100000 s"):
        sample(frames([0, 100_000, 200_000], duration=100_000), info=replace(INFO, rate=Fraction(1, 100_000)))


def test_stills_of_more_than_a_day_together_are_refused():
    image = np.zeros((1, 2, 3), np.uint8)
    source = (replace(next(frames([0])), time=Fraction(3000 * k), picture=image) for k in range(40))
    with pytest.raises(VideoError, match="more than 24 h in total"):
        sample(source, fps=Fraction(1, 100), info=replace(INFO, rate=Fraction(1, 1000)))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
@pytest.mark.parametrize("b_frames", ["0", "3"])
def test_stray_frames_in_files(tmp_path, suffix, b_frames):
    whole = write_video(tmp_path / "whole.mp4", constant(25, COUNT), options={"bf": b_frames, "g": "50"})
    for stray, seconds in (("one", 10), ("twenty", 3), ("first", 10), ("last", 10)):
        if (stray, suffix) == ("first", ".mp4"):
            continue  # it gets an edit list that begins with this frame
        path = restamp(whole, tmp_path / f"stray{suffix}", dict.fromkeys(STRAY[stray], seconds))
        info = probe(path)
        sampler = Sampler(read(info, "pyav"), info, Fraction(25))
        assert [number_in(image) for image in sampler] == list(range(COUNT)), (stray, seconds)
        assert f"{len(STRAY[stray])} timestamps are far" in sampler.summary("pyav").notes[-1]


def test_avi_goes_by_its_only_times(tmp_path):
    path = write_video(tmp_path / "b.avi", constant(25, 60), unit=Fraction(1, 25), options={"bf": "2"})
    info = probe(path)
    sampler = Sampler(read(info, "pyav"), info, Fraction(25))
    assert [number_in(image) for image in sampler] == list(range(60))
    assert sampler.summary("pyav").notes == ()


@needs_shared
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "flv"])
def test_stray_frame_of_the_case(suffix):
    info = probe(SHARED / "cases" / "01_stray_timestamp" / f"forward.{suffix}")
    sampler = Sampler(read(info, "pyav"), info, Fraction(25))
    assert sum(1 for _ in sampler) == 750
    seconds = [time for time, _ in FrameClock(read(info, "pyav"), info)]
    assert (seconds[100], seconds[300], seconds[500]) == (4, 12, 20)
    assert "1 timestamps are far" in sampler.summary("pyav").notes[0]
