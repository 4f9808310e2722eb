"""Select the detections whose verdicts would teach most.

The value of a verdict is a product of three factors:

1. Doubt: 1 for a score midway between the highest and the lowest of its class, 0 at these two.
2. News: 1 in an unlabelled video, or one whose labels disagree; a half if they agree.
3. Spread: 1 / (1 + verdicts on the video) / (1 + verdicts on the class), counting existing verdicts and those proposed
   before this one.

Ties go to the higher score, then by name. Detections with a verdict, and those in reviewed videos, are skipped.
"""

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wtal.data.annotations import read_annotations
from wtal.data.dataset import Dataset
from wtal.data.detections import read_detections, to_json
from wtal.data.names import match_ids
from wtal.data.segments import Detection
from wtal.data.verdicts import Verdicts, read_verdicts
from wtal.errors import WtalError
from wtal.pipeline.runs import Run
from wtal.pipeline.viewing.located import LocatedDetections

COUNT = 20
"""Default number of proposed verdicts."""
_SAME = 0.5
"""News of a verdict that agrees with the labels."""


@dataclass(frozen=True)
class Candidate:
    """A detection without a verdict, and the reason to request one."""

    video: str
    detection: Detection
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Return the candidate as JSON types."""
        return {"video": self.video, **to_json(self.detection), "reason": self.reason}


def next_verdicts(located: LocatedDetections, count: int = COUNT, annotations: Path | None = None) -> list[Candidate]:
    """Return the detections whose verdicts would teach most, the best first.

    Labels are those of `annotations`, or of the detections' run; without either, no video has any.

    Raises:
        FormatError: when detections, verdicts or annotations cannot be read.
    """
    file = located.verdicts_file
    verdicts = read_verdicts(file) if file.exists() else Verdicts()
    dataset = read_annotations(annotations) if annotations else _labels_of(located.run)
    return choose(read_detections(located.file), verdicts, dataset, count)


def choose(
    detections: Mapping[str, Sequence[Detection]], verdicts: Verdicts, dataset: Dataset | None, count: int
) -> list[Candidate]:
    """Return at most `count` of the detections without a verdict, by the rule of this module."""
    judged = {(v.video, v.label, v.detection.segment) for v in verdicts.verdicts if v.detection}
    videos = Counter(verdict.video for verdict in verdicts.verdicts)
    classes = Counter(verdict.label for verdict in verdicts.verdicts)
    shown = _shown(dataset, detections)
    doubts = _doubts(detections)
    rest = [
        (video, detection)
        for video, own in detections.items()
        if video not in verdicts.looked_at
        for detection in own
        if (video, detection.label, (detection.start, detection.end)) not in judged
    ]

    def worth(video: str, d: Detection) -> float:
        news = _SAME if d.label in (shown.get(video) or ()) else 1.0
        return doubts[video, d] * news / (1 + videos[video]) / (1 + classes[d.label])

    # Each choice lowers the values of others and raises none: an outdated value is too high.
    heap = [
        (-worth(*pair), -pair[1].score, pair[0], pair[1].label, pair[1].start, number)
        for number, pair in enumerate(rest)
    ]
    heapq.heapify(heap)
    chosen: list[Candidate] = []
    while heap and len(chosen) < count:
        entry = heapq.heappop(heap)
        video, detection = rest[entry[-1]]
        now = -worth(video, detection)
        if now > entry[0]:
            heapq.heappush(heap, (now, *entry[1:]))
            continue
        chosen.append(Candidate(video, detection, _reason(detection, shown.get(video))))
        videos[video] += 1
        classes[detection.label] += 1
    return chosen


def _labels_of(run: Run | None) -> Dataset | None:
    try:
        return run.annotations() if run else None
    except WtalError:  # missing annotations: nothing is labelled then
        return None


def _shown(dataset: Dataset | None, detections: Mapping[str, Sequence[Detection]]) -> dict[str, tuple[str, ...]]:
    """Return video -> its labels, for labelled videos."""
    if dataset is None:
        return {}
    records = {own: dataset.videos[video] for video, own in match_ids(dataset.videos, detections).items()}
    return {video: record.labels for video, record in records.items() if record.labels or not record.absent}


def _doubts(detections: Mapping[str, Sequence[Detection]]) -> dict[tuple[str, Detection], float]:
    scores: dict[str, list[float]] = {}
    for own in detections.values():
        for d in own:
            scores.setdefault(d.label, []).append(d.score)
    spans = {label: (min(values), max(values)) for label, values in scores.items()}

    def doubt(d: Detection) -> float:
        low, high = spans[d.label]
        return 1.0 if high == low else 1 - abs(2 * (d.score - low) / (high - low) - 1)

    return {(video, d): doubt(d) for video, own in detections.items() for d in own}


def _reason(detection: Detection, labels: tuple[str, ...] | None) -> str:
    if labels is None:
        return "the video is unlabelled"
    if detection.label in labels:
        return "as labelled"
    return f"labelled {', '.join(labels)}" if labels else "labelled as showing no class"
