"""DELU: Dual-Evidential Learning for Uncertainty modeling (Chen, Gao, Yang, Xu; ECCV 2022).

The network and the terms are CO2-Net's (`wtal.models.heads.co2net` has its equations), and to them come

    1.3 L_edl + 0.4 L_uct_guide

L_edl sees videos: the suppressed activations of the snippets of highest attention, averaged, are evidence for classes.
With alpha = exp(activation) + 1, S their sum and u = C / S, the loss is -log(alpha / S) of the labels, each weighted by
its share of 1 / alpha, and the video by 1 - u: one that is uncertain, because background is among its snippets, says
little. L_uct_guide sees snippets: CO2-Net's L_guide, in which certain snippets weigh more at first and uncertain ones
in the end,

    w = 1 + Delta tanh(delta phi),   delta from 1 to -1 over training, phi from 1 (most certain) to -1

On ActivityNet evidence is the positive part of the activations, L_edl the squared distance of labels from alpha / S.

Differences from the authors' code, which `authors=True` runs instead:

- Their phi is taken at what sorts the snippets by uncertainty (`argsort`), not at each snippet's place in the order, so
  that weights have nothing to do with uncertainty. Here they have; the direction is that of the paper's title for it,
  easy to hard, and `curriculum = "uncertain-first"` is that in which the code sorts.
- Those of CO2-Net: dropout on attention logits, padding that counts, pairs of more shared classes that count more,
  labels divided by their number plus 1e-4.

The sampling is of 320 snippets, and detection takes 20 thresholds and drops what is one snippet long (preset `delu`).
"""

from collections.abc import Mapping

from torch import Tensor

from wtal.models.head import load_renamed
from wtal.models.layers.consensus import Gate, consensus_names
from wtal.models.layers.evidence import ACTIVITYNET, EvidenceConfig, EvidenceHead
from wtal.models.layers.two_streams import author_form, stream_widths


class Config(EvidenceConfig):
    """Defaults are the public code's for THUMOS14, unless said otherwise."""


class Delu(EvidenceHead):
    """CO2-Net's network, with evidence."""

    config: Config

    def add_enhancement(self, rgb: int, flow: int) -> int:
        """Make both gates; returns the width of the joined streams."""
        self.rgb_gate = Gate(rgb, flow, self.config.dropout)
        self.flow_gate = Gate(flow, rgb, self.config.dropout)
        return rgb + flow

    def enhance(self, rgb: Tensor, flow: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Rows (N, D) of both streams, (B, T) -> the same, gated."""
        return self.rgb_gate(rgb, flow, mask), self.flow_gate(flow, rgb, mask), {}


def create(num_classes: int, feature_dims: dict[str, int], config: Config, authors: bool) -> Delu:
    """A DELU over rgb and flow.

    Raises:
        UsageError: when the features are not of two streams, or the settings do not fit them.
    """
    first, second = stream_widths("delu", feature_dims, config.pooling)
    return Delu(num_classes, first, second, config, authors)


def from_authors(
    state_dict: Mapping[str, Tensor], num_classes: int, evidence: str | None = None, pooling: int | None = None
) -> Delu:
    """A DELU from the authors' checkpoint; the widths are read off its tensors.

    Their two forms share one layout. `evidence` says which it is, relu for ActivityNet, exp for THUMOS14; without it,
    it is ActivityNet's for 100 or 200 classes, which are its releases', and THUMOS14's for any other number. `pooling`
    is the form's, if none is said.
    """
    form = author_form(state_dict, num_classes, "DELU", "vAttn.attention.0")
    settings = dict(ACTIVITYNET) if evidence == "relu" or (evidence is None and form.activitynet) else {}
    settings |= {} if pooling is None else {"pooling": pooling}
    config = Config(width=form.width, attention_width=form.attention_width, **settings)
    head = Delu(num_classes, form.features, form.features, config, authors=True)
    load_renamed(head, form.tensors, consensus_names(), "DELU")
    return head
