"""CO2-Net: Cross-modal Consensus Network (Hong, Feng, Xu, Shan, Zheng; ACM MM 2021, arXiv 2107.12589).

Each stream is enhanced by a cross-modal consensus module (CCM): the stream's summary of the whole video (its mean over
time) and the other stream's view of each snippet agree on a gate for every channel,

    X' = sigmoid(global(mean of X) * local(other)) X

and an attention is computed from the enhanced features of each. Both are fused, classified snippet by snippet, and

    L = L_mil(cas) + L_mil(cas suppressed by the attention) + L_contrastive + L_mutual + 0.8 L_norm + 0.8 L_guide

L_mil is the cross entropy of top-k means, with background present in the first and absent in the second; L_contrastive
is W-TALC's co-activity of pairs of videos that share a class; L_mutual makes each stream's attention a teacher of the
other's; L_norm favours few attended snippets, L_guide (the paper's L_oppo) an attention that is the complement of the
background's probability. Detections come from `cas` times the attention; so do the video scores.

On ActivityNet activations and attentions are averaged over 13 snippets (`pooling = 13`).

Differences from the authors' code, whose behaviour `authors=True` restores:

- Their dropout is between the attention's last layer and its sigmoid: half of the snippets have an attention of 0.5 at
  every step of training. Here it is before the last layer.
- Their k, means, pooling and co-activity count padding; here they count real snippets, and a pooling window at the ends
  of a video is divided by the number of snippets in it.
- Their co-activity is the mean over all shared classes of all pairs, so that pairs with more shared classes count more;
  here it is the mean over pairs of each pair's mean.
- Their labels are divided by their number plus 1e-4; here they sum to one.
- Their state dict has an unused layer `feat_encoder`; its shape is checked before it is dropped.
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
    """Defaults are the public code's for THUMOS14 unless noted."""

    fusion: Literal["ccm", "se", "ssma", "concat", "add"] = "ccm"
    """Enhancement of the streams before they are concatenated (Table 6): the consensus module; a gate from each
    stream's own mean (squeeze and excitation); one gate from both streams' snippets (SSMA); none; or none, with the
    streams added."""


class JointGate(nn.Module):
    """SSMA (Valada, Mohan, Burgard; IJCV 2020): one gate for both streams, from both streams, through a bottleneck."""

    def __init__(self, width: int, bottleneck: int) -> None:
        super().__init__()
        self.narrow = TemporalConv(width, bottleneck, 3)
        self.wide = TemporalConv(bottleneck, width, 3)

    def forward(self, both: Tensor, mask: Tensor) -> Tensor:
        """Rows (N, D) -> rows (N, D)."""
        return both * torch.sigmoid(self.wide(torch.relu(self.narrow(both, mask)), mask))


class Co2Net(TwoStreamHead):
    """`TwoStreamHead`'s network and loss; streams gate each other, or are combined by a variant of Table 6."""

    config: Config

    def add_enhancement(self, rgb: int, flow: int) -> int:
        """Create the gates; return the width of the joined streams."""
        kind, dropout = self.config.fusion, self.config.dropout
        if kind in ("ccm", "se"):
            self.rgb_gate = Gate(rgb, flow, dropout, consensus=kind == "ccm")
            self.flow_gate = Gate(flow, rgb, dropout, consensus=kind == "ccm")
        if kind == "ssma":
            self.joint_gate = JointGate(rgb + flow, self.config.attention_width)
        return rgb if kind == "add" else rgb + flow

    def enhance(self, rgb: Tensor, flow: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Gate rows (N, D) of both streams; mask (B, T)."""
        if self.config.fusion in ("ccm", "se"):
            return self.rgb_gate(rgb, flow, mask), self.flow_gate(flow, rgb, mask), {}
        if self.config.fusion == "ssma":
            both = self.joint_gate(self.join(rgb, flow), mask)
            return both[:, : rgb.shape[1]], both[:, rgb.shape[1] :], {}
        return rgb, flow, {}

    def join(self, rgb: Tensor, flow: Tensor) -> Tensor:
        """Join the enhanced rows (N, D) of both streams: (N, 2 D) concatenated, or (N, D) added."""
        return rgb + flow if self.config.fusion == "add" else torch.cat([rgb, flow], dim=-1)


def create(num_classes: int, feature_dims: dict[str, int], config: Config, authors: bool) -> Co2Net:
    """Create a CO2-Net over rgb and flow.

    Raises:
        UsageError: when the features are not rgb and flow, or do not suit the settings.
    """
    first, second = stream_widths("co2net", feature_dims, config.pooling)
    if config.fusion == "add" and first != second:
        raise UsageError(f"head.fusion = 'add' needs streams of one width, got {first} and {second}; choose another")
    return Co2Net(num_classes, first, second, config, authors)


def from_authors(
    state_dict: Mapping[str, Tensor], num_classes: int, pooling: int | None = None, top_k_ratio: int | None = None
) -> Co2Net:
    """Load a CO2-Net from the authors' checkpoint; the widths are read off its tensors.

    Their two forms share one layout. Without `pooling` and `top_k_ratio`, 100 or 200 classes select the form of
    ActivityNet (13 and 5), any other number that of THUMOS14 (1 and 7).
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
