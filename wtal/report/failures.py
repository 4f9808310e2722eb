"""Tables of failures: the worst videos, the most confident false positives, the missed annotations."""

from collections import Counter
from collections.abc import Mapping

from wtal.data.segments import Annotation, Detection
from wtal.eval.diagnosis.per_video import VideoEvaluation, nearest
from wtal.eval.thresholds import tiou_key
from wtal.report.page import PageTable

Evaluations = Mapping[str, VideoEvaluation]

_ROWS = 10


def worst_videos(evaluations: Evaluations, tiou: float, most: int = _ROWS) -> PageTable:
    """List the videos with the lowest average precision, lowest first."""
    ranked = sorted(
        (name for name in evaluations if evaluations[name].ap is not None), key=lambda name: _ap(evaluations[name])
    )
    rows = {name: _video(evaluations[name]) for name in ranked[:most]}
    caption = f"Videos with the lowest average precision (percent); found, missed and false at tIoU {tiou_key(tiou)}"
    return PageTable(caption, rows)


def surest_false_positives(evaluations: Evaluations, tiou: float, most: int = _ROWS) -> PageTable:
    """List the false positives with the highest scores, across all videos."""
    wrong = [
        (detection, kind, name) for name, evaluation in evaluations.items() for detection, kind in evaluation.wrong
    ]
    ranked = sorted(wrong, key=lambda row: -row[0].score)[:most]
    rows = {
        f"{rank}. {name}": {
            "class": detection.label,
            "seconds": _seconds(detection),
            "score": f"{detection.score:.3f}",
            "error": kind,
            "overlaps": _overlaps(detection, evaluations[name]),
        }
        for rank, (detection, kind, name) in enumerate(ranked, 1)
    }
    caption = f"False positives with the highest scores at tIoU {tiou_key(tiou)}"
    return PageTable(caption, rows)


def missed_annotations(
    evaluations: Evaluations, scores: Mapping[str, Mapping[str, float]], tiou: float, most: int = _ROWS
) -> PageTable:
    """List the annotations that no detection matches, first those farthest from any detection of their class.

    `scores` map video -> class -> video score: if it is low, the class was not searched for.
    """
    missed = [(annotation, name) for name, evaluation in evaluations.items() for annotation in evaluation.missed]
    near = {row: nearest(row[0], evaluations[row[1]].detections, own=True) for row in missed}
    ranked = sorted(missed, key=lambda row: (near[row][0], -row[0].duration))[:most]
    rows = {
        f"{rank}. {name}": {
            "class": annotation.label,
            "seconds": _seconds(annotation),
            "length": f"{annotation.duration:.1f} s",
            "video score": f"{scores[name].get(annotation.label, 0.0):.3f}",
            "nearest of its class": f"tIoU {near[annotation, name][0]:.2f}",
            "nearest of another": _near(nearest(annotation, evaluations[name].detections, own=False)),
        }
        for rank, (annotation, name) in enumerate(ranked, 1)
    }
    caption = f"Annotations that no detection found at tIoU {tiou_key(tiou)}, {len(ranked)} of {len(missed)}"
    return PageTable(caption, rows)


def _video(evaluation: VideoEvaluation) -> dict[str, str]:
    near = [nearest(annotation, evaluation.detections, own=True)[0] for annotation in evaluation.annotations]
    return {
        "AP": f"{100 * _ap(evaluation):.1f}",
        "found": f"{sum(evaluation.recalled)} of {len(evaluation.annotations)}",
        "nearest": f"{sum(near) / max(1, len(near)):.2f}",
        "what went wrong": _wrong(evaluation),
    }


def _wrong(evaluation: VideoEvaluation) -> str:
    missed = _counted(Counter(annotation.label for annotation in evaluation.missed))
    before = _counted(Counter(kind for _, kind in _costly(evaluation)))
    sentences = [f"misses {missed}" if missed else "", f"ranks false positives first: {before}" if before else ""]
    otherwise = "loose boundaries" if _ap(evaluation) < 1 else "nothing"
    return "; ".join(part for part in sentences if part) or otherwise


def _costly(evaluation: VideoEvaluation) -> list[tuple[Detection, str]]:
    """Return the false positives ranked before the last true positive; all if there is none."""
    pairs = [*zip(evaluation.detections, evaluation.outcomes, strict=True)]
    true = [rank for rank, (_, kind) in enumerate(pairs) if kind == "true positive"]
    end = true[-1] if true else len(pairs)
    return [pair for pair in pairs[:end] if pair in evaluation.wrong]


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(counts.items()))


def _overlaps(detection: Detection, evaluation: VideoEvaluation) -> str:
    closest = max((nearest(detection, evaluation.annotations, own) for own in (True, False)), key=lambda pair: pair[0])
    return _near(closest)


def _near(closest: tuple[float, str]) -> str:
    return f"{closest[1]}, tIoU {closest[0]:.2f}" if closest[1] else "-"


def _ap(evaluation: VideoEvaluation) -> float:
    return -1.0 if evaluation.ap is None else evaluation.ap


def _seconds(segment: Annotation | Detection) -> str:
    return f"{segment.start:.1f} to {segment.end:.1f}"
