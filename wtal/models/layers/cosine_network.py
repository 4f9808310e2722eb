"""RSKP's own network: two of FAC-Net's classification heads on cosine similarities (RSKP, CVPR 2022, supplement).

Snippets are embedded by one layer. Their similarity to each class centre gives class activations, that to the
foreground centre the attention. The class-agnostic attention head (CA) classifies the mean of the attended snippets,
the multiple-instance head (MIL) the mean of the snippets that resemble each class.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, relu

from wtal import config
from wtal.data.batch import SnippetBatch
from wtal.models.head import EmbeddingHead, HeadOutput
from wtal.models.layers.losses import cross_entropy, labels_of, with_background
from wtal.models.layers.similarity import cosine
from wtal.models.layers.temporal import Dropout, masked_softmax, masked_topk_mean, pack, unpack


class NetworkConfig(config.Config):
    """Defaults are those of the authors' code for THUMOS14, and of the paper where no other source is named."""

    width: int = Field(2048, ge=1)
    """Width of the embedding."""
    dropout: float = Field(0.6, ge=0, lt=1)
    """Dropout of the embedding; code."""
    scale: float = Field(20.0, gt=0)
    """Scale of all cosine similarities that become scores; code. The authors give 10 for ActivityNet."""
    mil: Literal["features", "scores"] = "features"
    """Aggregation in the multiple-instance head: of features with sigmoid attention (code), or of class scores with
    softmax attention over time (supplement, section 1)."""
    top_k_ratio: int = Field(8, ge=1)
    """The attention term uses the T // ratio highest and lowest foreground scores; code."""
    mil_weight: float = Field(0.2, ge=0)
    """gamma, weight of the multiple-instance head; supplement, section 1."""
    attention_weight: float = Field(0.1, ge=0)
    """beta, weight of the attention normalization term."""


class CosineNetwork(EmbeddingHead):
    """RSKP's own network: embedding, class-agnostic attention head and multiple-instance head on cosines."""

    def __init__(self, num_classes: int, in_features: int, config: NetworkConfig) -> None:
        super().__init__()
        self.num_classes, self.config = num_classes, config
        self.embedding = config.width
        self.linear = nn.Linear(in_features, config.width)
        self.dropout = Dropout(config.dropout)
        self.actions = nn.Parameter(torch.empty(num_classes + 1, config.width))
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        nn.init.xavier_uniform_(self.actions)
        self.foreground = nn.Parameter(-self.actions.detach()[-1:].clone())

    def embed(self, batch: SnippetBatch) -> Tensor:
        """(B, T, D) -> (B, T, E)."""
        rows = self.linear(pack(batch.features(), batch.mask))
        return unpack(self.dropout(relu(rows)), batch.mask)

    def respond(self, x: Tensor, batch: SnippetBatch) -> HeadOutput:
        """(B, T, E) -> `cas` (B, T, C + 1), `attention` (B, T); `extras`: ca and cw, (B, C + 1) probabilities."""
        scale, mask = self.config.scale, batch.mask
        logits = scale * cosine(x, torch.cat([self.actions, self.foreground]))
        cas, attention = logits[..., :-1], logits.sigmoid() * mask[..., None]
        of_features = self.config.mil == "features"
        # One product with the snippets: the features of each class, if needed, and of the foreground last.
        pooled = _over_time(attention if of_features else attention[..., -1:]) @ x
        ca = (scale * cosine(pooled[:, -1:], self.actions)).squeeze(1).softmax(dim=-1)
        if of_features:
            cw = scale * cosine_similarity(pooled[:, :-1], self.actions, dim=-1)
        else:
            cw = (masked_softmax(cas, mask) * cas).sum(dim=1)
        extras = {"ca": ca, "cw": cw.softmax(dim=-1)}
        return HeadOutput(cas, attention[..., -1], ca[:, : self.num_classes], extras)

    def loss(self, output: HeadOutput, batch: SnippetBatch) -> dict[str, Tensor]:
        """`cls_fore`, `cls_back` and `att`, those with a weight."""
        assert output.attention is not None
        labels, ratio, scores = labels_of(batch), self.config.top_k_ratio, output.attention[..., None]
        terms = {"cls_fore": _likelihood(output.extras["ca"], with_background(labels, 0.0))}
        if self.config.mil_weight:
            back = _likelihood(output.extras["cw"], with_background(labels, 1.0))
            terms["cls_back"] = self.config.mil_weight * back
        if self.config.attention_weight:
            low = masked_topk_mean(scores, batch.mask, ratio, lowest=True)
            contrast = low - masked_topk_mean(scores, batch.mask, ratio)
            terms["att"] = self.config.attention_weight * contrast.mean()
        return terms


def _over_time(attention: Tensor) -> Tensor:
    """(B, T, C) -> (B, C, T): weights of a mean over snippets."""
    return (attention / (attention.sum(dim=1, keepdim=True) + 1e-5)).transpose(1, 2)


def _likelihood(probabilities: Tensor, target: Tensor) -> Tensor:
    """(B, C), (B, C) -> scalar: -sum of target * log probability, averaged over videos."""
    return cross_entropy(probabilities.float().clamp(min=1e-30).log(), target)
