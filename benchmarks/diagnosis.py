"""Errors of detections named and priced: wtal's diagnosis, plain loops, and the judge's mAP alone.

The collections are those of `judge`. wtal and the loops find the kind of every detection at every threshold and what
mAP gains without each kind, and must agree; wtal also divides the cost among all kinds and analyses characteristics,
which the loops leave out. Up to the size `--whole`, both process everything. Above it, the loops process only the
first classes, with `--sample` detections in total, and their rate is extrapolated to the whole.
"""

import sys
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks._peers import Found, Truth, area, hits_in_loops
from benchmarks._report import arguments, report
from benchmarks._turns import take_turns
from benchmarks.judge import COUNTS, Scene, judge, sample, scene, told
from wtal.data.segments import Annotation, Detection, tiou
from wtal.eval import Diagnosis, diagnose_detections
from wtal.eval.outcomes import ERRORS, NEAR, OUTCOMES

_ACCURACY = 1e-9

Priced = tuple[NDArray[np.intp], NDArray[np.float64]]
"""Detections of each kind (K, 7), and the gain of removing each kind of error (K, 5)."""


def main(argv: Sequence[str] | None = None) -> None:
    """All of them at every size, in turns."""
    parser = arguments(__doc__)
    parser.add_argument("--detections", type=int, nargs="+", default=COUNTS, help="sizes, rising")
    parser.add_argument("--whole", type=int, default=20000, help="up to here the loops look at everything")
    parser.add_argument("--sample", type=int, default=5000, help="above, detections of the classes that they look at")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions")
    options = parser.parse_args(argv)
    found, ratios = [], {}
    for count in options.detections:
        whole = scene(count)
        part = whole if count <= options.whole else sample(whole, options.sample)
        check(part)
        tasks = {
            "wtal": partial(diagnose, whole),
            "plain loops": partial(plain_loops, part.truth, part.found, part.tious),
            "mAP alone": partial(judge, whole, 1),
        }
        times = take_turns(tasks, options.repeat)
        amounts = {name: part.count if name == "plain loops" else whole.count for name in tasks}
        rows_here, ratios_here = told(f"{count} detections", times, amounts)
        found += rows_here
        ratios |= ratios_here
    report("diagnosis", found, ratios, options.out)


def diagnose(one: Scene) -> Diagnosis:
    """What is measured."""
    return diagnose_detections(one.truth, one.found, one.tious, durations=dict.fromkeys(one.truth, 300.0))


def plain_loops(truth: Truth, found: Found, tious: Sequence[float]) -> Priced:
    """The same one detection after the other, threshold by threshold and class by class."""
    labels = sorted({one.label for segments in truth.values() for one in segments})
    counts, gains = np.zeros((len(tious), len(OUTCOMES)), np.intp), np.zeros((len(tious), len(ERRORS)))
    for label in labels:
        wanted = {video: [one for one in segments if one.label == label] for video, segments in truth.items()}
        pairs = [(video, one) for video, here in found.items() for one in here if one.label == label]
        ranked = sorted(pairs, key=lambda pair: -pair[1].score)
        positives = sum(map(len, wanted.values()))
        for k, threshold in enumerate(tious):
            hits = hits_in_loops(wanted, ranked, threshold)
            kinds = [
                OUTCOMES[0] if hit else error_in_loops(one, truth.get(video, ()), threshold)
                for (video, one), hit in zip(ranked, hits, strict=True)
            ]
            for kind in kinds:
                counts[k, OUTCOMES.index(kind)] += 1
            before = area(hits, positives)
            for place, kind in enumerate(ERRORS):
                rest = [hit for hit, other in zip(hits, kinds, strict=True) if other != kind]
                gains[k, place] += (area(rest, positives) - before) / len(labels)
    return counts, gains


def error_in_loops(detection: Detection, annotations: Sequence[Annotation], threshold: float) -> str:
    """The kind of a false positive, by the annotations of its video."""
    best, own = 0.0, False
    for annotation in annotations:
        overlap, same = tiou(detection, annotation), annotation.label == detection.label
        if (overlap, same) > (best, own):
            best, own = overlap, same
    if best >= threshold:
        return "duplicate" if own else "wrong label"
    if best >= NEAR:
        return "localization" if own else "confusion"
    return "background"


def check(one: Scene) -> None:
    """Refuse to time two that do not agree.

    Raises:
        ValueError: when a count or a gain differs.
    """
    made, (counts, gains) = diagnose(one), plain_loops(one.truth, one.found, one.tious)
    apart = float(np.abs(made.removal.alone - gains).max())
    if apart > _ACCURACY or (made.among_best() != counts).any():
        raise ValueError(f"plain loops and wtal differ, gains by {apart:.1e}; {_ACCURACY:.0e} is allowed")


if __name__ == "__main__":
    main(sys.argv[1:])
