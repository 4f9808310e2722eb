"""Features and proposals to scores of the proposals: `Rescorer`, and its creation by name.

A rescorer is a second stage that leaves borders unchanged: the proposals of a trained head are the instances of its
bags, and it learns their classes from video-level labels. `wtal.models.rescorers.RescorerLeaf` is the contract of its
file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from wtal.data.batch import SnippetBatch
from wtal.errors import UsageError
from wtal.models.rescorers import RESCORERS


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


def create_rescorer(
    name: str, num_classes: int, feature_dims: Mapping[str, int], *, authors: bool = False, **config: Any
) -> Rescorer:
    """Create the rescorer `name` for C = `num_classes` and streams of the given widths, freshly initialised.

    With `authors` it behaves as the authors' code, quirks included. `config` holds the rescorer's own settings.

    Raises:
        UsageError: when there is no such rescorer, no class, or no stream of features.
        ConfigError: when a setting is unknown or invalid.
    """
    module = RESCORERS.load(name)
    if num_classes < 1 or not feature_dims or min(feature_dims.values()) < 1:
        raise UsageError(
            f"a rescorer needs at least one class and stream of features, got {num_classes} and {dict(feature_dims)}"
        )
    return module.create(num_classes, dict(feature_dims), module.Config.parse(config, f"rescorer {name}"), authors)


def load_author_rescorer(name: str, state_dict: Mapping[str, Any], num_classes: int) -> Rescorer:
    """Load a rescorer from the authors' own state dict, in eval mode; implies `authors=True`.

    Raises:
        UsageError: when there is no such rescorer, or no class.
        WeightsError: when a key is missing, left over, or of another shape; the message names them.
    """
    module = RESCORERS.load(name)
    if num_classes < 1:
        raise UsageError(f"a rescorer needs at least one class, got {num_classes}")
    return module.from_authors(state_dict, num_classes).eval()
