"""Characteristics of annotations: length, coverage of their video, and number of instances of the class in it.

Each characteristic has buckets from XS to XL. Two tables of edges are those of the source, for ActivityNet (and HACS)
and for THUMOS14; `fifths` divides the annotations of any collection about evenly. A value on an edge belongs to the
lower bucket, a coverage of more than the whole video to the highest.

Source: H. Alwassel et al., Diagnosing Error in Temporal Action Detectors (ECCV 2018), section 3, and the edges for
THUMOS14 from https://github.com/HumamAlwassel/DETAD. Context and annotators' agreement, which require additional
annotations, are left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from wtal.data.segments import Annotation
from wtal.errors import UsageError
from wtal.eval.columns import Floats, Ints
from wtal.registry import suggest

NAMES = ("XS", "S", "M", "L", "XL")
UNITS = {"length": "s", "coverage": "%", "instances": ""}
"""Characteristic -> unit of its ranges."""

_FIFTHS = "fifths"
_EDGES = {
    "activitynet": {"length": (30, 60, 120, 180), "coverage": (0.2, 0.4, 0.6, 0.8), "instances": (1, 4, 8)},
    "thumos14": {"length": (3, 6, 12, 18), "coverage": (0.02, 0.04, 0.06, 0.08), "instances": (1, 40, 80)},
}
BUCKETS = (*_EDGES, _FIFTHS)
"""Names of the tables."""


@dataclass(frozen=True)
class Characteristic:
    """Buckets of one characteristic: upper edges, except the last, and the bucket of each annotation (M,).

    An annotation with an unknown value (in a video without a duration) has -1.
    """

    name: str
    edges: tuple[float, ...]
    bucket: Ints

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the buckets: XS, S, ..."""
        return NAMES[: len(self.edges) + 1]

    @property
    def ranges(self) -> tuple[str, ...]:
        """Range of each bucket, without the unit: `≤3`, `3–6`, ..., `>18`."""
        texts = [f"{edge * (100 if self.name == 'coverage' else 1):.3g}" for edge in self.edges]
        if not texts:
            return ("all",)
        if self.name == "instances":
            lows = ["1", *(f"{edge + 1:.3g}" for edge in self.edges)]
            inner = [low if low == high else f"{low}–{high}" for low, high in zip(lows, texts, strict=False)]
            return (*inner, f">{texts[-1]}")
        return (f"≤{texts[0]}", *(f"{low}–{high}" for low, high in pairwise(texts)), f">{texts[-1]}")


def characteristics(
    annotations: Mapping[str, Sequence[Annotation]], durations: Mapping[str, float | None], table: str
) -> tuple[Characteristic, ...]:
    """Compute each characteristic known for any annotation, from annotations and durations (seconds) by video id.

    Raises:
        UsageError: when there is no such table of edges.
    """
    if table not in BUCKETS:
        raise UsageError(f"there are no buckets {table!r}; {suggest(table, BUCKETS)}")
    values = _values(annotations, durations)
    known = {name: numbers for name, numbers in values.items() if np.isfinite(numbers).any()}
    return tuple(_divide(name, numbers, _edges(name, numbers, table)) for name, numbers in known.items())


def _values(
    annotations: Mapping[str, Sequence[Annotation]], durations: Mapping[str, float | None]
) -> dict[str, Floats]:
    """Return characteristic -> (M,) in the order of the input; NaN if unknown."""
    rows = []
    for video, segments in annotations.items():
        labels = [annotation.label for annotation in segments]
        duration = durations.get(video) or np.nan
        rows += [
            (annotation.duration, annotation.duration / duration, labels.count(annotation.label))
            for annotation in segments
        ]
    columns = np.array(rows, np.float64).reshape(-1, len(UNITS)).T
    return dict(zip(UNITS, columns, strict=True))


def _edges(name: str, values: Floats, table: str) -> tuple[float, ...]:
    if table != _FIFTHS:
        return _EDGES[table][name]
    known = values[np.isfinite(values)]
    cuts = np.unique(np.quantile(known, [0.2, 0.4, 0.6, 0.8], method="inverted_cdf"))
    return tuple(cuts[cuts < known.max()].tolist())


def _divide(name: str, values: Floats, edges: tuple[float, ...]) -> Characteristic:
    bucket = np.searchsorted(edges, values, "left")
    return Characteristic(name, edges, np.where(np.isfinite(values), bucket, -1))
