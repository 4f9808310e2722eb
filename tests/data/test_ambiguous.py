"""Ambiguous ranges from separate files and from annotations."""

import json

import pytest

from tests.support.reference import SHARED, needs_shared
from wtal.data.annotations import read_annotations, write_annotations
from wtal.data.assemble import read_ambiguous
from wtal.data.segments import Segment
from wtal.errors import FormatError


def test_ambiguous_ranges_are_read(tmp_path):
    path = tmp_path / "Ambiguous_test.txt"
    path.write_text("video_1  0.0 1.4\n\nvideo_2 5 6.5\nvideo_1\t7 8\n")
    assert read_ambiguous(path) == {"video_1": [Segment(0, 1.4), Segment(7, 8)], "video_2": [Segment(5, 6.5)]}
    for line, message in (("video 1", "line 1: wanted `video start end`"), ("v 2 1", "start <= end"), ("v a 1", "'a'")):
        path.write_text(line)
        with pytest.raises(FormatError, match=message):
            read_ambiguous(path)


def test_ambiguous_ranges_of_annotations_are_kept(tmp_path):
    path = tmp_path / "truth.json"
    entry = {"subset": "test", "annotations": [], "ambiguous": [[1, 2], ["3", "4.5"], [9, 8]]}
    path.write_text(json.dumps({"database": {"a": entry}}))
    dataset = read_annotations(path, "activitynet")
    assert dataset.videos["a"].ambiguous == (Segment(1, 2), Segment(3, 4.5))
    assert any("ambiguous ranges without finite start <= end" in note for note in dataset.notes)
    again = read_annotations(write_annotations(dataset, tmp_path / "again.json"), "activitynet")
    assert again.videos["a"].ambiguous == dataset.videos["a"].ambiguous
    path.write_text(json.dumps({"database": {"a": {"annotations": [], "ambiguous": [[1]]}}}))
    with pytest.raises(FormatError, match=r"a\.ambiguous\[0\]: wanted \[start, end\]"):
        read_annotations(path, "activitynet")


@needs_shared
def test_thumos14_as_its_annotations_lie():
    dataset = read_annotations(SHARED / "data/annotations/Thumos14reduced-Annotations")
    assert sum(len(video.ambiguous) for video in dataset.videos.values()) > 90
