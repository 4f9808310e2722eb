"""Ctrl-C in real processes: one line, exit code 130, no process left, and the same command resumes."""

import json
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.support.planted import CLASSES, planted_videos
from tests.support.videos import constant, write_video
from wtal.data.files import write_json
from wtal.data.grid import SnippetGrid
from wtal.data.store.writer import StoreWriter
from wtal.pipeline.workspace import Workspace

LINE = "wtal: interrupted; run the same command again to resume"
PATIENCE = 60
COUNT = 8
"""Number of videos: the call has seconds of work left when the first one is done."""
WITHOUT_FLOW = ("--backbone", "motion-pyramid", "--streams", "rgb")


def start(*args):
    """The command in a session of its own, as a shell starts it."""
    words = [sys.executable, "-m", "wtal", *map(str, args)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(words, **pipes, text=True, start_new_session=True, preexec_fn=heed_interrupts)


def heed_interrupts():
    """Undo what a shell does for its background jobs, which ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_for(process, begun):
    """Wait until the call has begun its work."""
    end = time.monotonic() + PATIENCE
    while not begun():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def interrupt(process, everybody):
    """Press Ctrl-C: a terminal sends the signal to all processes of the call, `kill -INT` to one."""
    (os.killpg if everybody else os.kill)(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    return out, err


def is_over(group):
    """Return whether no process of a group is left; those that have just ended are given a moment."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def finish(*args):
    ended = subprocess.run([sys.executable, "-m", "wtal", *map(str, args)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended


def check(process, out, err):
    assert process.returncode == 130, err
    assert out == ""
    assert "Traceback" not in err
    assert err.splitlines()[-1] == LINE
    assert is_over(process.pid)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for number in range(COUNT):
        write_video(folder / f"v{number:02}.mp4", constant(25, 100))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("features", "jobs", "everybody"),
    [
        (WITHOUT_FLOW, 1, True),
        (("--backbone", "motion"), 1, False),
        (WITHOUT_FLOW, 2, True),
        (WITHOUT_FLOW, 2, False),
    ],
    ids=["one-everybody", "one-flow-alone", "two-everybody", "two-alone"],
)
def test_extract(videos, tmp_path, features, jobs, everybody):
    call = ("extract", videos, *features, "--workspace", tmp_path, "--jobs", jobs)
    process = start(*call)
    wait_for(process, lambda: list(tmp_path.glob("features/*/parts/*")))
    check(process, *interrupt(process, everybody))
    store = Path(finish(*call).stdout.strip())
    assert len(json.loads((store / "index.json").read_text())["videos"]) == COUNT


@pytest.fixture
def planted(tmp_path):
    root = Workspace(tmp_path / "workspace")
    writer = StoreWriter.open(root.features / "planted-12x12@25-000000", {"backbone": "planted"})
    database = {}
    for video in planted_videos(6, seed=0):
        grid = SnippetGrid(Fraction(25), 12 * len(video.streams["rgb"]), Fraction(12), 12)
        writer.write(video.id, grid, video.streams, {"reader": "none"})
        labels = [{"label": CLASSES[i]} for i in np.flatnonzero(video.labels)]
        database[video.id] = {"subset": "training", "annotations": labels}
    writer.publish()
    write_json(root.annotations / "planted.json", {"database": database})
    return root


NARROW = [
    *("--set", "head.name=basnet", "--set", "head.width=8", "--set", "head.filter_width=8"),
    *("--set", "train.checkpoint_every=20", "--set", "train.log_every=1"),
]


def steps(root):
    """The steps that the log of the only run has, in its order."""
    (log,) = root.runs.glob("*/seed-0/log.jsonl")
    return [json.loads(line)["step"] for line in log.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("everybody", [True, False])
def test_train(planted, everybody):
    call = ("train", "--workspace", planted.root, *NARROW, "--set", "train.steps=200")
    process = start(*call)
    wait_for(process, lambda: list(planted.runs.glob("*/seed-0/checkpoint-*.pt")))
    check(process, *interrupt(process, everybody))
    done = steps(planted)
    assert 20 <= done[-1] < 200
    folder = Path(finish(*call).stdout.strip())
    assert (folder / "finished.json").is_file()
    assert steps(planted) == list(range(1, 201))


@pytest.mark.slow
def test_run(videos, tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text("video,label\n" + "".join(f"v{n:02},{'ab'[n % 2]}\n" for n in range(COUNT)))
    root = Workspace(tmp_path / "workspace")
    call = ("run", videos, "--labels", labels, "--workspace", root.root, *WITHOUT_FLOW[:2], "--no-report")
    call = (*call, *NARROW, "--set", "train.steps=200", "--set", "extract.streams=['rgb']")
    process = start(*call)
    wait_for(process, lambda: list(root.features.glob("*/parts/*")))
    check(process, *interrupt(process, everybody=True))
    process = start(*call)
    wait_for(process, lambda: list(root.runs.glob("*/seed-0/checkpoint-*.pt")))
    check(process, *interrupt(process, everybody=True))
    assert steps(root)[-1] < 200
    assert "detections  " in finish(*call).stdout
    assert steps(root)[-1] == 200


def test_before_a_command_has_begun_nothing_is_promised(tmp_path):
    script = (
        "import signal, os\nfrom wtal import cli\n"
        "cli.Commands.get_command = lambda *args: os.kill(os.getpid(), signal.SIGINT)\n"
        "cli.main(['show', 'x'], prog_name='wtal')"
    )
    call = [sys.executable, "-c", script]
    ended = subprocess.run(call, capture_output=True, text=True, check=False, preexec_fn=heed_interrupts)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "wtal: interrupted\n")


def test_debug_keeps_the_code(tmp_path):
    code = "import click, sys\nfrom wtal.commands._console import Command\n"
    code += "@click.command(cls=Command)\ndef command(): raise KeyboardInterrupt\n"
    ended = subprocess.run(
        [sys.executable, "-c", f"{code}command()", "--debug"], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (130, "wtal: interrupted\n")
