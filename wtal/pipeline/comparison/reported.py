"""Comparability of figures made here with printed ones: same features, videos, classes and protocol."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from wtal.data.store import FeatureStore
from wtal.eval.protocols import DEFAULT_PROTOCOL, alike, find_protocol
from wtal.pipeline.runs import weights_of

_LEFT_OUT = 0.02
"""Share of a subset's videos that papers leave out, or have beside it, without a word."""


@dataclass(frozen=True)
class Printed:
    """Figures of a paper: `mAP` in percent by tiou or range, and what they stand on.

    `backbone` made the features, at `fps` frames a second, `stride` frames apart, out of the optical flow of `flow`.
    `videos` is the number of the subset's, `classes` of the collection's, `rules` the protocol's name here. Empty and 0
    where nobody wrote them down.

    Raises:
        UsageError: when there is no such protocol.
    """

    mAP: Mapping[str, float]  # noqa: N815 (the name that the field writes)
    source: str = ""
    features: str = ""
    protocol: str = ""
    backbone: str = ""
    videos: int = 0
    classes: int = 0
    rules: str = ""
    fps: str = ""
    stride: int = 0
    flow: str = ""

    def __post_init__(self) -> None:
        if self.rules:
            find_protocol(self.rules)

    def remarks(self, store: FeatureStore, videos: int, classes: int, protocol: str = DEFAULT_PROTOCOL) -> list[str]:
        """Return notes for a reader who compares figures of `videos` videos and `classes` classes with these."""
        if not self.mAP:
            return []
        stands_on = ", ".join(part for part in (self.features, self.protocol) if part)
        found = [f"reported rows are printed in {self.source}" + (f" ({stands_on})" if stands_on else "")]
        differences = self._differences(store, videos, classes, protocol)
        if differences:
            return [*found, f"not comparable with reported rows: {'; '.join(differences)}"]
        condition = self._condition(store)
        return [*found, f"comparable with reported rows only if {condition}"] if condition else found

    def comparable(
        self, store: FeatureStore, videos: int, classes: int, protocol: str = DEFAULT_PROTOCOL
    ) -> bool | None:
        """Return whether such figures may stand beside these; None where nobody can tell, or nothing is printed."""
        if not self.mAP:
            return None
        if self._differences(store, videos, classes, protocol):
            return False
        return None if self._condition(store) else True

    def _condition(self, store: FeatureStore) -> str:
        """Return the condition that would have to hold and cannot be checked."""
        if "layout" in store.identity:
            return "the imported features are the paper's"
        return "" if self.fps else "the features are at the paper's rate, which nobody says"

    def _differences(self, store: FeatureStore, videos: int, classes: int, protocol: str) -> list[str]:
        if not (self.backbone and self.videos and self.classes):
            return ["the paper's features, videos and classes are not written down beside them"]
        differences = [*self._of_features(store.identity)]
        differences += [
            f"weights are {w}" for w in sorted(set(weights_of(store.identity).values())) if w.startswith("random")
        ]
        if abs(videos - self.videos) > _LEFT_OUT * self.videos:
            differences.append(f"{videos} videos, theirs {self.videos}")
        if classes != self.classes:
            differences.append(f"{classes} classes, theirs {self.classes}")
        if not self.rules:
            differences.append(f"judged by the rules of {protocol}, theirs by others or nobody says which")
        elif not alike(self.rules, protocol):
            differences.append(f"judged by the rules of {protocol}, theirs by those of {self.rules}")
        return differences

    def _of_features(self, identity: Mapping[str, Any]) -> Iterator[str]:
        """Backbone, rate and flow, where they differ; what an imported or merged store does not know is not held."""
        backbone = str(identity.get("backbone", ""))
        if not is_of(backbone, self.backbone):
            yield f"features of {backbone}, theirs of {self.backbone}"
            return
        if self.fps and "fps" in identity and Fraction(identity["fps"]) != Fraction(self.fps):
            yield f"features at {identity['fps']} frames a second, theirs at {self.fps}"
        if self.stride and "stride" in identity and Fraction(identity["stride"]) != self.stride:
            yield f"features every {identity['stride']} frames, theirs every {self.stride}"
        flow = identity.get("flow")
        if self.flow and flow and flow["name"] != self.flow:
            yield f"optical flow of {flow['name']}, theirs of {self.flow}"


def is_of(backbone: str, wanted: str) -> bool:
    """Return whether a store's backbone is the wanted one, which may leave its variant open: `csn:r101` is `csn`.

    Of a merged store it is one with several names, whose order says nothing.
    """
    names, others = sorted(backbone.split("+")), sorted(wanted.split("+"))
    return len(names) == len(others) and all(
        name == other or name.startswith(f"{other}:") for name, other in zip(names, others, strict=True)
    )
