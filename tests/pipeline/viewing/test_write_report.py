"""Folder of a page: its contents, the messages, and a second call."""

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

from tests.support.viewed import entry_of, index_of, report_of, write_collection
from wtal.cli import main
from wtal.data.detections import read_detections
from wtal.data.segments import Detection
from wtal.data.verdicts import Verdicts, write_verdicts
from wtal.errors import FormatError, UsageError
from wtal.pipeline.viewing.gather import gather
from wtal.report.site_data import levels, parting_score, script, summary_row


def call(*arguments):
    return CliRunner().invoke(main, ["report", *map(str, arguments)])


def test_the_command_prints_the_page(tmp_path):
    file = write_collection(tmp_path)
    result = call(file, "--videos", tmp_path / "videos")
    assert result.exit_code == 0, result.output
    page = tmp_path / "detections-report" / "index.html"
    assert result.stdout.strip() == str(page)
    assert page.is_file()
    without = call(file, "--out", tmp_path / "out", "--json")
    assert json.loads(without.stdout)["page"] == str(tmp_path / "out" / "index.html")
    assert "videos without a file: first, second, third; give their folder with --videos" in without.stderr
    assert not list((tmp_path / "out").rglob("*.jpg"))
    for arguments, message in (((tmp_path / "none",), "does not exist"), ((file, "--videos", file), "--videos")):
        refused = call(*arguments)
        assert (refused.exit_code, message in refused.stderr) == (2, True)


def test_a_video_takes_little_room_and_names_its_times_to_the_letter(tmp_path):
    rng = np.random.default_rng(0)
    starts = rng.uniform(0, 3, 20)
    detections = {"a": [("run", float(s), float(s) + 0.7, 0.1 + i / 40) for i, s in enumerate(starts)]}
    file = write_collection(tmp_path, detections)
    _, report = report_of(file)
    folder = report.page.parent
    assert sum(path.stat().st_size for path in folder.rglob("0*")) <= 60_000
    entry = entry_of(report, 0)
    read = {(d.start, d.end, d.score) for d in read_detections(file)["a"]}
    assert {(start, end, score) for _, start, end, score in entry["detections"]} == read
    assert sorted(entry["sheet"]["pictured"]) == list(range(20))
    assert entry["source"] == "../videos/a.mp4"
    assert (entry["size"], entry["end"]) == ([160, 120], pytest.approx(4))


def test_a_second_call_replaces_the_data_and_an_equal_one_changes_nothing(tmp_path):
    file = write_collection(tmp_path)
    _, report = report_of(file)
    state = {path: path.read_bytes() for path in report.page.parent.rglob("*") if path.is_file()}
    assert report_of(file)[1] == report
    assert {path: path.read_bytes() for path in report.page.parent.rglob("*") if path.is_file()} == state
    content = json.loads(file.read_text())
    del content["results"]["third"]
    file.write_text(json.dumps(content))
    report_of(file)
    (data,) = report.page.parent.glob("data-*")
    assert not list(data.glob("00002*"))
    assert data.name in report.page.read_text()
    assert [path.name for path in report.page.parent.iterdir() if path.name.startswith(".")] == []


def test_verdicts_that_are_there_are_shown_and_damaged_ones_refused(tmp_path):
    file = write_collection(tmp_path)
    verdicts = tmp_path / "detections-verdicts.json"
    write_verdicts(Verdicts(looked_at=("first",)), verdicts)
    _, report = report_of(file)
    assert index_of(report)["verdicts"]["looked_at"] == ["first"]
    verdicts.write_text("{}}")
    with pytest.raises(FormatError, match=r"detections-verdicts\.json"):
        report_of(file)


def test_a_folder_of_detect_is_taken_and_an_empty_one_refused(tmp_path):
    file = write_collection(tmp_path)
    assert gather(tmp_path).source == file
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="is not a run"):
        gather(tmp_path / "empty")


def test_annotations_of_a_file_are_shown(tmp_path):
    file = write_collection(tmp_path)
    truth = tmp_path / "truth.json"
    entry = {"subset": "a", "duration": 4, "annotations": [{"label": "run", "segment": [0.4, 1.6]}]}
    truth.write_text(json.dumps({"database": {"first": entry}}))
    _, report = report_of(file, annotations=truth)
    classes = [known["name"] for known in index_of(report)["classes"]]
    assert entry_of(report, 0)["annotations"] == [[classes.index("run"), 0.4, 1.6]]
    assert entry_of(report, 0)["labels"] == [classes.index("run")]
    assert entry_of(report, 1)["labels"] is None


def test_copies_are_refused_where_the_disk_is_full(tmp_path, monkeypatch):
    file = write_collection(tmp_path, {"first": [("run", 1, 2, 0.5)]})
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 0))
    result = call(file, "--videos", tmp_path / "videos", "--proxies", "all")
    assert result.exit_code == 1
    assert "do not fit safely" in result.stderr
    assert not (tmp_path / "detections-report" / "index.html").exists()


def test_scores_part_where_their_groups_do():
    assert parting_score([0.01, 0.02, 0.05, 0.7, 0.8]) == 0.7
    assert parting_score([0.8, 0.9]) == 0.8  # all are in one group
    assert parting_score([-5.0, -4.9, -1.0]) == -1.0
    assert (parting_score([]), parting_score([0.3, 0.3])) == (0.0, 0.3)


def test_scripts_and_curves():
    text = script("video", 3, {"</script>": "\u2028\ud800"})
    assert text == 'wtal.video(3,{"\\u003c/script>":"\\u2028\\ud800"});\n'
    assert levels(np.array([0, 0.5, 1, 2, -1, np.nan])) == "Ag__AA"
    row = summary_row([Detection(1, 2, "run", 0.123456)], {"run": 4}, shift=0.5, end=10)
    assert row == [4, 0.1235, 150, 100]
