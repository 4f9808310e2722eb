"""Results of `wtal diagnose` and `wtal evaluate --plots` on detections."""

import json
import re
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from tests.support.judged import odd_videos
from tests.support.pages import read
from tests.support.reference import SHARED, needs_shared
from wtal.cli import main
from wtal.eval import diagnose_detections


@pytest.fixture(scope="module")
def scene():
    return odd_videos()


@pytest.fixture
def files(tmp_path, scene):
    truth, found, durations = scene
    database = {
        name: {
            "subset": "validation",
            "duration": durations[name],
            "annotations": [{"label": a.label, "segment": [a.start, a.end]} for a in here],
        }
        for name, here in truth.items()
    }
    (tmp_path / "truth.json").write_text(json.dumps({"database": database}))
    results = {
        name: [{"label": d.label, "score": d.score, "segment": [d.start, d.end]} for d in here]
        for name, here in found.items()
    }
    made = {"weights": {"rgb": "random 3", "flow": "sha256 ab"}, "tuned_with_segments": True, "use_labels": False}
    (tmp_path / "found.json").write_text(json.dumps({"results": results, "wtal": made}))
    return tmp_path


def call(*arguments):
    return CliRunner().invoke(main, [*map(str, arguments)])


def test_a_detection_file_is_diagnosed(files, scene):
    truth, found, durations = scene
    given = (files / "found.json", "--annotations", files / "truth.json", "--tiou", "0.3:0.7:0.1")
    said = call("diagnose", *given)
    assert said.exit_code == 0, said.output
    page = files / "found-diagnosis" / "index.html"
    assert said.stdout.splitlines()[-1] == str(page)
    words = " ".join(read(page).text)
    assert "random weights: the features of rgb" in words
    assert "tuned with segments" in words
    assert "random weights" in said.stdout
    value = json.loads((page.parent / "diagnosis.json").read_text())
    judged = json.loads(call("evaluate", *given, "--json").stdout)
    assert value["mAP"] == judged["mAP"]
    assert {key: one["mAP"] for key, one in value["diagnosis"].items()} == judged["mAP"]
    for one in value["diagnosis"].values():
        assert one["mAP"] + sum(one["gain_shared"].values()) == pytest.approx(1)
    shown = [line.split()[-5:] for line in said.stdout.splitlines() if re.match(r"[a-z ]+ +\d+\.", line, re.IGNORECASE)]
    assert np.array(shown, float).sum(axis=0) == pytest.approx(100, abs=0.05)
    made = diagnose_detections(truth, found, (0.5,), durations=durations)
    assert value["diagnosis"]["0.5"]["by"]["length"]["XS"]["annotations"] == made.annotations
    assert "nearly all annotations have length XS; --buckets fifths" in words
    assert f"{100 * judged['mAP']['0.5']:.2f}" in words
    pictures = {path.stem for path in page.parent.glob("*.png")}
    assert pictures == {
        "map-by-tiou",
        "precision-recall",
        "points",
        "errors-by-rank",
        "gains",
        "sensitivity",
        "missed",
        "average-recall",
    }


@pytest.mark.slow
def test_options_choose_threshold_buckets_and_folder(files):
    given = ("diagnose", files / "found.json", "--annotations", files / "truth.json", "--out", files / "out")
    value = json.loads(call(*given, "--at", 0.7, "--buckets", "fifths", "--json").stdout)
    assert value["page"] == str(files / "out" / "index.html")
    assert value["buckets"] == "fifths"
    assert value["diagnosis"]["0.7"]["by"]["length"]["XL"]["annotations"] == 9
    words = " ".join(read(files / "out" / "index.html").text)
    assert "At tIoU 0.7." in words
    assert json.loads(call(*given, "--protocol", "thumos14", "--json").stdout)["buckets"] == "thumos14"


def test_wrong_calls_have_one_line(files, monkeypatch):
    given = ("diagnose", files / "found.json", "--annotations", files / "truth.json")
    (files / "file").write_text("")
    for extra, code, message in (
        (("--at", 0.33), 2, "--at 0.33 is not one of the thresholds: 0.1, 0.2"),
        (("--out", files / "file"), 2, "--out takes a folder"),
        (("--subset", "training"), 2, "no subset 'training'"),
        (("--out", files / "file" / "below"), 1, "Not a directory"),
    ):
        said = call(*given, *extra)
        assert (said.exit_code, message in said.stderr, said.stdout) == (code, True, ""), said.stderr
        assert len(said.stderr.splitlines()) == 1
    assert call("diagnose", files / "found.json").exit_code == 2
    assert "does not exist" in call("diagnose", files / "none.json").stderr
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    said = call(*given)
    assert (said.exit_code, said.stderr) == (1, "wtal: matplotlib is not installed; run: pip install 'wtal[report]'\n")
    assert not (files / "found-diagnosis").exists()
    assert call("evaluate", *given[1:], "--plots", files / "plots").exit_code == 1


def test_evaluate_draws_its_figures(files):
    given = ("evaluate", files / "found.json", "--annotations", files / "truth.json")
    said = call(*given, "--plots", files / "plots")
    assert said.exit_code == 0, said.output
    assert said.stdout == call(*given).stdout
    assert call(*given, "--plots", files / "plots", "--task", "proposals").exit_code == 0
    assert {path.name for path in (files / "plots").iterdir()} == {
        "map-by-tiou.png",
        "precision-recall.png",
        "average-recall.png",
    }
    assert call(*given, "--plots", files / "plots", "--task", "classification").exit_code == 2
    assert call(*given, "--plots", files / "plots", "--against", files / "found.json").exit_code == 2


@needs_shared
def test_published_detections_have_a_page(tmp_path):
    folder = SHARED / "data/predictions/scnn"
    truth = ("--annotations", folder / "thumos14_test_annotations.json", "--subset", "test")
    given = ("diagnose", folder / "detections_tiou0.5.json", *truth, "--protocol", "thumos14-kit", "--out", tmp_path)
    said = call(*given)
    assert said.exit_code == 0, said.output
    value = json.loads((tmp_path / "diagnosis.json").read_text())
    expected = json.loads((folder / "expected.json").read_text())
    assert value["mAP"]["0.5"] == pytest.approx(expected["mAP"]["0.5"], abs=expected["tolerance"], rel=0)
    assert [*value["diagnosis"]["0.5"]["by"]] == ["length", "instances"]
    assert any("left out of coverage: 212" in note for note in value["notes"])
    assert (tmp_path / "index.html").stat().st_size < 2 << 20
