"""Small pictures at given seconds: exact if the effort suffices, and never going back to the same key frame."""

import pytest

from tests.support.videos import constant, number_in, write_video
from wtal.extractors.decoding.player_clock import first_picture
from wtal.extractors.decoding.probe import probe
from wtal.extractors.viewing import pictures
from wtal.extractors.viewing.pictures import pictures_at

RATE, FRAMES = 25, 500
SECONDS = [0.02, 3.1, 6.5, 9.3, 13.3, 16.7, 19.9]


@pytest.fixture
def jumps(monkeypatch):
    """Seconds jumped to."""
    seconds = []
    plain = pictures._Walk._jump
    monkeypatch.setattr(pictures._Walk, "_jump", lambda self, second: (seconds.append(second), plain(self, second))[1])
    return seconds


def numbers(path, effort):
    info = probe(path)
    images = pictures_at(info, first_picture(info)[0], SECONDS, [64] * len(SECONDS), effort)
    return [number_in(image) for image in images]


def video(path, interval, bframes=0):
    options = {"g": str(interval), "keyint_min": str(interval), "sc_threshold": "0", "bf": str(bframes), "crf": "10"}
    return write_video(path, constant(RATE, FRAMES), options=options)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize(("interval", "bframes"), [(25, 0), (25, 2), (500, 2)])
def test_pictures_are_those_shown_at_their_seconds(tmp_path, suffix, interval, bframes):
    wanted = [int(second * RATE + 1e-6) for second in SECONDS]
    assert numbers(video(tmp_path / f"v.{suffix}", interval, bframes), effort=100) == wanted


def test_it_jumps_to_later_key_frames_alone(tmp_path, jumps):
    path = video(tmp_path / "v.mp4", interval=250)
    assert numbers(path, effort=100)[-1] == 497
    assert jumps == [pytest.approx(SECONDS[0]), pytest.approx(SECONDS[4])]  # a key frame at 0 and at 10 s


def test_with_little_effort_pictures_come_from_before_their_seconds(tmp_path):
    found = numbers(video(tmp_path / "v.mp4", interval=250), effort=1e-9)
    assert found == sorted(found)
    assert all(number <= second * RATE for number, second in zip(found, SECONDS, strict=True))
    assert found[4] >= 250
