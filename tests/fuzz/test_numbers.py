"""Flipped bits in files of numbers: detections are those of the sound files, or there is one line and none."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.fuzz.cases import DETECT, TRAINED
from tests.fuzz.damage import flipped
from tests.fuzz.planted import STORE, plant
from tests.fuzz.run import scratch
from wtal.cli import main

AGAIN = ("activations", "detections")
FILES = {
    "feature shard": (f"{STORE}/*.npy", DETECT, AGAIN),
    "feature index": (f"{STORE}/index.json", DETECT, AGAIN),
    "checkpoint": (f"{TRAINED}/checkpoint-*.pt", DETECT, AGAIN),
    "activation shard": (f"{TRAINED}/activations/*.npy", DETECT, ("detections",)),
    "activation index": (f"{TRAINED}/activations/index.json", DETECT, ("detections",)),
    "part": ("ws/runs/parts/seed-0/activations/parts/*.part", "detect ws/runs/parts/seed-0 --device cpu", ()),
    "stage": ("ws/runs/staged/seed-0/stage-0.pt", "detect ws/runs/staged/seed-0 --stage 0 --device cpu", ()),
    "mean shard": ("ws/runs/activations/activations/*.npy", "detect ws/runs/activations --device cpu", ("detections",)),
}
"""Kind -> files, a command that reads them, and folders of its run to remove before."""


@pytest.fixture(scope="module")
def planted():
    with scratch() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        (folder / "planted").mkdir()
        plant(folder / "planted")
        yield folder / "planted"


def detected(command):
    """Exit code, stderr and detections of a command."""
    result = CliRunner().invoke(main, [*command.split(), "--workspace", "ws"])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    file = result.stdout.strip()
    return result.exit_code, result.stderr, json.loads(Path(file).read_text())["results"] if file else None


@pytest.mark.parametrize("kind", FILES)
def test_flipped_bits_are_told_or_change_nothing(planted, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    pattern, command, before = FILES[kind]
    told = 0
    for number in range(13):
        rng = np.random.default_rng([number, *kind.encode()])
        monkeypatch.chdir(tmp_path)
        case = planted.with_name("case")
        shutil.copytree(planted, case)
        monkeypatch.chdir(case)
        for name in before:
            shutil.rmtree(Path(command.split()[1], name))
        files = sorted(Path().glob(pattern))
        file = files[rng.integers(len(files))]
        if number:
            file.write_bytes(flipped(rng, file.read_bytes(), 1 if number < 8 else 20))
        code, said, results = detected(command)
        if not number:
            sound = results
            assert code == 0
            assert sound
        elif code == 0:
            assert results == sound, (number, str(file))
        else:
            assert code == 1, said
            assert len([line for line in said.splitlines() if line.startswith("wtal: ")]) == 1
            told += 1
        shutil.rmtree(case)
        monkeypatch.chdir(tmp_path)
    assert told >= 5
