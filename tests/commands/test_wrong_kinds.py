"""Files and folders of another kind than a call needs: one line with what was wanted and what came, exit code 2."""

import re
import shlex

import pytest
from click.testing import CliRunner

from tests.fuzz.planted import STORE, plant
from wtal.cli import main
from wtal.data.kinds import kind_of

RUN = "ws/runs/trained/seed-0"
KINDS = {
    STORE: "a feature store",
    RUN: "a run",
    "ws/runs/trained": "a run",
    "ws": "a workspace",
    "published/npy-per-video": "exported features",
    "videos": "a folder of videos",
    "labels": "a folder of other files",
    "empty": "an empty folder",
    "watched": "a folder of wtal detect",
    "empty.json": "an empty file",
    "videos/clip.mp4": "a video",
    "renamed.json": "a binary file",
    "picture.png": "a picture",
    "one.wtal": "a packed model",
    "authors.pt": "a checkpoint",
    "array.npy": "a numpy array",
    "ws/annotations/planted.json": "annotations",
    "found.json": "detections",
    "found.csv": "detections",
    "labels/scores.json": "detections",
    "ws/verdicts.json": "verdicts",
    "labels/table.csv": "a table of labels",
    "recipe.toml": "a recipe",
    "reviewed/detections-label-studio.json": "JSON of another kind",
    "labels/ambiguous.txt": "plain text",
}
"""Path in the planted workspace -> its kind."""

VIDEO, JSON_OF_OTHERS = "videos/clip.mp4", "reviewed/detections-label-studio.json"
FILES = (VIDEO, "empty.json", "renamed.json", "picture.png", "one.wtal", "authors.pt", "array.npy", "recipe.toml")
TEXTS = ("labels/table.csv", "labels/ambiguous.txt")
OBJECTS = ("ws/annotations/planted.json", "ws/verdicts.json", JSON_OF_OTHERS)
FOLDERS = (STORE, "ws", "published/npy-per-video", "videos", "labels", "empty")
FOUND = "watched"

DETECTIONS = (*FILES, *TEXTS, *OBJECTS, *FOLDERS)
TABLE = {
    "export {} --to csv": DETECTIONS,
    "report {}": DETECTIONS,
    "clips {} --videos videos --out cut": DETECTIONS,
    "evaluate {} --annotations ws/annotations/planted.json": DETECTIONS,
    "evaluate found.json --annotations ws/annotations/planted.json --against {}": DETECTIONS,
    "evaluate {} --annotations ws/annotations/planted.json --task proposals": DETECTIONS,
    "evaluate {} --annotations ws/annotations/planted.json --task classification": DETECTIONS,
    "submit {} --challenge hacs": DETECTIONS,
    "submit --check {} --challenge hacs": (*FILES, *TEXTS, *FOLDERS, RUN, FOUND),
    "review import {} reviewed/detections-label-studio.json": DETECTIONS,
    "review import shown.json {} --videos videos": (
        *FILES,
        *TEXTS,
        *FOLDERS,
        RUN,
        FOUND,
        "ws/annotations/planted.json",
    ),
    "review import shown.json {} --videos videos --from boris": (*FILES, *TEXTS, *FOLDERS, RUN, FOUND, JSON_OF_OTHERS),
    "review import shown.json {} --videos videos --from label-studio": (*FILES, *TEXTS, *FOLDERS, "found.json"),
    "review next {}": DETECTIONS,
    "report found.json --annotations {}": (*FILES, "labels/ambiguous.txt", "found.json", *FOLDERS, RUN),
    "evaluate found.json --annotations {}": (*FILES, "labels/ambiguous.txt", "found.json", *FOLDERS, RUN),
    "detect {}": (*TEXTS, *OBJECTS, *FOLDERS, FOUND, VIDEO, "authors.pt"),
    "tune {}": (*FILES, *FOLDERS, FOUND),
}
"""Call -> paths for `{}`, each of another kind than it needs."""


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A workspace with a file of every kind, and some that no command writes."""
    root = tmp_path_factory.mktemp("planted")
    plant(root)
    (root / "empty").mkdir()
    (root / "watched").mkdir()
    (root / "watched/detections.json").write_bytes((root / "found.json").read_bytes())
    (root / "empty.json").write_text("")
    (root / "renamed.json").write_bytes((root / VIDEO).read_bytes())
    (root / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(64))
    (root / "array.npy").write_bytes((next((root / STORE).glob("*.npy"))).read_bytes())
    return root


@pytest.mark.parametrize("path", KINDS)
def test_the_kind_of_every_file_and_folder_is_named(path, here):
    assert kind_of(here / path) == KINDS[path]


@pytest.mark.parametrize("call", TABLE)
def test_another_kind_than_wanted_is_a_wrong_call(call, here):
    before = sorted(here.rglob("*"))
    for path in TABLE[call]:
        ended = CliRunner().invoke(main, shlex.split(call.replace("{}", path)), prog_name="wtal")
        said = f"{call} with {path}: {ended.output}{ended.exception!r}"
        assert ended.exit_code == 2, said
        assert ended.stdout == "", said
        lines = ended.stderr.splitlines()
        assert [line for line in lines if line.startswith("wtal: ")] == lines[-1:], said
        assert path in lines[-1], said
        assert KINDS[path] in lines[-1] or re.search(OTHERWISE.get(KINDS[path], "$^"), lines[-1]), said
    assert sorted(here.rglob("*")) == before


OTHERWISE = {
    "a folder of other files": r"holds neither run\.json nor ",
    "an empty folder": r"holds neither run\.json nor ",
    "JSON of another kind": r"got (\[|the keys |none)",
}
"""Kind -> pattern of a line that names its content."""


def test_a_store_in_place_of_a_run_is_told_what_trains_on_it(here):
    ended = CliRunner().invoke(main, ["export", STORE, "--to", "csv"], prog_name="wtal")
    assert ended.stderr == (
        f"wtal: {STORE} is not a run, but a feature store; wtal train --store {STORE} trains a run on it\n"
    )


def test_a_video_in_place_of_detections_is_told_what_makes_them(here):
    ended = CliRunner().invoke(main, ["report", VIDEO], prog_name="wtal")
    assert ended.stderr == (
        f"wtal: {VIDEO}: wanted a run or a detection file, got a video; wtal detect RUN {VIDEO} finds actions in it\n"
    )


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("refine x.wtal", "x.wtal does not exist; pass a run's folder or a file from `wtal pack`"),
        ("evaluate other/run.json", "other/run.json: wanted detections, got a run's record; pass its folder"),
        ("show clock.csv", "clock.csv: line 2: start: wanted seconds or a clock time, got '1:61'"),
        ("import-features nope", "nope does not exist; pass a folder or file of features"),
        (
            "import-features other --annotations nope",
            "--annotations: nope does not exist; pass a folder or file of annotations",
        ),
    ],
)
def test_a_wrong_path_is_named_with_the_way_out(arguments, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/run.json").write_text('{"recipe": {}}')
    (tmp_path / "clock.csv").write_text("video,label,start,end\na,run,1:61,63\n")
    ended = CliRunner().invoke(main, arguments.split(), prog_name="wtal")
    assert (ended.exit_code, ended.stderr) == (2, f"wtal: {line}\n")


def test_a_missing_choice_is_followed_by_the_choices():
    ended = CliRunner().invoke(main, ["import-checkpoint", "x"], prog_name="wtal")
    assert "wtal: --head is missing; choices: basnet, " in ended.stderr


def test_a_damaged_file_of_the_right_kind_is_no_wrong_call(here, tmp_path):
    damaged = tmp_path / "found.json"
    damaged.write_bytes((here / "found.json").read_bytes()[:-40])
    ended = CliRunner().invoke(main, ["export", str(damaged), "--to", "csv"], prog_name="wtal")
    assert ended.exit_code == 1
    assert len(ended.stderr.splitlines()) == 1


def test_detections_behind_a_long_head_are_still_read(here, tmp_path):
    late = tmp_path / "late.json"
    late.write_text('{"external_data": "' + "x" * 70_000 + '", ' + (here / "shown.json").read_text().lstrip("{ \n"))
    assert kind_of(late) == "JSON of another kind"
    ended = CliRunner().invoke(main, ["export", str(late), "--to", "csv", "--out", str(tmp_path / "out")])
    assert ended.exit_code == 0, ended.output
