"""Small collection of rendered videos, and a run of a few steps with detections in all of them."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.support.videos import constant, write_video
from wtal.cli import main

LAST = "v4"
"""Video without a label."""


@dataclass(frozen=True)
class Collection:
    """Folder of the videos, workspace, run, and the run's detections in all videos."""

    videos: Path
    workspace: Path
    run: Path
    detections: Path

    def found(self, video):
        return json.loads(self.detections.read_text())["results"][video]


def call(*arguments, code=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, f"{result.output}{result.exception!r}"
    return result


def line_of(*arguments, code=1):
    """Line printed by a refused call."""
    lines = call(*arguments, code=code).stderr.strip().splitlines()
    assert lines[-1].startswith("wtal: ")
    assert sum(line.startswith("wtal: ") for line in lines) == 1
    return lines[-1]


def results(file):
    return json.loads(Path(file).read_text())["results"]


@pytest.fixture(scope="session")
def collection(tmp_path_factory):
    root = tmp_path_factory.mktemp("collection")
    (root / "videos").mkdir()
    for number in range(5):
        write_video(root / f"videos/v{number}.mp4", constant(25, 50 + 5 * number), first_number=37 * number)
    labels = root / "labels.csv"
    labels.write_text("video,label\n" + "".join(f"v{number},{'ab'[number % 2]}\n" for number in range(4)))
    steps = ("--set", "train.steps=4", "--quick")
    answer = call("run", root / "videos", "--labels", labels, *steps, "--workspace", root / "ws", "--json").stdout
    made = json.loads(answer)
    return Collection(root / "videos", root / "ws", Path(made["runs"][0]), Path(made["detections"][0]))
