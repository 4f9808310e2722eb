"""Detections and annotations -> the judge's figures."""

from pathlib import Path
from statistics import fmean
from typing import Any

from wtal.data.annotations import read_annotations
from wtal.data.detections import align_ids, read_detections
from wtal.errors import UsageError
from wtal.eval import Evaluation, evaluate_detections
from wtal.eval.detection import parse_tious
from wtal.pipeline.detect import detections_of, localize_settings
from wtal.pipeline.progress import SILENT, Reporter
from wtal.pipeline.train import resolve
from wtal.pipeline.workspace import read_run


def evaluate_file(
    detections: Path,
    annotations: Path,
    subset: str,
    tious: str,
    strangers: bool = True,
    reporter: Reporter = SILENT,
) -> Evaluation:
    """Judge one detection file on one subset.

    Ids match with or without a `v_` before them. Detections in videos that the annotations put into other subsets are
    not looked at, and their number is said (the original script would count them as false positives); those in
    videos that the annotations do not know are false positives, as officially, unless `strangers` is False.

    Raises:
        UsageError: when the subset does not exist or has no annotation of time.
    """
    dataset = read_annotations(annotations)
    records = dataset.select(subset)
    truth = {video.id: video.annotations for video in records}
    if not any(truth.values()):
        raise UsageError(f"subset {subset!r} of {annotations} has no segments to judge with")
    found = align_ids(read_detections(detections), dataset.videos)
    elsewhere = sum(1 for name in found if name in dataset.videos and name not in truth)
    if elsewhere:
        reporter.say(f"not judged: {elsewhere} videos of {detections} that are in other subsets than {subset!r}")
    # What the annotations put into another subset is not judged here; what they do not know at all is.
    judged = {name: found[name] for name in found if name in truth or (strangers and name not in dataset.videos)}
    return evaluate_detections(truth, judged, parse_tious(tious))


def evaluate_seed(
    folder: Path,
    detections: Path | None = None,
    annotations: Path | None = None,
    subset: str | None = None,
    tious: str | None = None,
) -> Evaluation:
    """Judge one seed of a run: its own detections, annotations, reported subset and thresholds, or others.

    Raises:
        UsageError: when it has no detections yet.
    """
    described = read_run(folder)
    rules = described["recipe"]["evaluate"]
    file = detections or own_detections(folder)
    truth = annotations or resolve(folder, described["annotations"])
    # The store may hold unlabelled videos beside the collection: nobody knows whether a find there is false.
    return evaluate_file(file, truth, subset or rules["test_subset"], tious or rules["tiou"], strangers=False)


def own_detections(folder: Path, streams: str | None = None, stage: int | None = None) -> Path:
    """The detections of one seed by its own recipe, or by that with other streams, or of a stage of its training.

    Raises:
        UsageError: when there are none yet.
    """
    config = localize_settings(folder, [] if streams is None else [f'localize.streams="{streams}"'])
    path = detections_of(folder, config, False, stage)
    if not path.is_file():
        options = ("" if streams is None else f" --streams {streams}") + ("" if stage is None else f" --stage {stage}")
        raise UsageError(f"{folder} has no such detections yet; run: wtal detect {folder}{options}")
    return path


def over_seeds(evaluations: list[Evaluation]) -> dict[str, dict[str, Any]]:
    """{"0.5": {"mean": .., "seeds": [..]}, ..}: mAP at each threshold, as fractions."""
    tables = [evaluation.to_json()["mAP"] for evaluation in evaluations]
    return {
        tiou: {"mean": fmean(table[tiou] for table in tables), "seeds": [table[tiou] for table in tables]}
        for tiou in tables[0]
    }
