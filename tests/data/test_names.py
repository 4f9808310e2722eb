"""Matches between names in a table and files, in all spellings."""

import copy
import pickle
import unicodedata
from pathlib import Path

import pytest

from tests.support.reference import SHARED, needs_shared
from wtal.data.annotations import coverage, read_annotations
from wtal.data.files import write_json
from wtal.data.names import NamedId, look_alike, match_ids, nearest
from wtal.pipeline.extraction.videos import find_videos

CAFE = unicodedata.normalize("NFC", "café")
CASES = SHARED / "cases"


@pytest.mark.parametrize(
    ("wanted", "present"),
    [
        ("clip.mp4", "clip"),
        ("clip.MKV", "clip"),
        ("clip", "clip.mp4"),
        ("./clip.mp4", "clip"),
        ("jump/001.mp4", "jump/001"),
        ("videos/jump/001.mp4", "jump/001"),
        ("001", "jump/001"),
        (r"C:\clips\x1.mp4", "x1"),
        (r"clips\x1", "clips/x1"),
        ("/home/me/x1.webm", "x1"),
        (unicodedata.normalize("NFD", CAFE), CAFE),
        (CAFE, unicodedata.normalize("NFD", CAFE)),
        (unicodedata.normalize("NFD", CAFE) + ".mp4", CAFE),
        ("a clip ", "a clip"),
        ("a\u00a0clip", "a clip"),
        ("a  clip.mp4", "a clip"),
        ("v_clip.mp4", "clip"),
        ("clip.mp4", "v_clip"),
        ("train/v_clip.mp4", "clip"),
        ("clip.gif", "clip"),
    ],
)
def test_one_reading_is_taken(wanted, present):
    assert match_ids([wanted], [present, "another"]) == {wanted: present}
    assert match_ids([wanted, "another"], [present]) == {wanted: present}


@pytest.mark.parametrize(
    ("wanted", "present"),
    [
        (["001"], ["jump/001", "run/001"]),
        (["jump/001", "run/001"], ["001"]),
        (["clip.mp4", "clip.mkv"], ["clip"]),
        (["Clip"], ["clip"]),
        (["jump/001"], ["run/001"]),
        (["clip"], ["clips", "my clip", "clip1"]),
    ],
)
def test_several_readings_or_none_are_left_alone(wanted, present):
    assert match_ids(wanted, present) == {}


def test_exact_names_come_first_and_each_file_goes_once():
    assert match_ids(["clip", "v_clip"], ["clip"]) == {"clip": "clip"}
    assert match_ids(["v_clip", "clip"], ["clip"]) == {"clip": "clip"}
    assert match_ids(["v_clip", "clip"], ["clip", "v_clip"]) == {"v_clip": "v_clip", "clip": "clip"}
    assert match_ids(["clip", "clip.mp4"], ["clip", "clip.mp4"]) == {"clip": "clip", "clip.mp4": "clip.mp4"}
    assert match_ids(["001", "a/001"], ["a/001", "b/001"]) == {"001": "b/001", "a/001": "a/001"}


def test_matches_come_in_the_order_of_what_is_wanted():
    assert list(match_ids(["c.mp4", "a", "b.mkv"], ["b", "a", "c"])) == ["c.mp4", "a", "b.mkv"]


def test_a_path_that_a_table_names_tells_stems_apart():
    wanted = [NamedId("001", "jump/001.mp4"), NamedId("002", r"run\002.mp4")]
    assert match_ids(wanted, ["jump/001", "new/001", "new/002", "run/002"]) == {"001": "jump/001", "002": "run/002"}


def test_an_id_that_remembers_is_a_text():
    name = NamedId("001", "jump/001.mp4")
    assert {name: 1}["001"] == 1
    for twin in (pickle.loads(pickle.dumps(name)), copy.deepcopy(name)):
        assert (twin, twin.path) == ("001", "jump/001.mp4")


def test_the_nearest_name_overlooks_capitals_and_endings():
    assert nearest("JUMP-01.mp4", ["jump_01", "jump-01", "run-01"]) == "jump-01"
    assert nearest("x", ["something", "else"]) is None


def test_a_look_alike_differs_only_in_its_writing():
    assert look_alike("JUMP 01.mp4", ["jump01", "jump02"]) == "jump01"
    assert look_alike("x ", ["x", "y"]) == "x"
    assert look_alike("jump02", ["jump01"]) is None
    assert look_alike("x", ["x"]) is None


def test_what_matches_nothing_is_told_with_the_nearest_name(tmp_path):
    (tmp_path / "labels.csv").write_text("video,label\nJump-01.mp4,jump\nrun-01,run\n")
    lines = coverage(read_annotations(tmp_path / "labels.csv"), ["jump-01", "run-01"])
    assert lines == (
        "annotated videos that are missing: 1 (Jump-01)",
        "videos that the annotations do not name: 1 (jump-01)",
        "'Jump-01' is missing; the nearest name is 'jump-01'",
    )


def labels_of_files(table: Path, folder: Path) -> dict[str, tuple[str, ...]]:
    files = {video.id: video.path.relative_to(folder).as_posix() for video in find_videos([folder])}
    dataset = read_annotations(table)
    return {files[key]: dataset.videos[name].labels for name, key in dataset.match(files).items()}


@needs_shared
@pytest.mark.parametrize(
    ("name", "folder", "labels"),
    [
        ("from_a_mac", "from_a_mac", ["jump", "jump", "wave", "wave"]),
        ("gifs", "gifs", ["A", "A", "B", "B"]),
        ("windows", "videos", ["A", "A", "B", "B"]),
    ],
)
def test_cases_of_names_match_whole(name, folder, labels):
    matched = labels_of_files(CASES / "05_names" / f"{name}.csv", CASES / "05_names" / folder)
    assert sorted(label for each in matched.values() for label in each) == labels


@needs_shared
def test_cases_of_stems_and_of_the_prefix():
    stems = labels_of_files(CASES / "05_names/stems.csv", CASES / "05_names/stems")
    assert stems == {"jump/001.mp4": ("high jump",), "run/002.mp4": ("run",)}
    prefix = labels_of_files(CASES / "06_v_prefix/labels.csv", CASES / "06_v_prefix/videos")
    assert prefix == {
        "clip.mp4": ("wave",),
        "v_clip.mp4": ("jump",),
        "other.mp4": ("jump",),
        "third.mp4": ("wave",),
    }


def test_rows_of_one_file_in_two_compositions_are_joined(tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text("video,label\nsub/cafe\u0301.mp4,run\nsub/caf\u00e9.mp4,jump\nb,run\n", encoding="utf-8")
    videos = read_annotations(table).videos
    assert {name: video.labels for name, video in videos.items()} == {"cafe\u0301": ("jump", "run"), "b": ("run",)}
    assert coverage(read_annotations(table), ["caf\u00e9", "b"]) == ()


def test_two_entries_of_one_file_are_told_apart_from_a_missing_file(tmp_path):
    entry = {"subset": "training", "annotations": [{"label": "run", "segment": [0, 1]}]}
    file = write_json(tmp_path / "a.json", {"database": {"caf\u00e9": entry, "cafe\u0301": entry}})
    assert coverage(read_annotations(file), ["caf\u00e9"])[-1] == (
        r"'cafe\u0301' is missing: it names the same file as 'caf\xe9'; give the file one entry"
    )
