"""Thresholds of temporal intersection over union (tIoU): their notation, and the usual averages over them."""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

import numpy as np

from wtal.errors import UsageError

RANGES = ("0.1:0.5:0.1", "0.3:0.7:0.1", "0.1:0.7:0.1", "0.1:0.9:0.1", "0.5:0.95:0.05")
"""Thresholds over which papers average: the first four on THUMOS14, the last on ActivityNet and HACS."""

_MOST = 1000


def parse_tious(text: str) -> tuple[float, ...]:
    """Parse `0.5,0.75` or `0.1:0.9:0.1` (both ends included), or a mixture, exact to the written decimals.

    Raises:
        UsageError: when the text is malformed or a threshold is outside (0, 1].
    """
    try:
        return check_tious([float(value) for part in text.split(",") for value in _range(part)])
    except (ArithmeticError, ValueError):
        raise UsageError(f"wanted thresholds such as 0.5,0.75 or 0.1:0.9:0.1 (start:stop:step), got {text!r}") from None


def check_tious(tious: Sequence[float]) -> tuple[float, ...]:
    """Check thresholds, and remove duplicates.

    Raises:
        UsageError: when there is none, or one outside (0, 1].
    """
    thresholds = tuple(float(tiou) for tiou in tious)
    if not thresholds or not all(0 < tiou <= 1 for tiou in thresholds):
        raise UsageError(
            f"wanted one or more tIoU thresholds above 0 and at most 1, got {', '.join(map(str, thresholds)) or 'none'}"
        )
    return tuple(dict.fromkeys(thresholds))


def tiou_key(tiou: float) -> str:
    """Format a threshold as a JSON key: `0.1`, `0.15`, `0.95`, despite rounding errors."""
    return f"{tiou:.6g}"


def covered_ranges(tious: Sequence[float], others: Iterable[str] = ()) -> dict[str, tuple[float, ...]]:
    """Return those of `RANGES` that the thresholds cover: `0.1:0.7` -> its thresholds.

    Also those of the `others`, in the same notation, both of whose ends are thresholds, with all thresholds between.
    """
    given = {tiou_key(tiou): tiou for tiou in tious}
    ranges = {text.rpartition(":")[0]: [tiou_key(tiou) for tiou in parse_tious(text)] for text in RANGES}
    covered = {name: tuple(given[key] for key in keys) for name, keys in ranges.items() if given.keys() >= set(keys)}
    for name in others:
        low, _, high = name.partition(":")
        if name not in covered and low in given and high in given:
            covered[name] = tuple(tiou for tiou in tious if given[low] <= tiou <= given[high])
    return covered


def averages(by_tiou: Mapping[float, float], others: Iterable[str] = ()) -> dict[str, float]:
    """Return the mean of a figure over each of the `covered_ranges` of its thresholds."""
    return {name: mean_over(by_tiou, inside) for name, inside in covered_ranges([*by_tiou], others).items()}


def mean_over(by_tiou: Mapping[float, float], tious: Iterable[float]) -> float:
    """Return the mean of a figure over some of its thresholds."""
    return float(np.mean([by_tiou[tiou] for tiou in tious]))


def _range(part: str) -> list[Decimal]:
    first, *rest = (Decimal(value.strip()) for value in part.split(":"))
    if not rest:
        return [first]
    last, step = rest  # too many or too few values raise ValueError
    if not (step > 0 and first <= last and (last - first) / step < _MOST):
        raise ValueError(part)
    return [first + i * step for i in range(int((last - first) / step) + 1)]
