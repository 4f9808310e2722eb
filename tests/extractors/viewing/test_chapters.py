"""Chapters in copies: read back by ffmpeg, at the times of the original, with the same pictures."""

from fractions import Fraction

import av
import pytest

from tests.support.videos import constant, write_video, write_with_sound
from wtal.errors import VideoError
from wtal.extractors.viewing.chapters import copy_with_chapters

CHAPTERS = [(500, 1200, "run"), (1300, 1900, "= <b>; 'é' \u65e5")]


def chapters_of(path):
    with av.open(str(path)) as container:
        start = Fraction(container.start_time or 0, av.time_base)
        return [
            (*(float(entry[key] * entry["time_base"] - start) for key in ("start", "end")), entry["metadata"]["title"])
            for entry in container.chapters()
        ]


def packets_of(path):
    with av.open(str(path)) as container:
        begin = Fraction(container.start_time or 0, av.time_base)
        return [
            (packet.stream.type, bytes(packet), round(float(packet.pts * packet.time_base - begin), 3))
            for packet in container.demux()
            if packet.size
        ]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov", "A.MKV"])
def test_chapters_are_in_the_copy_and_the_packets_as_they_were(tmp_path, name):
    source, target = write_video(tmp_path / name, constant(25, 60)), tmp_path / "draft.tmp"
    copy_with_chapters(source, target, CHAPTERS)
    own = [chapter for chapter in chapters_of(target) if chapter[2] != "(other)"]
    assert own == [(start / 1000, end / 1000, title) for start, end, title in CHAPTERS]
    assert packets_of(target) == packets_of(source)
    whole = target.read_bytes()
    copy_with_chapters(source, target, CHAPTERS)
    assert target.read_bytes() == whole


def test_a_picture_that_begins_after_the_sound_keeps_its_place(tmp_path):
    source = write_with_sound(tmp_path / "a.mkv", Fraction(1, 2))
    copy_with_chapters(source, tmp_path / "copy.mkv", CHAPTERS)
    assert chapters_of(tmp_path / "copy.mkv")[0][:2] == (0.5, 1.2)
    assert sorted(packets_of(tmp_path / "copy.mkv")) == sorted(packets_of(source))


def test_chapters_that_were_there_are_replaced(tmp_path):
    source = write_video(tmp_path / "a.mkv", constant(25, 60))
    copy_with_chapters(source, tmp_path / "b.mkv", CHAPTERS)
    copy_with_chapters(tmp_path / "b.mkv", tmp_path / "c.mkv", CHAPTERS[:1])
    assert [title for *_, title in chapters_of(tmp_path / "c.mkv")] == ["run"]


@pytest.mark.parametrize("name", ["a.avi", "a.ts"])
def test_a_container_without_chapters_is_refused_in_one_line(tmp_path, name):
    source = write_video(tmp_path / name, constant(25, 30))
    with pytest.raises(VideoError, match="cannot hold chapters"):
        copy_with_chapters(source, tmp_path / "copy", CHAPTERS)
    assert not (tmp_path / "copy").exists()


def test_what_is_no_video_is_one_line(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"nothing")
    with pytest.raises(VideoError, match="cannot be copied"):
        copy_with_chapters(tmp_path / "a.mp4", tmp_path / "copy", CHAPTERS)
