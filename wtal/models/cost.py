"""The cost of a head: its parameters, and the multiplications of one video."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from wtal.data.batch import SnippetBatch
from wtal.models.head import Head


@dataclass(frozen=True)
class Cost:
    """`parameters`: of training. `macs`: multiply-accumulates of matrix products and convolutions, one video."""

    parameters: int
    macs: int


@torch.no_grad()
def cost(head: Head, feature_dims: Mapping[str, int], snippets: int = 100) -> Cost:
    """A head for streams of the given widths -> its cost for one video of `snippets` snippets.

    Source: RSKP, supplement, Table 4, counts multiply-accumulates of 100 snippets.
    """
    was_training = head.training
    device = next(head.parameters()).device
    batch = SnippetBatch.from_features(
        {name: torch.zeros(1, snippets, width, device=device) for name, width in feature_dims.items()}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of torch, on a flag of other hardware
        # Without oneDNN a recurrent layer falls into the matrix products that the counter knows.
        with torch.backends.mkldnn.flags(enabled=False), FlopCounterMode(display=False) as counter:
            head.eval()(batch)
    head.train(was_training)
    parameters = sum(parameter.numel() for parameter in head.parameters())
    return Cost(parameters, counter.get_total_flops() // 2)
