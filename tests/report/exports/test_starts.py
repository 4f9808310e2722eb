"""Formats that only keep starts: YouTube's chapters and Kodi's markers."""

import pytest

from tests.report.exports.test_contract import detections_of, video_of, written
from wtal.data.segments import Detection
from wtal.errors import VideoError


def detection(start, end, label, score=0.5):
    return Detection(start, end, label, score)


def test_kodi_marks_starts_and_cuts_nothing():
    video = video_of(detections_of(5), start=0.25)
    lines = [line.split(" ") for line in written("kodi", video).text.splitlines()]
    assert [(float(start), float(end)) for start, end, _ in lines] == [
        (pytest.approx(d.start + 0.25, abs=0.001),) * 2 for d in video.detections
    ]
    assert {action for _, _, action in lines} == {"2"}


def chapters(text):
    parts = [line.partition(" ") for line in text.splitlines()]
    return [(sum(60**k * int(n) for k, n in enumerate(reversed(t.split(":")))), label) for t, _, label in parts]


@pytest.mark.parametrize("seed", range(20))
def test_youtube_takes_the_chapters(seed):
    video = video_of(detections_of(seed, count=8))
    starts = [start for start, _ in chapters(written("youtube", video).text)]
    assert starts[0] == 0
    assert len(starts) >= 3
    assert min(latter - former for former, latter in zip(starts, [*starts[1:], 120.0], strict=True)) >= 10


def test_what_is_short_is_joined_and_named():
    cuts = [detection(20, 25, "run"), detection(26, 30, "jump"), detection(60, 75, "sit"), detection(115, 118, "end")]
    sheet = written("youtube", video_of(cuts))
    assert chapters(sheet.text) == [(0, "(begin)"), (20, "run + jump"), (30, "(other)"), (60, "sit"), (75, "end")]
    assert "1:00" in sheet.text
    assert "0:20 run + jump" in sheet.notes[0]


def test_fewer_than_three_chapters_are_refused():
    with pytest.raises(VideoError, match="at least three"):
        written("youtube", video_of([detection(1, 5, "run")]))


def test_an_hour_has_three_numbers():
    cuts = [detection(3700, 3800, "run"), detection(4000, 4100, "jump")]
    assert "1:01:40 run" in written("youtube", video_of(cuts, duration=5000.0)).text
