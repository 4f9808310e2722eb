"""Feature vectors as a head gets them: scaled, sampled, batched."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wtal.data.batch import SnippetBatch

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class LabelledVideo:
    """A training video: its id, how its (T, D) features are read, and its (C,) multi-hot labels. No times."""

    id: str
    load: Callable[[], Arrays]
    labels: NDArray[np.float32]


@dataclass(frozen=True)
class Scaler:
    """Scales (T, D) features of each stream: (x - shift) * gain, or unit length where `unit`."""

    shift: dict[str, Tensor]
    gain: dict[str, Tensor]
    unit: bool = False

    @classmethod
    def fit(cls, kind: str, videos: Sequence[LabelledVideo]) -> "Scaler":
        """The scaler of a kind (`none`, `standard`, `l2`), measured on `videos`; never on others."""
        if kind != "standard":
            return cls({}, {}, unit=kind == "l2")
        count, total, square = 0, {}, {}  # type: ignore[var-annotated]
        for video in videos:
            arrays = {name: np.asarray(value, dtype=np.float64) for name, value in video.load().items()}
            count += len(next(iter(arrays.values())))
            for name, value in arrays.items():
                total[name] = total.get(name, 0.0) + value.sum(axis=0)
                square[name] = square.get(name, 0.0) + (value**2).sum(axis=0)
        mean = {name: value / max(count, 1) for name, value in total.items()}
        deviation = {name: np.sqrt(np.maximum(square[name] / max(count, 1) - mean[name] ** 2, 0.0)) for name in total}
        # A dimension that never moves carries nothing: it becomes zero, not noise blown up.
        gain = {name: np.where(d > 1e-6, 1.0 / np.maximum(d, 1e-6), 0.0) for name, d in deviation.items()}
        return cls(
            {name: torch.tensor(value, dtype=torch.float32) for name, value in mean.items()},
            {name: torch.tensor(value, dtype=torch.float32) for name, value in gain.items()},
        )

    def __call__(self, features: Arrays) -> dict[str, Tensor]:
        """{stream: (T, D)} -> the same, scaled float32 tensors."""
        return {
            name: self._scale(name, torch.from_numpy(np.array(x, dtype=np.float32))) for name, x in features.items()
        }

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"shift": self.shift, "gain": self.gain, "unit": self.unit}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "Scaler":
        """What `state` saved."""
        return cls(dict(state["shift"]), dict(state["gain"]), bool(state["unit"]))

    def _scale(self, name: str, x: Tensor) -> Tensor:
        if self.unit:
            return torch.nn.functional.normalize(x, dim=-1)
        return (x - self.shift[name]) * self.gain[name] if name in self.shift else x


def perturb_indices(length: int, wanted: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """(wanted,) rising snippet indices below `length`, one at random from each of `wanted` equal strata.

    Indices repeat where the video is shorter than `wanted` (STPN, CVPR 2018, section 4.1).
    """
    position = (np.arange(wanted) + rng.random(wanted)) * (length / wanted)
    return np.minimum(position.astype(np.int64), length - 1)


def training_batch(
    videos: Sequence[LabelledVideo], scaler: Scaler, sample_length: int | None, noise: float, rng: np.random.Generator
) -> SnippetBatch:
    """B videos -> one batch with labels; `sample_length` None keeps them whole."""
    features = []
    for video in videos:
        scaled = scaler(video.load())
        if sample_length is not None:
            chosen = perturb_indices(len(next(iter(scaled.values()))), sample_length, rng)
            scaled = {name: x[chosen] for name, x in scaled.items()}
        if noise:
            scaled = {
                name: x + noise * torch.from_numpy(rng.standard_normal(x.shape, dtype=np.float32))
                for name, x in scaled.items()
            }
        features.append(scaled)
    labels = torch.from_numpy(np.stack([video.labels for video in videos]))
    return SnippetBatch.collate(features, labels, ids=[video.id for video in videos])
