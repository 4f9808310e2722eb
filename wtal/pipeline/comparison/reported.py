"""Comparability of our figures with printed ones: same features, videos, classes and protocol."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from wtal.data.store import FeatureStore
from wtal.eval.protocols import DEFAULT_PROTOCOL, alike, find_protocol
from wtal.pipeline.stamps import weights_of

_LEFT_OUT = 0.02
"""Share of a subset's videos that papers omit, or add, without saying so."""


@dataclass(frozen=True)
class Printed:
    """Figures of a paper: `mAP` in percent by tiou or range, and the conditions behind them.

    `backbone` made the features, at `fps` frames per second, `stride` frames apart, from the optical flow of `flow`.
    `videos` is the size of the subset, `classes` the number of the collection's classes, `rules` the protocol's name
    here. Empty and 0 where unpublished.

    Raises:
        UsageError: when the protocol is unknown.
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
        """Return notes for comparing figures on `videos` videos and `classes` classes with these."""
        if not self.mAP:
            return []
        stands_on = ", ".join(part for part in (self.features, self.protocol) if part)
        notes = [f"reported rows are printed in {self.source}" + (f" ({stands_on})" if stands_on else "")]
        differences = self._differences(store, videos, classes, protocol)
        if differences:
            return [*notes, f"not comparable with reported rows: {'; '.join(differences)}"]
        condition = self._condition(store)
        return [*notes, f"comparable with reported rows only if {condition}"] if condition else notes

    def comparable(
        self, store: FeatureStore, videos: int, classes: int, protocol: str = DEFAULT_PROTOCOL
    ) -> bool | None:
        """Return whether such figures are comparable with these; None if that is unknown, or nothing is printed."""
        if not self.mAP:
            return None
        if self._differences(store, videos, classes, protocol):
            return False
        return None if self._condition(store) else True

    def _condition(self, store: FeatureStore) -> str:
        """Return the condition for comparability that cannot be checked."""
        if "layout" in store.identity:
            return "the imported features are the paper's"
        return "" if self.fps else "the features are at the paper's rate, which is not published"

    def _differences(self, store: FeatureStore, videos: int, classes: int, protocol: str) -> list[str]:
        if not (self.backbone and self.videos and self.classes):
            return ["the paper's features, videos and classes are not recorded with them"]
        differences = [*self._of_features(store.identity)]
        differences += [
            f"weights are {w}" for w in sorted(set(weights_of(store.identity).values())) if w.startswith("random")
        ]
        if abs(videos - self.videos) > _LEFT_OUT * self.videos:
            differences.append(f"{videos} videos, theirs {self.videos}")
        if classes != self.classes:
            differences.append(f"{classes} classes, theirs {self.classes}")
        if not self.rules:
            differences.append(f"evaluated by the rules of {protocol}, theirs by other or unpublished rules")
        elif not alike(self.rules, protocol):
            differences.append(f"evaluated by the rules of {protocol}, theirs by those of {self.rules}")
        return differences

    def _of_features(self, identity: Mapping[str, Any]) -> Iterator[str]:
        """Yield differences in backbone, rate and flow; values missing from the store's identity are not compared."""
        backbone = str(identity.get("backbone", ""))
        if not is_of(backbone, self.backbone):
            yield f"features of {backbone}, theirs of {self.backbone}"
            return
        if self.fps and "fps" in identity and Fraction(identity["fps"]) != Fraction(self.fps):
            yield f"features at {identity['fps']} frames per second, theirs at {self.fps}"
        if self.stride and "stride" in identity and Fraction(identity["stride"]) != self.stride:
            yield f"features every {identity['stride']} frames, theirs every {self.stride}"
        flow = identity.get("flow")
        if self.flow and flow and flow["name"] != self.flow:
            yield f"optical flow of {flow['name']}, theirs of {self.flow}"


def is_of(backbone: str, wanted: str) -> bool:
    """Return whether a store's backbone is the wanted one, which may leave its variant open: `csn:r101` is `csn`.

    A merged store's backbone is a sum of several names, in any order.
    """
    names, wanted_names = sorted(backbone.split("+")), sorted(wanted.split("+"))
    return len(names) == len(wanted_names) and all(
        name == other or name.startswith(f"{other}:") for name, other in zip(names, wanted_names, strict=True)
    )
