"""Results of `wtal evaluate` on detections and scores: protocols, forms, comparisons, the origin of files."""

import csv
import io
import json

import pytest
from click.testing import CliRunner

from tests.support.judged import twelve_videos
from wtal.cli import main


@pytest.fixture
def collection():
    return twelve_videos()


@pytest.fixture
def files(tmp_path, collection):
    truth, good, poor = collection
    database = {
        name: {"subset": "validation", "annotations": [{"label": a.label, "segment": [a.start, a.end]} for a in found]}
        for name, found in truth.items()
    }
    (tmp_path / "truth.json").write_text(json.dumps({"database": database}))
    for name, found in (("good", good), ("poor", poor)):
        results = {
            video: [{"label": d.label, "score": d.score, "segment": [d.start, d.end]} for d in here]
            for video, here in found.items()
        }
        (tmp_path / f"{name}.json").write_text(json.dumps({"results": results}))
    return tmp_path


def call(*arguments):
    return CliRunner().invoke(main, ["evaluate", *map(str, arguments)])


@pytest.mark.parametrize("indent", [None, 1])
def test_what_a_file_says_of_itself_is_repeated(files, indent):
    content = json.loads((files / "good.json").read_text())
    (files / "stamped.json").write_text(json.dumps({**content, "wtal": STAMPS}, indent=indent))
    truth = ("--annotations", files / "truth.json")
    for more in (
        (),
        ("--task", "proposals"),
        ("--task", "classification"),
        ("--against", files / "poor.json", "--draws", 20),
    ):
        text = call(files / "stamped.json", *truth, *more).stdout
        assert "tuned with segments" in text
        assert text.splitlines()[-1] == "a dry run: features were made with random weights: rgb"
        value = json.loads(call(files / "stamped.json", *truth, *more, "--json").stdout)
        assert (value["tuned_with_segments"], value["random_weights"]) == (True, ["rgb"])
    assert (
        "tuned with segments"
        in call(files / "good.json", *truth, "--against", files / "stamped.json", "--draws", 20).stdout
    )
    csv_form = call(files / "stamped.json", *truth, "--format", "csv")
    assert "tuned" not in csv_form.stdout
    assert "tuned" in csv_form.stderr


def test_a_file_that_says_nothing_is_not_taken_at_its_word(files):
    truth = ("--annotations", files / "truth.json")
    content = json.loads((files / "good.json").read_text())
    sober = {"tuned_with_segments": False, "weights": {"rgb": "sha256 12", "flow": "none"}}
    forms = {"good": content, "sober": {**content, "wtal": sober}, "odd": {**content, "wtal": ["tuned_with_segments"]}}
    forms["named"] = {"results": {**content["results"], "wtal": []}}
    for name, form in forms.items():
        (files / f"{name}.json").write_text(json.dumps(form))
        made = call(files / f"{name}.json", *truth)
        assert made.exit_code == 0
        assert "tuned" not in made.output
        assert "random" not in made.output


def test_the_command_takes_ambiguous_ranges_and_video_level_scores(files):
    (files / "unsure.txt").write_text("video-00 0 90\n")
    given = ("--annotations", files / "truth.json", "--protocol", "snippet", "--ambiguous", files / "unsure.txt")
    judged = call(files / "good.json", *given)
    assert "left out: 2" in judged.stderr
    idle = call(files / "good.json", *given[:2], *given[4:])
    assert idle.exit_code == 2
    assert "the protocol 'activitynet' ignores --ambiguous" in idle.stderr
    scores = {f"video-{i:02d}": [{"label": ("run", "jump")[i % 2], "score": 1}] for i in range(12)}
    (files / "scores.json").write_text(json.dumps({"results": scores}))
    made = call(files / "scores.json", "--annotations", files / "truth.json", "--task", "classification")
    assert "those of the file" in made.stdout
    assert "mAP      100.00" in made.stdout


def test_the_command_judges_by_protocol_and_in_every_format(files):
    given = (files / "good.json", "--annotations", files / "truth.json")
    for protocol in ("thumos14", "thumos14-kit", "snippet", "snippet-best"):
        value = json.loads(call(*given, "--protocol", protocol, "--json").stdout)
        assert value["protocol"] == protocol
        assert [*value["averages"]] == ["0.1:0.5", "0.3:0.7", "0.1:0.7", "0.1:0.9"]
    assert [*json.loads(call(*given, "--protocol", "activitynet", "--json").stdout)["averages"]] == ["0.5:0.95"]
    assert json.loads(call(*given, "--protocol", "thumos14", "--tiou", "0.5", "--json").stdout)["mAP"] == {"0.5": 1.0}
    table = list(csv.DictReader(io.StringIO(call(*given, "--format", "csv").stdout)))
    assert [row["name"] for row in table] == ["mAP", "jump", "run"]
    assert float(table[0]["average 0.1:0.7"]) == 1
    assert "| mAP | 100.00 |" in call(*given, "--format", "markdown").stdout
    assert call(*given).stdout.splitlines()[-1].startswith("average ")
    wrong = call(*given, "--protocol", "tumos14")
    assert wrong.exit_code == 2
    assert "did you mean 'thumos14'" in wrong.stderr


def test_the_command_compares_and_judges_other_tasks(files):
    given = (files / "good.json", "--annotations", files / "truth.json")
    value = json.loads(call(*given, "--against", files / "poor.json", "--draws", 50, "--json").stdout)
    assert value["mAP"]["average"]["difference"]["low"] > 0
    assert (value["draws"], value["seed"]) == (50, 0)
    assert "A - B low" in call(*given, "--against", files / "poor.json", "--draws", 5, "--format", "csv").stdout
    assert json.loads(call(*given, "--task", "proposals", "--json").stdout)["AR"]["100"] > 0.5
    assert json.loads(call(*given, "--task", "classification", "--json").stdout)["mAP"] == 1
    assert "the highest of each label's detections" in call(*given, "--task", "classification").stdout
    assert call(*given, "--task", "proposals", "--against", files / "poor.json").exit_code == 2
    for task, option in (("proposals", "--protocol=snippet"), ("classification", "--tiou=0.5")):
        useless = call(*given, "--task", task, option)
        assert (useless.exit_code, option.partition("=")[0] in useless.stderr) == (2, True)


STAMPS = {"tuned_with_segments": True, "weights": {"rgb": "random 3", "flow": "none"}}
