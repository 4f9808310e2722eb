"""Detections and annotations -> the judge's figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from wtal.data.ambiguous import read_ambiguous
from wtal.data.annotations import read_annotations
from wtal.data.dataset import Dataset, VideoRecord, match_ids
from wtal.data.detections import align_ids, read_detections
from wtal.data.segments import Annotation, Detection, Segment
from wtal.errors import UsageError
from wtal.eval import Evaluation, evaluate_detections
from wtal.eval.protocols import DEFAULT_PROTOCOL, PROTOCOLS, find_protocol
from wtal.eval.thresholds import parse_tious
from wtal.pipeline.detect import detections_of, localize_settings
from wtal.pipeline.progress import SILENT, Reporter
from wtal.pipeline.train import resolve
from wtal.pipeline.workspace import read_run


@dataclass(frozen=True)
class GroundTruth:
    """The videos of one subset: what detections are judged against."""

    file: Path
    subset: str
    dataset: Dataset
    records: tuple[VideoRecord, ...]
    ambiguous: dict[str, Sequence[Segment]]

    @property
    def annotations(self) -> dict[str, Sequence[Annotation]]:
        """Video id -> its annotations."""
        return {video.id: video.annotations for video in self.records}

    def judged(self, file: Path, strangers: bool = True, reporter: Reporter = SILENT) -> dict[str, Sequence[Detection]]:
        """The detections of a file that are judged, by the ids of the annotations.

        Ids match with or without a `v_` before them. Detections in videos that the annotations put into other subsets
        are not looked at, and their number is said (the original script would count them as false positives); those
        in videos that the annotations do not know are false positives, as officially, unless `strangers` is False.
        """
        found = align_ids(read_detections(file), self.dataset.videos)
        here = {video.id for video in self.records}
        elsewhere = sum(1 for name in found if name in self.dataset.videos and name not in here)
        if elsewhere:
            reporter.say(f"not judged: {elsewhere} videos of {file} that are in other subsets than {self.subset!r}")
        # What the annotations put into another subset is not judged here; what they do not know at all is.
        wanted = {name for name in found if name in here or (strangers and name not in self.dataset.videos)}
        return {name: segments for name, segments in found.items() if name in wanted}


def read_ground_truth(annotations: Path, subset: str, ambiguous: Path | None = None) -> GroundTruth:
    """The annotations of a subset; `ambiguous` is a file of ranges beside those that the annotations have themselves.

    Raises:
        UsageError: when the subset does not exist or has no annotation of time.
    """
    dataset = read_annotations(annotations)
    records = tuple(dataset.select(subset))
    if not any(video.annotations for video in records):
        raise UsageError(f"subset {subset!r} of {annotations} has no segments to judge with")
    ranges: dict[str, Sequence[Segment]] = {video.id: video.ambiguous for video in records if video.ambiguous}
    if ambiguous is not None:
        ranges |= _renamed(read_ambiguous(ambiguous), [video.id for video in records])
    return GroundTruth(annotations, subset, dataset, records, ranges)


def check_ambiguous(protocol: str, ambiguous: Path | None) -> None:
    """Refuse a file of ambiguous ranges that would change nothing.

    Raises:
        UsageError: when the protocol does not look at them, or there is none of that name.
    """
    if find_protocol(protocol).ambiguous == "ignored" and ambiguous is not None:
        others = ", ".join(name for name, one in PROTOCOLS.items() if one.ambiguous != "ignored")
        raise UsageError(f"--ambiguous is nothing to the protocol {protocol!r}; --protocol is one of {others}")


def _renamed(ranges: Mapping[str, Sequence[Segment]], wanted: Sequence[str]) -> dict[str, Sequence[Segment]]:
    return {name: ranges[theirs] for name, theirs in match_ids(wanted, ranges).items()}


def evaluate_file(
    detections: Path,
    annotations: Path,
    subset: str,
    tious: str | None = None,
    strangers: bool = True,
    reporter: Reporter = SILENT,
    protocol: str = DEFAULT_PROTOCOL,
    ambiguous: Path | None = None,
) -> Evaluation:
    """Judge one detection file on one subset, as `GroundTruth.judged` has it; `tious` None are the protocol's.

    Raises:
        UsageError: when the subset does not exist or has no annotation of time.
    """
    truth = read_ground_truth(annotations, subset, ambiguous)
    thresholds = parse_tious(find_protocol(protocol).tious if tious is None else tious)
    found = truth.judged(detections, strangers, reporter)
    return evaluate_detections(truth.annotations, found, thresholds, protocol, truth.ambiguous)


def evaluate_seed(
    folder: Path,
    detections: Path | None = None,
    annotations: Path | None = None,
    subset: str | None = None,
    tious: str | None = None,
    protocol: str | None = None,
    ambiguous: Path | None = None,
) -> Evaluation:
    """Judge one seed of a run: its own detections, annotations, reported subset and thresholds, or others.

    A `protocol` that is named has its own thresholds, unless others are given.

    Raises:
        UsageError: when it has no detections yet.
    """
    described = read_run(folder)
    rules = described["recipe"]["evaluate"]
    file = detections or own_detections(folder)
    truth = annotations or resolve(folder, described["annotations"])
    # The store may hold unlabelled videos beside the collection: nobody knows whether a find there is false.
    wanted = tious or (rules["tiou"] if protocol is None else None)
    return evaluate_file(
        file,
        truth,
        subset or rules["test_subset"],
        wanted,
        strangers=False,
        protocol=protocol or DEFAULT_PROTOCOL,
        ambiguous=ambiguous,
    )


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
