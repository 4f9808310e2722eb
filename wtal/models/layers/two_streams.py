"""The network and loss shared by CO2-Net, DELU and DDG-Net, which differ in the enhancement of the two streams.

Enhanced features of each stream give an attention; both are fused and classified snippet by snippet. The equations and
the effect of `authors` are in `wtal.models.heads.co2net`.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from wtal import config
from wtal.data.batch import SnippetBatch, stream_order
from wtal.errors import UsageError, WeightsError
from wtal.models.head import Head, HeadOutput, plain_keys
from wtal.models.layers.losses import co_activity, cross_entropy, labels_of, with_background
from wtal.models.layers.temporal import Dropout, TemporalConv, masked_mean, masked_topk_mean, pack, unpack

SLOPE = 0.2
"""Negative slope of every leaky rectifier."""
_ACTIVITYNET = (100, 200)
"""Numbers of classes of ActivityNet 1.2 and 1.3."""
_ATTENTION_LAYERS = {0: "first", 3: "second", 5: "third"}


class TwoStreamConfig(config.Config):
    """Defaults are the public code's for THUMOS14 unless noted."""

    attention_width: int = Field(512, ge=1)
    """Channels of the attention's two hidden layers."""
    width: int = Field(2048, ge=1)
    """Channels of the fused features and of the classifier."""
    dropout: float = Field(0.5, ge=0, lt=1)
    """Dropout in the gates and the attention."""
    fusion_dropout: float = Field(0.7, ge=0, lt=1)
    """Dropout of the fused features and in the classifier."""
    input_dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout of feature channels, over the whole video; ours, for small collections. The paper has none."""
    pooling: int = Field(1, ge=1)
    """Number of snippets, odd, over which activations and attentions are averaged; 1: none. ActivityNet: 13."""
    top_k_ratio: int = Field(7, ge=1)
    """The top k = max(1, T // ratio) snippets form a class's score in the loss. ActivityNet: 5."""
    score_ratio: int = Field(10, ge=1)
    """The top max(1, T // ratio) snippets form a class's video score at inference."""
    pairs: int = Field(3, ge=0)
    """Pairs of videos that share a class at the front of a training batch."""
    supp_weight: float = Field(1.0, ge=0)
    """Weight of the suppressed multiple-instance term."""
    contrastive_weight: float = Field(1.0, ge=0)
    """alpha_3, weight of the co-activity of pairs (the paper's L_cas)."""
    mutual_weight: float = Field(1.0, ge=0)
    """alpha_4, weight of mutual learning (L_ml)."""
    norm_weight: float = Field(0.8, ge=0)
    """alpha_1, weight of the mean attention."""
    guide_weight: float = Field(0.8, ge=0)
    """alpha_2, weight of the attention against the background (L_oppo)."""


class StreamAttention(nn.Module):
    """Attention of a stream: three convolutions and a sigmoid."""

    def __init__(self, in_features: int, config: TwoStreamConfig, authors: bool) -> None:
        super().__init__()
        width = config.attention_width
        self.first = TemporalConv(in_features, width, 3)
        self.second = TemporalConv(width, width, 3)
        self.third = TemporalConv(width, 1)
        self.dropout = Dropout(config.dropout)
        self.authors = authors

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Rows (N, D) -> (B, T), 0 where padded."""
        x = self.dropout(leaky_relu(self.first(x, mask), SLOPE))
        x = leaky_relu(self.second(x, mask), SLOPE)
        logits = self.dropout(self.third(x, mask)) if self.authors else self.third(self.dropout(x), mask)
        return unpack(torch.sigmoid(logits), mask)[..., 0]


class TwoStreamHead(Head):
    """Base of the two-stream heads: `cas` (B, T, C + 1) are logits, `attention` is the mean of both streams'."""

    config: TwoStreamConfig

    def __init__(self, num_classes: int, rgb: int, flow: int, config: TwoStreamConfig, authors: bool) -> None:
        super().__init__()
        self.num_classes, self.config, self.authors = num_classes, config, authors
        self.pairs = config.pairs if config.contrastive_weight else 0
        width = self.add_enhancement(rgb, flow)
        self.rgb_attention, self.flow_attention = (
            StreamAttention(rgb, config, authors),
            StreamAttention(flow, config, authors),
        )
        self.fusion = TemporalConv(width, config.width)
        self.hidden = TemporalConv(config.width, config.width, 3)
        self.classifier = TemporalConv(config.width, num_classes + 1)
        self.dropout = Dropout(config.fusion_dropout)
        self.input_dropout = nn.Dropout1d(config.input_dropout)
        for layer in self.modules():
            if isinstance(layer, TemporalConv):
                nn.init.kaiming_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def add_enhancement(self, rgb: int, flow: int) -> int:
        """Create the layers of `enhance` for streams of these widths; return the width of the joined streams."""
        return rgb + flow

    def enhance(self, rgb: Tensor, flow: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Enhance rows (N, D) of both streams, mask (B, T); also return extras of the output."""
        raise NotImplementedError

    def join(self, rgb: Tensor, flow: Tensor) -> Tensor:
        """Concatenate the enhanced rows (N, D) of both streams as (N, D')."""
        return torch.cat([rgb, flow], dim=-1)

    def forward(self, batch: SnippetBatch) -> HeadOutput:
        """(B, T, D) of two streams -> `cas` (B, T, C + 1), `attention` (B, T), `video_scores` (B, C).

        `extras`: rgb_attention and flow_attention (B, T); cas_supp (B, T, C + 1); features (B, T, E).
        """
        mask = self.seen(batch)
        # Rows are the N real snippets of all videos, one after another.
        rgb, flow = (self._rows(batch.streams[name], mask) for name in stream_order(batch.streams))  # (N, D) each
        rgb, flow, extras = self.enhance(rgb, flow, mask)  # (N, D) each
        attentions = [
            self._pool(attention[..., None], mask)[..., 0]
            for attention in (self.rgb_attention(rgb, mask), self.flow_attention(flow, mask))
        ]  # (B, T) each
        attention = sum(attentions[1:], attentions[0]) / 2  # (B, T)
        features = self.dropout(leaky_relu(self.fusion(self.join(rgb, flow), mask), SLOPE))  # (N, E)
        hidden = self.dropout(leaky_relu(self.hidden(self.dropout(features), mask), SLOPE))  # (N, E)
        cas = self._pool(unpack(self.classifier(hidden, mask), mask), mask)  # (B, T, C + 1)
        lowest = cas.amin(dim=-1, keepdim=True)  # (B, T, 1)
        scores = masked_topk_mean(cas * attention[..., None], mask, self.config.score_ratio).softmax(
            dim=-1
        )  # (B, C + 1)
        return HeadOutput(
            cas=cas,
            attention=attention * batch.mask,
            video_scores=scores[:, : self.num_classes],
            extras={
                "rgb_attention": attentions[0],
                "flow_attention": attentions[1],
                "cas_supp": attention[..., None] * (cas - lowest) + lowest,
                "features": unpack(features, mask),
                **extras,
            },
            embedding=None if self.training else unpack(hidden, mask),
        )

    def loss(self, output: HeadOutput, batch: SnippetBatch) -> dict[str, Tensor]:
        """`mil_orig`, plus `mil_supp`, `contrastive`, `mutual`, `norm` and `guide`, those with a weight."""
        settings, extras = self.config, output.extras
        mask, three = self.seen(batch), _three_attentions(output)
        _, rgb, flow = three
        terms = {"mil_orig": self._mil(output.cas, mask, batch, 1.0)}
        if settings.supp_weight:
            terms["mil_supp"] = settings.supp_weight * self._mil(extras["cas_supp"], mask, batch, 0.0)
        if self.pairs:
            counted = replace(batch, mask=mask)
            similarity = co_activity(extras["features"], extras["cas_supp"], counted, self.pairs, self.authors)
            terms["contrastive"] = settings.contrastive_weight * similarity
        if settings.mutual_weight:
            distance = 0.5 * (rgb - flow.detach()) ** 2 + 0.5 * (flow - rgb.detach()) ** 2
            terms["mutual"] = settings.mutual_weight * masked_mean(distance, mask).mean()
        if settings.norm_weight:
            terms["norm"] = settings.norm_weight * masked_mean(sum(three[1:], three[0]) / 3, mask).mean()
        if settings.guide_weight:
            terms["guide"] = settings.guide_weight * masked_mean(disagreement(output), mask).mean()
        return terms

    def seen(self, batch: SnippetBatch) -> Tensor:
        """(B, T): the snippets in the computation; the authors' code treats padding as snippets."""
        return torch.ones_like(batch.mask) if self.authors else batch.mask

    def _rows(self, x: Tensor, mask: Tensor) -> Tensor:
        return pack(self.input_dropout(x.transpose(1, 2)).transpose(1, 2), mask)

    def _pool(self, values: Tensor, mask: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C): means over `pooling` snippets around each."""
        size = self.config.pooling
        if size == 1:
            return values
        pooled = _windows(values, size)
        if self.authors:
            return pooled
        return pooled / _windows(mask[..., None].to(values.dtype), size).clamp(min=0.5 / size) * mask[..., None]

    def _mil(self, cas: Tensor, mask: Tensor, batch: SnippetBatch, background: float) -> Tensor:
        scores, target = (
            masked_topk_mean(cas, mask, self.config.top_k_ratio),
            with_background(labels_of(batch), background),
        )
        if self.authors:
            total = labels_of(batch).sum(dim=1, keepdim=True) + background
            target = target * total / (total + 1e-4)
        return cross_entropy(scores, target)


def disagreement(output: HeadOutput) -> Tensor:
    """(B, T): |1 - a - b|, averaged over a = each stream's attention and their mean; b: the background's share."""
    background = output.cas.softmax(dim=-1)[..., -1]
    return torch.stack([(1 - attention - background).abs() for attention in _three_attentions(output)]).mean(dim=0)


def stream_widths(name: str, feature_dims: Mapping[str, int], pooling: int) -> tuple[int, int]:
    """Return the widths of rgb and flow from stream -> D, for the head `name`.

    Raises:
        UsageError: when there are not two streams, or the pooling is even.
    """
    if len(feature_dims) != 2:
        raise UsageError(
            f"{name} needs two streams, the features have {', '.join(feature_dims) or 'none'}; "
            "extract rgb and flow, or use another head"
        )
    if pooling % 2 == 0:
        raise UsageError(f"head.pooling must be odd, got {pooling}")
    first, second = (feature_dims[name] for name in stream_order(feature_dims))
    return first, second


class AuthorForm(NamedTuple):
    """An authors' checkpoint: its tensors without the unused ones, and their widths."""

    tensors: dict[str, Tensor]
    features: int
    """Width of a stream's features."""
    width: int
    attention_width: int
    activitynet: bool
    """True if the number of classes is that of a release of ActivityNet, whose form has the same layout as
    THUMOS14's."""


def author_form(state_dict: Mapping[str, Tensor], num_classes: int, what: str, attention: str) -> AuthorForm:
    """Determine the form of a checkpoint whose first attention layer is named `attention`.

    Raises:
        WeightsError: when the unused layer `feat_encoder` has an unexpected shape.
    """
    plain = plain_keys(state_dict, what)
    fusion, hidden = plain.get("fusion.0.weight"), plain.get(f"{attention}.weight")
    width = fusion.shape[0] if fusion is not None and fusion.ndim == 3 else TwoStreamConfig().width
    unused = {"feat_encoder.0.weight": (width, width, 3), "feat_encoder.0.bias": (width,)}
    for key, shape in unused.items() if fusion is not None else ():
        if key in plain and tuple(plain[key].shape) != shape:
            raise WeightsError(f"not a checkpoint of {what}: {key} is {tuple(plain[key].shape)}, wanted {shape}")
    narrow, features = hidden.shape[:2] if hidden is not None and hidden.ndim == 3 else (512, width // 2)
    tensors = {key: tensor for key, tensor in plain.items() if key not in unused}
    return AuthorForm(tensors, features, width, narrow, num_classes in _ACTIVITYNET)


def author_names(layers: Mapping[str, str], attentions: Mapping[str, str]) -> dict[str, str]:
    """Map the authors' keys to ours, from a map of layers and one of attentions; adds those of the shared network."""
    every = {"fusion.0": "fusion", "classifier.1": "hidden", "classifier.4": "classifier", **layers}
    for author_name, name in attentions.items():
        every |= {f"{author_name}.{index}": f"{name}.{layer}" for index, layer in _ATTENTION_LAYERS.items()}
    return {f"{key}.{kind}": f"{name}.{kind}" for key, name in every.items() for kind in ("weight", "bias")}


def _three_attentions(output: HeadOutput) -> list[Tensor]:
    """(B, T) each: the mean of both streams' attentions, rgb's and flow's."""
    rgb, flow = output.extras["rgb_attention"], output.extras["flow_attention"]
    return [(rgb + flow) / 2, rgb, flow]


def _windows(values: Tensor, size: int) -> Tensor:
    """(B, T, C) -> (B, T, C): sums over `size` snippets around each, zero beyond the ends, divided by `size`."""
    pooled = nn.functional.avg_pool1d(values.transpose(1, 2), size, stride=1, padding=size // 2)
    return pooled.transpose(1, 2)
