"""Inputs of a head: scaled, sampled and batched feature vectors."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ConfigDict, with_config
from torch import Tensor
from typing_extensions import TypedDict

from wtal.data.batch import SnippetBatch

Arrays = Mapping[str, NDArray[Any]]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LabelledVideo:
    """A training video: id, loader of (T, D) features, multi-hot labels (C,); no annotated times."""

    id: str
    load: Callable[[], Arrays]
    labels: NDArray[np.float32]


@dataclass(frozen=True)
class NegativeVideo:
    """A video without labels: id, loader of (T, D) features, and (C,) ones for classes known to be absent.

    A known negative lacks every class; for a video whose labels are partly known, only the named classes count.
    """

    id: str
    load: Callable[[], Arrays]
    absent: NDArray[np.float32]


class Readable(Protocol):
    """A video whose (T, D) features can be read."""

    @property
    def load(self) -> Callable[[], Arrays]:
        """Loader of the features."""


_SOFT = 0.5
"""Share of the typical deviation that `soft` adds to each dimension's own."""
_CLIP = 5.0
"""Number of deviations to which `soft` clips scaled values."""


@with_config(ConfigDict(strict=True, arbitrary_types_allowed=True))
class ScalerState(TypedDict):
    """The scaler in a checkpoint: stream -> (D,), or stream -> a scalar."""

    shift: dict[str, Tensor]
    gain: dict[str, Tensor]
    limit: float
    unit: bool


@dataclass(frozen=True)
class Scaler:
    """Scale (T, D) features of each stream: (x - shift) * gain, clipped at +-`limit`; or to unit length if `unit`."""

    shift: dict[str, Tensor]
    gain: dict[str, Tensor]
    limit: float = 0.0
    unit: bool = False

    @classmethod
    def fit(cls, kind: str, videos: Sequence[Readable]) -> "Scaler":
        """Fit the scaler of a kind (`none`, `standard`, `soft`, `l2`) on `videos` only."""
        if kind in ("none", "l2"):
            return cls({}, {}, unit=kind == "l2")
        moments = _moments(videos)
        gain = {name: _soft_gain(d) if kind == "soft" else _gain(d) for name, (_, d) in moments.items()}
        return cls(
            {name: torch.tensor(mean, dtype=torch.float32) for name, (mean, _) in moments.items()},
            {name: torch.tensor(value, dtype=torch.float32) for name, value in gain.items()},
            limit=_CLIP if kind == "soft" else 0.0,
        )

    def __call__(self, features: Arrays) -> dict[str, Tensor]:
        """Convert {stream: (T, D)} to scaled float32 tensors."""
        return {
            name: self._scale(name, torch.from_numpy(np.array(x, dtype=np.float32))) for name, x in features.items()
        }

    def state(self) -> ScalerState:
        """Return the state for a checkpoint."""
        return {"shift": self.shift, "gain": self.gain, "limit": self.limit, "unit": self.unit}

    @classmethod
    def from_state(cls, state: ScalerState) -> "Scaler":
        """Restore a scaler from a checkpoint."""
        return cls(**state)

    def _scale(self, name: str, x: Tensor) -> Tensor:
        if self.unit:
            return torch.nn.functional.normalize(x, dim=-1)
        scaled = (x - self.shift[name]) * self.gain[name] if name in self.shift else x
        return scaled.clamp(-self.limit, self.limit) if self.limit else scaled


def _moments(videos: Sequence[Readable]) -> dict[str, tuple[Floats, Floats]]:
    """Stream -> mean and standard deviation of each dimension over all snippets."""
    sums: dict[str, tuple[int, Floats, Floats]] = {}
    for video in videos:
        for name, value in video.load().items():
            x = np.asarray(value, dtype=np.float64)
            count, total, square = sums.get(name, (0, np.zeros(x.shape[1]), np.zeros(x.shape[1])))
            sums[name] = (count + len(x), total + x.sum(axis=0), square + (x**2).sum(axis=0))
    return {
        name: (total / count, np.sqrt(np.maximum(square / count - (total / count) ** 2, 0.0)))
        for name, (count, total, square) in sums.items()
    }


def _gain(deviation: Floats) -> Floats:
    # A constant dimension carries no information: it becomes zero, not amplified noise.
    return np.where(deviation > 1e-6, 1.0 / np.maximum(deviation, 1e-6), 0.0)


def _soft_gain(deviation: Floats) -> Floats:
    """Keep dimensions that hardly vary small: their noise is not amplified to the scale of the others."""
    typical = float(np.sqrt(np.mean(deviation**2)))
    return np.full_like(deviation, 0.0) if typical == 0 else 1.0 / (deviation + _SOFT * typical)


def perturb_indices(length: int, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw (count,) ascending snippet indices below `length`, one at random from each of `count` equal strata.

    Indices repeat if the video is shorter than `count` (STPN, CVPR 2018, section 4.1).
    """
    position = (np.arange(count) + rng.random(count)) * (length / count)
    return np.minimum(position.astype(np.int64), length - 1)


def choose_pairs(classwise: Sequence[Sequence[int]], pairs: int, rng: np.random.Generator) -> list[int]:
    """Choose 2 * `pairs` videos, (0, 1), (2, 3), ... of one class each, from those of each class (W-TALC, ECCV 2018).

    Classes are drawn without repetition if there are enough; the videos of a pair differ. Empty if no two videos share
    a class.
    """
    if not classwise or not pairs:
        return []
    chosen = rng.choice(len(classwise), size=pairs, replace=len(classwise) < pairs)
    return [int(video) for c in chosen for video in rng.choice(classwise[c], size=2, replace=False)]


def step_indices(
    seed: int, step: int, videos: int, batch_size: int, classwise: Sequence[Sequence[int]], pairs: int
) -> list[int]:
    """Choose the videos of a step: `pairs` of one class each (`choose_pairs`), then the next ones in order.

    The order is an endless sequence of shuffles of all videos, one per epoch.
    """
    paired = choose_pairs(classwise, pairs, np.random.default_rng([seed, step, 3]))
    size = batch_size - len(paired)
    positions = range(step * size, (step + 1) * size)
    shuffles = {
        epoch: np.random.default_rng([seed, epoch, 0]).permutation(videos)
        for epoch in {position // videos for position in positions}
    }
    return paired + [int(shuffles[position // videos][position % videos]) for position in positions]


def negative_batch(
    videos: Sequence[NegativeVideo], scaler: Scaler, sample_length: int | None, noise: float, rng: np.random.Generator
) -> tuple[SnippetBatch, Tensor]:
    """Collate B negatives into a batch without labels; also return their absent classes (B, C)."""
    features = [_features(video.load(), scaler, sample_length, noise, rng) for video in videos]
    absent = torch.from_numpy(np.stack([video.absent for video in videos]))
    return SnippetBatch.collate(features, ids=[video.id for video in videos]), absent


def training_batch(
    videos: Sequence[LabelledVideo], scaler: Scaler, sample_length: int | None, noise: float, rng: np.random.Generator
) -> SnippetBatch:
    """Collate B videos into a batch with labels; `sample_length` None keeps them whole."""
    features = [_features(video.load(), scaler, sample_length, noise, rng) for video in videos]
    labels = torch.from_numpy(np.stack([video.labels for video in videos]))
    return SnippetBatch.collate(features, labels, ids=[video.id for video in videos])


def _features(
    arrays: Arrays, scaler: Scaler, sample_length: int | None, noise: float, rng: np.random.Generator
) -> dict[str, Tensor]:
    """Scale and sample one video's (T, D) features, and add noise."""
    scaled = scaler(arrays)
    if sample_length is not None:
        indices = perturb_indices(len(next(iter(scaled.values()))), sample_length, rng)
        scaled = {name: x[indices] for name, x in scaled.items()}
    if noise:
        scaled = {
            name: x + noise * torch.from_numpy(rng.standard_normal(x.shape, dtype=np.float32))
            for name, x in scaled.items()
        }
    return scaled
