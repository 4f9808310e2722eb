"""Ground truth of one subset, and the rules for evaluating detections against it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wtal.data.annotations import read_annotations
from wtal.data.assemble import read_ambiguous
from wtal.data.dataset import Dataset, VideoRecord
from wtal.data.detections import align_ids, read_detections
from wtal.data.names import match_ids
from wtal.data.segments import Annotation, Detection, Segment
from wtal.errors import UsageError, WtalError
from wtal.eval.protocols import DEFAULT_PROTOCOL, INPUT, PROTOCOLS, find_protocol
from wtal.eval.thresholds import parse_tious
from wtal.pipeline.checks.lengths import late_notes, length_notes
from wtal.pipeline.judging.sources import Question, Source
from wtal.pipeline.progress import SILENT, Reporter


@dataclass(frozen=True)
class GroundTruth:
    """Videos of one subset, with the annotations that detections are evaluated against."""

    file: Path
    subset: str
    dataset: Dataset
    records: tuple[VideoRecord, ...]
    ambiguous: dict[str, Sequence[Segment]]

    @property
    def annotations(self) -> dict[str, Sequence[Annotation]]:
        """Video id -> its annotations."""
        return {video.id: video.annotations for video in self.records}

    def judged(self, source: Source, reporter: Reporter = SILENT) -> dict[str, Sequence[Detection]]:
        """Return the evaluated detections of a source, by the ids of the annotations.

        Ids match with or without a leading `v_`. Detections in videos annotated in other subsets are left out, and
        their number is reported (the original script would count them as false positives). In a stand-alone file, those
        in videos without annotations are false positives, as in the official script. A run's store may also hold
        unlabelled videos from outside the collection, where it is unknown whether a detection is false.
        """
        detections = align_ids(read_detections(source.file), self.dataset.videos)
        reported = {video.id for video in self.records}
        elsewhere = sum(1 for name in detections if name in self.dataset.videos and name not in reported)
        if elsewhere:
            reporter.say(
                f"not evaluated: {elsewhere} videos of {source.file}, annotated in subsets other than {self.subset!r}"
            )
        unknown = () if source.run else tuple(name for name in detections if name not in self.dataset.videos)
        return {name: segments for name, segments in detections.items() if name in reported or name in unknown}

    def length_notes(self, source: Source, judged: Mapping[str, Sequence[Detection]]) -> tuple[str, ...]:
        """Return sentences on videos whose annotated length contradicts a run's features, or a file's detections.

        A run without its features gets none: evaluating it does not require them.
        """
        if source.run is None:
            return late_notes(self.records, judged)
        try:
            return length_notes(self.dataset, source.run.store(), subset=self.subset)
        except WtalError:
            return ()

    def tell_lengths(
        self, sources: Sequence[Source], judged: Sequence[Mapping[str, Sequence[Detection]]], reporter: Reporter
    ) -> None:
        """Report each of `length_notes` of the sources once."""
        pairs = zip(sources, judged, strict=True)
        for note in dict.fromkeys(note for source, own in pairs for note in self.length_notes(source, own)):
            reporter.say(note)


@dataclass(frozen=True)
class Rules:
    """Ground truth, thresholds of tIoU, protocol, and its order of equal scores."""

    truth: GroundTruth
    tious: tuple[float, ...]
    protocol: str
    ties: str = INPUT

    @property
    def named(self) -> dict[str, str]:
        """Protocol as JSON types, and its ties unless they are the usual ones."""
        return {"protocol": self.protocol} | ({} if self.ties == INPUT else {"ties": self.ties})


def rules_of(source: Source, question: Question) -> Rules:
    """Return the rules for evaluating a source; an explicit protocol brings its own thresholds.

    Raises:
        UsageError: when the subset does not exist or has no segments, or the protocol ignores the ambiguous ranges, or
            has no such ties.
    """
    protocol = question.protocol or DEFAULT_PROTOCOL
    check_ambiguous(protocol, question.ambiguous)
    find_protocol(protocol, question.ties)
    own = source.tious if question.protocol is None else find_protocol(protocol).tious
    truth = read_ground_truth(source.annotations, source.subset, question.ambiguous)
    return Rules(truth, parse_tious(question.tious or own), protocol, question.ties)


def read_ground_truth(annotations: Path, subset: str, ambiguous: Path | None = None) -> GroundTruth:
    """Read the annotations of a subset; `ambiguous` is a file of ranges in addition to those in the annotations.

    Raises:
        UsageError: when the subset does not exist or has no segments.
    """
    dataset = read_annotations(annotations)
    records = tuple(dataset.select(subset))
    if not any(video.annotations for video in records):
        raise UsageError(f"subset {subset!r} of {annotations} has no segments to evaluate against")
    ranges: dict[str, Sequence[Segment]] = {video.id: video.ambiguous for video in records if video.ambiguous}
    if ambiguous is not None:
        ranges |= _renamed(read_ambiguous(ambiguous), [video.id for video in records])
    return GroundTruth(annotations, subset, dataset, records, ranges)


def check_ambiguous(protocol: str, ambiguous: Path | None) -> None:
    """Refuse a file of ambiguous ranges that would have no effect.

    Raises:
        UsageError: when the protocol ignores them, or is unknown.
    """
    if find_protocol(protocol).ambiguous == "ignored" and ambiguous is not None:
        alternatives = "|".join(name for name, other in PROTOCOLS.items() if other.ambiguous != "ignored")
        raise UsageError(
            f"the protocol {protocol!r} ignores --ambiguous; leave it out, or use --protocol {alternatives}"
        )


def _renamed(ranges: Mapping[str, Sequence[Segment]], video_ids: Sequence[str]) -> dict[str, Sequence[Segment]]:
    return {name: ranges[key] for name, key in match_ids(video_ids, ranges).items()}
