"""LGBM-Net: Local-Global Background Modeling Network (Wang et al.; HACS challenge 2021, weakly-supervised track).

BaS-Net with a view of the whole video in addition to that of neighbouring snippets. In the attention module (section
3.1) a convolution and an LSTM run in parallel and are merged by two convolutions and a sigmoid into foreground weights
a. In the sub-net (section 3.2), which both branches share, a convolution and an LSTM run in parallel again and give the
class activations: of the features (base branch: the background's label is always 1) and of the features times a
(suppressed branch: always 0). Video scores are the softmax of the mean of the top activations; detections come from the
suppressed branch alone. The highest class activation supervises a. The loss is BaS-Net's plus that term:

    L = L_base + L_supp + alpha * |a|_1 + beta * (a - max_c p_c)^2

The report states no widths, weights, rates or thresholds, and there is no public code. The choices made here, noted at
each default:

- p is the softmax of the suppressed branch's activations over classes and background, without gradient: a follows the
  classes, not the reverse. (The base branch, whose background is always present, hardly localizes.) The distance is the
  mean over real snippets.
- The LSTM is bidirectional; convolution and LSTM are concatenated, then merged. The sub-net merges by one convolution
  over three snippets before the last layer, which is BaS-Net's.
- The global operation is multiplied by a learned number that starts at 0.1. Starting at 1, it gives every snippet the
  video's class before the convolution has learned to localize it, and the activations stay flat.
- Cross entropy, k and |a|_1 are those of this package's BaS-Net with its corrections. `authors=True` changes nothing.
"""

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from wtal import config
from wtal.data.batch import SnippetBatch
from wtal.errors import WeightsError
from wtal.models.head import Head, HeadOutput
from wtal.models.layers.context import GlobalOperation, LocalGlobal
from wtal.models.layers.losses import THUMOS_CLASSES, binary_cross_entropy, labels_of, with_background
from wtal.models.layers.temporal import Dropout, TemporalConv, masked_mean, masked_topk_mean, pack, unpack

_THUMOS_SNIPPETS = 750


class Config(config.Config):
    """Defaults are ours unless a source is named: the report states no values."""

    global_operation: GlobalOperation = "lstm"
    """Operation over the whole video, in both modules: an LSTM, self-attention, the mean (the last two were tried for
    the report's ensemble, section 3.2), or none, which leaves the convolution."""
    global_gain: float = Field(0.1, gt=0)
    """Initial value of the learned factor of its output."""
    attention_width: int = Field(512, ge=2, multiple_of=2)
    """Channels of each operation in the attention module, half of them per direction; 512 as in BaS-Net's filter."""
    width: int = Field(2048, ge=2, multiple_of=2)
    """Channels of each operation in the sub-net, half of them per direction; 2048 as in BaS-Net."""
    top_k_ratio: int = Field(8, ge=1)
    """The top k = max(1, T // ratio) snippets form a class's video score; BaS-Net's."""
    dropout: float = Field(0.7, ge=0, lt=1)
    """Dropout before the last convolution; BaS-Net's."""
    input_dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout of feature channels, over the whole video; for small collections."""
    attention_weight: float = Field(1e-4, ge=0)
    """alpha, weight of the L1 norm of 750 foreground weights; BaS-Net's."""
    guide_weight: float = Field(0.1, ge=0)
    """beta, weight of the supervision of the foreground weights by the highest class activation."""


class LgbmNet(Head):
    """Both branches; `cas` is the suppressed branch, from which detections are made."""

    def __init__(self, num_classes: int, in_features: int, config: Config) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.config = config
        operation, gain = config.global_operation, config.global_gain
        self.attention_in = LocalGlobal(in_features, config.attention_width, operation, gain)
        self.attention_mid = TemporalConv(self.attention_in.width, config.attention_width)
        self.attention_out = TemporalConv(config.attention_width, 1)
        self.cas_in = LocalGlobal(in_features, config.width, operation, gain)
        self.cas_mid = TemporalConv(self.cas_in.width, config.width, 3)
        self.cas_out = TemporalConv(config.width, num_classes + 1, bias=False)
        self.dropout = Dropout(config.dropout)
        self.input_dropout = nn.Dropout1d(config.input_dropout) if config.input_dropout else nn.Identity()

    def forward(self, batch: SnippetBatch) -> HeadOutput:
        """(B, T, D) -> `cas` (B, T, C + 1) and `video_scores` (B, C) of the suppressed branch, `attention` (B, T).

        `extras`: cas_base (B, T, C + 1), score_base and score_supp (B, C + 1), background last.
        """
        mask = batch.mask
        x = pack(self.input_dropout(batch.features().transpose(1, 2)).transpose(1, 2), mask)
        foreground = self._foreground(x, mask)
        # One pass for both branches, which see the same features under different weights.
        both = torch.cat([mask, mask])
        weights = torch.stack([torch.ones_like(foreground), foreground]).squeeze(-1)
        rows = leaky_relu(self.cas_mid(self.cas_in.of_scaled(x, weights, mask), both))
        cas = unpack(self.cas_out(self.dropout(rows), both), both)
        scores = masked_topk_mean(cas, both, self.config.top_k_ratio).softmax(dim=-1)
        (cas_base, cas_supp), (score_base, score_supp) = cas.chunk(2), scores.chunk(2)
        return HeadOutput(
            cas=cas_supp,
            attention=unpack(foreground, mask).squeeze(-1),
            video_scores=score_supp[:, : self.num_classes],
            extras={"cas_base": cas_base, "score_base": score_base, "score_supp": score_supp},
            embedding=None if self.training else unpack(rows.chunk(2)[1], mask),
        )

    def loss(self, output: HeadOutput, batch: SnippetBatch) -> dict[str, Tensor]:
        """`loss_base` (background present), `loss_supp` (background absent), `loss_norm` (few foreground snippets).

        Also `loss_guide`: foreground weights follow the highest class activation.
        """
        assert output.attention is not None
        present, absent = (with_background(labels_of(batch), background) for background in (1.0, 0.0))
        terms = {
            "loss_base": binary_cross_entropy(output.extras["score_base"], present, THUMOS_CLASSES + 1),
            "loss_supp": binary_cross_entropy(output.extras["score_supp"], absent, THUMOS_CLASSES + 1),
        }
        if self.config.attention_weight:
            few = masked_mean(output.attention, batch.mask).mean()
            terms["loss_norm"] = self.config.attention_weight * _THUMOS_SNIPPETS * few
        if self.config.guide_weight:
            highest = output.cas.detach().softmax(dim=-1)[..., : self.num_classes].amax(dim=-1)
            distance = masked_mean((output.attention - highest) ** 2, batch.mask).mean()
            terms["loss_guide"] = self.config.guide_weight * distance
        return terms

    def _foreground(self, x: Tensor, mask: Tensor) -> Tensor:
        """Rows (N, D) -> (N, 1) in (0, 1)."""
        merged = leaky_relu(self.attention_mid(self.attention_in(x, mask), mask))
        return torch.sigmoid(self.attention_out(merged, mask))


def create(num_classes: int, feature_dims: dict[str, int], config: Config, authors: bool) -> LgbmNet:
    """Create an LGBM-Net over the concatenated streams."""
    return LgbmNet(num_classes, sum(feature_dims.values()), config)


def from_authors(state_dict: Mapping[str, Tensor], num_classes: int) -> LgbmNet:
    """Raise: LGBM-Net's authors published neither code nor weights.

    Raises:
        WeightsError: always.
    """
    raise WeightsError(
        "lgbm has no authors' checkpoint to load, its code was never published; "
        f"got the keys {', '.join(list(state_dict)[:3]) or '(none)'}"
    )
