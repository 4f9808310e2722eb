"""Every command that writes, on a disk that is full: one line, and then the same call ends with the same bytes."""

import json
import shutil
from fractions import Fraction

import pytest
import torch
from click.testing import CliRunner

from tests.support.disks import Disk
from tests.support.planted import CLASSES, WIDTH, planted_videos
from tests.support.videos import constant, write_video
from wtal.cli import main
from wtal.data.files import write_json
from wtal.data.grid import SnippetGrid
from wtal.data.layouts import LAYOUTS
from wtal.data.store.writer import StoreWriter
from wtal.errors import DiskFullError
from wtal.models import create_head
from wtal.models.training.log import TrainLog

STEPS = ("--set", "train.steps=4", "--set", "train.checkpoint_every=2", "--set", "train.batch_size=4")
NARROW = (*STEPS, "--set", "head.width=8", "--set", "head.filter_width=8")
STORE, TRUTH = ("--store", "workspace/features/planted"), ("--annotations", "truth.json")


def call(*arguments):
    return CliRunner(env={"WTAL_WORKSPACE": "workspace"}).invoke(main, [str(argument) for argument in arguments])


def answer(*arguments):
    result = call(*arguments)
    assert result.exit_code == 0, f"{result.output}{result.exception!r}"
    return result.stdout.strip()


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A folder with planted features, their annotations, two runs, and what else the calls below want."""
    root = tmp_path_factory.mktemp("base")
    writer = StoreWriter.open(root / "workspace/features/planted", {"backbone": "planted"})
    database = {}
    for number, video in enumerate(planted_videos(7, seed=0)):
        grid = SnippetGrid(Fraction(25), 12 * len(video.streams["rgb"]), Fraction(12), 12)
        writer.write(video.id, grid, video.streams, {"reader": "none"})
        segments = [{"label": a.label, "segment": [a.start, a.end]} for a in video.annotations]
        subset = "training" if number < 5 else "validation"
        database[video.id] = {"subset": subset, "duration": grid.duration, "annotations": segments}
    writer.publish()
    write_json(root / "truth.json", {"database": database})
    (root / "videos").mkdir()
    for number in range(2):
        write_video(root / f"videos/v{number}.mp4", constant(25, 60 + 9 * number), first_number=37 * number)
    torch.manual_seed(0)
    head = create_head("basnet", len(CLASSES), {"both": 2 * WIDTH}, width=8, filter_width=8)
    layers = {"filter_in": "filter_module.conv_1.0", "filter_out": "filter_module.conv_2.0"}
    layers |= {f"cas_{name}": f"cas_module.conv_{n}.0" for n, name in enumerate(("in", "mid", "out"), 1)}
    keys = {key: key.rpartition(".") for key in head.state_dict()}
    state = {f"{layers[layer]}.{kind}": head.state_dict()[key] for key, (layer, _, kind) in keys.items()}
    torch.save({"state_dict": state}, root / "basnet.pt")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        (root / "runs.json").write_text(
            json.dumps(
                [
                    answer("train", "kth/basnet", *STORE, *TRUTH, *NARROW),
                    answer("train", "kth/rskp", *STORE, *TRUTH, *STEPS, "--set", "head.width=8"),
                ]
            )
        )
        answer("detect", json.loads((root / "runs.json").read_text())[0])
        for stream in ("rgb", "flow"):
            answer("export-features", STORE[1], f"exported-{stream}", "--layout", "npy-per-video", "--streams", stream)
            answer("import-features", f"exported-{stream}", "--workspace", stream)
    return root


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
    pytest.param(("diagnose", "RUN0", "--errors-only"), marks=pytest.mark.slow),
    ("extract", "videos", "--backbone", "motion", "--out", "extracted", "--profile", "profile.json"),
]


def plain(value):
    """Turn the content of a checkpoint into what can be compared."""
    if isinstance(value, torch.Tensor):
        return value.dtype, value.tolist()
    if isinstance(value, dict):
        return [(key, plain(entry)) for key, entry in value.items()]
    return list(map(plain, value)) if isinstance(value, list | tuple) else value


def content(folder):
    """Path -> bytes of all files, but for logs and times; a checkpoint's tensors."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and "tensorboard" not in path.parts]
    return {
        str(path.relative_to(folder)): plain(torch.load(path)) if path.suffix == ".pt" else path.read_bytes()
        for path in files
        if path.name not in ("log.jsonl", "profile.json")
    }


@pytest.mark.parametrize("arguments", CALLS, ids=" ".join)
def test_the_call_is_refused_in_one_line_and_goes_on_when_there_is_room(arguments, base, tmp_path, monkeypatch):
    disk = Disk(monkeypatch)
    runs = json.loads((base / "runs.json").read_text())
    stores = {
        stream.upper(): next((base / stream / "features").iterdir()).relative_to(base) for stream in ("rgb", "flow")
    }
    named = {f"RUN{number}": run for number, run in enumerate(runs)} | stores
    arguments = [named.get(argument, argument) for argument in arguments]

    place = tmp_path / "place"

    def begin(room):
        """Start anew in the same folder, whose path is in some of the files."""
        monkeypatch.chdir(tmp_path)
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(base, place)
        monkeypatch.chdir(place)
        disk.fill(room)

    begin(None)
    printed, size = answer(*arguments), disk.written
    whole = content(place)
    for room in (size // 2, size - 1):
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
        with pytest.raises(DiskFullError, match=r"cannot write .*log\.jsonl: No space left on device"):
            log.flush()
        with pytest.raises(DiskFullError, match=r"cannot write .*log\.jsonl: No space left on device"):
            log.__exit__()
