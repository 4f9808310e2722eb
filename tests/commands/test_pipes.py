"""Pipes in place of files: no command waits for one, and each refuses it in one line."""

import json
import os
import shlex
import signal
from contextlib import contextmanager

import pytest
from click.testing import CliRunner

from tests.fuzz.planted import STORE, plant
from wtal.cli import main

RUN = "ws/runs/trained/seed-0"
JUDGED = "--annotations ws/annotations/planted.json"
REFUSED = "it is a pipe or a device, not a regular file; save it to a file first"
SECONDS = 20

CALLS = {
    "train {}": "pipe.toml",
    "train recipe.toml --annotations {}": "pipe.json",
    "run videos --labels labels/table.csv --recipe {}": "pipe.toml",
    "run videos --labels {}": "pipe.csv",
    "run videos --annotations {}": "pipe.json",
    "compare recipe.toml --ablation {}": "pipe.toml",
    f"detect {RUN} --set localize.preset={{}}": "pipe.toml",
    "detect {} videos/clip.mp4": "pipe.wtal",
    "evaluate {} " + JUDGED: "pipe.json",
    "evaluate found.json --annotations {}": "pipe.json",
    "evaluate found.json --against {} " + JUDGED: "pipe.csv",
    "evaluate {} --task classification " + JUDGED: "pipe.json",
    "evaluate found.json --protocol thumos14-kit --ambiguous {} " + JUDGED: "pipe.txt",
    "diagnose {} " + JUDGED: "pipe.json",
    "submit {} --challenge hacs": "pipe.json",
    "submit --check {} --challenge hacs": "pipe.json",
    "export {} --to csv": "pipe.json",
    "report {}": "pipe.json",
    "report found.json --annotations {}": "pipe.json",
    "clips {} --videos videos --out cut": "pipe.json",
    "review import {} reviewed/detections-label-studio.json": "pipe.json",
    "review import shown.json {} --videos videos": "pipe.json",
    "review import shown.json {} --videos videos --from boris": "pipe.csv",
    "review next {}": "pipe.json",
    "import-features {} --annotations ws/annotations/planted.json": "pipe.npy",
    "import-features published/npy-per-video --annotations {}": "pipe.json",
    "import-checkpoint {} --head basnet --recipe recipe.toml": "pipe.pt",
    "import-checkpoint authors.pt --head basnet --recipe {}": "pipe.toml",
    "extract videos --backbone torchvision:r3d_18 --weights {} --out extracted": "pipe.pt",
    "show {}": "pipe.json",
    "verify {}": "pipe.npy",
    "pack {} out.wtal": "pipe.json",
    "tune {}": "pipe.json",
}
"""Call -> name of the pipe in it."""

INSIDE = {
    f"show {STORE}": (f"{STORE}/failures.json",),
    f"verify {STORE}": (f"{STORE}/rgb-00000.npy", f"{STORE}/index.json"),
    f"pack {RUN} packed.wtal": (f"{RUN}/checkpoint-00000004.pt",),
    f"evaluate {RUN}": ("ws/annotations/planted.json",),
    "report shown.json": ("shown-verdicts.json",),
}
"""Call -> names of files that it reads; a pipe takes the place of each in turn."""


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A workspace with a file of every kind, and a pipe under every kind of name, also behind a link."""
    root = tmp_path_factory.mktemp("planted")
    plant(root)
    (root / "linked").mkdir()
    for name in set(CALLS.values()) | {"pipe.mp4"}:
        os.mkfifo(root / name)
        (root / "linked" / name).symlink_to(root / name)
    return root


@contextmanager
def limited():
    """Fail after a few seconds in a block that waits for a pipe."""

    def late(*_):
        raise AssertionError("it waits for the pipe")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def ended(*arguments):
    """The result of a call that must end within seconds."""
    with limited():
        return CliRunner().invoke(main, [*arguments], prog_name="wtal")


@pytest.mark.parametrize("folder", ["", "linked/"])
@pytest.mark.parametrize("call", CALLS)
def test_a_pipe_in_place_of_a_file_is_refused_at_once(call, folder, here):
    pipe = f"{folder}{CALLS[call]}"
    result = ended(*shlex.split(call.replace("{}", pipe)))
    assert result.stderr.splitlines()[-1] == f"wtal: cannot read {pipe}: {REFUSED}", (result.output, result.exception)
    assert result.exit_code == 2
    assert result.stdout == ""


@pytest.mark.parametrize(("call", "name"), [(call, name) for call, names in INSIDE.items() for name in names])
def test_a_pipe_among_the_files_of_a_folder_is_refused_at_once(call, name, here):
    file, aside = here / name, here / "aside"
    if file.exists():
        file.rename(aside)
    os.mkfifo(file)
    try:
        result = ended(*shlex.split(call))
    finally:
        file.unlink()
        if aside.exists():
            aside.rename(file)
    assert REFUSED in result.output, (result.output, result.exception)
    assert str(name) in result.output
    assert result.exit_code in (1, 2)


@pytest.mark.parametrize("pipe", ["pipe.mp4", "linked/pipe.mp4"])
def test_a_pipe_among_videos_is_the_failure_of_that_video(pipe, here, tmp_path):
    result = ended("extract", pipe, "--json", "--out", str(tmp_path / "out"))
    assert result.exit_code == 3, (result.output, result.exception)
    assert json.loads(result.stdout)["failures"] == {"pipe": "not a regular file: copy it to one first"}
