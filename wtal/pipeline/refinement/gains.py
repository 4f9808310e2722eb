"""Figures for each round of a refined run: its training segments, and its gain if there is ground truth."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wtal.models.refinement.config import RescoreConfig
from wtal.pipeline.detect import detect
from wtal.pipeline.judging.evaluate import evaluate
from wtal.pipeline.judging.sources import Question, source_of
from wtal.pipeline.progress import SILENT, Reporter
from wtal.pipeline.refinement import rescore
from wtal.pipeline.refinement.lessons import read_figures
from wtal.pipeline.refinement.trained import last_round
from wtal.pipeline.runs import Run

_TIOUS = "0.5:0.9:0.1"
_COLUMNS = {
    "proposals": "proposals",
    "segments": "segments",
    "taught": "videos",
    "median_seconds": "median s",
    "median_score": "score",
    "agreement": "agree",
    "label_accuracy": "labels",
}


@dataclass(frozen=True)
class Gains:
    """Rounds of a refined run: `taught`, figures of each one's segments; `mAP`, of the teacher and of each round.

    `mAP` maps threshold or range -> fraction; empty without ground truth.
    """

    run: Run
    taught: tuple[Mapping[str, float], ...]
    mAP: tuple[Mapping[str, float], ...]  # noqa: N815 - the field's name for it

    def to_json(self) -> dict[str, Any]:
        """Return JSON types."""
        return {
            "run": str(self.run.folder),
            "taught": [dict(figures) for figures in self.taught],
            "mAP": [dict(judged) for judged in self.mAP],
        }

    def lines(self) -> list[str]:
        """Return the lines of a table: the teacher, then each round."""
        columns = {key: title for key, title in _COLUMNS.items() if any(key in figures for figures in self.taught)}
        rows: list[list[str]] = []
        for number, figures in enumerate(({}, *self.taught)):
            cells = [_cell(key, figures.get(key)) for key in columns]
            judged = self.mAP[number] if self.mAP else {}
            rows.append([self._row(number), *cells, *(f"{100 * judged[t]:.1f}" for t in judged)])
        shown = [f"@{tiou}" for tiou in self.mAP[0]] if self.mAP else []
        table = [["", *columns.values(), *shown], *rows]
        widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
        return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]

    def _row(self, number: int) -> str:
        """Return the name of a row."""
        config = self.run.recipe.refinement
        own = config.rescorer_name if isinstance(config, RescoreConfig) else f"round {number}"
        return own if number else "teacher"


def _cell(key: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if key.startswith("median") else f"{value:.0%}" if isinstance(value, float) else str(value)


def gains_of(run: Run, device: str = "cpu", reporter: Reporter = SILENT) -> Gains:
    """Detect with the teacher and with the student of each round; evaluate if the reported subset has segments.

    The run's own detections, those of its last round, are also written.
    """
    rounds = last_round(run.folder) + 1
    files = [detect(run.teacher(), run.teacher_localize, device=device, reporter=reporter)]
    files += [detect(run, device=device, reporter=reporter, stage=stage) for stage in range(rounds - 1)]
    files.append(detect(run, device=device, reporter=reporter))
    rescores = isinstance(run.recipe.refinement, RescoreConfig)
    taught = (rescore.read_figures(run.folder),) if rescores else tuple(read_figures(run.folder)[:rounds])
    rules, dataset = run.recipe.evaluate, run.annotations()
    known = rules.test_subset in dataset.subsets or "@" in rules.test_subset
    if not known or not any(video.annotations for video in dataset.select(rules.test_subset)):
        return Gains(run, taught, ())
    judged = []
    for file in files:
        question = Question(tious=_TIOUS)
        evaluation = evaluate([source_of(run, question, file)], question).evaluations[0]
        judged.append({"0.5": evaluation.mAP[0.5], "0.7": evaluation.mAP[0.7], _TIOUS: evaluation.average})
    return Gains(run, taught, tuple(judged))
