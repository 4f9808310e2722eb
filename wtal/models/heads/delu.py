"""DELU: Dual-Evidential Learning for Uncertainty modeling (Chen, Gao, Yang, Xu; ECCV 2022).

The network and the terms are CO2-Net's (`wtal.models.heads.co2net` has its equations), plus

    1.3 L_edl + 0.4 L_uct_guide

L_edl works on videos: the suppressed activations of the snippets of highest attention, averaged, are evidence for
classes. With alpha = exp(activation) + 1, S their sum and u = C / S, the loss is -log(alpha / S) of the labels, each
weighted by its share of 1 / alpha, and the video by 1 - u: an uncertain video, with background among its snippets,
counts little. L_uct_guide works on snippets: CO2-Net's L_guide, in which certain snippets weigh more at first and
uncertain ones at the end,

    w = 1 + Delta tanh(delta phi),   delta from 1 to -1 over training, phi from 1 (most certain) to -1

On ActivityNet, evidence is the positive part of the activations, and L_edl the squared distance of labels from
alpha / S.

Differences from the authors' code, whose behaviour `authors=True` restores:

- Their phi is evaluated at the permutation that sorts the snippets by uncertainty (`argsort`), not at each snippet's
  rank, so that the weights are unrelated to uncertainty. Here it is evaluated at the rank. Certain snippets come first,
  easy to hard, as in the abstract; `curriculum = "uncertain-first"` is the direction in which the code sorts.
- Those of CO2-Net: dropout on attention logits, padding that counts, pairs with more shared classes that count more,
  labels divided by their number plus 1e-4.

Training samples 320 snippets; detection uses 20 thresholds and drops segments of one snippet (preset `delu`).
"""

from collections.abc import Mapping

from torch import Tensor

from wtal.models.head import load_renamed
from wtal.models.layers.consensus import Gate, consensus_names
from wtal.models.layers.evidence import ACTIVITYNET, EvidenceConfig, EvidenceHead
from wtal.models.layers.two_streams import author_form, stream_widths


class Config(EvidenceConfig):
    """Defaults are the public code's for THUMOS14 unless noted."""


class Delu(EvidenceHead):
    """CO2-Net's network, with evidence."""

    config: Config

    def add_enhancement(self, rgb: int, flow: int) -> int:
        """Create both gates; return the width of the joined streams."""
        self.rgb_gate = Gate(rgb, flow, self.config.dropout)
        self.flow_gate = Gate(flow, rgb, self.config.dropout)
        return rgb + flow

    def enhance(self, rgb: Tensor, flow: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Gate rows (N, D) of both streams; mask (B, T)."""
        return self.rgb_gate(rgb, flow, mask), self.flow_gate(flow, rgb, mask), {}


def create(num_classes: int, feature_dims: dict[str, int], config: Config, authors: bool) -> Delu:
    """Create a DELU over rgb and flow.

    Raises:
        UsageError: when the features are not rgb and flow, or do not suit the settings.
    """
    first, second = stream_widths("delu", feature_dims, config.pooling)
    return Delu(num_classes, first, second, config, authors)


def from_authors(
    state_dict: Mapping[str, Tensor], num_classes: int, evidence: str | None = None, pooling: int | None = None
) -> Delu:
    """Load a DELU from the authors' checkpoint; the widths are read off its tensors.

    Their two forms share one layout. `evidence` selects one, relu for ActivityNet, exp for THUMOS14; without it, 100 or
    200 classes, those of ActivityNet's releases, select ActivityNet, any other number THUMOS14. `pooling` defaults to
    the form's.
    """
    form = author_form(state_dict, num_classes, "DELU", "vAttn.attention.0")
    settings = dict(ACTIVITYNET) if evidence == "relu" or (evidence is None and form.activitynet) else {}
    settings |= {} if pooling is None else {"pooling": pooling}
    config = Config(width=form.width, attention_width=form.attention_width, **settings)
    head = Delu(num_classes, form.features, form.features, config, authors=True)
    load_renamed(head, form.tensors, consensus_names(), "DELU")
    return head
