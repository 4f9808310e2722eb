"""Time and memory of every step of an experiment as large as HACS, and of one with a tenth of the videos.

The collection is synthetic: 37,613 training and 5,981 validation videos of 200 classes, at 25/16 snippets per second,
in two streams of float16. HACS's own lengths are not available here; these are 4 to 240 seconds, 150 on average. To
save disk space, streams are `--dim` values wide instead of 1024; heads are 128 wide inside, because `heads` already
measures the arithmetic of networks. A step is a command of wtal in a separate process, including its start-up. `plan`
is everything up to and including the first step of training. `train` is the same, but with one epoch of the head's
recipe for HACS, or with the number of steps under `steps`. `detect`, `evaluate` and `submit` run on the validation
videos. `waited %` is the share of the steps' time in which the network waited for its batch. RSKP passes once over all
training videos to fill its memory, whatever the number of steps. `MiB` is the memory of the process without mapped
features, which the system evicts when it needs memory. Compare `processor s` if the machine has other work, as it had
here.

This benchmark is not part of `make bench`: it takes half an hour or more, and 6 GB of disk space at `--dim 64`.
"""

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks import _hacs
from benchmarks._process import Spent, growth, run
from benchmarks._report import arguments, report
from benchmarks._turns import short

HEADS = ("basnet", "co2net", "tscn")
_NARROW = {
    "basnet": ("head.width=128", "head.filter_width=128"),
    "co2net": ("head.width=128", "head.attention_width=128"),
    "rskp": ("head.width=128",),
    "tscn": ("head.width=128",),
    "wtalc": ("head.width=128",),
}
_A_STEP = [f"--set={setting}" for setting in (*_NARROW["basnet"], "train.epochs=0", "train.steps=1")]


def main(argv: Sequence[str] | None = None) -> None:
    """Take all steps at each size, and report how they grow."""
    parser = arguments(__doc__)
    parser.add_argument("--shares", type=float, nargs="+", default=(0.1, 1.0), help="of HACS's videos")
    parser.add_argument("--dim", type=int, default=64, help="values per snippet in each of two streams")
    parser.add_argument("--heads", nargs="+", choices=sorted(_NARROW), default=HEADS, help="heads to train")
    parser.add_argument("--detecting", nargs="*", choices=sorted(_NARROW), help="of them, those to detect with; all")
    parser.add_argument("--steps", type=int, default=0, help="of training, at most; 0 takes a whole epoch")
    parser.add_argument("--folder", type=Path, help="where to put the collections, which are removed in the end")
    parser.add_argument("--alone", nargs=2, metavar=("NAME", "FOLDER"), help="open, or train NAME, and print figures")
    options = parser.parse_args(argv)
    if options.alone:
        name, folder = options.alone
        print(json.dumps(opened(Path(folder)) if name == "open" else trained(name, Path(folder), options.steps)))
        return
    detecting = options.heads if options.detecting is None else options.detecting
    if options.folder is not None:
        options.folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for share in options.shares:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            size = _hacs.Size.of(share, options.dim)
            _hacs.write(Path(folder), size, _hacs.annotations(size))
            rows += measured(Path(folder), size, steps(Path(folder), options.heads, detecting, options.steps))
    report("hacs_size", rows, growth(rows), options.out)


def measured(folder: Path, size: _hacs.Size, tasks: Iterable[tuple[str, list[str]]]) -> Iterator[dict[str, Any]]:
    """Yield a row for each task, which are taken in turn on the collection in a folder."""
    for task, command in tasks:
        print(f"{size.videos} videos: {task} ...", file=sys.stderr, flush=True)
        spent = run([sys.executable, "-m", *command])
        yield {"task": task, "size": f"{size.videos} videos of 2 x {size.dim}", **cells(spent)}


def steps(folder: Path, heads: Sequence[str], detecting: Sequence[str], most: int) -> Iterator[tuple[str, list[str]]]:
    """Yield the name of each task and its command, once those before have been run."""
    yield "open", ["benchmarks.hacs_size", "--alone", "open", str(folder)]
    yield "plan", ["wtal", "train", "hacs/basnet", *inputs(folder / "plan", folder), *_A_STEP]
    for head in heads:
        yield f"train {head}", ["benchmarks.hacs_size", "--alone", head, str(folder), "--steps", str(most)]
        if head in detecting:
            (run_folder,) = (folder / head / "runs").glob("*/seed-0")
            yield f"detect {head}", ["wtal", "detect", str(run_folder), "--subset", "validation"]
            yield f"evaluate {head}", ["wtal", "evaluate", str(run_folder)]
            challenge = ["--challenge", "hacs", "--workspace", str(folder / head)]
            yield f"submit {head}", ["wtal", "submit", str(run_folder), *challenge]
        shutil.rmtree(folder / head)


def inputs(workspace: Path, folder: Path) -> list[str]:
    """Options that name a workspace, and the collection in a folder."""
    return [
        *("--workspace", str(workspace)),
        *("--store", str(folder / "features"), "--annotations", str(folder / "annotations.json")),
    ]


def cells(spent: Spent) -> dict[str, Any]:
    """Figures of a task, and what it printed of itself."""
    told = json.loads(spent.output) if spent.output.startswith("{") else {}
    return {
        "steps": told.get("steps", ""),
        "s": short(spent.seconds),
        "processor_s": short(spent.processor),
        "MiB": short(spent.own_mib),
        "waited_percent": short(100 * told["waited"]) if "waited" in told else "",
    }


def opened(folder: Path) -> dict[str, Any]:
    """Open the store and read the clock of every video."""
    from wtal.data.store import FeatureStore

    store = FeatureStore.open(folder / "features")
    return {"snippets": sum(store.grid(video).num_snippets for video in store)}


def trained(head: str, folder: Path, most: int) -> dict[str, Any]:
    """Train a head for an epoch, or `most` steps; return the share of the time in which it waited for batches."""
    from wtal.models.training import trainer
    from wtal.pipeline.recipe import load_recipe
    from wtal.pipeline.train import TrainInputs, train
    from wtal.pipeline.workspace import Workspace

    length = ("train.epochs=0", f"train.steps={most}") if most else ("train.epochs=1",)
    recipe = load_recipe(f"hacs/{head}", [*_NARROW[head], *length])
    waiting, stepping = Clock(), Clock()
    made, step = trainer.made_ahead, trainer.Trainer._one_step

    @contextmanager
    def watched(batches: Iterator[Any]) -> Iterator[Iterator[Any]]:
        with made(batches) as ahead:
            yield iter(partial(waiting.timed, next, ahead), None)

    with (
        patch.object(trainer, "made_ahead", watched),
        patch.object(trainer.Trainer, "_one_step", lambda *arguments: stepping.timed(step, *arguments)),
    ):
        train(TrainInputs(folder / "features", folder / "annotations.json"), recipe, (0,), Workspace(folder / head))
    return {"steps": stepping.calls, "waited": waiting.seconds / stepping.seconds}


class Clock:
    """Sums up the seconds that calls take."""

    def __init__(self) -> None:
        self.seconds, self.calls = 0.0, 0

    def timed(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what a function answers."""
        start = time.perf_counter()
        result = function(*arguments)
        self.seconds += time.perf_counter() - start
        self.calls += 1
        return result


if __name__ == "__main__":
    main(sys.argv[1:])
