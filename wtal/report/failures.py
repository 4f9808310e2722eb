"""Tables of failures: the worst videos, the most confident false positives, the missed annotations."""

from collections import Counter
from collections.abc import Mapping

from wtal.data.segments import Annotation, Detection
from wtal.eval.per_video import Verdict, nearest
from wtal.eval.thresholds import tiou_key
from wtal.report.page import PageTable

Verdicts = Mapping[str, Verdict]

_ROWS = 10


def worst_videos(verdicts: Verdicts, tiou: float, most: int = _ROWS) -> PageTable:
    """List the videos with the lowest average precision, lowest first."""
    ranked = sorted((name for name in verdicts if verdicts[name].ap is not None), key=lambda name: _ap(verdicts[name]))
    rows = {name: _video(verdicts[name]) for name in ranked[:most]}
    caption = f"Videos with the lowest average precision (percent); found, missed and false at tIoU {tiou_key(tiou)}"
    return PageTable(caption, rows)


def surest_false_positives(verdicts: Verdicts, tiou: float, most: int = _ROWS) -> PageTable:
    """List the false positives with the highest scores, across all videos."""
    wrong = [(detection, kind, name) for name, verdict in verdicts.items() for detection, kind in verdict.wrong]
    ranked = sorted(wrong, key=lambda row: -row[0].score)[:most]
    rows = {
        f"{rank}. {name}": {
            "class": detection.label,
            "seconds": _seconds(detection),
            "score": f"{detection.score:.3f}",
            "error": kind,
            "overlaps": _overlaps(detection, verdicts[name]),
        }
        for rank, (detection, kind, name) in enumerate(ranked, 1)
    }
    caption = f"False positives with the highest scores at tIoU {tiou_key(tiou)}"
    return PageTable(caption, rows)


def missed_annotations(
    verdicts: Verdicts, scores: Mapping[str, Mapping[str, float]], tiou: float, most: int = _ROWS
) -> PageTable:
    """List the annotations that no detection matches, first those farthest from any detection of their class.

    `scores` map video -> class -> video score: if it is low, the class was not searched for.
    """
    missed = [(annotation, name) for name, verdict in verdicts.items() for annotation in verdict.missed]
    near = {row: nearest(row[0], verdicts[row[1]].detections, own=True) for row in missed}
    ranked = sorted(missed, key=lambda row: (near[row][0], -row[0].duration))[:most]
    rows = {
        f"{rank}. {name}": {
            "class": annotation.label,
            "seconds": _seconds(annotation),
            "length": f"{annotation.duration:.1f} s",
            "video score": f"{scores[name].get(annotation.label, 0.0):.3f}",
            "nearest of its class": f"tIoU {near[annotation, name][0]:.2f}",
            "nearest of another": _near(nearest(annotation, verdicts[name].detections, own=False)),
        }
        for rank, (annotation, name) in enumerate(ranked, 1)
    }
    caption = f"Annotations that no detection found at tIoU {tiou_key(tiou)}, {len(ranked)} of {len(missed)}"
    return PageTable(caption, rows)


def _video(verdict: Verdict) -> dict[str, str]:
    near = [nearest(annotation, verdict.detections, own=True)[0] for annotation in verdict.annotations]
    return {
        "AP": f"{100 * _ap(verdict):.1f}",
        "found": f"{sum(verdict.recalled)} of {len(verdict.annotations)}",
        "nearest": f"{sum(near) / max(1, len(near)):.2f}",
        "what went wrong": _wrong(verdict),
    }


def _wrong(verdict: Verdict) -> str:
    missed = _counted(Counter(annotation.label for annotation in verdict.missed))
    before = _counted(Counter(kind for _, kind in _costly(verdict)))
    sentences = [f"misses {missed}" if missed else "", f"ranks false positives first: {before}" if before else ""]
    otherwise = "loose boundaries" if _ap(verdict) < 1 else "nothing"
    return "; ".join(part for part in sentences if part) or otherwise


def _costly(verdict: Verdict) -> list[tuple[Detection, str]]:
    """Return the false positives ranked before the last true positive; all if there is none."""
    pairs = [*zip(verdict.detections, verdict.outcomes, strict=True)]
    true = [rank for rank, (_, kind) in enumerate(pairs) if kind == "true positive"]
    end = true[-1] if true else len(pairs)
    return [pair for pair in pairs[:end] if pair in verdict.wrong]


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(counts.items()))


def _overlaps(detection: Detection, verdict: Verdict) -> str:
    closest = max((nearest(detection, verdict.annotations, own) for own in (True, False)), key=lambda pair: pair[0])
    return _near(closest)


def _near(closest: tuple[float, str]) -> str:
    return f"{closest[1]}, tIoU {closest[0]:.2f}" if closest[1] else "-"


def _ap(verdict: Verdict) -> float:
    return -1.0 if verdict.ap is None else verdict.ap


def _seconds(segment: Annotation | Detection) -> str:
    return f"{segment.start:.1f} to {segment.end:.1f}"
