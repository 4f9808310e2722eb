"""CO2-Net: Cross-modal Consensus Network (Hong, Feng, Xu, Shan, Zheng; ACM MM 2021, arXiv 2107.12589).

Each stream is enhanced by a cross-modal consensus module (CCM): what the stream says of the whole video (its mean over
time) and what the other stream says of each snippet agree on a gate for every channel,

    X' = sigmoid(global(mean of X) * local(other)) X

and an attention is taken from the enhanced features of each. Both are fused, classified snippet by snippet, and

    L = L_mil(cas) + L_mil(cas suppressed by the attention) + L_contrastive + L_mutual + 0.8 L_norm + 0.8 L_guide

L_mil is the cross entropy of top-k means, the background present in the first and absent in the second; L_contrastive
W-TALC's co-activity of pairs of videos that share a class; L_mutual makes each stream's attention a teacher of the
other's; L_norm asks for few attended snippets, L_guide (the paper's L_oppo) for an attention that is the opposite of
the background's probability. Detections come from `cas` times the attention; so do the video scores.

On ActivityNet activations and attentions are averaged over 13 snippets (`pooling = 13`).

Differences from the authors' code, which `authors=True` runs instead:

- Their dropout stands between the attention's last layer and its sigmoid: half of the snippets have an attention of 0.5
  at every step of training. Here it stands before the last layer.
- Their k, means, pooling and co-activity count padding; here they count real snippets, and a pooling window at the ends
  of a video is divided by the snippets that it holds.
- Their co-activity is the mean over all that pairs share, so that pairs of more shared classes count more; here it is
  the mean over pairs of the means over what each shares.
- Their labels are divided by their number plus 1e-4; here they sum to one.
- Their state dict holds a layer `feat_encoder` that nothing uses; its shape is checked before it is left out.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from wtal.errors import UsageError
from wtal.models.head import load_renamed
from wtal.models.layers.consensus import Gate, consensus_names
from wtal.models.layers.temporal import TemporalConv
from wtal.models.layers.two_streams import TwoStreamConfig, TwoStreamHead, author_form, stream_widths


class Config(TwoStreamConfig):
    """Defaults are the public code's for THUMOS14, unless said otherwise."""

    fusion: Literal["ccm", "se", "ssma", "concat", "add"] = "ccm"
    """How streams are enhanced before they stand side by side (Table 6): the consensus module; a gate of each stream's
    own mean (squeeze and excitation); one gate of both streams' snippets (SSMA); not; or not, and added up."""


class JointGate(nn.Module):
    """SSMA (Valada, Mohan, Burgard; IJCV 2020): one gate for both streams, of both streams, through a bottleneck."""

    def __init__(self, width: int, bottleneck: int) -> None:
        super().__init__()
        self.narrow = TemporalConv(width, bottleneck, 3)
        self.wide = TemporalConv(bottleneck, width, 3)

    def forward(self, both: Tensor, mask: Tensor) -> Tensor:
        """Rows (N, D) -> rows (N, D)."""
        return both * torch.sigmoid(self.wide(torch.relu(self.narrow(both, mask)), mask))


class Co2Net(TwoStreamHead):
    """The network and its loss are `TwoStreamHead`'s; streams are gated by one another, or as Table 6 has it."""

    config: Config

    def add_enhancement(self, rgb: int, flow: int) -> int:
        """Make the gates; returns the width of the joined streams."""
        kind, dropout = self.config.fusion, self.config.dropout
        if kind in ("ccm", "se"):
            self.rgb_gate = Gate(rgb, flow, dropout, consensus=kind == "ccm")
            self.flow_gate = Gate(flow, rgb, dropout, consensus=kind == "ccm")
        if kind == "ssma":
            self.joint_gate = JointGate(rgb + flow, self.config.attention_width)
        return rgb if kind == "add" else rgb + flow

    def enhance(self, rgb: Tensor, flow: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Rows (N, D) of both streams, (B, T) -> the same, gated."""
        if self.config.fusion in ("ccm", "se"):
            return self.rgb_gate(rgb, flow, mask), self.flow_gate(flow, rgb, mask), {}
        if self.config.fusion == "ssma":
            both = self.joint_gate(self.join(rgb, flow), mask)
            return both[:, : rgb.shape[1]], both[:, rgb.shape[1] :], {}
        return rgb, flow, {}

    def join(self, rgb: Tensor, flow: Tensor) -> Tensor:
        """Enhanced rows (N, D) of both streams -> (N, 2 D) side by side, or (N, D) added up."""
        return rgb + flow if self.config.fusion == "add" else torch.cat([rgb, flow], dim=-1)


def create(num_classes: int, feature_dims: dict[str, int], config: Config, authors: bool) -> Co2Net:
    """A CO2-Net over rgb and flow.

    Raises:
        UsageError: when the features are not of two streams, or the settings do not fit them.
    """
    first, second = stream_widths("co2net", feature_dims, config.pooling)
    if config.fusion == "add" and first != second:
        raise UsageError(f"head.fusion = 'add' needs streams of one width, got {first} and {second}; take another")
    return Co2Net(num_classes, first, second, config, authors)


def from_authors(
    state_dict: Mapping[str, Tensor], num_classes: int, pooling: int | None = None, top_k_ratio: int | None = None
) -> Co2Net:
    """A CO2-Net from the authors' checkpoint; the widths are read off its tensors.

    Their two forms share one layout. Without `pooling` and `top_k_ratio` it is the form of ActivityNet (13 and 5) for
    100 or 200 classes, which are ActivityNet's, and that of THUMOS14 (1 and 7) for any other number.
    """
    form = author_form(state_dict, num_classes, "CO2-Net", "vAttn.attention.0")
    pooled, ratio = (13, 5) if form.activitynet else (1, 7)
    settings = Config(
        width=form.width,
        attention_width=form.attention_width,
        pooling=pooling or pooled,
        top_k_ratio=top_k_ratio or ratio,
    )
    head = Co2Net(num_classes, form.features, form.features, settings, authors=True)
    load_renamed(head, form.tensors, consensus_names(), "CO2-Net")
    return head
