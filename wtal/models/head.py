"""Snippet features to class activations: the contract of `heads/`, and how a head is made.

A leaf of `heads/` holds `Config` (a `wtal.config.Config`, defaults beside their source), a `Head`, and

    create(num_classes, feature_dims, config, authors) -> Head
    from_authors(state_dict, num_classes) -> Head        # keys as the authors' own code saves them
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from wtal.data.batch import SnippetBatch
from wtal.errors import WeightsError
from wtal.registry import HEADS


@dataclass(frozen=True)
class HeadOutput:
    """What every head answers with.

    `cas`: (B, T, C + 1) class activation sequence, logits, background last; a head without a background class gives
    (B, T, C) and says so. `attention`: (B, T) in [0, 1], None where the method has none. `video_scores`: (B, C)
    probabilities without background. `extras`: whatever else the loss or a reader of the paper wants, by name.
    """

    cas: Tensor
    attention: Tensor | None
    video_scores: Tensor
    extras: dict[str, Tensor] = field(default_factory=dict)


class Head(nn.Module):
    """A localization head. What stands in padded snippets never changes the others."""

    num_classes: int

    def forward(self, batch: SnippetBatch) -> HeadOutput:
        """Features of B videos -> class activations, attention and video scores."""
        raise NotImplementedError

    def loss(self, output: HeadOutput, batch: SnippetBatch) -> dict[str, Tensor]:
        """Weighted terms by name, each a scalar; the trainer sums them and logs the same names."""
        raise NotImplementedError

    def __call__(self, batch: SnippetBatch) -> HeadOutput:  # typed: nn.Module's own returns Any
        """Run `forward`."""
        output: HeadOutput = super().__call__(batch)
        return output


def create_head(
    name: str, num_classes: int, feature_dims: Mapping[str, int], *, authors: bool = False, **config: Any
) -> Head:
    """The head `name` for C = `num_classes` and streams of the given widths, freshly initialised.

    With `authors` it is what the authors' code ran, quirks included; the default is what is right. The leaf's
    docstring lists the differences. `config` holds the head's own settings.

    Raises:
        UsageError: when there is no such head.
        ConfigError: when a setting is unknown or does not fit.
    """
    module = HEADS.load(name)
    head: Head = module.create(num_classes, dict(feature_dims), module.Config.parse(config, f"head {name}"), authors)
    return head


def load_author_checkpoint(name: str, state_dict: Mapping[str, Any], num_classes: int) -> Head:
    """A head from the authors' own state dict, in eval mode; implies `authors=True`.

    Raises:
        UsageError: when there is no such head.
        WeightsError: when a key is missing, left over, or of another shape; the message names them.
    """
    head: Head = HEADS.load(name).from_authors(state_dict, num_classes)
    return head.eval()


def load_renamed(head: nn.Module, state_dict: Mapping[str, Tensor], names: Mapping[str, str], what: str) -> None:
    """Load `state_dict` into `head`, whose parameter `names[key]` is called `key` in the file.

    Raises:
        WeightsError: for the first keys that are missing, left over, or mis-shaped.
    """
    plain = {key.removeprefix("module."): value for key, value in state_dict.items()}
    own = head.state_dict()
    problems = [f"unknown {key}" for key in plain if key not in names]
    problems += [f"missing {key}" for key in names if key not in plain]
    problems += [
        f"{key} is {tuple(plain[key].shape)}, wanted {tuple(own[name].shape)}"
        for key, name in names.items()
        if key in plain and plain[key].shape != own[name].shape
    ]
    if problems:
        raise WeightsError(f"not a checkpoint of {what}: {'; '.join(problems[:5])}")
    head.load_state_dict({name: torch.as_tensor(plain[key]) for key, name in names.items()})


def masked_topk_mean(values: Tensor, mask: Tensor, ratio: int) -> Tensor:
    """(B, T, C), (B, T) -> (B, C): mean of the max(1, length // ratio) largest values of each class over time."""
    counts = torch.clamp(mask.sum(dim=1) // ratio, min=1)
    ordered = values.masked_fill(~mask[..., None], -torch.inf).topk(int(counts.max()), dim=1).values
    kept = torch.arange(ordered.shape[1], device=values.device)[None, :] < counts[:, None]
    return ordered.masked_fill(~kept[..., None], 0.0).sum(dim=1) / counts[:, None]
