"""Small workspace with a file of every kind that wtal reads or writes, planted once and copied for each case."""

import json
import os
import shutil
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from tests.data.formats.test_formats import write_wtalc
from tests.support.planted import CLASSES
from tests.support.videos import constant, write_video, write_with_sound
from wtal.cli import main
from wtal.data.files import write_json
from wtal.data.grid import SnippetGrid
from wtal.data.store.writer import StoreWriter
from wtal.models import create_head
from wtal.models.training.checkpoint import Checkpoint

STORE = "ws/features/planted-12x12@25-000000"
RECIPE = """title = "small"
[head]
name = "basnet"
width = 4
filter_width = 4
[train]
steps = 4
batch_size = 3
sampling = "full"
checkpoint_every = 1
log_every = 1
[localize]
activation = "softmax"
threshold_step = 0.1
[evaluate]
tiou = "0.5"
"""


_AUTHORS = {
    "filter_in": "filter_module.conv_1.0.",
    "filter_out": "filter_module.conv_2.0.",
    "cas_in": "cas_module.conv_1.0.",
    "cas_mid": "cas_module.conv_2.0.",
    "cas_out": "cas_module.conv_3.0.",
}


class _KilledError(Exception):
    """Exception that stands for a kill."""


def plant(root: Path) -> None:
    """Fill an empty folder with all files of `tests.fuzz.cases`."""
    with _inside(root):
        _features()
        _annotations()
        Path("recipe.toml").write_text(RECIPE)
        _runs()
        _exported_features()
        _others()
        _videos()
        _reviewed()


@contextmanager
def _inside(root: Path):
    before = Path.cwd()
    os.chdir(root)
    try:
        yield
    finally:
        os.chdir(before)


def wtal(*arguments: str) -> str:
    """Run a command that must succeed; return its last line."""
    workspace = () if arguments[0] in ("pack", "export", "export-features", "evaluate") else ("--workspace", "ws")
    result = CliRunner().invoke(main, [*arguments, *workspace], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()[-1]


def _features() -> None:
    rng = np.random.default_rng(1)
    writer = StoreWriter.open(Path(STORE), {"backbone": "planted", "weights": {"rgb": {"weights": {"random": "1"}}}})
    for number in range(6):
        grid = SnippetGrid(Fraction(25), 12 * (16 + number), Fraction(12), 12)
        streams = {name: rng.standard_normal((16 + number, 5)).astype(np.float32) for name in ("rgb", "flow")}
        writer.write(f"video-{number}", grid, streams, {"reader": "none", "notes": ["odd"]}, f"mark {number}")
    writer.fail("broken", "the file is empty (0 bytes)")
    writer.publish()
    write_json(Path(STORE, "sources.json"), {"backbone": "planted", "weights": {"rgb": "random:1"}})


def _annotations() -> None:
    database, results, hacs = {}, {}, {}
    for number in range(6):
        label = CLASSES[number % 3]
        segments = [{"label": label, "segment": [1.0, 3.5]}, {"label": CLASSES[0], "segment": [4, 6]}]
        subset = "training" if number < 4 else "validation"
        database[f"video-{number}"] = {"duration": 12 * (16 + number) / 25, "subset": subset, "annotations": segments}
        hacs[f"video-{number}"] = {**database[f"video-{number}"], "duration": str(7.68 + number)}
        results[f"video-{number}"] = [{**segment, "score": 0.5 + number / 20} for segment in segments]
    write_json(Path("ws/annotations/planted.json"), {"version": "made", "classes": [*CLASSES], "database": database})
    write_json(Path("labels/hacs.json"), {"database": hacs})
    write_json(Path("labels/thumos.json"), {"database": {k: {**v, "duration": None} for k, v in database.items()}})
    rows = [f"video-{n},{CLASSES[n % 3]},1,{n + 2},8,training" for n in range(6)]
    Path("labels/table.csv").write_text("\n".join(["video,label,start,end,duration,subset", *rows, ""]))
    Path("labels/ambiguous.txt").write_text("video-4 0.5 1.5\nvideo-5 2 3\n")
    scores = [{"label": label, "score": 0.5} for label in CLASSES]
    write_json(Path("labels/scores.json"), {"results": dict.fromkeys(results, scores)})
    external = {"used": False, "details": ""}
    origin = {"tuned_with_segments": False, "weights": {"rgb": "none"}, "begins": {"video-4": 0.5}}
    content = {"version": "HACS1.1", "results": results, "external_data": external, "wtal": origin}
    write_json(Path("found.json"), content, indent=None)
    write_wtalc(Path("labels/arrays"))


def _runs() -> None:
    runs = Path(wtal("train", "recipe.toml", "--seeds", "0,1", "--device", "cpu")).parent
    runs.rename("ws/runs/trained")
    for seed in ("0", "1"):
        wtal("detect", f"ws/runs/trained/seed-{seed}", "--device", "cpu")
    for by in ("activations", "detections"):
        wtal("ensemble", "ws/runs/trained", "--by", by, "--out", by, "--device", "cpu")
    wtal("pack", "ws/runs/trained/seed-0", "one.wtal")
    wtal("pack", "ws/runs/activations", "several.wtal")
    staged = (
        "recipe.toml",
        "--set",
        "head={name='tscn',width=4,iterations=2}",
        "--set",
        "train.average_from=1",
        "--device",
        "cpu",
    )
    Path(wtal("train", *staged)).parent.rename("ws/runs/staged")
    _half_trained()
    _half_detected()
    detections = next(Path("ws/runs/trained/seed-0/detections").glob("*.csv"))
    shutil.copy(detections, "found.csv")


def _half_trained() -> None:
    """Leave a run like one killed after two of four steps."""
    with pytest.MonkeyPatch.context() as patch, suppress(_KilledError):
        write = Checkpoint.write

        def killed(self: Checkpoint, folder: Path) -> Path:
            if self.step == 3:
                raise _KilledError
            return write(self, folder)

        patch.setattr(Checkpoint, "write", killed)
        wtal("train", "recipe.toml", "--seeds", "2", "--set", "title=half", "--device", "cpu")
    (folder,) = Path("ws/runs").glob("basnet-*")
    assert not (folder / "seed-2/finished.json").exists()


def _half_detected() -> None:
    """Leave a run whose activations are unpublished parts."""
    (folder,) = Path("ws/runs").glob("basnet-*")
    target = shutil.copytree("ws/runs/trained/seed-0", folder.parent / "parts/seed-0")
    shutil.rmtree(target / "activations")
    with pytest.MonkeyPatch.context() as patch, suppress(_KilledError):
        patch.setattr(StoreWriter, "publish", _killed)
        wtal("detect", str(target), "--device", "cpu")


def _killed(*_: object) -> None:
    raise _KilledError


def _exported_features() -> None:
    for layout in ("npy-per-video", "csv-per-video", "wtalc-joint", "hacs-official"):
        streams = () if layout in ("npy-per-video", "wtalc-joint") else ("--streams", "rgb")
        wtal("export-features", STORE, f"published/{layout}", "--layout", layout, *streams)


def _others() -> None:
    torch.manual_seed(0)
    state = create_head("basnet", 3, {"rgb": 5, "flow": 5}, width=4, filter_width=4).state_dict()
    torch.save(
        {_AUTHORS[own.partition(".")[0]] + own.partition(".")[2]: value for own, value in state.items()}, "authors.pt"
    )
    wtal("tune", "ws/runs/trained/seed-0", "--over", "nms_tiou=0.4,0.6", "--out", "preset.toml", "--device", "cpu")


def _videos() -> None:
    Path("videos").mkdir()
    for name in ("clip.mp4", "clip.mkv", "clip.avi", "clip.ts"):
        codec = "mpeg4" if name.endswith("avi") else "libx264"
        write_video(Path("videos", name), constant(25, 30), codec=codec)
    write_with_sound(Path("videos/sound.mp4"), Fraction(1, 2), seconds=1)


def _reviewed() -> None:
    """Leave corrections as each program saves them, and verdicts in the workspace and from the page."""
    entries = [{"label": label, "score": 0.5, "segment": [0.2, 0.7]} for label in CLASSES]
    write_json(Path("shown.json"), {"results": {"sound": entries}})
    programs = "llc,losslesscut-csv,fiftyone,boris,elan,label-studio"
    wtal("export", "shown.json", "--to", programs, "--videos", "videos", "--out", "reviewed")
    tasks = Path("reviewed/detections-label-studio.json")
    content = json.loads(tasks.read_text())
    content[0]["annotations"] = [{"result": content[0]["predictions"][0]["result"][:2]}]
    write_json(tasks, content)
    Path("reviewed/boris.csv").write_text(
        "Observation id,Media file name,Media duration (s),Behavior,Behavior type,Start (s),Stop (s)\n"
        f"sound,videos/sound.mp4,1.5,{CLASSES[0]},STATE,0.1,0.9\nsound,videos/sound.mp4,1.5,{CLASSES[1]},POINT,0.4,NA\n"
    )
    judged = {"segment": [1.0, 3.5], "score": 0.5}
    verdicts = [
        {"video": "video-0", "label": CLASSES[0], "verdict": "yes", "segment": None, "detection": judged},
        {"video": "video-1", "label": CLASSES[0], "verdict": "no", "segment": None, "detection": judged},
        {"video": "video-2", "label": CLASSES[1], "verdict": "missed", "segment": [0.5, 2.0], "detection": None},
    ]
    for path in (Path("ws/verdicts.json"), Path("page/verdicts.json")):
        write_json(path, {"format": 1, "verdicts": verdicts, "looked_at": ["video-3"]})
