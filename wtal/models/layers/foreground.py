"""FAC-Net's class-wise foreground classification branch (ICCV 2021, section 3.3), on its own, for other heads.

A head's activations indicate which snippets show a class. Softmax over time turns them into class-wise attention, at
several temperatures; the features that a class attends to should resemble the foreground if the video has the class,
and nothing in particular otherwise. In this way the actions define the foreground (the paper's Table 5 adds this branch
to STPN, BM, W-TALC and UM).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from wtal.models.layers.losses import cross_entropy, normalized, with_background
from wtal.models.layers.similarity import cosine
from wtal.models.layers.temporal import masked_softmax

TEMPERATURES = (1.0, 2.0, 5.0)
"""Temperatures of the hybrid attention; section 4.2 and Table 4."""
_VIDEO_SCALE = 10.0


def attended(x: Tensor, scores: Tensor, mask: Tensor, temperatures: Sequence[float]) -> list[Tensor]:
    """(B, T, E), scores (B, T, C), (B, T) -> (B, C, E) per temperature: means weighted towards high-scoring snippets.

    The weights are the softmax over time of temperature * score (equation 2, and the hybrid attention of section 3.6).
    """
    attention = torch.cat([masked_softmax(temperature * scores, mask) for temperature in temperatures], dim=-1)
    return list(torch.split(attention.transpose(1, 2).to(x.dtype) @ x, scores.shape[-1], dim=1))


class ClasswiseForeground(nn.Module):
    """The branch, with one learned vector: the foreground's."""

    def __init__(
        self, embedding: int, temperatures: Sequence[float] = TEMPERATURES, scale: float = _VIDEO_SCALE
    ) -> None:
        super().__init__()
        self.temperatures, self.scale = tuple(temperatures), scale
        self.center = nn.Parameter(torch.empty(1, embedding))
        nn.init.xavier_uniform_(self.center)

    def forward(self, x: Tensor, cas: Tensor, mask: Tensor) -> Tensor:
        """Features (B, T, E), activations (B, T, C or C + 1), (B, T) -> logits (B, C or C + 1) of being foreground."""
        features = attended(x, cas, mask, self.temperatures)
        return self.scale * torch.stack([cosine(feature, self.center)[..., 0] for feature in features]).mean(dim=0)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(B, C or C + 1), labels (B, C) -> scalar: cross entropy; a background class, if any, is labelled absent."""
        has_background = logits.shape[1] > labels.shape[1]
        return cross_entropy(logits, with_background(labels, 0.0) if has_background else normalized(labels))
