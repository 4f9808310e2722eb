"""Ensembles of heads from `experiments.kth`: three heads per seed, and three seeds per head.

Weights are equal; nothing is tuned. A mean includes a class from a lower score on than its members, so that every row
has two figures: with the class thresholds of the recipes, and with a third of them.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from experiments._run import arguments
from wtal.data.files import write_atomic, write_json
from wtal.models.localization.config import LocalizeConfig
from wtal.pipeline.detect import detect
from wtal.pipeline.ensembles.ensemble import ensemble
from wtal.pipeline.judging.evaluate import evaluate
from wtal.pipeline.judging.sources import Question, source_of
from wtal.pipeline.recipe import load_recipe
from wtal.pipeline.runs import By, Run
from wtal.pipeline.train import TrainInputs, train
from wtal.pipeline.workspace import Workspace

HEADS = ("basnet+stpn+rskp", "basnet+stpn+bm", "tscn+facnet+stpn", "facnet+co2net+um", "facnet+co2net+wtalc")
"""The three best heads, the same with a close fourth in workspace of one, then weaker and weaker ones."""
SEEDS = ("basnet", "co2net", "um")
NAME = "kth-ensembles"

Pair = tuple[float, float]
"""mAP in percent at a tiou of 0.5, and averaged over 0.1:0.9."""


def main(argv: Sequence[str] | None = None) -> None:
    """Train missing heads, build ensembles, and judge."""
    run(arguments(__doc__).parse_args(argv))


def run(options: argparse.Namespace) -> None:
    """Write the table as JSON and Markdown."""
    workspace = Workspace(options.workspace / "kth")
    inputs = TrainInputs(workspace.only_store(), options.data / "kth-untrimmed" / "annotations.json")
    names = dict.fromkeys(name for heads in (*HEADS, *SEEDS) for name in heads.split("+"))
    runs = {name: train(inputs, load_recipe(f"kth/{name}"), options.seeds, workspace) for name in names}
    for seeds in runs.values():
        for seed in seeds:
            detect(seed)
    rows = dict(_rows(runs, workspace))
    write_json(options.out / f"{NAME}.json", rows)
    text = "\n".join(_lines(rows)) + "\n"
    write_atomic(options.out / f"{NAME}.md", text.encode())
    print(text, flush=True)


def _rows(runs: dict[str, list[Run]], workspace: Workspace) -> Iterator[tuple[str, dict[str, list[Pair]]]]:
    """Yield rows: name, and class thresholds -> a pair of figures per seed, or for the ensemble of all seeds."""
    for name, seeds in runs.items():
        yield name, _figures(seeds, lambda own: own.class_threshold / 3)
    for heads in HEADS:
        members = list(zip(*(runs[name] for name in heads.split("+")), strict=True))
        yield from _both(heads, members, [runs[heads.split("+")[0]][0]] * len(members), workspace)
    for name in SEEDS:
        yield from _both(f"{len(runs[name])} seeds of {name}", [tuple(runs[name])], runs[name][:1], workspace)


def _both(
    name: str, groups: Sequence[tuple[Run, ...]], firsts: Sequence[Run], workspace: Workspace
) -> Iterator[tuple[str, dict[str, list[Pair]]]]:
    ensembles = {by: [ensemble([run.folder for run in group], workspace, by).run for group in groups] for by in _WAYS}
    threshold = firsts[0].localize().class_threshold
    figures = _figures(ensembles["activations"], lambda own: threshold)
    yield f"{name}, by activations", {"own": figures["third"], "third": figures["own"]}
    yield f"{name}, by detections", {"own": _figures(ensembles["detections"], None)["own"]}


_WAYS: tuple[By, ...] = ("activations", "detections")


def _figures(runs: Sequence[Run], threshold: Callable[[LocalizeConfig], float] | None) -> dict[str, list[Pair]]:
    """Figures of the runs' own detections, and (`third`) with another class threshold."""
    pairs: dict[str, list[Pair]] = {"own": [_judged(run) for run in runs]}
    if threshold is not None:
        pairs["third"] = []
        for run in runs:
            own = run.localize()
            pairs["third"].append(_judged(run, detect(run, own.model_copy(update={"class_threshold": threshold(own)}))))
    return pairs


def _judged(run: Run, detections: Path | None = None) -> Pair:
    question = Question()
    (judgement,) = evaluate([source_of(run, question, detections)], question).evaluations
    return 100 * judgement.mAP[0.5], 100 * judgement.average


def _lines(rows: dict[str, dict[str, list[Pair]]]) -> Iterator[str]:
    yield "| | @0.5 | @0.1:0.9 | a third: @0.5 | a third: @0.1:0.9 |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for name, figures in rows.items():
        cells = [_cell([pair[i] for pair in figures.get(key, [])]) for key in ("own", "third") for i in (0, 1)]
        yield f"| {name} | {' | '.join(cells)} |"


def _cell(values: Sequence[Any]) -> str:
    if len(values) < 2:
        return f"{values[0]:.1f}" if values else ""
    return f"{fmean(values):.1f} ±{stdev(values):.1f}"


if __name__ == "__main__":
    main(sys.argv[1:])
