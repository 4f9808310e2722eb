"""Times at which players show pictures: late pictures, late files, variable rates, turned pictures."""

from fractions import Fraction

import pytest

from tests.support.videos import constant, write_video, write_with_sound
from wtal.errors import VideoError
from wtal.extractors.decoding.player_clock import player_clock

NTSC = Fraction(30000, 1001)


@pytest.mark.parametrize("ending", [".mkv", ".mov"])
def test_a_picture_after_the_sound(ending, tmp_path):
    clock = player_clock(write_with_sound(tmp_path / f"late{ending}", 0.48))
    assert clock.start == pytest.approx(0.48, abs=0.002)
    assert clock.file_start == 0
    assert clock.sound
    assert clock.rate == 25
    assert clock.frames == 50
    assert clock.duration == 2


def test_a_file_whose_clock_begins_late(tmp_path):
    path = write_video(tmp_path / "a.ts", constant(25, 30, start=10), unit=Fraction(1, 1000))
    clock = player_clock(path)
    assert clock.file_start > 9
    assert clock.start == 0


@pytest.mark.parametrize("rate", [NTSC, Fraction(24000, 1001), Fraction(50)])
@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
def test_an_even_rate(rate, ending, tmp_path):
    path = write_video(tmp_path / f"a{ending}", constant(rate, 60), unit=Fraction(1, 60000))
    clock = player_clock(path)
    assert float(clock.rate) == pytest.approx(float(rate), rel=1e-5)
    assert clock.frames == 60
    assert not clock.sound
    assert float(clock.duration) == pytest.approx(60 / float(rate), abs=0.002)


def test_a_variable_rate_has_none(tmp_path):
    times = [*constant(25, 20), *constant(10, 20, start=1)]
    clock = player_clock(write_video(tmp_path / "a.mp4", times))
    assert clock.rate is None
    assert clock.frames == 40
    assert float(clock.duration) == pytest.approx(3.0, abs=0.1)


def test_a_turned_picture(tmp_path):
    assert player_clock(write_video(tmp_path / "a.mp4", constant(25, 5), rotation=90)).size == (48, 64)


def test_what_is_no_video_is_refused(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"nothing")
    with pytest.raises(VideoError, match="not a video"):
        player_clock(tmp_path / "a.mp4")
