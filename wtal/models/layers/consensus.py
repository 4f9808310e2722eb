"""CO2-Net's cross-modal consensus module (ACM MM 2021, section 3.2), also used by DELU."""

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from wtal.models.layers.temporal import Dropout, TemporalConv, masked_mean, unpack
from wtal.models.layers.two_streams import SLOPE, author_names


class Gate(nn.Module):
    """Scale each channel of each snippet of a stream by a factor in (0, 1).

    With `consensus` the factor depends on the stream's mean and the other's snippets (CCM), else on the mean alone.
    """

    def __init__(self, main: int, other: int, dropout: float, consensus: bool = True) -> None:
        super().__init__()
        # A mean has a single position, so a convolution over it uses only its middle tap.
        self.whole = TemporalConv(main, main, 3 if consensus else 1)
        self.local = TemporalConv(other, main, 3) if consensus else None
        self.dropout = Dropout(dropout)

    def forward(self, main: Tensor, other: Tensor, mask: Tensor) -> Tensor:
        """Rows (N, D), rows of the other stream, mask -> rows (N, D)."""
        mean = masked_mean(unpack(main, mask), mask)
        middle = self.whole.weight[:, :, self.whole.kernel_size[0] // 2]
        gate = self.dropout(leaky_relu(nn.functional.linear(mean, middle, self.whole.bias), SLOPE))
        gate = gate.repeat_interleave(mask.sum(dim=1), dim=0)
        if self.local is not None:
            gate = gate * self.dropout(leaky_relu(self.local(other, mask), SLOPE))
        return main * torch.sigmoid(gate)


def consensus_names() -> dict[str, str]:
    """Map the keys of CO2-Net's and DELU's checkpoints to ours; gates and attentions are named rgb_ and flow_."""
    layers, attentions = {}, {}
    for prefix, stream in (("vAttn", "rgb"), ("fAttn", "flow")):
        layers[f"{prefix}.channel_conv.0"] = f"{stream}_gate.whole"
        layers[f"{prefix}.bit_wise_attn.0"] = f"{stream}_gate.local"
        attentions[f"{prefix}.attention"] = f"{stream}_attention"
    return author_names(layers, attentions)
