"""Layers shared by STPN and background modeling: an optional embedding of snippets, and an attention over them."""

import torch
from torch import Tensor, nn

from wtal.data.batch import SnippetBatch
from wtal.models.layers.temporal import Dropout, pack, unpack


class SnippetEmbedding(nn.Module):
    """Features of B videos -> (B, T, E), zero where padded: a linear layer, ReLU and dropout.

    With `width` 0 the features are unchanged. `input_dropout` drops channels over a whole video.
    """

    def __init__(self, in_features: int, width: int, dropout: float, input_dropout: float) -> None:
        super().__init__()
        self.width = width or in_features
        self.input_dropout = nn.Dropout1d(input_dropout) if input_dropout else nn.Identity()
        self.linear = linear(in_features, width) if width else None
        self.dropout = Dropout(dropout)

    def forward(self, batch: SnippetBatch) -> Tensor:
        """Embed the batch's features."""
        x: Tensor = self.input_dropout(batch.features().transpose(1, 2)).transpose(1, 2)
        if self.linear is None:
            return x.masked_fill(~batch.mask[..., None], 0.0)
        return unpack(self.dropout(torch.relu(self.linear(pack(x, batch.mask)))), batch.mask)


class SnippetAttention(nn.Module):
    """Rows (N, E) -> (N, 1) in (0, 1): two layers with a ReLU between them and a sigmoid at the end."""

    def __init__(self, in_features: int, width: int) -> None:
        super().__init__()
        self.first = linear(in_features, width)
        self.second = linear(width, 1)

    def forward(self, rows: Tensor) -> Tensor:
        """Return the attention (N, 1)."""
        attention: Tensor = self.second(torch.relu(self.first(rows))).float().sigmoid()
        return attention


def linear(in_features: int, out_features: int, bias: bool = True) -> nn.Linear:
    """Create a layer initialized as in TensorFlow: Xavier's uniform distribution, biases zero."""
    layer = nn.Linear(in_features, out_features, bias=bias)
    nn.init.xavier_uniform_(layer.weight)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer
