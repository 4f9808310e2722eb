"""BM: weakly-supervised action localization with Background Modeling (Nguyen, Ramanan, Fowlkes; ICCV 2019).

An attention a_t in (0, 1) pools each video twice, by a into its foreground and by 1 - a into its background:

    x_fg = sum_t a_t x_t / (1 + sum_t a_t)            x_bg = sum_t (1 - a_t) x_t / sum_t (1 - a_t)

One classifier over the C classes and background is applied to both, and to every snippet (p_t). The loss has the terms

    cls_fore    cross entropy of x_fg against the video's labels
    cls_back    cross entropy of x_bg against the background class, alpha
    guide       self-guided attention, beta: 1/T sum_t |a_t - G p_t[y]| + |a_t - G (1 - p_t[background])|, where G is
                a Gaussian over time and p_t gets no gradient; with several labels y, the most probable one per snippet
    cluster     x_fg and x_bg are separated by two learned prototypes, gamma

each with its own weight; a term of weight 0 is left out. One model per stream. `cas` (B, T, C + 1), background last,
are the logits of p_t: detections come from attention times softmax of `cas`. Two streams are fused by weighted means of
class probabilities and of attention. `embedding` puts a linear layer, ReLU and dropout in front of the network;
`foreground_weight` adds FAC-Net's class-wise foreground branch (ICCV 2021, Table 5).

The authors published no code: `from_authors` raises, and `authors=True` changes nothing. The paper divides both sums by
the number of snippets, T (`pooling = "snippets"`): then an almost empty background costs little, and a stream's
attention may end up as 1 everywhere, or as 0. The sums above are those of its reuse in DGAM (CVPR 2020), as are the
Gaussian's width and the treatment of several labels. At the ends of a video the Gaussian is truncated and renormalized
(ours).
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from wtal import config
from wtal.data.batch import SnippetBatch
from wtal.errors import WeightsError
from wtal.models.head import EmbeddingHead, Head, HeadOutput
from wtal.models.layers.attention import SnippetAttention, SnippetEmbedding, linear
from wtal.models.layers.foreground import ClasswiseForeground
from wtal.models.layers.late_fusion import fuse_probabilities, one_per_stream
from wtal.models.layers.losses import cross_entropy, labels_of, with_background
from wtal.models.layers.temporal import masked_mean, masked_smooth, pack, unpack

_TINY = 1e-6


class Config(config.Config):
    """Defaults are the paper's unless noted."""

    embedding: int = Field(0, ge=0)
    """Width of an optional layer in front of the network; 0 omits it, as in the paper."""
    dropout: float = Field(0.5, ge=0, lt=1)
    """Dropout after that layer; FAC-Net's."""
    input_dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout of input channels, over the whole video; ours, for small collections. The paper has none."""
    attention_width: int = Field(256, ge=1)
    """Width of the attention's hidden layer."""
    pooling: Literal["attention", "snippets"] = "attention"
    """Divisor of the pooled sums: the sums of their weights, as in DGAM, or the number of snippets."""
    background_weight: float = Field(0.1, ge=0)
    """alpha, weight of the background's classification."""
    guide_weight: float = Field(0.1, ge=0)
    """beta, weight of the self-guided attention."""
    cluster_weight: float = Field(0.1, ge=0)
    """gamma, weight of the foreground and background prototypes."""
    guide_sigma: float = Field(1.0, ge=0)
    """Standard deviation, in snippets, of the Gaussian over the activations that guide the attention; DGAM."""
    rgb_weight: float = Field(0.5, gt=0, lt=1)
    """Weight of rgb when it is fused with flow; ours. DGAM has 0.35."""
    foreground_weight: float = Field(0.0, ge=0)
    """Weight of FAC-Net's class-wise foreground branch; 0 omits it."""


class Bm(EmbeddingHead):
    """The model of one stream; background is the last class."""

    def __init__(self, num_classes: int, in_features: int, config: Config) -> None:
        super().__init__()
        self.num_classes, self.config = num_classes, config
        self.features = SnippetEmbedding(in_features, config.embedding, config.dropout, config.input_dropout)
        self.embedding = self.features.width
        self.attention = SnippetAttention(self.embedding, config.attention_width)
        self.classifier = linear(self.embedding, num_classes + 1)
        self.prototypes = linear(self.embedding, 2, bias=False) if config.cluster_weight else None
        self.foreground = ClasswiseForeground(self.embedding) if config.foreground_weight else None

    def embed(self, batch: SnippetBatch) -> Tensor:
        """(B, T, D) -> (B, T, E); without an embedding, the features themselves."""
        x: Tensor = self.features(batch)
        return x

    def respond(self, x: Tensor, batch: SnippetBatch) -> HeadOutput:
        """(B, T, E) -> `cas` (B, T, C + 1), `attention` (B, T), `video_scores` (B, C).

        `extras`: fg_logits and bg_logits (B, C + 1); if enabled, fg_cluster and bg_cluster (B, 2), logits of the
        foreground and background prototypes; fore_logits (B, C + 1) of the foreground branch.
        """
        mask, rows = batch.mask, pack(x, batch.mask)
        attention = unpack(self.attention(rows), mask)
        cas = unpack(self.classifier(rows).float(), mask)
        pooled = self._pooled(x, attention, mask)
        logits = self.classifier(pooled).float()
        extras = {"fg_logits": logits[:, 0], "bg_logits": logits[:, 1]}
        if self.prototypes is not None:
            near = self.prototypes(pooled).float()
            extras |= {"fg_cluster": near[:, 0], "bg_cluster": near[:, 1]}
        if self.foreground is not None:
            extras["fore_logits"] = self.foreground(x, cas, mask)
        scores = extras["fg_logits"].softmax(dim=-1)[:, : self.num_classes]
        return HeadOutput(cas, attention.squeeze(-1), scores, extras)

    def loss(self, output: HeadOutput, batch: SnippetBatch) -> dict[str, Tensor]:
        """`cls_fore`, `cls_back`, `guide`, `cluster` and `foreground` (the branch), those with a weight."""
        settings, labels, extras = self.config, labels_of(batch), output.extras
        terms = {"cls_fore": cross_entropy(extras["fg_logits"], with_background(labels, 0.0))}
        if settings.background_weight:
            background = with_background(torch.zeros_like(labels), 1.0)
            terms["cls_back"] = settings.background_weight * cross_entropy(extras["bg_logits"], background)
        if settings.guide_weight:
            terms["guide"] = settings.guide_weight * self._guide(output, labels, batch.mask)
        if self.prototypes is not None:
            first, second = (torch.eye(2, device=labels.device)[side].expand(len(labels), 2) for side in (0, 1))
            cluster = cross_entropy(extras["fg_cluster"], first) + cross_entropy(extras["bg_cluster"], second)
            terms["cluster"] = settings.cluster_weight * cluster
        if self.foreground is not None:
            branch = self.foreground.loss(extras["fore_logits"], labels)
            terms["foreground"] = settings.foreground_weight * branch
        return terms

    def _pooled(self, x: Tensor, attention: Tensor, mask: Tensor) -> Tensor:
        """(B, T, E), (B, T, 1), (B, T) -> (B, 2, E): foreground and background."""
        weights = torch.cat([attention, 1.0 - attention], dim=-1).masked_fill(~mask[..., None], 0.0)
        if self.config.pooling == "attention":
            total = weights.sum(dim=1, keepdim=True) + weights.new_tensor([1.0, _TINY])
        else:
            total = mask.sum(dim=1).clamp(min=1)[:, None, None]
        return (weights / total).transpose(1, 2).to(x.dtype) @ x

    def _guide(self, output: HeadOutput, labels: Tensor, mask: Tensor) -> Tensor:
        """Attention (B, T) against the smoothed probabilities of the labels' classes and of all classes."""
        assert output.attention is not None
        shares = output.cas.detach().float().softmax(dim=-1)
        labelled = (shares[..., : self.num_classes] * labels[:, None]).amax(dim=-1)
        guides = torch.stack([labelled, 1.0 - shares[..., -1]], dim=-1)
        distance = (output.attention[..., None] - masked_smooth(guides, mask, self.config.guide_sigma)).abs()
        return masked_mean(distance.sum(dim=-1), mask).mean()


def create(num_classes: int, feature_dims: dict[str, int], config: Config, authors: bool) -> Head:
    """Create one BM per stream, fused; for a single stream, the model alone."""
    weights = {"rgb": config.rgb_weight, "flow": 1.0 - config.rgb_weight}
    parts = {name: Bm(num_classes, dim, config) for name, dim in feature_dims.items()}
    return one_per_stream(parts, partial(fuse_probabilities, weights=weights))


def from_authors(state_dict: Mapping[str, Any], num_classes: int) -> Head:
    """Raise: the authors published no code.

    Raises:
        WeightsError: always.
    """
    raise WeightsError(
        f"bm has no authors' checkpoint to load, its code was never published; got {', '.join(state_dict)[:80]}"
    )
