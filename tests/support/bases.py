"""Small workspace with the input of all commands: planted features, annotations, videos, two runs, a checkpoint."""

import json
from fractions import Fraction

import pytest
import torch
from click.testing import CliRunner

from tests.support.planted import CLASSES, WIDTH, planted_videos
from tests.support.videos import constant, write_video
from wtal.cli import main
from wtal.data.files import write_json
from wtal.data.grid import SnippetGrid
from wtal.data.store.writer import StoreWriter
from wtal.models import create_head

STEPS = ("--set", "train.steps=4", "--set", "train.checkpoint_every=2", "--set", "train.batch_size=4")
NARROW = (*STEPS, "--set", "head.width=8", "--set", "head.filter_width=8")
STORE, TRUTH = ("--store", "workspace/features/planted"), ("--annotations", "truth.json")


def call(*arguments):
    return CliRunner(env={"WTAL_WORKSPACE": "workspace"}).invoke(main, [str(argument) for argument in arguments])


def answer(*arguments):
    result = call(*arguments)
    assert result.exit_code == 0, f"{result.output}{result.exception!r}"
    return result.stdout.strip()


def make_base(root):
    """Fill a folder; `named` returns its contents."""
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


def named(root, argument):
    """Turn RUN0, RUN1, RGB and FLOW into paths below a base; leave other arguments."""
    runs = json.loads((root / "runs.json").read_text())
    paths = {f"RUN{number}": run for number, run in enumerate(runs)}
    paths |= {s.upper(): str(next((root / s / "features").iterdir()).relative_to(root)) for s in ("rgb", "flow")}
    return paths.get(argument, argument)
