"""Choice of defaults for a personal collection, on folds of three collections' training videos with held-out sources.

Per problem, the sources of the training videos are dealt to three folds (`_sources`); the members of the recipe
`collection` train on two of them, from seed 0, and their detections in the third are judged. No video of a reported
subset is used. A problem is a collection, or one of its classes with all other videos as known negatives, which is the
most common case.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from experiments._run import arguments, keep_rows
from experiments._sources import HELD_OUT, NEAR, TRAINING, clips_of, recompose, source_folds
from wtal.data.annotations import read_annotations, write_annotations
from wtal.data.dataset import Dataset, VideoRecord
from wtal.data.detections import read_detections
from wtal.data.segments import Annotation
from wtal.data.store import FeatureStore
from wtal.eval import evaluate_detections
from wtal.models.localization.config import LocalizeConfig
from wtal.pipeline.detect import detect
from wtal.pipeline.ensembles.ensemble import ensemble, joined_localization
from wtal.pipeline.extraction.extract import extract
from wtal.pipeline.extraction.machine import Machine
from wtal.pipeline.extraction.videos import find_videos
from wtal.pipeline.progress import Reporter
from wtal.pipeline.recipe import Recipe, load_recipe
from wtal.pipeline.runs import Run
from wtal.pipeline.train import TrainInputs, train
from wtal.pipeline.workspace import Workspace

NAME = "defaults"
PROBLEMS = ("kth", "ucf", "ut", "ucf:BrushingTeeth", "ut:push")
BACKBONES = ("motion-pyramid",)
FOLDS = 3
BEFORE = LocalizeConfig(
    signal="product", activation="softmax", range="video", threshold_stop=0.95, threshold_step=0.05, nms_tiou=0.45
)
"""Previous localization of a personal collection: range stretched per video, classes from a video score of 0.25 on."""


def main(argv: Sequence[str] | None = None) -> None:
    """Extract and train what is missing, judge, and write the table."""
    parser = arguments(__doc__)
    parser.add_argument("--problems", nargs="+", default=PROBLEMS, metavar="COLLECTION[:CLASS]")
    parser.add_argument("--backbones", nargs="+", default=BACKBONES, metavar="NAME")
    run(parser.parse_args(argv))


def run(options: argparse.Namespace) -> None:
    """Write the table as JSON and Markdown."""
    rows = {
        f"{problem}, {backbone}": _figures(problem, backbone, options)
        for backbone in options.backbones
        for problem in options.problems
    }
    keep_rows(rows, _lines(rows), NAME, options.out)


def _figures(problem: str, backbone: str, options: argparse.Namespace) -> dict[str, float]:
    """Mean over the folds of mAP@0.5 in percent, by members or ensemble and localization."""
    parts = [_fold(fold, options.reporter) for fold in folds_of(problem, backbone, options)]
    return {name: round(100 * fmean(part[name] for part in parts), 1) for name in parts[0]}


@dataclass(frozen=True)
class Fold:
    """Problem with one fold of its sources held out, in the subset `HELD_OUT`."""

    inputs: TrainInputs
    dataset: Dataset
    recipe: Recipe
    workspace: Workspace

    @property
    def held_out(self) -> dict[str, tuple[Annotation, ...]]:
        """Held-out videos -> their annotations."""
        return {video.id: video.annotations for video in self.dataset.select(HELD_OUT)}


def folds_of(problem: str, backbone: str, options: argparse.Namespace) -> list[Fold]:
    """Extract a problem's training videos, and recompose them for each fold."""
    collection, _, label = problem.partition(":")
    workspace = Workspace(options.workspace / f"{NAME}-{collection}")
    data = options.data / f"{collection}-untrimmed"
    recipe = load_recipe(
        "collection",
        [f"extract.backbone={backbone}", f"evaluate.train_subset={TRAINING}", f"evaluate.test_subset={HELD_OUT}"],
    )
    dataset = read_annotations(data / "annotations.json")
    records = {video.id: video for video in dataset.select("training")}
    files = {video.id: video.path for video in find_videos([data / "videos"]) if video.id in records}
    extracted = extract([*files.values()], recipe.extract, workspace, machine=Machine(), reporter=options.reporter)
    store = FeatureStore.open(extracted.store)
    clips = [
        clip for name, file in sorted(files.items()) for clip in clips_of(file, records[name], store.grid(name).end)
    ]
    dealt = source_folds(clips, NEAR[collection], FOLDS)
    folds = []
    for number in range(FOLDS):
        folder = workspace.features / f"fold-{number}-{backbone}"
        recomposed = _of_problem(recompose(store, dataset, clips, dealt, number, folder), label)
        file = write_annotations(recomposed, workspace.annotations / f"{problem.replace(':', '-')}-{number}.json")
        folds.append(Fold(TrainInputs(folder, file), recomposed, recipe, workspace))
    return folds


def _of_problem(dataset: Dataset, label: str) -> Dataset:
    """Return a collection unchanged, or with a label reduced to a problem of that class."""
    if not label:
        return dataset
    return Dataset((label,), {name: _of_class(video, label) for name, video in dataset.videos.items()})


def _of_class(video: VideoRecord, label: str) -> VideoRecord:
    shown = tuple(annotation for annotation in video.annotations if annotation.label == label)
    return replace(video, labels=tuple(own for own in video.labels if own == label), annotations=shown)


def teachers_of(fold: Fold, reporter: Reporter, seeds: Sequence[int] = (0,)) -> dict[str, Run]:
    """Train the members of the recipe; return each head's run from the first seed, and the ensemble as `all`."""
    members = fold.recipe.members()
    runs = [train(fold.inputs, member, seeds, fold.workspace, reporter=reporter) for member in members]
    named = {member.head_name: own[0] for member, own in zip(members, runs, strict=True)}
    folders = [run.folder for own in runs for run in own]
    return {**named, "all": ensemble(folders, fold.workspace, reporter=reporter).run}


def _fold(fold: Fold, reporter: Reporter) -> dict[str, float]:
    """Compute mAP@0.5 on the held-out videos, by members or ensemble and localization."""
    figures = {}
    for name, run in teachers_of(fold, reporter).items():
        for setting, config in (("before", BEFORE), ("now", fold.recipe.localize)):
            if run.ensemble:
                config = joined_localization([(1.0, config)], "activations")
            detections = read_detections(detect(run, config, only=frozenset(fold.held_out), reporter=reporter))
            figures[f"{name}, {setting}"] = evaluate_detections(fold.held_out, detections, [0.5]).average
    return figures


def _lines(rows: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    columns = list(next(iter(rows.values())))
    yield f"| | {' | '.join(columns)} |"
    yield f"| --- |{' ---: |' * len(columns)}"
    for name, figures in rows.items():
        yield f"| {name} | {' | '.join(f'{figures[column]:.1f}' for column in columns)} |"


if __name__ == "__main__":
    main(sys.argv[1:])
