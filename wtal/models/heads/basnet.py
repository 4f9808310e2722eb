"""BaS-Net: Background Suppression Network (Lee, Uh, Byun; AAAI 2020, arXiv 1911.09963).

A filter gives every snippet a foreground weight a in (0, 1). One shared classifier sees the features twice: unchanged
(base branch: the background class is always present) and multiplied by a (suppression branch: background is never
present). Video scores are the softmax of the mean of the top T // 8 activations (equations 1 to 4); the loss is

    L = L_base + L_supp + alpha * |a|_1                                          (equations 5 to 9)

with binary cross entropy against labels that sum to one, background included.

Differences from the authors' code, whose behaviour `authors=True` restores:

- Their cross entropy is the mean over the C + 1 classes, so that its gradient fades as classes are added (at 200
  classes it is ten times weaker than at the 20 it was tuned on, against the same attention term). Here the sum is
  divided by at most the 21 classes of THUMOS14: the mean up to 21 classes, and no weaker at 200.
- Their |a|_1 is a sum over T = 750 sampled snippets, padding included. Here it is the mean over real snippets times
  750: the same at 750, and independent of a video's length.
- Their k is (padded length) // 8, and padding is computed on; here k counts real snippets, and there is no padding.
"""

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from wtal import config
from wtal.data.batch import SnippetBatch
from wtal.models.head import Head, HeadOutput, load_renamed, plain_keys
from wtal.models.layers.losses import THUMOS_CLASSES, binary_cross_entropy, labels_of, with_background
from wtal.models.layers.temporal import Dropout, TemporalConv, masked_topk_mean, pack, unpack

_THUMOS_SNIPPETS = 750


class Config(config.Config):
    """Defaults are from section 4.2 of the paper and its public code unless noted."""

    filter_width: int = Field(512, ge=1)
    """Channels of the filter's first convolution."""
    width: int = Field(2048, ge=1)
    """Channels of the classifier's convolutions."""
    top_k_ratio: int = Field(8, ge=1)
    """The top k = max(1, T // ratio) snippets form a class's video score."""
    dropout: float = Field(0.7, ge=0, lt=1)
    """Dropout before the last convolution."""
    input_dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout of feature channels, over the whole video; ours, for small collections. The paper has none."""
    attention_weight: float = Field(1e-4, ge=0)
    """alpha, weight of the L1 norm of 750 foreground weights."""


class BasNet(Head):
    """Both branches; `cas` is the suppression branch, from which detections are made."""

    def __init__(self, num_classes: int, in_features: int, config: Config, authors: bool) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.config = config
        self.authors = authors
        self.filter_in = TemporalConv(in_features, config.filter_width)
        self.filter_out = TemporalConv(config.filter_width, 1)
        self.cas_in = TemporalConv(in_features, config.width, 3)
        self.cas_mid = TemporalConv(config.width, config.width, 3)
        self.cas_out = TemporalConv(config.width, num_classes + 1, bias=False)
        self.dropout = Dropout(config.dropout)
        self.input_dropout = nn.Dropout1d(config.input_dropout)

    def forward(self, batch: SnippetBatch) -> HeadOutput:
        """(B, T, D) -> `cas` (B, T, C + 1) and `video_scores` (B, C) of the suppression branch, `attention` (B, T).

        `extras`: cas_base (B, T, C + 1), score_base and score_supp (B, C + 1), background last; weights (B, T), the
        attention, with `authors` on padding too.
        """
        # The authors' code treats padding as snippets.
        mask = torch.ones_like(batch.mask) if self.authors else batch.mask
        x = pack(self.input_dropout(batch.features().transpose(1, 2)).transpose(1, 2), mask)
        foreground = torch.sigmoid(self.filter_out(leaky_relu(self.filter_in(x, mask)), mask))
        weights = unpack(foreground, mask).squeeze(-1)
        base, suppressed = self._embed(x, mask), self._embed(x * foreground, mask)
        cas_base, cas_supp = (unpack(self.cas_out(self.dropout(rows), mask), mask) for rows in (base, suppressed))
        score_base, score_supp = (
            masked_topk_mean(cas, mask, self.config.top_k_ratio).softmax(dim=-1) for cas in (cas_base, cas_supp)
        )
        return HeadOutput(
            cas=cas_supp,
            attention=weights * batch.mask,
            video_scores=score_supp[:, : self.num_classes],
            extras={"cas_base": cas_base, "score_base": score_base, "score_supp": score_supp, "weights": weights},
            embedding=None if self.training else unpack(suppressed, mask),
        )

    def loss(self, output: HeadOutput, batch: SnippetBatch) -> dict[str, Tensor]:
        """`loss_base` (background present), `loss_supp` (background absent), `loss_norm` (few foreground snippets)."""
        norm = output.extras["weights"].sum(dim=1)
        if not self.authors:
            norm = norm / batch.lengths * _THUMOS_SNIPPETS
        return {
            "loss_base": self._cross_entropy(output.extras["score_base"], with_background(labels_of(batch), 1.0)),
            "loss_supp": self._cross_entropy(output.extras["score_supp"], with_background(labels_of(batch), 0.0)),
            "loss_norm": self.config.attention_weight * norm.mean(),
        }

    def _embed(self, x: Tensor, mask: Tensor) -> Tensor:
        """Rows (N, D) -> (N, E)."""
        return leaky_relu(self.cas_mid(leaky_relu(self.cas_in(x, mask)), mask))

    def _cross_entropy(self, scores: Tensor, target: Tensor) -> Tensor:
        return binary_cross_entropy(scores, target, THUMOS_CLASSES + 1, self.authors)


def create(num_classes: int, feature_dims: dict[str, int], config: Config, authors: bool) -> BasNet:
    """Create a BaS-Net over the concatenated streams."""
    return BasNet(num_classes, sum(feature_dims.values()), config, authors)


def from_authors(state_dict: Mapping[str, Tensor], num_classes: int) -> BasNet:
    """Load a BaS-Net from the authors' checkpoint; the widths are read off its tensors."""
    names = {
        f"{author_name}.0.{kind}": f"{own_name}.{kind}"
        for author_name, own_name in (
            ("filter_module.conv_1", "filter_in"),
            ("filter_module.conv_2", "filter_out"),
            ("cas_module.conv_1", "cas_in"),
            ("cas_module.conv_2", "cas_mid"),
        )
        for kind in ("weight", "bias")
    } | {"cas_module.conv_3.0.weight": "cas_out.weight"}
    plain = plain_keys(state_dict, "BaS-Net")
    first, hidden = plain.get("cas_module.conv_1.0.weight"), plain.get("filter_module.conv_1.0.weight")
    shape = first.shape if first is not None and first.ndim == 3 else (Config().width, 2048, 3)
    widths = Config(
        width=shape[0], filter_width=len(hidden) if hidden is not None and hidden.ndim else Config().filter_width
    )
    head = BasNet(num_classes, shape[1], widths, authors=True)
    load_renamed(head, plain, names, "BaS-Net")
    return head
