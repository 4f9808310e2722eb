"""Output, declarations, omissions and checks of `wtal submit`."""

import json

import pytest
from click.testing import CliRunner

from tests.support.submissions import GOOD
from wtal.cli import main


def write_detections(path, external=None):
    entry = {"label": "Archery", "score": 0.5, "segment": [1, 2]}
    content = {"results": {"v_abc": [entry]}} | ({} if external is None else {"external_data": external})
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("external", "arguments", "stated", "asked"),
    [
        (None, [], {"used": False, "details": ""}, True),
        (None, ["--external-data", "none"], {"used": False, "details": ""}, False),
        (None, ["--external-data", "Kinetics-400"], {"used": True, "details": "Kinetics-400"}, False),
        ({"used": False, "details": "a trial"}, [], {"used": False, "details": "a trial"}, False),
        ({"used": True, "details": "Kinetics"}, [], {"used": True, "details": "Kinetics"}, False),
        ({"used": True, "details": "Kinetics"}, ["--external-data", "none"], {"used": False, "details": ""}, False),
    ],
)
def test_external_data_is_what_is_known_or_stated(tmp_path, external, arguments, stated, asked):
    file, out = write_detections(tmp_path / "found.json", external), tmp_path / "out.json"
    result = CliRunner().invoke(main, ["submit", str(file), "--challenge", "hacs", "--out", str(out), *arguments])
    assert result.exit_code == 0, result.output
    assert json.loads(out.read_text())["external_data"] == stated
    assert ("state it with --external-data" in result.stderr) is asked


def test_what_would_be_refused_is_not_written(tmp_path):
    file = tmp_path / "found.json"
    file.write_text(json.dumps({"results": {"abc": [{"label": "Flying", "score": 0.5, "segment": [1, 2]}]}}))
    out = tmp_path / "out" / "out.json"
    result = CliRunner().invoke(main, ["submit", str(file), "--challenge", "hacs", "--out", str(out)])
    assert result.exit_code == 1
    assert "'Flying'" in result.stderr
    assert list(out.parent.iterdir()) == []
    assert CliRunner().invoke(main, ["submit", str(file)]).exit_code == 2


@pytest.mark.parametrize(("most", "lost"), [((), 2), (("--max-per-video", "2"), 1), (("--max-per-video", "1"), 0)])
def test_what_lies_outside_of_its_video_is_left_out_and_counted(tmp_path, most, lost):
    segments = ([5, 8], [20, 30], [3, 3])
    entries = [{"label": "Archery", "score": 1 - i / 10, "segment": one} for i, one in enumerate(segments)]
    (tmp_path / "found.json").write_text(json.dumps({"results": {"abc": entries}}))
    known = {"subset": "testing", "duration": 10.0, "annotations": [{"label": "Archery", "segment": [1, 2]}]}
    (tmp_path / "truth.json").write_text(json.dumps({"database": {"abc": known}}))
    given = ("submit", tmp_path / "found.json", "--annotations", tmp_path / "truth.json", *most)
    result = CliRunner().invoke(main, [*map(str, given), "--challenge", "hacs", "--out", str(tmp_path / "out.json")])
    assert result.exit_code == 0, result.output
    assert len(json.loads((tmp_path / "out.json").read_text())["results"]["abc"]) == 1
    assert (f"left out: {lost}" in result.stderr) is bool(lost)
    assert ("left out" in result.stderr) is bool(lost)


def test_a_check_writes_nothing_and_a_folder_is_no_file(tmp_path):
    file = write_detections(tmp_path / "found.json")
    for arguments in ([file], ["--out", tmp_path / "o.json"], ["--max-per-video", 3], ["--results-only"]):
        result = CliRunner().invoke(main, ["submit", "--check", str(file), *map(str, arguments)])
        assert (result.exit_code, "leave out the options for writing one" in result.stderr) == (2, True)
    result = CliRunner().invoke(main, ["submit", str(file), "--challenge", "hacs", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert f"file '{tmp_path}' is a directory" in result.stderr
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_may_state_its_challenge(tmp_path):
    path = tmp_path / "a.json"
    for content, code, said in (
        (GOOD, 0, "would be accepted"),
        ({"results": {}, "version": "HACS v1.1.1", "external_data": {}}, 1, "would be refused"),
        ({"results": {"abc": 3}, "version": "mine"}, 2, "name one with --challenge activitynet|hacs"),
        ({"results": {}}, 2, "has no version; name the challenge with --challenge activitynet|hacs"),
    ):
        path.write_text(json.dumps(content))
        result = CliRunner().invoke(main, ["submit", "--check", str(path)])
        assert (result.exit_code, said in result.output) == (code, True), result.output
    path.write_text("{")
    assert CliRunner().invoke(main, ["submit", "--check", str(path)]).exit_code == 1
