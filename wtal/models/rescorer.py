"""Features and proposals to scores of the proposals: `Rescorer`, its batches and its output.

A rescorer is a second stage that leaves borders unchanged: the proposals of a trained head are the instances of its
bags, and it learns their classes from video-level labels. `wtal.models.rescorers` has the contract of its file,
and creates rescorers by name.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from wtal.data.batch import SnippetBatch


@dataclass(frozen=True)
class ProposalBatch:
    """B videos and their N proposals, video after video.

    `snippets`: whole videos, with their labels in training. `borders`: (N, 2) in snippets; snippet i extends from i to
    i + 1. `counts`: (B,) number of proposals per video, possibly 0.
    """

    snippets: SnippetBatch
    borders: Tensor
    counts: Tensor

    @classmethod
    def collate(cls, snippets: SnippetBatch, borders: Sequence[Tensor]) -> "ProposalBatch":
        """Concatenate the proposals (M, 2) of each video of a batch.

        Raises:
            ValueError: when the numbers of videos and of lists of proposals differ.
        """
        if len(borders) != len(snippets.mask):
            raise ValueError(f"{len(snippets.mask)} videos need as many lists of proposals, got {len(borders)}")
        counts = torch.tensor([len(own) for own in borders], device=snippets.mask.device)
        rows = torch.cat([own.reshape(-1, 2) for own in borders])
        return cls(snippets, rows.to(snippets.mask.device), counts)

    @property
    def video(self) -> Tensor:
        """Index of the video of each proposal, (N,)."""
        return torch.arange(len(self.counts), device=self.counts.device).repeat_interleave(self.counts)

    @property
    def mask(self) -> Tensor:
        """Mask (B, M) of the real proposals in a padded batch."""
        length = int(self.counts.max()) if len(self.counts) else 0
        return torch.arange(length, device=self.counts.device)[None] < self.counts[:, None]

    def to(self, device: torch.device | str) -> "ProposalBatch":
        """Move the batch to another device."""
        return replace(
            self,
            snippets=self.snippets.to(device),
            borders=self.borders.to(device),
            counts=self.counts.to(device),
        )


@dataclass(frozen=True)
class RescorerOutput:
    """Output of a rescorer for a batch.

    `scores`: (N, C) of each proposal, in [0, 1]. `video_scores`: (B, C) probabilities, zero for a video without
    proposals. `extras`: anything else that the loss or a reader of the paper needs, by name.
    """

    scores: Tensor
    video_scores: Tensor
    extras: dict[str, Tensor] = field(default_factory=dict)


class Rescorer(nn.Module):
    """A network that scores proposals. Neither padding nor the other videos of a batch affect the scores of a video."""

    num_classes: int

    def forward(self, batch: ProposalBatch) -> RescorerOutput:
        """Score the proposals of B videos."""
        raise NotImplementedError

    def loss(self, output: RescorerOutput, batch: ProposalBatch, share: float) -> dict[str, Tensor]:
        """Return the weighted loss terms by name, each a scalar; `share` in [0, 1] is the progress of training.

        The trainer sums them and logs them by name. Videos without proposals are left out.
        """
        raise NotImplementedError

    def __call__(self, batch: ProposalBatch) -> RescorerOutput:  # typed: nn.Module's own returns Any
        """Run `forward`."""
        output: RescorerOutput = super().__call__(batch)
        return output
