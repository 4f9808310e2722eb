"""Every writing command on a full disk: one line, and then the same bytes from the same call."""

import shutil
from pathlib import Path

import pytest
import torch

from tests.support.bases import NARROW, STORE, TRUTH, answer, call, named
from tests.support.disks import Disk
from wtal.data.layouts import LAYOUTS
from wtal.errors import DiskFullError
from wtal.models.training.board import Board
from wtal.models.training.log import TrainLog

EXPORTS = [
    ("export-features", STORE[1], "sub/out", "--layout", layout, "--streams", "rgb") for layout in LAYOUTS.names()
]
CALLS = [
    ("train", "kth/basnet", *STORE, *TRUTH, *NARROW, "--seeds", "1"),
    ("import-checkpoint", "--head", "basnet", "basnet.pt", *STORE, *TRUTH),
    ("detect", "RUN1"),
    ("ensemble", "RUN0", "RUN1"),
    ("ensemble", "RUN0", "RUN1", "--by", "detections"),
    ("compare", "kth/basnet", *STORE, *TRUTH, *NARROW, "--seeds", "2"),
    ("tune", "RUN1", "--subset", "training", "--over", "nms_tiou=0.3,0.4"),
    ("merge", "RGB", "FLOW"),
    ("import-features", "exported-rgb", "--workspace", "new"),
    *EXPORTS,
    ("submit", "RUN0", "--challenge", "activitynet"),
    ("submit", "RUN0", "--challenge", "hacs"),
    ("export", "RUN0", "--to", "srt,csv,activitynet"),
    ("pack", "RUN0", "model.wtal"),
    ("report", "RUN0", "--videos", "videos", "--out", "page"),
    pytest.param(("diagnose", "RUN0", "--errors-only"), marks=pytest.mark.slow),
    ("extract", "videos", "--backbone", "motion", "--out", "extracted", "--profile", "profile.json"),
]


def plain(value):
    """Turn the content of a checkpoint into comparable values."""
    if isinstance(value, torch.Tensor):
        return value.dtype, value.tolist()
    if isinstance(value, dict):
        return [(key, plain(entry)) for key, entry in value.items()]
    return list(map(plain, value)) if isinstance(value, list | tuple) else value


def content(folder):
    """Contents by path of all files without logs and times; a checkpoint's tensors."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and "tensorboard" not in path.parts]
    return {
        str(path.relative_to(folder)): plain(torch.load(path)) if path.suffix == ".pt" else path.read_bytes()
        for path in files
        if path.name not in ("log.jsonl", "profile.json")
    }


@pytest.mark.parametrize("arguments", CALLS, ids=" ".join)
def test_the_call_is_refused_in_one_line_and_goes_on_when_there_is_room(arguments, base, tmp_path, monkeypatch):
    disk = Disk(monkeypatch)
    arguments = [named(base, argument) for argument in arguments]
    place = tmp_path / "place"

    def begin(room):
        """Start again in the same folder, whose path is in some of the files."""
        monkeypatch.chdir(tmp_path)
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(base, place)
        monkeypatch.chdir(place)
        disk.fill(room)

    begin(None)
    printed, size = answer(*arguments), disk.written
    whole = content(place)
    lacking = 100 if "--profile" in arguments else 1  # times are not always as long
    for room in (size // 2, size - lacking):
        begin(room)
        refused = call(*arguments)
        assert refused.exit_code == 1, f"{refused.output}{refused.exception!r}"
        lines = [line for line in refused.stderr.splitlines() if line.startswith("wtal: ")]
        assert len(lines) == 1
        assert "No space left on device; it takes " in lines[0]
        disk.fill(None)
        assert answer(*arguments) == printed
        assert content(place) == whole


def test_a_log_that_cannot_grow_is_one_line(tmp_path):
    log = TrainLog(tmp_path, 0)
    log.file.close()
    with open("/dev/full", "a") as log.file:  # noqa: PTH123
        log.write(1, {"loss": 0.5}, None, 0.0)
        with pytest.raises(
            DiskFullError, match=r"cannot write .*log\.jsonl: No space left on device; it takes \d+ bytes"
        ):
            log.flush()
        with pytest.raises(
            DiskFullError, match=r"cannot write .*log\.jsonl: No space left on device; it takes \d+ bytes"
        ):
            log.__exit__()


def test_curves_that_cannot_grow_are_one_line(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda path, mode: open("/dev/full", mode))  # noqa: PTH123
        board = Board(tmp_path, 0)
    board.add(1, {"loss": 0.5})
    for grow in (board.flush, board.close):
        with pytest.raises(
            DiskFullError, match=r"cannot write .*tfevents.*: No space left on device; it takes \d+ bytes"
        ):
            grow()


def test_curves_are_readable_and_repeated_steps_are_hidden(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for last in (0, 2):
        with TrainLog(tmp_path, last) as log:
            for step in range(last + 1, 5):
                log.write(step, {"loss": last + step / 4}, 0.5 if step == 4 else None, 0.0)
    curves = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(point.step, point.value) for point in curves.Scalars("loss")] == [(1, 0.25), (2, 0.5), (3, 2.75), (4, 3.0)]
    assert [point.step for point in curves.Scalars("score")] == [4]
