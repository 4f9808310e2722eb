"""Detections diagnosed per second: wtal's diagnosis, plain loops, and the judge's mAP alone.

The collections are those of `judge`. Both wtal and the loops find the kind of every detection at every threshold, and
the gain in mAP without each kind of error, and must agree. wtal also distributes the cost among all kinds and analyses
characteristics, which the loops omit. Up to the size `--whole`, both process everything. Above it, the loops process
only the first classes, with `--sample` detections in total, and their rate is extrapolated to the whole.
"""

import sys
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks._peers import Detections, Truth, area, hits_in_loops
from benchmarks._report import arguments, report
from benchmarks._turns import take_turns
from benchmarks.judge import COUNTS, Scene, compare, judge, sample, scene
from wtal.data.segments import Annotation, Detection, tiou
from wtal.eval import Diagnosis, diagnose_detections
from wtal.eval.diagnosis.outcomes import ERRORS, NEAR, OUTCOMES

_ACCURACY = 1e-9

Priced = tuple[NDArray[np.intp], NDArray[np.float64]]
"""Detections of each kind (K, 7), and the gain of removing each kind of error (K, 5)."""


def main(argv: Sequence[str] | None = None) -> None:
    """Time all of them at every size, in turns."""
    parser = arguments(__doc__)
    parser.add_argument("--detections", type=int, nargs="+", default=COUNTS, help="sizes, in rising order")
    parser.add_argument("--whole", type=int, default=20000, help="largest size that the loops process entirely")
    parser.add_argument("--sample", type=int, default=5000, help="detections for the loops above that size")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions")
    options = parser.parse_args(argv)
    table, ratios = [], {}
    for count in options.detections:
        whole = scene(count)
        part = whole if count <= options.whole else sample(whole, options.sample)
        check(part)
        tasks = {
            "wtal": partial(diagnose, whole),
            "plain loops": partial(plain_loops, part.truth, part.detections, part.tious),
            "mAP alone": partial(judge, whole, 1),
        }
        times = take_turns(tasks, options.repeat)
        amounts = {name: part.count if name == "plain loops" else whole.count for name in tasks}
        more_rows, more_ratios = compare(f"{count} detections", times, amounts)
        table += more_rows
        ratios |= more_ratios
    report("diagnosis", table, ratios, options.out)


def diagnose(scene: Scene) -> Diagnosis:
    """Diagnose with wtal."""
    return diagnose_detections(scene.truth, scene.detections, scene.tious, durations=dict.fromkeys(scene.truth, 300.0))


def plain_loops(truth: Truth, detections: Detections, tious: Sequence[float]) -> Priced:
    """Diagnose one detection at a time, per class and threshold."""
    labels = sorted({annotation.label for segments in truth.values() for annotation in segments})
    counts, gains = np.zeros((len(tious), len(OUTCOMES)), np.intp), np.zeros((len(tious), len(ERRORS)))
    for label in labels:
        annotations = {video: [a for a in segments if a.label == label] for video, segments in truth.items()}
        pairs = [(video, d) for video, segments in detections.items() for d in segments if d.label == label]
        ranked = sorted(pairs, key=lambda pair: -pair[1].score)
        positives = sum(map(len, annotations.values()))
        for k, threshold in enumerate(tious):
            hits = hits_in_loops(annotations, ranked, threshold)
            kinds = [
                OUTCOMES[0] if hit else error_in_loops(detection, truth.get(video, ()), threshold)
                for (video, detection), hit in zip(ranked, hits, strict=True)
            ]
            for kind in kinds:
                counts[k, OUTCOMES.index(kind)] += 1
            before = area(hits, positives)
            for column, kind in enumerate(ERRORS):
                rest = [hit for hit, other in zip(hits, kinds, strict=True) if other != kind]
                gains[k, column] += (area(rest, positives) - before) / len(labels)
    return counts, gains


def error_in_loops(detection: Detection, annotations: Sequence[Annotation], threshold: float) -> str:
    """Kind of a false positive, given the annotations of its video."""
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


def check(scene: Scene) -> None:
    """Refuse to time diagnoses that disagree.

    Raises:
        ValueError: when a count or a gain differs.
    """
    diagnosis, (counts, gains) = diagnose(scene), plain_loops(scene.truth, scene.detections, scene.tious)
    difference = float(np.abs(diagnosis.removal.alone - gains).max())
    if difference > _ACCURACY or (diagnosis.among_best() != counts).any():
        raise ValueError(f"plain loops and wtal differ, gains by {difference:.1e}; {_ACCURACY:.0e} is allowed")


if __name__ == "__main__":
    main(sys.argv[1:])
