"""DDG-Net's graphs among the snippets of one video, and the features computed on them (ICCV 2023).

Snippets that both streams attend to are action, those that neither attends to are background, the rest are ambiguous.
Action snippets exchange features with similar action snippets, background ones with background ones; ambiguous ones
receive from both and send to none. Graphs and masks carry no gradient. A video of T snippets needs T x T matrices: 400
MB each for 10,000 snippets.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, normalize

from wtal.models.layers.two_streams import SLOPE


class Adjacency(NamedTuple):
    """Column t of each (T, T) has the weights with which snippet t averages the others; they sum to 1 or are 0."""

    action: Tensor
    background: Tensor
    ambiguous: Tensor
    """To ambiguous snippets, from action and background ones and themselves."""


@torch.no_grad()
def adjacency(similarity: Tensor, action: Tensor, background: Tensor, threshold: float, neighbours: int) -> Adjacency:
    """Build the graphs from cosines (T, T) and masks (T,) of action and of background.

    A column keeps its `neighbours` highest cosines of at least `threshold`, before the kinds of snippets are separated.
    """
    near = torch.where(similarity >= threshold, similarity, 0.0)
    highest = near.topk(min(neighbours, len(near)), dim=0).indices
    near = torch.zeros_like(near).scatter(0, highest, near.gather(0, highest))
    ambiguous, known = ~(action | background), (action | background)
    itself = torch.eye(len(near), dtype=torch.bool, device=near.device)
    edges = (
        action[:, None] & action[None, :],
        background[:, None] & background[None, :],
        (known[:, None] | itself) & ambiguous[None, :],
    )
    return Adjacency(*(normalize(near * edge, p=1.0, dim=0) for edge in edges))


class GraphLayers(nn.Module):
    """Two graph convolutions among action, two among background snippets of a stream, and the plain average."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.action = nn.ModuleList([nn.Conv1d(width, width, 1) for _ in range(2)])
        self.background = nn.ModuleList([nn.Conv1d(width, width, 1) for _ in range(2)])

    def forward(self, x: Tensor, graph: Adjacency, action: Tensor, background: Tensor) -> tuple[Tensor, Tensor]:
        """(T, D), the graphs, masks (T,) -> (T, D) averaged over neighbours, and (T, D) convolved."""
        of_action, of_background = x, x
        for layer in self.action:
            of_action = leaky_relu(graph.action.T @ _linear(layer, of_action), SLOPE)
        for layer in self.background:
            of_background = leaky_relu(graph.background.T @ _linear(layer, of_background), SLOPE)
        averaged = graph.action.T @ x + graph.background.T @ x + graph.ambiguous.T @ x
        sources = torch.where(action[:, None], of_action, torch.where(background[:, None], of_background, x))
        return averaged, of_action + of_background + graph.ambiguous.T @ sources


def _linear(layer: nn.Module, x: Tensor) -> Tensor:
    """(T, D) -> (T, D): a convolution over one snippet."""
    assert isinstance(layer, nn.Conv1d)
    return nn.functional.linear(x, layer.weight[..., 0], layer.bias)
