"""Signs that a file was exported with other options than those of its import."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from wtal.data.verdicts import Verdict
from wtal.errors import UsageError
from wtal.report.selection import Selection

_FEW = 3
"""Number of missing detections below which their scores do not reveal the threshold of the export."""
_ALIKE, _MOST = 0.05, 0.8
"""Seconds between like changes, and share of them from which they come from an option and not from a person."""


def require_all_exported(verdicts: Sequence[Verdict], selection: Selection) -> None:
    """Refuse files that look as if exported with other options: only the best detections, or longer ones.

    Raises:
        UsageError: when no range of scores was given, and all missing detections score below all present ones; or all
            present ones are longer by the same time on both sides, and no --pad was given.
    """
    _require_same_pad(verdicts, selection)
    gone = [v.detection.score for v in verdicts if v.verdict == "no" and v.detection]
    there = [v.detection.score for v in verdicts if v.verdict in ("yes", "moved") and v.detection]
    range_given = selection.min_score is not None or selection.top is not None
    if len(gone) >= _FEW and there and max(gone) < min(there) and not range_given:
        raise UsageError(
            f"the {len(gone)} missing detections score at most {max(gone):.3g}, those present "
            f"at least {min(there):.3g}, as if only the best had been exported; give the --min-score or --top of the "
            f"export, or --min-score {min(gone):.3g} if they were removed by hand"
        )


def lacking_classes(file: Path, verdicts: Sequence[Verdict], selection: Selection) -> list[str]:
    """Return a note on classes of which a file has no detection any more: perhaps they were not exported."""
    gone = Counter(v.label for v in verdicts if v.verdict == "no")
    there = {v.label for v in verdicts if v.verdict in ("yes", "moved")}
    return [
        f"{file.name}: it lacks all {count} detections of {label!r}, which count as wrong; if they were not exported, "
        "repeat the --classes of the export, with --replace"
        for label, count in gone.items()
        if count > 1 and label not in there and there and not selection.classes
    ]


def _require_same_pad(verdicts: Sequence[Verdict], selection: Selection) -> None:
    present = [v for v in verdicts if v.verdict in ("yes", "moved") and v.detection]
    longer = [
        seconds
        for v in present
        if v.segment and v.detection
        for seconds in (v.detection.segment[0] - v.segment[0], v.segment[1] - v.detection.segment[1])
    ]
    pad = median(longer) if longer else 0.0
    alike = sum(abs(seconds - pad) <= _ALIKE for seconds in longer)
    if selection.pad == 0 and pad > _ALIKE and len(present) >= _FEW and alike >= _MOST * 2 * len(present):
        raise UsageError(
            f"nearly all of the {len(present)} detections are longer by {pad:.2g} s on both sides, as if exported with "
            "--pad; give the --pad of the export"
        )
