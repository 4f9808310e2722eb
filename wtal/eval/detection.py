"""Mean average precision of detections, by any protocol of `wtal.eval.protocols`; by default ActivityNet's and HACS's.

For each class, detections are ranked by descending score, and each is a true or a false positive at each threshold of
temporal intersection over union (tIoU). Average precision is the area under the precision-recall curve. mAP is the
mean over the classes in the ground truth; a class without detections has 0.

Ties. Equal scores stay in the order of the input (videos in the order of the mapping, then the lists); for equal tIoU
the later annotation is matched first. ActivityNet's script sorts with an unstable algorithm, and mostly puts the last
of equal scores first, so that results with ties may differ: by half of a class's AP if it has two detections, by up to
about 1e-5 if thousands of scores are tied. With `ties="official"` they are the script's (`wtal.eval.script_ties`).

Deviations from that script: a detection of a class missing from the ground truth is counted and left out (the original
stops); if neither segment has a length, tIoU is 1 if they are equal, else 0 (the original divides by zero and counts
any such pair as a hit, as does `ties="official"`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from wtal.data.names import look_alike
from wtal.data.segments import Annotation, Detection, Segment
from wtal.data.tally import first_names
from wtal.eval.judge import JudgedRanking, judge
from wtal.eval.protocols import DEFAULT_PROTOCOL, INPUT, find_protocol
from wtal.eval.thresholds import averages, check_tious, mean_over, parse_tious, tiou_key


@dataclass(frozen=True)
class Evaluation:
    """Results of the judge, in fractions.

    `ap` is class -> threshold -> average precision, over the classes of the ground truth. `ignored` is label -> number
    of detections left out because the ground truth has no such class. `strangers` counts the detections in videos
    missing from the ground truth: all false positives, except in protocols that leave them out. `remarks` are sentences
    on anything else left out by the protocol. `undetected` are the classes without a detection, whose AP is 0.
    `strange` are the first videos missing from the ground truth, each with the name there that looks like it, or None.
    """

    tious: tuple[float, ...]
    ap: dict[str, dict[float, float]]
    ignored: dict[str, int]
    strangers: int
    protocol: str = DEFAULT_PROTOCOL
    remarks: tuple[str, ...] = ()
    undetected: tuple[str, ...] = ()
    strange: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def mAP(self) -> dict[float, float]:  # noqa: N802 (the name that the field writes)
        """Threshold -> mean of the classes' average precision."""
        return {tiou: float(np.mean([by_tiou[tiou] for by_tiou in self.ap.values()])) for tiou in self.tious}

    @property
    def average(self) -> float:
        """Mean of mAP over the thresholds."""
        return mean_over(self.mAP, self.tious)

    @property
    def averages(self) -> dict[str, float]:
        """`0.1:0.7` -> mean of mAP from 0.1 to 0.7, for each range common in papers that the thresholds cover."""
        return averages(self.mAP)

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on omissions and possible surprises."""
        notes = []
        if self.ignored:
            first = sorted(self.ignored)[:3]
            names = ", ".join(map(repr, first))
            count = sum(self.ignored.values())
            hint = _hint({label: look_alike(label, self.ap) for label in first})
            notes.append(f"detections of classes that the ground truth lacks, left out: {count} (first: {names}){hint}")
        if self.strangers:
            treatment = "left out" if find_protocol(self.protocol).annotated_videos_only else "false positives"
            named = f" (first: {', '.join(map(repr, self.strange))}){_hint(self.strange)}"
            notes.append(f"detections in videos that the ground truth lacks, {treatment}: {self.strangers}{named}")
        if self.undetected:
            names = first_names([repr(label) for label in self.undetected])
            original = "; the original would report mAP 0" if find_protocol(self.protocol).snippets else ""
            notes.append(f"classes without a detection, AP 0: {len(self.undetected)} ({names}){original}")
        return (*notes, *self.remarks)

    def to_json(self) -> dict[str, Any]:
        """Convert to `{"mAP": {"0.1": ..}, "average": .., "ap": {class: {"0.1": ..}}}`, in fractions.

        `averages` is added if the thresholds cover a range over which papers average.
        """
        averages = self.averages
        return {
            "mAP": {tiou_key(tiou): value for tiou, value in self.mAP.items()},
            "average": self.average,
            **({"averages": averages} if averages else {}),
            "ap": {
                label: {tiou_key(tiou): value for tiou, value in by_tiou.items()} for label, by_tiou in self.ap.items()
            },
        }


def evaluate_detections(
    annotations: Mapping[str, Sequence[Annotation]],
    detections: Mapping[str, Sequence[Detection]],
    tious: Sequence[float] | None = None,
    protocol: str = DEFAULT_PROTOCOL,
    ambiguous: Mapping[str, Sequence[Segment]] | None = None,
    ties: str = INPUT,
) -> Evaluation:
    """Score detections against annotations, both by video id, in seconds.

    `tious` are the thresholds; None: the protocol's own. `ambiguous` are ranges (seconds, by video id) that annotators
    could not decide, for the protocols that use them. `ties` is the order of equal scores: the input's, or with
    `official` that of ActivityNet's script.

    Raises:
        UsageError: when there is no annotation, no threshold or a threshold outside (0, 1], a score is not finite, or
            there is no such protocol, or none with such ties.
    """
    rules = find_protocol(protocol, ties)
    thresholds = parse_tious(rules.tious) if tious is None else check_tious(tious)
    return evaluation_of(judge(annotations, detections, thresholds, rules, ambiguous or {}), thresholds, protocol)


def evaluation_of(judged: JudgedRanking, thresholds: Sequence[float], protocol: str) -> Evaluation:
    """Compute the figures of judged detections at these thresholds, by that protocol."""
    values = judged.ranking.average_precision().T.tolist()
    ap = {label: dict(zip(thresholds, row, strict=True)) for label, row in zip(judged.classes, values, strict=True)}
    counts = np.bincount(judged.detections.label, minlength=len(judged.classes))
    undetected = tuple(label for label, count in zip(judged.classes, counts.tolist(), strict=True) if not count)
    return Evaluation(
        tuple(thresholds), ap, judged.ignored, judged.strangers, protocol, judged.remarks, undetected, judged.strange
    )


def _hint(looks: Mapping[str, str | None]) -> str:
    """Return the end of a note: names of the ground truth that differ from missing names only in their writing."""
    pairs = [f"{near!r} for {name!r}" for name, near in looks.items() if near]
    return f"; nearest names in the ground truth: {', '.join(pairs)}" if pairs else ""
