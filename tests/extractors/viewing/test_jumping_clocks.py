"""Clips, copies and pictures of files whose timestamps jump or run backwards have the seconds of extraction."""

from fractions import Fraction

import av
import numpy as np
import pytest

from tests.support.reference import SHARED, needs_shared
from tests.support.videos import constant, number_in, restamp, write_video
from wtal.errors import VideoError
from wtal.extractors.decoding.player_clock import first_picture, player_clock
from wtal.extractors.decoding.probe import probe
from wtal.extractors.decoding.repaired import clock_jumps
from wtal.extractors.readers import READERS
from wtal.extractors.viewing.browser import why_not_played
from wtal.extractors.viewing.clip import copy_clip, encode_clip, encoded_suffix
from wtal.extractors.viewing.look import look
from wtal.extractors.viewing.pictures import pictures_at
from wtal.extractors.viewing.proxy import proxy_name, write_proxy
from wtal.extractors.viewing.stretch import stretches

RATE, FRAMES = 25, 200
STRAYS = {
    "forward": {50: 10},
    "several": {50: 10, 51: 10, 120: 4},
    "far": {100: 5000},
    "first": {0: 60, 1: 60, 2: 60},
    "last": {199: 100},
}
OPTIONS = {"g": "25", "bf": "0", "sc_threshold": "0"}


@pytest.fixture(scope="module")
def write(tmp_path_factory):
    """Function from the name of a case to its file, in which each frame shows its number."""
    folder = tmp_path_factory.mktemp("jumping")
    whole = write_video(folder / "whole.mp4", constant(RATE, FRAMES), options=OPTIONS)

    def written(name, suffix):
        if name == "restart":
            halves = [
                write_video(folder / f"{n}.ts", constant(RATE, FRAMES // 2), options=OPTIONS, first_number=n)
                for n in (0, FRAMES // 2)
            ]
            path = folder / "restart.ts"
            path.write_bytes(b"".join(half.read_bytes() for half in halves))
            return path
        if name == "swapped":  # H.264 in AVI: ffmpeg derives times of display that ignore the B-frames
            options = {**OPTIONS, "bf": "3", "b_strategy": "0"}
            return write_video(folder / "swapped.avi", constant(RATE, FRAMES), unit=Fraction(1, RATE), options=options)
        return restamp(whole, folder / f"{name}.{suffix}", STRAYS[name])

    return written


CASES = [(name, suffix) for name in STRAYS for suffix in ("mkv", "flv") if (name, suffix) != ("far", "flv")]
CASES += [("forward", "mp4"), ("restart", "ts"), ("swapped", "avi")]


@pytest.fixture(params=CASES, ids="-".join)
def path(request, write):
    return write(*request.param)


def numbers(path):
    with av.open(str(path)) as container:
        return [(float(frame.time), number_in(frame.to_ndarray(format="rgb24"))) for frame in container.decode(video=0)]


def test_the_clock_is_that_of_extraction(path):
    clock = player_clock(path)
    assert clock_jumps(probe(path))
    assert (clock.frames, clock.rate) == (FRAMES, RATE)
    assert clock.duration == pytest.approx(FRAMES / RATE, abs=0.002)


def test_an_encoded_clip_shows_its_seconds(path, tmp_path):
    info = probe(path)
    first, _ = first_picture(info)
    for begin, end in ((1, 3), (5, 6)):
        (part,) = stretches(info, first, [(Fraction(begin), Fraction(end))])
        target = tmp_path / f"{begin}{encoded_suffix()}"
        with target.open("wb") as file:
            encode_clip(info, part, file, target.suffix, "a clip")
        shown = numbers(target)
        assert [number for _, number in shown] == list(range(begin * RATE, end * RATE))
        np.testing.assert_allclose([time for time, _ in shown], np.arange((end - begin) * RATE) / RATE, atol=0.002)
        with pytest.raises(VideoError, match="its timestamps jump or run backwards: cut it with --reencode"):
            copy_clip(info, part, (tmp_path / "copy").open("wb"), ".mkv", "a clip")


def test_a_copy_for_browsers_plays_at_the_seconds_of_extraction(path, tmp_path):
    target = tmp_path / proxy_name(path)
    write_proxy(path, target)
    shown = [(time, number) for time, number in numbers(target) if time or number == 0]
    late = float(first_picture(probe(path))[1])
    wanted = {number: late + number / RATE for number in range(FRAMES)}
    assert {number for _, number in shown} >= set(range(1, FRAMES))
    assert all(time == pytest.approx(wanted[number], abs=0.003) for time, number in shown if number)


def test_pictures_are_those_of_their_seconds(path):
    info, seconds = probe(path), [0.5, 1.9, 5.02, 7.98, 3.3]
    assert "timestamps that jump" in why_not_played(info) or path.suffix != ".mp4"
    found = pictures_at(info, first_picture(info)[0], seconds, [64] * len(seconds), effort=1e-9)
    assert [number_in(image) for image in found] == [int(second * RATE + 1e-6) for second in seconds]
    assert look(path, [1.0], 1.0, None, False, 1.0).end == pytest.approx(
        float(first_picture(info)[1]) + FRAMES / RATE, abs=0.01
    )


def test_a_picture_that_stays_is_no_jump(tmp_path):
    times = [Fraction(k, 25) + (5 if k > 30 else 0) for k in range(60)]
    for bframes in ("0", "3"):
        path = write_video(tmp_path / f"{bframes}.mp4", times, options={**OPTIONS, "bf": bframes})
        assert not clock_jumps(probe(path))


def test_b_frames_in_order_are_no_jump(tmp_path):
    for bframes in ("0", "2"):
        path = write_video(
            tmp_path / f"{bframes}.avi", constant(25, 60), codec="mpeg4", options={"g": "12", "bf": bframes}
        )
        assert not clock_jumps(probe(path))


def test_only_avi_is_decoded_for_the_order_of_its_frames(tmp_path, monkeypatch):
    monkeypatch.setattr("wtal.extractors.decoding.repaired._swaps", lambda info: pytest.fail("it was decoded"))
    for suffix in ("mp4", "mkv", "ts"):
        assert not clock_jumps(probe(write_video(tmp_path / f"a.{suffix}", constant(25, 30), options={"bf": "3"})))


@needs_shared
@pytest.mark.shared
def test_packed_b_frames_lose_no_picture(tmp_path):
    info = probe(SHARED / "data" / "odd" / "test.avi")
    frames = [frame.image for frame in READERS.load("pyav").frames(info)]
    first, _ = first_picture(info)
    assert clock_jumps(info)
    (part,) = stretches(info, first, [(Fraction(2), Fraction(4))])
    with pytest.raises(VideoError, match="run backwards: cut it with --reencode"):
        copy_clip(info, part, (tmp_path / "copy").open("wb"), ".mkv", "a clip")
    clip, proxy = tmp_path / f"clip{encoded_suffix()}", tmp_path / proxy_name(info.path)
    with clip.open("wb") as file:
        encode_clip(info, part, file, clip.suffix, "a clip")
    write_proxy(info.path, proxy)
    assert same_pictures(images(clip), frames[50:100])
    assert same_pictures(images(proxy)[-len(frames) :], frames)


def images(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def same_pictures(encoded, wanted):
    """Compare pictures after encoding: equally many, on average more like their own than like the neighbours."""

    def distance(shift):
        pairs = list(zip(encoded[1 - shift :], wanted[1:-1], strict=False))
        return np.mean([np.abs(one.astype(float) - other).mean() for one, other in pairs])

    return len(encoded) == len(wanted) and distance(0) < min(distance(1), distance(-1))
