"""The whole chain on a collection rendered here: nothing is downloaded, and the true times are known."""

import os
from pathlib import Path

from wtal.extractors.demo.video import VIDEOS, render_collection
from wtal.pipeline.chain import RunOptions, RunResult, run
from wtal.pipeline.extraction.machine import Machine
from wtal.pipeline.progress import SILENT, Reporter
from wtal.pipeline.recipe import DEFAULT_RECIPE, load_recipe
from wtal.pipeline.workspace import Workspace

CHALLENGE = "hacs"


def demo(folder: Path, seeds: tuple[int, ...] = (0,), device: str = "cpu", reporter: Reporter = SILENT) -> RunResult:
    """Render, extract, train one head, detect, evaluate, and write a HACS file, all below `folder`."""
    jobs = os.cpu_count() or 1
    with reporter.task("render", sum(VIDEOS.values()), "video") as task:
        annotations = render_collection(folder, progress=lambda done, total: task.advance(1 if done else 0), jobs=jobs)
    options = RunOptions(seeds, challenge=CHALLENGE, machine=Machine(device=device))
    workspace = Workspace(folder / "workspace")
    return run(
        [folder / "videos"], annotations, load_recipe(DEFAULT_RECIPE).first_member(), workspace, options, reporter
    )
