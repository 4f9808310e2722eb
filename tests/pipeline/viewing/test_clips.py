"""`wtal clips`: names, the table, untouched files, refusals, the reel, and single failures."""

import csv
import json
import shutil

import av
import pytest
from click.testing import CliRunner

from tests.support.disks import Disk, die, killed
from tests.support.reference import SHARED, needs_shared
from tests.support.videos import constant, number_in, write_video
from wtal.cli import main
from wtal.errors import DiskFullError, UsageError
from wtal.extractors.decoding.probe import probe
from wtal.pipeline.viewing import clips as module
from wtal.pipeline.viewing.clips import cut_clips
from wtal.report.selection import Selection

ODD = SHARED / "data" / "odd"
REAL = [
    "nasa_13013.mp4",
    "nasa_13013_rotated.mp4",
    "h265_10bits.mp4",
    "test.avi",
    "testsrc2_odd_width_vp9.mp4",
    "test_non_zero_start.mp4",
    "sine_stereo_mp2.mpg",
    "no_duration.webm",
    "av1_video.mkv",
    "unordered.mov",
]
HOSTILE = ["../../up", "=cmd|' /C calc'!A0", "a\nb", "\u202egnp.exe", "<b>x</b>", "con", "x" * 300, "\U0001f600", ""]


def entry(label, start, end, score=0.5):
    return {"label": label, "score": score, "segment": [start, end]}


def detections(path, results):
    path.write_text(json.dumps({"results": results}))
    return path


@pytest.fixture
def folder(tmp_path):
    """Two videos of four seconds with a keyframe per second."""
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in ("a", "b"):
        write_video(videos / f"{name}.mp4", constant(25, 100), options={"g": "25", "sc_threshold": "0"})
    return videos


@pytest.fixture
def source(tmp_path):
    return detections(
        tmp_path / "detections.json",
        {"a": [entry("run", 1.2, 2.4, 0.9), entry("jump", 0.5, 1)], "b": [entry("run", 2, 3, 0.7)]},
    )


def rows(out):
    with (out / "clips.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def numbers(path):
    with av.open(str(path)) as container:
        return [number_in(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


def call(*arguments):
    return CliRunner().invoke(main, ["clips", *map(str, arguments), "--jobs", "1"])


def test_a_folder_of_copies_with_a_table(folder, source, tmp_path):
    out = tmp_path / "out"
    result = call(source, "--videos", folder, "--out", out)
    assert result.exit_code == 0, result.output
    names = ["a_001_jump_0.500s.mp4", "a_002_run_1.200s.mp4", "b_001_run_2.000s.mp4"]
    assert sorted(path.name for path in out.iterdir()) == [*names, "clips.csv"]
    table = rows(out)
    assert [row["file"] for row in table] == names
    assert [row["earlier (s)"] for row in table] == ["0.500", "0.200", "0.000"]
    assert {row["cut"] for row in table} == {"copied"}
    assert numbers(out / names[1])[:35] == list(range(25, 60))


def test_encoded_with_a_pad_and_a_choice(folder, source, tmp_path):
    out = tmp_path / "out"
    chosen = Selection(min_score=0.8, pad=0.2)
    clips = cut_clips(source, out, folder, chosen, reencode=True)
    assert numbers(clips.files[0]) == list(range(25, 65))
    assert [(row["start (s)"], row["end (s)"], row["earlier (s)"]) for row in rows(out)] == [
        ("1.000", "2.600", "0.000")
    ]


def test_what_is_there_is_left_alone_and_what_is_not_whole_is_cut_again(folder, source, tmp_path):
    out = tmp_path / "out"
    first = cut_clips(source, out, folder)
    before = {path: (path.stat().st_ino, path.read_bytes()) for path in first.files}
    first.files[0].write_bytes(before[first.files[0]][1][:900])
    first.files[1].unlink()
    again = cut_clips(source, out, folder)
    assert again.before == 1
    assert first.files[2].stat().st_ino == before[first.files[2]][0]
    assert {path: path.read_bytes() for path in again.files} == {path: text for path, (_, text) in before.items()}
    exact = cut_clips(source, out, folder, reencode=True)  # others than those that are there
    assert exact.before == 0


def test_after_a_kill_the_rest_is_cut(folder, source, tmp_path, monkeypatch):
    out, write = tmp_path / "out", module.write_atomic
    whole = {path.name: path.read_bytes() for path in cut_clips(source, tmp_path / "whole", folder).files}

    def second(path, content):
        return die() if "_002_" in path.name else write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_atomic", second)
        killed(lambda: cut_clips(source, out, folder))
    assert [path.name for path in out.iterdir()] == ["a_001_jump_0.500s.mp4"]
    again = cut_clips(source, out, folder)
    assert again.before == 1
    assert {path.name: path.read_bytes() for path in again.files} == whole


def test_a_video_that_fails_stops_no_other(folder, source, tmp_path):
    (folder / "a.mp4").write_bytes(b"no video at all")
    detections(source, {**json.loads(source.read_text())["results"], "c": [entry("run", 0, 1)]})
    result = call(source, "--videos", folder, "--out", tmp_path / "out")
    assert result.exit_code == 3
    assert "not cut: a: not a video" in result.stderr
    assert "not cut: c: no file of this name" in result.stderr
    assert [row["video"] for row in rows(tmp_path / "out")] == ["b"]
    shutil.rmtree(folder)
    folder.mkdir()
    result = call(source, "--videos", folder, "--out", tmp_path / "none")
    assert result.exit_code == 1
    assert "nothing could be cut: a: no file" in result.stderr


def test_two_files_of_a_name_are_named(folder, source, tmp_path):
    for name in ("c.mkv", "c.ts"):
        shutil.copy(folder / "b.mp4", folder / name)
    detections(source, {**json.loads(source.read_text())["results"], "c": [entry("run", 0, 1)]})
    said = f"c: 2 files of this name below {folder} (c.mkv, c.ts); keep one of them there"
    result = call(source, "--videos", folder, "--out", tmp_path / "out")
    assert result.exit_code == 3
    assert f"not cut: {said}" in result.stderr
    edited = tmp_path / "c-proj.llc"
    edited.write_text(json.dumps({"version": 1, "mediaFileName": "c.mkv", "cutSegments": []}))
    for words in (["export", source, "--to", "csv"], ["report", source], ["review", "import", source, edited]):
        others = CliRunner().invoke(main, [*map(str, words), "--videos", str(folder)])
        assert said.removeprefix("c: ") in others.stderr, others.output
        assert "give their folder" not in others.stderr
        assert "give its folder" not in others.stderr


def test_hostile_names_and_labels_stay_in_the_folder_and_apart(folder, tmp_path):
    labels = [*HOSTILE, "Run", "run"]
    (folder / "=a\u202e\nb.mp4").write_bytes((folder / "a.mp4").read_bytes())
    segments = [entry(label, 1, 1.2) for label in labels]
    source = detections(tmp_path / "detections.json", {"=a\u202e\nb": segments})
    clips = cut_clips(source, tmp_path / "out", folder)
    assert clips.failures == {}
    assert len({str(path).casefold() for path in clips.files}) == len(labels)
    assert {path.parent.resolve() for path in clips.files} == {tmp_path / "out"}
    for path in clips.files:
        assert path.is_file()
        assert path.name.isprintable()
        assert len(f".{path.name}.tmp".encode()) <= 255
    for row in rows(tmp_path / "out"):
        assert not any(cell.startswith(("=", "+", "-", "@")) or "\n" in cell for cell in row.values())


def test_a_full_disk_is_told_before_anything_begins(folder, source, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "free_bytes", lambda path: 3000)
    with pytest.raises(DiskFullError, match=r"clips of about .* MB do not fit on the disk of .* with 0\.0 MB free"):
        cut_clips(source, tmp_path / "out", folder)
    assert not (tmp_path / "out").exists()


def test_a_disk_that_fills_up_stops_the_call_and_the_next_goes_on(folder, source, tmp_path, monkeypatch):
    whole = {path.name: path.read_bytes() for path in cut_clips(source, tmp_path / "whole", folder).files}
    disk = Disk(monkeypatch)
    disk.fill(1000)
    result = call(source, "--videos", folder, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("wtal: cannot write")
    assert list((tmp_path / "out").iterdir()) == []
    disk.fill(None)
    assert {path.name: path.read_bytes() for path in cut_clips(source, tmp_path / "out", folder).files} == whole


def test_a_file_of_somebody_else_is_not_replaced(folder, source, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    mine = write_video(out / "a_001_jump_0.500s.mp4", constant(25, 5))
    with pytest.raises(UsageError, match="not a clip by wtal"):
        cut_clips(source, out, folder)
    assert numbers(mine) == list(range(5))
    assert len(cut_clips(source, out, folder, force=True).files) == 3


def test_a_reel_of_the_best_with_titles(folder, source, tmp_path):
    clips = cut_clips(source, tmp_path / "out", folder, reel=2)
    with av.open(str(clips.reel)) as container:
        titles = [chapter["metadata"]["title"] for chapter in container.chapters()]
        frames = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
        assert container.duration / av.time_base == pytest.approx(1.2 + 1, abs=0.04)
    assert titles == ["run 0.9 - a at 1.2 s", "run 0.7 - b at 2.0 s"]
    assert len(frames) == 55
    assert frames[0][-56:].max() > 200  # the title
    stamp = clips.reel.stat().st_mtime_ns
    assert cut_clips(source, tmp_path / "out", folder, reel=2).reel.stat().st_mtime_ns == stamp


def test_no_detection_is_chosen(folder, source, tmp_path):
    clips = cut_clips(source, tmp_path / "out", folder, Selection(min_score=2.0), reel=3)
    assert (clips.files, clips.reel, clips.notes) == ((), None, ("no detection was selected",))


@needs_shared
@pytest.mark.shared
@pytest.mark.parametrize("reencode", [False, True])
def test_real_odd_videos(reencode, tmp_path):
    """Every readable file is cut to the length of its detection, or longer if copied; packed B-frames are refused."""
    (tmp_path / "videos").mkdir()
    for name in REAL:
        shutil.copy(ODD / name, tmp_path / "videos" / name)
    results = {name.partition(".")[0]: [entry("x", 0.1, 0.3)] for name in REAL}
    source = detections(tmp_path / "d.json", results)
    clips = cut_clips(source, tmp_path / "out", tmp_path / "videos", reencode=reencode)
    assert clips.failures.keys() == (set() if reencode else {"test"})
    assert all("run backwards: cut it with --reencode" in reason for reason in clips.failures.values())
    for row in rows(tmp_path / "out"):
        with av.open(str(tmp_path / "out" / row["file"])) as container:
            seconds = container.duration / av.time_base
            assert next(container.decode(video=0)).width > 0
        wanted = float(row["end (s)"]) - float(row["start (s)"]) + float(row["earlier (s)"])
        assert seconds >= wanted - (0.04 if reencode else 0.002), row
        assert seconds <= wanted + 0.04 or not reencode, row
    (turned,) = (tmp_path / "out").glob("nasa_13013_rotated*")
    assert probe(turned).rotation == probe(ODD / "nasa_13013_rotated.mp4").rotation
