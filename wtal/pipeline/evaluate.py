"""Detections and annotations -> the judge's figures."""

from pathlib import Path
from statistics import fmean
from typing import Any

from wtal.data.annotations import read_annotations
from wtal.data.detections import align_ids, read_detections
from wtal.errors import UsageError
from wtal.eval import Evaluation, evaluate_detections
from wtal.eval.detection import parse_tious
from wtal.pipeline.train import resolve
from wtal.pipeline.workspace import read_run, seed_folders


def evaluate_file(detections: Path, annotations: Path, subset: str, tious: str, strangers: bool = True) -> Evaluation:
    """Judge one detection file on one subset.

    Ids match with or without a `v_` before them. Detections in videos of other subsets are not looked at; those in
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
    # What the annotations put into another subset is not judged here; what they do not know at all is.
    judged = {name: found[name] for name in found if name in truth or (strangers and name not in dataset.videos)}
    return evaluate_detections(truth, judged, parse_tious(tious))


def evaluate_run(run: Path, annotations: Path | None, subset: str | None, tious: str | None) -> list[Evaluation]:
    """Judge each seed of a run on the subset that its recipe reports, or on another."""
    results = []
    for folder in seed_folders(run):
        described = read_run(folder)
        rules = described["recipe"]["evaluate"]
        detections = folder / "detections" / "detections.json"
        if not detections.is_file():
            raise UsageError(f"{folder} has no detections yet; run: wtal detect {folder}")
        truth = annotations or resolve(folder, described["annotations"])
        reported = subset or rules["test_subset"]
        # The store may hold unlabelled videos beside the collection: nobody knows whether a find there is false.
        results.append(evaluate_file(detections, truth, reported, tious or rules["tiou"], strangers=False))
    return results


def over_seeds(evaluations: list[Evaluation]) -> dict[str, dict[str, Any]]:
    """{"0.5": {"mean": .., "seeds": [..]}, ..}: mAP at each threshold, as fractions."""
    tables = [evaluation.to_json()["mAP"] for evaluation in evaluations]
    return {
        tiou: {"mean": fmean(table[tiou] for table in tables), "seeds": [table[tiou] for table in tables]}
        for tiou in tables[0]
    }
