"""Data of the page of a collection, as scripts: pages on disk may load scripts, but nothing else."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wtal.data.segments import Annotation, Detection

_LEVELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def script(function: str, *values: Any) -> str:
    """Return a script that calls a function of the page; texts in the values are escaped safely."""
    texts = [json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":")) for value in values]
    return f"wtal.{function}({','.join(texts)});\n".replace("<", "\\u003c")


def levels(values: NDArray[np.floating[Any]]) -> str:
    """Map (T,) numbers in [0, 1] -> T characters, one of 64 levels each."""
    steps = np.rint(np.clip(np.nan_to_num(values), 0, 1) * (len(_LEVELS) - 1)).astype(int)
    return "".join(_LEVELS[step] for step in steps)


def rounded(score: float) -> float:
    """Return a score to four digits, as compared by the page."""
    return float(f"{score:.4g}")


def parting_score(scores: Sequence[float]) -> float:
    """Return the score that separates scores into the two most different groups (Otsu): the page's initial threshold.

    It is the lowest of all if the mean of the lower group is more than half of that of the upper one.

    Source: N. Otsu, IEEE Transactions on Systems, Man, and Cybernetics 9 (1979).
    """
    values = np.sort(np.array(scores, dtype=np.float64))
    if len(values) < 2 or values[0] == values[-1]:
        return float(values[0]) if len(values) else 0.0
    below = np.arange(1, len(values))
    sums = np.cumsum(values)
    low, high = sums[:-1] / below, (sums[-1] - sums[:-1]) / (len(values) - below)
    apart = np.where(np.diff(values) > 0, below * (len(values) - below) * (low - high) ** 2, -1.0)
    best = int(np.argmax(apart))
    return float(values[0] if low[best] > high[best] / 2 else values[best + 1])


def summary_row(detections: Sequence[Detection], classes: Mapping[str, int], shift: float, end: float) -> list[float]:
    """Return class, score, start and length of each detection in one flat list, times in thousandths of the video.

    `shift` converts seconds to those of a player, `end` is the last of them.
    """
    row: list[float] = []
    for detection in detections:
        start, stop = (round(1000 * min(max((t + shift) / end, 0), 1)) for t in (detection.start, detection.end))
        row += [classes[detection.label], rounded(detection.score), start, max(1, stop - start)]
    return row


def segments(detections: Sequence[Detection | Annotation], classes: Mapping[str, int]) -> list[list[float]]:
    """Return class, start, end, and for detections the score, exactly as in their file."""
    rows: list[list[float]] = []
    for detection in detections:
        score = [detection.score] if isinstance(detection, Detection) else []
        rows.append([classes[detection.label], detection.start, detection.end, *score])
    return rows
