"""Every writing command on a full disk: one line, and then the same bytes from the same call."""

import re
import resource
import shutil
from pathlib import Path

import pytest
import torch

from tests.support.bases import NARROW, STORE, TRUTH, answer, call, named
from tests.support.disks import Disk
from tests.support.videos import constant, write_video
from wtal.data.layouts import LAYOUTS
from wtal.errors import DiskFullError
from wtal.models.training.board import Board
from wtal.models.training.log import TrainLog
from wtal.pipeline.comparison import compare
from wtal.pipeline.extraction import fingerprints

FEW = ("--set", "train.steps=4", "--set", "train.checkpoint_every=2", "--set", "train.batch_size=2")
STUDENT = (
    "--set", "refine.train.steps=4", "--set", "refine.rounds=2", "--set", "refine.train.batch_size=3",
    "--set", "refine.student.width=16",
)  # fmt: skip
REPRODUCED = (
    "--set", "evaluate.train_subset=training", "--set", "evaluate.test_subset=validation",
    "--methods", "basnet", "--seeds", "0", "--no-refine",
)  # fmt: skip
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
    pytest.param(("refine", "RUN1", *STUDENT), marks=pytest.mark.slow),
    ("reproduce", "thumos14", "--features", STORE[1], *TRUTH, *REPRODUCED, *NARROW),
    pytest.param(("evaluate", "RUN0", "--plots", "plots"), marks=pytest.mark.slow),
]
RUN = ("run", "videos", "--labels", "labels.csv", "--backbone", "motion", "--quick", "--no-check", "--jobs", "1", *FEW)
CLIPS = ("clips", "RUN", "--videos", "videos", "--out", "clips", "--top", "1", "--jobs", "1")
CHAIN_CALLS = [
    pytest.param((*RUN, "--workspace", "fresh"), marks=pytest.mark.slow),
    pytest.param(("detect", "RUN", "new/w.mp4", "--jobs", "1"), marks=pytest.mark.slow),
    pytest.param(("detect", "model.wtal", "new", "--jobs", "1", "--out", "found"), marks=pytest.mark.slow),
    CLIPS,
    pytest.param((*CLIPS, "--reencode", "--reel", "1"), marks=pytest.mark.slow),
    ("report", "RUN", "--videos", "videos", "--out", "page"),
    ("export", "RUN", "--to", "chapters", "--out", "chapters", "--videos", "videos", "--into-copies"),
    ("review", "import", "RUN", "edited/v0-proj.llc", "edited/v1-proj.llc", "--looked-at", "--videos", "videos"),
    ("review", "annotations", "reviewed.json"),
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


def check(arguments, base, tmp_path, monkeypatch):
    """Refuse a call on disks with too little room, in one line each, and go on to the bytes of an uninterrupted one."""
    disk = Disk(monkeypatch)
    monkeypatch.setattr(
        fingerprints, "_SETTLED_NANOSECONDS", 1 << 62
    )  # fingerprints are kept if there is room, and optional
    monkeypatch.setattr(compare, "_seconds", lambda folder: 1.0)
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


@pytest.mark.parametrize("arguments", CALLS, ids=" ".join)
def test_the_call_is_refused_in_one_line_and_goes_on_when_there_is_room(arguments, base, tmp_path, monkeypatch):
    check([named(base, argument) for argument in arguments], base, tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """Return a folder with videos, the run of `wtal run` on them, packed, and its exports edited; and the run."""
    root = tmp_path_factory.mktemp("chain")
    (root / "videos").mkdir()
    (root / "new").mkdir()
    for number in range(3):
        write_video(root / f"videos/v{number}.mp4", constant(25, 60 + 9 * number), first_number=37 * number)
    write_video(root / "new/w.mp4", constant(25, 66), first_number=7)
    (root / "labels.csv").write_text("video,label\nv0,jump\nv1,run\nv2,jump\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        answer(*RUN, "--no-report")
        run = str(next(Path("workspace/runs").glob("*/seed-0")))
        answer("pack", run, "model.wtal")
        answer("export", run, "--to", "llc", "--out", "edited", "--videos", "videos")
        answer("review", "import", run, "edited/v2-proj.llc", "--looked-at", "--videos", "videos")
    return root, run


@pytest.mark.parametrize("arguments", CHAIN_CALLS, ids=" ".join)
def test_calls_with_videos_are_refused_in_one_line_and_go_on(arguments, chain, tmp_path, monkeypatch):
    root, run = chain
    check([run if argument == "RUN" else argument for argument in arguments], root, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    "arguments",
    [
        ("export", "RUN", "--to", "chapters", "--out", "chapters", "--videos", "videos", "--into-copies"),
        ("report", "RUN", "--videos", "videos", "--out", "page", "--proxies", "all"),
        CLIPS,
        pytest.param((*CLIPS, "--reencode"), marks=pytest.mark.slow),
        pytest.param((*CLIPS, "--reel", "1"), marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_a_disk_that_fills_up_while_ffmpeg_writes_is_one_line(arguments, chain, tmp_path, monkeypatch):
    root, run = chain
    shutil.copytree(root, tmp_path / "place")
    monkeypatch.chdir(tmp_path / "place")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    limit = 6000 if "--reel" in arguments else 2000  # the clips before the reel are smaller
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        refused = call(*[run if argument == "RUN" else argument for argument in arguments])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert refused.exit_code == 1, f"{refused.output}{refused.exception!r}"
    lines = [line for line in refused.stderr.splitlines() if line.startswith("wtal: ")]
    assert len(lines) == 1
    assert re.fullmatch("wtal: cannot write .*: File too large; .*[0-9,]+ are free there; .*", lines[0])
    assert not [path for path in Path().rglob("*") if path.suffix == ".tmp"]


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
    full = Path("/dev/full").open
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda path, mode: full(mode))
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
