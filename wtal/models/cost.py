"""The cost of a head, a student or a rescorer: its parameters, and the multiplications of one video."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from wtal.data.batch import SnippetBatch
from wtal.models.head import Head
from wtal.models.rescorer import ProposalBatch, Rescorer
from wtal.models.student import Student


@dataclass(frozen=True)
class Cost:
    """`parameters`: trainable. `macs`: multiply-accumulates in matrix products and convolutions, for one video."""

    parameters: int
    macs: int


def cost(head: Head, feature_dims: Mapping[str, int], snippets: int = 100) -> Cost:
    """Return the cost of a head, whose streams have the given widths, for one video of `snippets` snippets.

    Source: RSKP, supplement, Table 4, which counts the multiply-accumulates of 100 snippets.
    """
    batch = _blank(head, feature_dims, snippets)
    return _counted(head, lambda: head(batch))


def student_cost(student: Student, feature_dims: Mapping[str, int], snippets: int = 100) -> Cost:
    """Return the cost of a student, whose streams have the given widths, for one video of `snippets` snippets."""
    batch = _blank(student, feature_dims, snippets)
    return _counted(student, lambda: student(batch.features(), batch.mask))


def rescorer_cost(rescorer: Rescorer, feature_dims: Mapping[str, int], snippets: int = 100) -> Cost:
    """Return the cost of a rescorer for one video with as many proposals as snippets; `feature_dims`: stream -> D."""
    batch = _blank(rescorer, feature_dims, snippets)
    starts = torch.arange(snippets, device=batch.mask.device, dtype=torch.float32) / 2
    proposals = ProposalBatch.collate(batch, [torch.stack([starts, starts + snippets / 4], dim=1)])
    return _counted(rescorer, lambda: rescorer(proposals))


def _blank(network: nn.Module, feature_dims: Mapping[str, int], snippets: int) -> SnippetBatch:
    device = next(network.parameters()).device
    return SnippetBatch.from_features(
        {name: torch.zeros(1, snippets, width, device=device) for name, width in feature_dims.items()}
    )


@torch.no_grad()
def _counted(network: nn.Module, answer: Callable[[], object]) -> Cost:
    was_training = network.training
    network.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch warns about a flag of other hardware
        # Without oneDNN a recurrent layer decomposes into matrix products, which the counter counts.
        with torch.backends.mkldnn.flags(enabled=False), FlopCounterMode(display=False) as counter:
            answer()
    network.train(was_training)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Cost(parameters, counter.get_total_flops() // 2)
