"""Choice of a student's weight in scores and borders, on folds of three collections' training videos.

The folds are those of `defaults`. The teacher is the default ensemble with all its members and seeds. Its students are
trained once per seed, because the settings compared here only affect detection. No video of a reported subset is used.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

from experiments._run import arguments, keep_rows
from experiments.defaults import BACKBONES, Fold, folds_of, teachers_of
from wtal.data.detections import read_detections
from wtal.data.segments import Detection
from wtal.eval import evaluate_detections
from wtal.models.refinement.answers import candidates_of, scored_by_student
from wtal.models.refinement.config import RefineConfig
from wtal.pipeline.detect import detect
from wtal.pipeline.progress import Reporter
from wtal.pipeline.refinement.refine import refine, refinement_of
from wtal.pipeline.refinement.teacher import Teacher
from wtal.pipeline.refinement.trained import trained_student
from wtal.pipeline.runs import Run

NAME = "second-stage-folds"
PROBLEMS = ("ut", "ucf", "kth")
SEEDS = (0, 1)
TEACHER_SEEDS = (0, 1, 2)
TIOUS = (0.5, 0.6, 0.7, 0.8, 0.9)
WEIGHTS = ((0.1, 0.0), (0.15, 0.0), (0.15, 0.1), (0.2, 0.0), (0.2, 0.1), (0.2, 0.25), (0.3, 0.0), (0.4, 0.0))
"""`score_power` and `border_share` of each row."""


def main(argv: Sequence[str] | None = None) -> None:
    """Train what is missing, judge, and write the table."""
    parser = arguments(__doc__)
    parser.set_defaults(seeds=SEEDS)
    parser.add_argument("--problems", nargs="+", default=PROBLEMS, metavar="COLLECTION[:CLASS]")
    run(parser.parse_args(argv))


def run(options: argparse.Namespace) -> None:
    """Write mAP per problem, setting and fold, averaged over tIoU, in percent and over seeds."""
    rows = {
        problem: [_figures(fold, options.seeds, options.reporter) for fold in folds_of(problem, BACKBONES[0], options)]
        for problem in options.problems
    }
    keep_rows(rows, _lines(rows), NAME, options.out)


def _figures(fold: Fold, seeds: Sequence[int], reporter: Reporter) -> dict[str, float]:
    """Judge the teacher, and each setting of its students, on the held-out videos of a fold."""
    ensemble, only = teachers_of(fold, reporter, TEACHER_SEEDS)["all"], frozenset(fold.held_out)
    figures = {"teacher": _judge(fold, read_detections(detect(ensemble, only=only, reporter=reporter)))}
    students = refine([ensemble], refinement_of(ensemble), fold.workspace, seeds, reporter=reporter)
    judged = [list(_judged(fold, student, sorted(only), reporter)) for student in students]
    for (power, share), values in zip(WEIGHTS, zip(*judged, strict=True), strict=True):
        figures[f"`score_power` {power:g}, `border_share` {share:g}"] = fmean(values)
    return figures


def _judged(fold: Fold, run: Run, keys: Sequence[str], reporter: Reporter) -> Iterator[float]:
    """Judge a student with each of `WEIGHTS`."""
    trained, teacher = trained_student(run), Teacher(run.teacher(), run.teacher_localize, reporter=reporter)
    store, proposals = run.store(), teacher.proposals(keys, {})
    candidates = {key: candidates_of(trained.head, trained.scaler, store[key]) for key in keys if proposals[key]}
    for power, share in WEIGHTS:
        refinement = RefineConfig(score_power=power, border_share=share)
        detections = {
            key: scored_by_student(proposals[key], own, run.classes, run.recipe.localize, refinement)
            for key, own in candidates.items()
        }
        yield _judge(fold, detections)


def _judge(fold: Fold, detections: Mapping[str, Sequence[Detection]]) -> float:
    """Return mAP averaged over `TIOUS` in percent."""
    return round(100 * evaluate_detections(fold.held_out, detections, TIOUS).average, 1)


def _lines(rows: Mapping[str, Sequence[Mapping[str, float]]]) -> Iterator[str]:
    yield f"| | {' | '.join(rows)} |"
    yield f"| --- |{' ---: |' * len(rows)}"
    for setting in next(iter(rows.values()))[0]:
        cells = []
        for folds in rows.values():
            each = [fold[setting] for fold in folds]
            cells.append(f"{fmean(each):.1f} ({', '.join(f'{value:.1f}' for value in each)})")
        yield f"| {setting} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main(sys.argv[1:])
