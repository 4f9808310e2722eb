"""Tables of what went wrong: the worst videos, the surest false positives, the annotations that were missed."""

from collections import Counter
from collections.abc import Mapping

from wtal.data.segments import Annotation, Detection
from wtal.eval.per_video import Verdict, nearest
from wtal.eval.thresholds import tiou_key
from wtal.report.page import Table

Verdicts = Mapping[str, Verdict]

_ROWS = 10


def worst_videos(verdicts: Verdicts, at: float, most: int = _ROWS) -> Table:
    """The videos of the lowest average precision, lowest first."""
    ranked = sorted((name for name in verdicts if verdicts[name].ap is not None), key=lambda name: _ap(verdicts[name]))
    rows = {name: _video(verdicts[name]) for name in ranked[:most]}
    caption = f"Videos of the lowest average precision (percent); found, missed and false at tIoU {tiou_key(at)}"
    return Table(caption, rows)


def surest_false_positives(verdicts: Verdicts, at: float, most: int = _ROWS) -> Table:
    """The false positives of the highest scores, all videos together."""
    wrong = [(one, kind, name) for name, found in verdicts.items() for one, kind in found.wrong]
    ranked = sorted(wrong, key=lambda row: -row[0].score)[:most]
    rows = {
        f"{place}. {name}": {
            "class": one.label,
            "seconds": _seconds(one),
            "score": f"{one.score:.3f}",
            "error": kind,
            "overlaps": _overlaps(one, verdicts[name]),
        }
        for place, (one, kind, name) in enumerate(ranked, 1)
    }
    caption = f"False positives of the highest scores at tIoU {tiou_key(at)}"
    return Table(caption, rows)


def missed_annotations(
    verdicts: Verdicts, scores: Mapping[str, Mapping[str, float]], at: float, most: int = _ROWS
) -> Table:
    """The annotations that no detection took: those first that no detection of their class comes near.

    `scores` are video -> class -> video score: where it is low, the class was not looked for.
    """
    missed = [(one, name) for name, found in verdicts.items() for one in found.missed]
    near = {row: nearest(row[0], verdicts[row[1]].detections, own=True) for row in missed}
    ranked = sorted(missed, key=lambda row: (near[row][0], -row[0].duration))[:most]
    rows = {
        f"{place}. {name}": {
            "class": one.label,
            "seconds": _seconds(one),
            "length": f"{one.duration:.1f} s",
            "video score": f"{scores[name].get(one.label, 0.0):.3f}",
            "nearest of its class": f"tIoU {near[one, name][0]:.2f}",
            "nearest of another": _near(nearest(one, verdicts[name].detections, own=False)),
        }
        for place, (one, name) in enumerate(ranked, 1)
    }
    caption = f"Annotations that no detection found at tIoU {tiou_key(at)}, {len(ranked)} of {len(missed)}"
    return Table(caption, rows)


def _video(verdict: Verdict) -> dict[str, str]:
    near = [nearest(one, verdict.detections, own=True)[0] for one in verdict.annotations]
    return {
        "AP": f"{100 * _ap(verdict):.1f}",
        "found": f"{sum(verdict.recalled)} of {len(verdict.annotations)}",
        "nearest": f"{sum(near) / max(1, len(near)):.2f}",
        "what went wrong": _wrong(verdict),
    }


def _wrong(verdict: Verdict) -> str:
    missed = _counted(Counter(one.label for one in verdict.missed))
    before = _counted(Counter(kind for _, kind in _costly(verdict)))
    parts = [f"misses {missed}" if missed else "", f"ranks false before true: {before}" if before else ""]
    otherwise = "places loosely" if _ap(verdict) < 1 else "nothing"
    return "; ".join(part for part in parts if part) or otherwise


def _costly(verdict: Verdict) -> list[tuple[Detection, str]]:
    """False positives ranked before the last true one; all where there is none."""
    pairs = [*zip(verdict.detections, verdict.outcomes, strict=True)]
    true = [place for place, (_, kind) in enumerate(pairs) if kind == "true positive"]
    end = true[-1] if true else len(pairs)
    return [pair for pair in pairs[:end] if pair in verdict.wrong]


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(counts.items()))


def _overlaps(one: Detection, verdict: Verdict) -> str:
    found = max((nearest(one, verdict.annotations, own) for own in (True, False)), key=lambda pair: pair[0])
    return _near(found)


def _near(found: tuple[float, str]) -> str:
    return f"{found[1]}, tIoU {found[0]:.2f}" if found[1] else "-"


def _ap(verdict: Verdict) -> float:
    return -1.0 if verdict.ap is None else verdict.ap


def _seconds(segment: Annotation | Detection) -> str:
    return f"{segment.start:.1f} to {segment.end:.1f}"
