"""Value of twenty verdicts when few videos are labelled, chosen by `wtal review --next` or at random.

A few training videos are labelled, some per class; the others are only searched. The annotations answer twenty
detections in the training videos, chosen by the rule or at random: yes from a tIoU of 0.5 with an annotated segment of
the class on, moved for any smaller overlap, else no. Then a head trains again with the labels from these verdicts, not
with their times. Seeds choose the labelled videos, the random detections and the head's parameters. The head is the
first member of the default recipe; mAP is that of the validation subset.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev

import numpy as np

from experiments._run import arguments
from wtal.data.annotations import read_annotations, write_annotations
from wtal.data.dataset import Dataset, VideoRecord, content_digest
from wtal.data.detections import read_detections
from wtal.data.files import write_atomic, write_json
from wtal.data.segments import Detection, Segment, tiou
from wtal.data.verdicts import Answer, Judged, Verdict, Verdicts
from wtal.pipeline.detect import detect
from wtal.pipeline.extraction.extract import extract
from wtal.pipeline.judging.evaluate import evaluate
from wtal.pipeline.judging.sources import Question, source_of
from wtal.pipeline.recipe import DEFAULT_RECIPE, Recipe, load_recipe
from wtal.pipeline.review.lesson import VideoClass, learn
from wtal.pipeline.review.next_verdicts import COUNT, choose
from wtal.pipeline.runs import Run
from wtal.pipeline.train import TrainInputs, train
from wtal.pipeline.workspace import Workspace

COLLECTIONS = ("kth", "ucf", "ut")
NAME = "review"
TRAINING = "training"
LABELLED = 2
"""Least number of labelled videos per class."""
_SAME = 0.5
"""Least overlap (tIoU) with a segment for the answer yes."""

Chosen = list[tuple[str, Detection]]
Row = dict[str, list[float]]
"""Figures by seed: mAP@0.5 in percent before and after, and the number of labels from verdicts."""


def main(argv: Sequence[str] | None = None) -> None:
    """Extract, train, answer, train again, and judge."""
    parser = arguments(__doc__)
    parser.add_argument("--collections", nargs="+", default=COLLECTIONS, help="collections of the reference data")
    run(parser.parse_args(argv))


def run(options: argparse.Namespace) -> None:
    """Write the table as JSON and Markdown."""
    rows = {name: _row(name, options) for name in options.collections}
    write_json(options.out / f"{NAME}.json", rows)
    text = "\n".join(_lines(rows)) + "\n"
    write_atomic(options.out / f"{NAME}.md", text.encode())
    print(text, flush=True)


def _row(name: str, options: argparse.Namespace) -> Row:
    workspace, source = Workspace(options.workspace / name), options.data / f"{name}-untrimmed"
    recipe = load_recipe(DEFAULT_RECIPE).first_member()
    store = extract([source / "videos"], recipe.extract, workspace, reporter=options.reporter).store
    whole = read_annotations(source / "annotations.json")
    row: Row = {key: [] for key in ("before", "random", "next", "labels by random", "labels by next")}
    for seed in options.seeds:
        few = few_labelled(whole, seed)
        first = _trained(few, store, recipe, seed, workspace)
        row["before"].append(_judged(first))
        detections = read_detections(first.detections())
        own = {key: segments for key, segments in detections.items() if whole.videos[key].subset == TRAINING}
        ways = {
            "next": [(choice.video, choice.detection) for choice in choose(own, Verdicts(), few, COUNT)],
            "random": at_random(own, COUNT, seed),
        }
        for way, chosen in ways.items():
            verdicts = answered(chosen, whole)
            taught = learn(few, verdicts, TRAINING, _rejected(verdicts, own)).dataset
            row[way].append(_judged(_trained(taught, store, recipe, seed, workspace)))
            row[f"labels by {way}"].append(float(_labels(taught) - _labels(few)))
    return row


def few_labelled(dataset: Dataset, seed: int) -> Dataset:
    """Keep only enough training videos for `LABELLED` per class; videos of other subsets stay."""
    training = dataset.select(TRAINING)
    order = [training[i] for i in np.random.default_rng(seed).permutation(len(training))]
    counts: Counter[str] = Counter()
    chosen: list[VideoRecord] = []
    for video in order:
        if any(counts[label] < LABELLED for label in video.labels):
            chosen.append(video)
            counts.update(video.labels)
    ids = {video.id for video in chosen}
    videos = {key: video for key, video in dataset.videos.items() if video.subset != TRAINING or key in ids}
    return replace(dataset, videos=videos, notes=())


def at_random(detections: dict[str, list[Detection]], count: int, seed: int) -> Chosen:
    """Draw `count` of all detections, with equal probability."""
    pairs = [(video, detection) for video, own in sorted(detections.items()) for detection in own]
    order = np.random.default_rng(seed).permutation(len(pairs))
    return [pairs[i] for i in order[:count]]


def answered(chosen: Chosen, dataset: Dataset) -> Verdicts:
    """Answer detections from the annotations."""
    return Verdicts(verdicts=tuple(_answer(video, detection, dataset) for video, detection in chosen))


def _answer(video: str, detection: Detection, dataset: Dataset) -> Verdict:
    own = [a for a in dataset.videos[video].annotations if a.label == detection.label]
    best = max(own, key=lambda a: tiou(a, detection), default=Segment(0.0, 0.0))
    overlap = tiou(best, detection) if own else 0.0
    answer: Answer = "yes" if overlap >= _SAME else "moved" if overlap > 0 else "no"
    judged = Judged(segment=(detection.start, detection.end), score=detection.score)
    segment = (best.start, best.end) if answer == "moved" else None
    return Verdict(video=video, label=detection.label, verdict=answer, segment=segment, detection=judged)


def _rejected(verdicts: Verdicts, detections: dict[str, list[Detection]]) -> set[VideoClass]:
    """Pairs of video and class with every detection rejected."""
    rejected = Counter((v.video, v.label) for v in verdicts.verdicts if v.verdict == "no")
    return {
        (video, label)
        for (video, label), count in rejected.items()
        if count == sum(detection.label == label for detection in detections[video])
    }


def _trained(dataset: Dataset, store: Path, recipe: Recipe, seed: int, workspace: Workspace) -> Run:
    file = workspace.annotations / f"{content_digest(dataset)}.json"
    write_annotations(dataset, file)
    (own,) = train(TrainInputs(store, file), recipe, (seed,), workspace)
    detect(own)
    return own


def _judged(run: Run) -> float:
    question = Question()
    (judgement,) = evaluate([source_of(run, question, None)], question).evaluations
    return 100 * judgement.mAP[0.5]


def _labels(dataset: Dataset) -> int:
    return sum(len(video.labels) for video in dataset.select(TRAINING))


def _lines(rows: dict[str, Row]) -> Iterator[str]:
    yield f"| | before | {COUNT} at random | {COUNT} by `--next` | labels, at random | labels, by `--next` |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for name, row in rows.items():
        cells = [_cell(row[key]) for key in ("before", "random", "next", "labels by random", "labels by next")]
        yield f"| {name} | {' | '.join(cells)} |"


def _cell(values: Sequence[float]) -> str:
    return f"{fmean(values):.1f} ±{stdev(values):.1f}" if len(values) > 1 else f"{values[0]:.1f}"


if __name__ == "__main__":
    main(sys.argv[1:])
