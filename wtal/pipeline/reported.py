"""Whether figures made here may stand beside what a paper prints: features, videos and classes must be the same."""

from collections.abc import Mapping
from dataclasses import dataclass

from wtal.data.store import FeatureStore
from wtal.pipeline.detect import weights_of

_LEFT_OUT = 0.02
"""Share of a subset's videos that papers leave out, or have beside it, without a word."""


@dataclass(frozen=True)
class Printed:
    """Figures of a paper: `mAP` in percent by tiou or range, and what they stand on.

    `backbone` made the features, `videos` is the number of the subset's, `classes` of the collection's; empty and 0
    where nobody wrote them down.
    """

    mAP: Mapping[str, float]  # noqa: N815 (the name that the field writes)
    source: str = ""
    features: str = ""
    protocol: str = ""
    backbone: str = ""
    videos: int = 0
    classes: int = 0

    def remarks(self, store: FeatureStore, videos: int, classes: int) -> list[str]:
        """What a reader must know who compares figures of `videos` videos and `classes` classes with these."""
        if not self.mAP:
            return []
        stands_on = ", ".join(part for part in (self.features, self.protocol) if part)
        found = [f"reported rows are printed in {self.source}" + (f" ({stands_on})" if stands_on else "")]
        differences = self._differences(store, videos, classes)
        if differences:
            return [*found, f"not comparable with reported rows: {'; '.join(differences)}"]
        if "layout" in store.identity:
            found.append("comparable with reported rows only if the imported features are the paper's")
        return found

    def _differences(self, store: FeatureStore, videos: int, classes: int) -> list[str]:
        if not (self.backbone and self.videos and self.classes):
            return ["the paper's features, videos and classes are not written down beside them"]
        found, backbone = [], store.identity.get("backbone", "")
        if backbone != self.backbone:
            found.append(f"features of {backbone}, theirs of {self.backbone}")
        found += [
            f"weights are {w}" for w in sorted(set(weights_of(store.identity).values())) if w.startswith("random")
        ]
        if abs(videos - self.videos) > _LEFT_OUT * self.videos:
            found.append(f"{videos} videos, theirs {self.videos}")
        if classes != self.classes:
            found.append(f"{classes} classes, theirs {self.classes}")
        return found
