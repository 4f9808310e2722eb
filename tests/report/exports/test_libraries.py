"""Exports read by the formats' own libraries."""

from fractions import Fraction

import pytest

from tests.report.exports.test_contract import HOSTILE, detections_of, video_of, written
from wtal.data.segments import Detection

HALF = 0.5 / 29.97 + 1e-6


@pytest.fixture(params=["overlapping", "hostile", "late picture", "empty"])
def video(request):
    if request.param == "overlapping":
        return video_of(detections_of(11))
    if request.param == "hostile":
        return video_of([Detection(5.0 * k + 1, 5.0 * k + 4, label, 0.5) for k, label in enumerate(HOSTILE)])
    if request.param == "late picture":
        return video_of(detections_of(12), start=Fraction(1, 3), file_start=Fraction(2))
    return video_of([])


def same(spans, video):
    shift = float(video.start)
    wanted = sorted((d.start + shift, d.end + shift) for d in video.detections)
    assert len(spans) == len(wanted)
    for (start, end), (first, last) in zip(sorted(spans), wanted, strict=True):
        assert abs(start - first) <= HALF
        assert abs(end - last) <= HALF


def test_opentimelineio(video):
    opentimelineio = pytest.importorskip("opentimelineio", reason="opentimelineio is not installed")
    timeline = opentimelineio.adapters.read_from_string(written("otio", video).text, "otio_json")
    ranges = [clip.source_range for clip in timeline.find_clips()]
    same([(span.start_time.to_seconds(), span.end_time_exclusive().to_seconds()) for span in ranges], video)
    for clip in timeline.find_clips():
        assert clip.available_range().contains(clip.source_range.start_time)


def test_pysubs2_reads_subrip(video, tmp_path):
    pysubs2 = pytest.importorskip("pysubs2", reason="pysubs2 is not installed")
    path = tmp_path / "a.srt"
    path.write_bytes(written("srt", video).text.encode())
    events = pysubs2.load(str(path), format_="srt").events
    same([(event.start / 1000, event.end / 1000) for event in events], video)
    assert all(event.plaintext for event in events)


def test_webvtt(video, tmp_path):
    webvtt = pytest.importorskip("webvtt", reason="webvtt-py is not installed")
    path = tmp_path / "a.vtt"
    path.write_bytes(written("vtt", video).text.encode())
    captions = webvtt.read(str(path)).captions
    same(spans_of(captions), video)


def spans_of(captions):
    def seconds(text):
        hours, minutes, rest = text.split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(rest)

    return [(seconds(caption.start), seconds(caption.end)) for caption in captions]


def test_pympi(video, tmp_path):
    elan = pytest.importorskip("pympi.Elan", reason="pympi-ling is not installed")
    path = tmp_path / "a.eaf"
    path.write_bytes(written("elan", video).text.encode())
    document = elan.Eaf(str(path))
    shift = float(video.start)
    cuts = [cut for tier in document.get_tier_names() for cut in document.get_annotation_data_for_tier(tier)]
    assert bool(cuts) is bool(video.detections)
    for detection in video.detections:
        middle = 1000 * ((detection.start + detection.end) / 2 + shift)
        assert any(start <= middle <= end for start, end, _ in cuts)
