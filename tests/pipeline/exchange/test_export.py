"""`wtal export`: selection, files, messages, refusals."""

import csv
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.support.stores import extract
from tests.support.videos import constant, write_video
from wtal.cli import main
from wtal.data.detections import begins_of, read_detections, write_detections
from wtal.data.files import write_json
from wtal.data.grid import SnippetGrid
from wtal.data.segments import Detection
from wtal.data.store.writer import StoreWriter
from wtal.pipeline.exchange.export_detections import export
from wtal.pipeline.exchange.export_names import export_names, safe_name
from wtal.pipeline.recipe import Recipe
from wtal.pipeline.runs import Run
from wtal.report.exports import EXPORTS, ExportVideo
from wtal.report.selection import Selection


def entry(label, start, end, score=0.5):
    return {"label": label, "score": score, "segment": [start, end]}


@pytest.fixture
def collection(tmp_path):
    """Detection file and folder of its two videos, one of them in a sub-folder."""
    folder = tmp_path / "videos"
    (folder / "more").mkdir(parents=True)
    write_video(folder / "a.mp4", constant(25, 100))
    write_video(folder / "more" / "b.mp4", constant(Fraction(30000, 1001), 90), unit=Fraction(1, 30000))
    results = {"a": [entry("run", 0.5, 1.5, 0.9), entry("jump", 1, 9, 0.4)], "b": [entry("run", 1, 2, 0.7)]}
    file = tmp_path / "detections.json"
    file.write_text(json.dumps({"results": results}))
    return file, folder


def call(*arguments):
    return CliRunner().invoke(main, ["export", *map(str, arguments)])


def test_a_playlist_leaves_out_only_the_video_whose_name_has_a_line_break(collection, tmp_path):
    file, folder = collection
    (folder / "a.mp4").rename(folder / "two\nlines.mp4")
    results = {"two\nlines": [entry("run", 0.5, 1.5, 0.9)], "b": [entry("run", 1, 2, 0.7)]}
    file.write_text(json.dumps({"results": results}))
    result = call(file, "--to", "m3u8", "--videos", folder, "--out", tmp_path / "out")
    assert result.exit_code == 3
    lines = result.stderr.splitlines()
    assert sum("not exported as m3u8" in line and "a line break" in line and "b," not in line for line in lines) == 1
    playlist = (tmp_path / "out" / "detections.m3u8").read_text().splitlines()
    assert [line for line in playlist if not line.startswith("#")] == [str(folder / "more" / "b.mp4")]


def test_a_note_names_files_that_their_program_does_not_find(collection, tmp_path):
    file, folder = collection
    write_video(folder / "A.mkv", constant(25, 100))
    results = {"a.mp4": [entry("run", 0.5, 1.5, 0.9)], "A.mkv": [entry("run", 1, 2, 0.7)], "b": [entry("run", 1, 2)]}
    file.write_text(json.dumps({"results": results}))
    result = call(file, "--to", "llc,kodi,srt", "--videos", folder, "--out", tmp_path / "out")
    assert result.exit_code == 0
    notes = [line for line in result.stderr.splitlines() if "by hand" in line]
    assert len(notes) == 2
    for program, name, usual in (("LosslessCut", "A.mkv-proj.llc", "A-proj.llc"), ("Kodi", "A.mkv.edl", "A.edl")):
        assert (tmp_path / "out" / name).is_file()
        assert sum(f"A.mkv: {program} looks for {usual}" in note and f"so {name} does" in note for note in notes) == 1


def test_every_format_of_a_collection(collection, tmp_path):
    file, folder = collection
    result = call(file, "--to", ",".join(EXPORTS.names()), "--videos", folder, "--out", tmp_path / "out")
    assert result.exit_code == 3
    assert result.stderr.count("not exported as") == 1, result.stderr  # three seconds have no three chapters
    paths = [Path(line) for line in result.stdout.splitlines()]
    assert all(path.is_file() and path.is_relative_to(tmp_path / "out") for path in paths)
    assert len(paths) == len(set(map(str, paths))) > len(EXPORTS.names())
    assert (tmp_path / "out" / "more" / "b-proj.llc").is_file()
    again = call(file, "--to", ",".join(EXPORTS.names()), "--videos", folder, "--out", tmp_path / "out")
    assert again.exit_code == 3
    assert again.stdout == result.stdout


def test_detections_are_cut_to_their_video(collection, tmp_path):
    file, folder = collection
    written = export(file, ["activitynet"], tmp_path / "out", videos=folder)
    assert [d.end for d in read_detections(written.files[0])["a"]] == [1.5, 4.0]


def test_a_class_that_is_named_like_a_part_of_the_format_is_renamed_and_told(collection, tmp_path):
    file, folder = collection
    labels = ("other", "background", "(other)")
    own = [entry(label, start, start + 1) for start, label in enumerate(labels)]
    write_json(file, {"results": {"a": own, "b": [entry("other", 1, 2)]}})
    result = call(file, "--to", "feral,deepethogram,chapters,srt", "--videos", folder, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert [line for line in result.stderr.splitlines() if "is named" in line] == [
        "note: feral: class 'other' is named 'other (2)', as the format has its own 'other'",
        "note: deepethogram: class 'background' is named 'background (2)', as the format has its own 'background'",
        "note: chapters: class '(other)' is named '(other) (2)', as the format has its own '(other)'",
    ]
    names = json.loads((tmp_path / "out" / "detections-feral.json").read_text())["class_names"]
    assert names == {"0": "other", "1": "(other)", "2": "background", "3": "other (2)"}
    header = (tmp_path / "out" / "a_labels.csv").read_text().splitlines()[0]
    assert header == ",background,(other),background (2),other"
    assert "title=(other) (2)" in (tmp_path / "out" / "a.ffmetadata").read_text()


def test_the_default_folder_and_json(collection):
    file, _ = collection
    result = call(file, "--to", "srt,csv", "--json")
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert {Path(path).name for path in content["files"]} == {"a.srt", "b.srt", "detections.csv"}
    assert {Path(path).parent for path in content["files"]} == {file.parent / "detections-exports"}
    assert "--videos" in content["notes"][0]
    assert content["failures"] == []


def test_a_file_that_is_there_is_replaced_with_force_alone(collection, tmp_path):
    file, folder = collection
    subtitles = folder / "a.srt"
    subtitles.write_text("somebody's own")
    result = call(file, "--to", "srt", "--videos", folder, "--out", folder)
    assert result.exit_code == 2
    assert "--force" in result.stderr
    assert subtitles.read_text() == "somebody's own"
    assert not (folder / "more" / "b.srt").exists()
    assert call(file, "--to", "srt", "--videos", folder, "--out", folder, "--force").exit_code == 0
    assert "run 0.9" in subtitles.read_text()


def test_a_format_that_needs_the_file_says_so(collection):
    file, _ = collection
    result = call(file, "--to", "llc")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].count("--videos") == 1
    result = call(file, "--to", "llc,srt")
    assert result.exit_code == 3
    assert "not exported as llc: a, b" in result.stderr


def test_a_broken_video_does_not_stop_the_others(collection, tmp_path):
    file, folder = collection
    (folder / "a.mp4").write_bytes(b"nothing")
    result = call(file, "--to", "srt", "--videos", folder, "--out", tmp_path / "out")
    assert result.exit_code == 3
    assert "not a video" in result.stderr
    assert [Path(line).name for line in result.stdout.splitlines()] == ["b.srt"]


@pytest.fixture
def run(tmp_path):
    """Run with a store of two videos, and detections that last longer than one of them."""
    store = extract(tmp_path / "store", ["short", "zebra"])
    recipe = Recipe.parse({"head": {"name": "basnet"}}).plain()
    nothing = {"features": {}, "feature_dims": {}, "classes": [], "tuned_with_segments": False}
    record = {"recipe": recipe, "seed": 0, "store": "../../store", "annotations": "../../a.json", **nothing}
    run = Run.write(tmp_path / "run" / "seed-0", record)
    results = {"short": [Detection(0.0, 900.0, "run", 0.5)], "zebra": [Detection(0.1, 0.2, "run", 0.5)]}
    write_detections(results, run.detections_file())
    return run, store.grid("short").duration


def test_a_run_has_detections_and_durations(run):
    run, duration = run
    written = export(run.folder.parent, ["activitynet", "vtt"])
    assert {file.parent for file in written.files} == {run.folder / "exports"}
    assert read_detections(written.files[0])["short"][0].end == pytest.approx(duration)
    assert call(run.folder, "--to", "vtt", "--json").exit_code == 0


def test_a_late_picture_is_as_long_as_its_frames(run):
    """Write a video whose sound begins at second 0, two seconds before ten seconds of picture."""
    run, _ = run
    writer = StoreWriter.open(run.folder / "../../late", {"features": "planted"})
    grid = SnippetGrid(Fraction(25), 250, Fraction(25), 25, begins=Fraction(2))
    writer.write("x", grid, {"rgb": np.zeros((10, 1), np.float32)}, {}, "x")
    writer.publish()
    record = json.loads((run.folder / "run.json").read_text())
    late = Run.write(run.folder, {**record, "store": "../../late"})
    results = {"x": [Detection(grid.end - 1, grid.end, "run", 0.5)]}
    write_detections(results, late.detections_file(), origin=begins_of({"x": grid.begins}))
    (file,) = export(run.folder, ["activitynet"]).files
    assert read_detections(file)["x"] == [Detection(9.0, 10.0, "run", 0.5)]


def test_a_run_without_detections_says_what_to_call(run):
    run, _ = run
    run.detections_file().unlink()
    result = call(run.folder, "--to", "vtt")
    assert result.exit_code == 2
    assert "wtal detect" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--to", "stl"), "there is no export 'stl'"),
        (("--to", ","), "--to takes one or more formats, got none; choices: "),
        (("--to", "srt", "--classes", "runs"), "did you mean 'run'"),
        (("--to", "srt", "--pad", "-1"), "seconds from 0"),
        (("--to", "srt", "--top", "0"), "0 is not in the range x>=1"),
        (("--to", "srt", "--min-score", "nan"), "finite"),
        (("--to", "srt", "--videos", "nowhere"), "nowhere is not one"),
    ],
)
def test_a_wrong_call_is_refused_in_one_line(collection, arguments, line):
    result = call(collection[0], *arguments)
    assert result.exit_code == 2
    assert line in result.stderr
    assert len([line for line in result.stderr.splitlines() if line.startswith("wtal: ")]) == 1


def test_the_selection_is_taken_in_its_order():
    detections = [
        Detection(1.0, 2.0, "run", 0.9),
        Detection(2.5, 3.0, "run", 0.3),
        Detection(2.2, 4.0, "jump", 0.8),
        Detection(8.0, 9.5, "run", 0.7),
        Detection(30.0, 31.0, "run", 0.6),
    ]
    chosen, outside = Selection(classes=("run",), merge=0.5, pad=1.0, top=3).of(detections, 10.0)
    assert [(d.start, d.end, d.score) for d in chosen] == [(0.0, 4.0, 0.9), (7.0, 10.0, 0.7)]
    assert outside == 1
    assert [d.label for d in Selection(min_score=0.75).of(detections, None)[0]] == ["run", "jump"]


NAMES = (
    "../../etc/passwd",
    "/abs",
    "..",
    ".",
    "",
    "a\nb",
    "con",
    "COM1.txt",
    "x" * 400,
    "\u202egnp",
    "-rf",
    "a:b*c?",
    "é\udcff",
    "日" * 200,
)


def test_no_name_leads_out_of_the_folder_or_hides():
    names = [safe_name(name) for name in NAMES]
    for name in names:
        assert Path(name).name == name
        assert not name.startswith((".", "-"))
        assert 0 < len(name.encode()) <= 200
        assert name.isprintable()
    assert safe_name("con") != "con"


def test_names_are_never_equal():
    videos = [ExportVideo(name, ()) for name in ("a/b", "a_b", "A_B", "a?b", "a_b (2)")]
    names = export_names(videos, exact=False)
    assert len({str(name).casefold() for name in names}) == len(videos)
    twins = [ExportVideo(n, (), Path("/v") / n, n) for n in ("clip.mp4", "clip.avi", "Clip.mov")]
    assert [str(name) for name in export_names(twins, exact=True)] == ["clip", "clip.avi", "Clip.mov"]


def test_hostile_ids_stay_in_the_folder(tmp_path):
    file = tmp_path / "hostile.json"
    names = [name for name in NAMES if "\udcff" not in name]  # half a character is refused
    file.write_text(json.dumps({"results": {name: [entry("=cmd", 1, 2)] for name in names}}))
    out = tmp_path / "out"
    result = call(file, "--to", "srt,vtt,csv,losslesscut-csv,chapters,activitynet,fiftyone", "--out", out)
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == 4 * len(names) + 3
    assert {path.parent for path in tmp_path.rglob("*") if path.is_file()} == {tmp_path, out}


def test_a_link_out_of_the_folder_is_not_followed(collection, tmp_path):
    file, folder = collection
    out, outside = tmp_path / "out", tmp_path / "outside"
    out.mkdir()
    outside.mkdir()
    (out / "more").symlink_to(outside)
    result = call(file, "--to", "srt", "--videos", folder, "--out", out)
    assert result.exit_code == 2
    assert "leads out of" in result.stderr
    assert list(outside.iterdir()) == []


def test_names_of_one_format_do_not_meet_those_of_another(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("a", "a-markers"):
        write_video(folder / f"{name}.mp4", constant(25, 50))
    file = tmp_path / "d.json"
    file.write_text(json.dumps({"results": {name: [entry("run", 0.5, 1)] for name in ("a", "a-markers")}}))
    written = export(file, ["resolve-markers", "kodi"], tmp_path / "out", videos=folder)
    assert sorted(path.name for path in written.files) == [
        "a-markers (2).edl",
        "a-markers-markers.edl",
        "a-markers.edl",
        "a.edl",
    ]
    assert (tmp_path / "out" / "a-markers.edl").read_text() == "0.500 0.500 2\n"


def test_seconds_beyond_any_video_fail_that_video(tmp_path):
    results = {"far": [entry("jump", 1, 1e308)], "near": [entry("jump", 1, 2)]}
    file = write_json(tmp_path / "found.json", {"results": results})
    names = ",".join(name for name in EXPORTS.names() if not EXPORTS.load(name).EXPORT.needs)
    result = call(file, "--to", names, "--out", tmp_path / "out")
    assert result.exit_code == 3, repr(result.exception)
    assert "a detection ends at second 1e+308, but no video is longer than 1e+09 s" in result.stderr
    assert call(file, "--to", "csv", "--pad", "1e308").exit_code == 2


def test_what_the_label_check_doubts_is_said(tmp_path):
    """A table has a verdict per detection; formats without verdicts are written with a note."""
    verdicts = {"run": "learned", "jump": "not learned", "climb": "weak"}
    results = {"a": [Detection(0.5, 1.5, "run", 0.9), Detection(2.0, 3.0, "jump", 0.4)]}
    file = write_detections(results, tmp_path / "detections.json", origin={"label_check": verdicts})
    said = call(file, "--to", "csv,srt", "--out", tmp_path / "out")
    assert said.exit_code == 0, said.stderr
    assert "the label check doubts jump: not learned" in said.stderr
    assert "climb" not in said.stderr
    with (tmp_path / "out" / "detections.csv").open(newline="") as table:
        rows = [*csv.DictReader(table)]
    assert {row["label"]: row["label check"] for row in rows} == {"run": "learned", "jump": "not learned"}


def test_chapters_go_into_copies(collection, tmp_path):
    file, folder = collection
    write_video(folder / "c.avi", constant(25, 50), codec="mpeg4")
    content = json.loads(file.read_text())
    content["results"]["c"] = [entry("run", 0.5, 1.5)]
    file.write_text(json.dumps(content))
    options = ("--to", "chapters", "--into-copies", "--videos", folder, "--out", tmp_path / "out")
    result = call(file, *options)
    assert result.exit_code == 3
    assert "not exported as copies with chapters: c: files like .avi cannot hold chapters" in result.stderr
    copies = [Path(line) for line in result.stdout.splitlines() if "-chapters" in line]
    assert [path.relative_to(tmp_path / "out").as_posix() for path in copies] == [
        "a-chapters.mp4",
        "more/b-chapters.mp4",
    ]
    whole = [path.read_bytes() for path in copies]
    copies[1].unlink()
    assert call(file, *options).stdout == result.stdout
    assert [path.read_bytes() for path in copies] == whole
    copies[0].write_bytes(b"another")
    copies[1].unlink()
    refused = call(file, *options)
    assert (refused.exit_code, copies[0].read_bytes(), copies[1].exists()) == (2, b"another", False)
    assert f"{copies[0]} already exists; choose another --out, or replace it with --force" in refused.stderr
    assert call(file, *options, "--force").exit_code == 3
    assert [path.read_bytes() for path in copies] == whole
    assert "--to chapters" in call(file, "--to", "srt", "--into-copies").stderr
