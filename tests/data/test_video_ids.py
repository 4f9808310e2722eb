"""One rule for a video's id from a folder, a list of labels or the command line."""

import os
import re
from pathlib import PurePath

import pytest

from tests.support.reference import REPOSITORY, SHARED, needs_shared
from wtal.data.annotations import read_annotations, write_annotations
from wtal.data.detections import read_detections, write_detections
from wtal.data.names import match_ids
from wtal.data.segments import Detection
from wtal.data.video_ids import is_video_name, readable, short_ids
from wtal.errors import UsageError
from wtal.pipeline.extraction.videos import find_videos, passed_over


def make(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def labels_by_file(root, labels):
    """Labels for training by file below `root`, matched as in a whole run."""
    dataset, found = read_annotations(labels), {video.id: video.path for video in find_videos([root])}
    matches = match_ids(dataset.videos, found)
    assert matches.keys() == dataset.videos.keys()
    return {found[key].relative_to(root).as_posix(): dataset.videos[name].labels for name, key in matches.items()}


def test_ids_are_as_short_as_they_can_be(tmp_path):
    make(tmp_path, "a/clip.mp4", "b/clip.mp4", "b/other.mp4", "b/other.mkv", ".hidden/x.mp4", "c/readme.txt")
    assert [v.id for v in find_videos([tmp_path])] == ["a/clip", "b/clip", "b/other.mkv", "b/other.mp4"]
    assert [v.id for v in find_videos([tmp_path / "a" / "clip.mp4"])] == ["clip"]
    assert [v.id for v in find_videos([tmp_path / "a", tmp_path / "a" / "clip.mp4"])] == ["clip"]
    with pytest.raises(UsageError, match="no videos"):
        find_videos([tmp_path / "c"])
    with pytest.raises(UsageError, match="does not exist"):
        find_videos([tmp_path / "absent"])


def test_no_two_files_share_an_id(tmp_path):
    names = ("x.mkv", "x.mp4", "x.mkv.mp4", "s/x.mkv", "s/y.mp4", "y.mp4")
    roots = [make(tmp_path / name, *names, os.fsdecode(b"\xff.mp4"), os.fsdecode(b"\xfe.mp4")) for name in "ab"]
    found = find_videos(roots)
    assert len({video.id for video in found}) == len(found) == 16
    assert all(video.id == readable(video.id) for video in found)
    assert short_ids({PurePath(name): PurePath() for name in names[:3]}) == {
        PurePath("x.mkv"): "x.mkv",
        PurePath("x.mp4"): "x.mp4",
        PurePath("x.mkv.mp4"): "x.mkv.mp4",
    }


def test_a_folder_a_class_with_repeated_names(tmp_path):
    root = make(tmp_path, "jump/001.mp4", "run/001.mp4", "run/002.mp4", "run/003.mp4", "003.mp4")
    assert labels_by_file(root, root) == {
        "jump/001.mp4": ("jump",),
        "run/001.mp4": ("run",),
        "run/002.mp4": ("run",),
        "run/003.mp4": ("run",),
    }
    assert set(read_annotations(root).videos) == {"jump/001", "run/001", "002", "run/003"}


def test_a_linked_folder_is_a_class_too(tmp_path):
    make(tmp_path / "elsewhere", "001.mp4")
    root = make(tmp_path / "root", "run/001.mp4")
    (root / "jump").symlink_to(tmp_path / "elsewhere")
    assert {v.id: v.labels for v in read_annotations(root).videos.values()} == {
        "jump/001": ("jump",),
        "run/001": ("run",),
    }


def test_a_table_that_names_files(tmp_path):
    root = make(tmp_path / "root", "jump/001.mp4", "run/001.mp4", "run/002.MP4", "run/003.mkv", "run/003.mp4")
    table = tmp_path / "labels.csv"
    rows = ("jump/001.mp4,jump", "run/001.mp4,run", "./run/001.mp4,fast", "run/002.MP4,run", "run/003.mkv,run")
    table.write_text("\n".join(("video,label", *rows, "run/003.mp4,fast")) + "\n")
    assert labels_by_file(root, table) == {
        "jump/001.mp4": ("jump",),
        "run/001.mp4": ("fast", "run"),
        "run/002.MP4": ("run",),
        "run/003.mkv": ("run",),
        "run/003.mp4": ("fast",),
    }


def test_a_table_of_ids_and_of_absolute_paths(tmp_path):
    root = make(tmp_path / "root", "jump/001.mp4", "run/001.mp4", "run/v_002.mp4")
    table = tmp_path / "labels.csv"
    table.write_text(f"video,label\njump/001,jump\nrun/001,run\n{root}/run/v_002.mp4,run\n002,fast\n")
    assert set(read_annotations(table).videos) == {"jump/001", "run/001", "v_002", "002"}
    table.write_text("video,label\n/a/001.mp4,jump\n/b/001.mp4,jump\n")
    assert set(read_annotations(table).videos) == {"a/001", "b/001"}


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("x.mp4", True),
        ("x.y.MKV", True),
        ("x.mp4.audio.mp3", True),
        ("x.MP4.m4a", True),
        ("x.mp4.txt", False),
        ("x.mp4.part", False),
        ("x.mp3", False),
        ("mp4", False),
        (".mp4", False),
    ],
)
def test_which_names_are_videos(tmp_path, name, taken):
    assert is_video_name(PurePath(name)) is taken
    make(tmp_path, name, "other.mp4")
    assert len(find_videos([tmp_path])) == 1 + taken


def test_links_that_lead_nowhere_are_taken_and_folders_are_not(tmp_path):
    make(tmp_path, "run/a.mp4", "run/folder.mp4/notes.txt")
    (tmp_path / "run/gone.mp4").symlink_to(tmp_path / "nowhere")
    (tmp_path / "run/link.mp4").symlink_to(tmp_path / "run")
    assert [video.id for video in find_videos([tmp_path])] == ["a", "gone"]
    assert set(read_annotations(tmp_path).videos) == {"a", "gone"}


def test_names_that_are_not_utf_8_can_be_written(tmp_path):
    root = tmp_path / "root"
    folder = root / os.fsdecode(b"j\xf6mp")
    make(folder, os.fsdecode(b"bad\xff.mp4"), os.fsdecode(b"note\xff.txt"))
    (video,) = find_videos([root])
    assert video.id == "bad\ufffd"
    assert video.path == folder / os.fsdecode(b"bad\xff.mp4")
    dataset = read_annotations(root)
    assert dataset.videos[video.id].labels == ("j\ufffdmp",)
    "\n".join(dataset.notes).encode()
    assert read_annotations(write_annotations(dataset, tmp_path / "a.json")).videos == dataset.videos
    found = {video.id: [Detection(0, 1, "j\ufffdmp", 0.5)]}
    for name in ("d.json", "d.csv"):
        assert read_detections(write_detections(found, tmp_path / name)) == found


def test_the_example_of_the_documentation(tmp_path):
    """The ids in docs/formats.md for its folder are those of the reader."""
    page = (REPOSITORY / "docs" / "formats.md").read_text(encoding="utf-8")
    section = page.partition("### folder")[2].partition("### wtalc")[0]
    rows = [
        re.split(r"\s{2,}", line.strip()) for line in section.partition("```text\n")[2].split("```")[0].splitlines()
    ]
    names = [f"{folder}{file}" for folder, *files in rows[1:] for file in files]
    assert set(read_annotations(make(tmp_path, *names)).videos) == {"high jump/jump-01", "jump-02", "run/jump-01"}
    assert all(f"`{name}`" in section for name in read_annotations(tmp_path).videos)


ENDINGS = ".3g2 .mxf .f4v .divx .qt .m2v .mpe .mod .m2t .insv .lrv .ogm .gif .MOD .Gif"


@pytest.mark.parametrize("suffix", ENDINGS.split())
def test_endings_that_hold_videos_are_taken(tmp_path, suffix):
    assert is_video_name(PurePath(f"x{suffix}"))
    assert [video.id for video in find_videos([make(tmp_path, f"x{suffix}")])] == ["x"]


def test_what_is_passed_over_is_counted_and_named(tmp_path):
    make(tmp_path, "run/a.mp4", "run/notes.txt", "photo.heic", "b.rmvb", "c.mkv.part", ".cache/x.mp4", "._a.mp4")
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    assert set(passed_over([tmp_path, tmp_path, tmp_path / "run" / "a.mp4"])) == {
        "files without a video's name, skipped: 4 (first: b.rmvb, c.mkv.part, photo.heic)",
        "folders and pipes with a video's name, skipped: 2 (folder.mp4, pipe.mp4)",
        "hidden files, skipped: 2 (._a.mp4, .cache/x.mp4)",
    }
    assert [video.id for video in find_videos([tmp_path])] == ["a"]


def test_a_folder_without_videos_is_refused_by_what_it_holds(tmp_path):
    with pytest.raises(UsageError, match=r"no videos in .*; files without a video's name.*b\.rmvb"):
        find_videos([make(tmp_path, "b.rmvb")])


@needs_shared
def test_cases_of_endings():
    folder = SHARED / "cases" / "08_suffixes"
    assert len(find_videos([folder])) == len(list(folder.iterdir()))
