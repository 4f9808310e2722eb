"""A folder of `wtal detect` in place of its detection file, and the pages of a source side by side."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.support.viewed import write_collection
from wtal.cli import main

DATABASE = {
    video: {"subset": "validation", "duration": 4, "annotations": [{"label": label, "segment": [0.4, 1.6]}]}
    for video, label in (("first", "run"), ("second", "jump"), ("third", "run"))
}


def call(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def folder(tmp_path):
    """Folder like one of `wtal detect`, next to annotations."""
    (tmp_path / "answer").mkdir()
    write_collection(tmp_path / "answer")
    (tmp_path / "truth.json").write_text(json.dumps({"database": DATABASE}))
    return tmp_path / "answer"


@pytest.mark.parametrize(
    "arguments",
    [
        ("show",),
        ("export", "--to", "srt,csv", "--out", "OUT"),
        ("clips", "--videos", "VIDEOS", "--top", "1", "--out", "OUT"),
        ("report", "--out", "OUT"),
        ("review", "show"),
        ("evaluate", "--annotations", "TRUTH"),
        ("diagnose", "--annotations", "TRUTH", "--out", "OUT"),
        ("submit", "--challenge", "activitynet", "--annotations", "TRUTH", "--out", "OUT.json"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_folder_stands_for_its_file(folder, arguments):
    places = {"OUT": folder / "out", "VIDEOS": folder / "videos", "TRUTH": folder.parent / "truth.json"}
    places["OUT.json"] = folder / "out.json"
    verb = arguments[: 2 if arguments[0] == "review" else 1]
    options = [places.get(argument, argument) for argument in arguments[len(verb) :]]
    assert call(*verb, folder, *options) == call(*verb, folder / "detections.json", *options)


def test_the_page_of_a_diagnosis_is_not_that_of_a_report(folder):
    page = call("report", folder).strip()
    content = Path(page).read_text()
    diagnosis = call("diagnose", folder, "--annotations", folder.parent / "truth.json").splitlines()[-1]
    assert diagnosis != page
    assert Path(page).read_text() == content
