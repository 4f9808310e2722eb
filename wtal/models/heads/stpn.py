"""STPN: Sparse Temporal Pooling Network (Nguyen, Liu, Prasad, Han; CVPR 2018, arXiv 1712.05080).

Two layers give every snippet an attention a_t in (0, 1). A video is represented by the mean over time of its features
times their attention, not divided by the sum of the attention; one linear layer and a sigmoid per class classify it:

    L = L_cls + beta * |a|_1            sigmoid cross entropy, and few attended snippets (equations 1 to 4)

One model per stream. `cas` (B, T, C), without background, are the activations w_c x_t (the T-CAM, equation 5):
detections come from attention times sigmoid of `cas` (equation 6; `localize.activation = "sigmoid"`,
`signal = "product"`), and their scores from a mix of both streams' T-CAM (equation 7). Two streams are fused by the
mean of these sigmoids, which is then the sigmoid of `cas`; the authors pool the detections of both instead
(`localize.streams = "union"`).

`embedding` puts a linear layer, ReLU and dropout in front of the network ("STPN + embedding" of FAC-Net's Table 5 and
RSKP's Table 6); `foreground_weight` adds FAC-Net's class-wise foreground branch (ICCV 2021, Table 5).

The authors published no code. `from_authors` reads checkpoints of the public reproduction (bellos1203/STPN,
TensorFlow): its variables by name, including its optimizer's. Differences from it, whose behaviour `authors=True`
restores:

- Its cross entropy is the mean over the C classes, so that its gradient fades as classes are added. Here the sum is
  divided by at most the 20 classes of THUMOS14: the mean up to 20 classes, and no weaker at 200.
- Its |a|_1 is a sum over T = 400 sampled snippets. Here it is the mean over real snippets times 400: the same at 400,
  and independent of a video's length.
"""

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from wtal import config
from wtal.data.batch import SnippetBatch
from wtal.models.head import EmbeddingHead, Head, HeadOutput, load_renamed, plain_keys
from wtal.models.layers.attention import SnippetAttention, SnippetEmbedding, linear
from wtal.models.layers.foreground import ClasswiseForeground
from wtal.models.layers.late_fusion import of_streams, one_per_stream, weighted_mean
from wtal.models.layers.losses import THUMOS_CLASSES, labels_of, over_classes
from wtal.models.layers.temporal import masked_mean, pack, unpack

_THUMOS_SNIPPETS = 400
_WHAT = "STPN's public reproduction"
_SLOTS = ("/Adam", "/Adam_1", "beta1_power", "beta2_power")
"""Endings of the names that TensorFlow's optimizer adds to the variables."""


class Config(config.Config):
    """Defaults are from section 4.2 of the paper unless noted."""

    embedding: int = Field(0, ge=0)
    """Width of an optional layer in front of the network; 0 omits it, as in the paper."""
    dropout: float = Field(0.5, ge=0, lt=1)
    """Dropout after that layer; FAC-Net's."""
    input_dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout of input channels, over the whole video; ours, for small collections. The paper has none."""
    attention_width: int = Field(256, ge=1)
    """Width of the attention's hidden layer."""
    sparsity_weight: float = Field(1e-4, ge=0)
    """beta, weight of the L1 norm of 400 attentions."""
    foreground_weight: float = Field(0.0, ge=0)
    """Weight of FAC-Net's class-wise foreground branch; 0 omits it."""


class Stpn(EmbeddingHead):
    """The model of one stream; `cas` (B, T, C) are logits of independent sigmoids, without background."""

    def __init__(self, num_classes: int, in_features: int, config: Config, authors: bool) -> None:
        super().__init__()
        self.num_classes, self.config, self.authors = num_classes, config, authors
        self.features = SnippetEmbedding(in_features, config.embedding, config.dropout, config.input_dropout)
        self.embedding = self.features.width
        self.attention = SnippetAttention(self.embedding, config.attention_width)
        self.classifier = linear(self.embedding, num_classes)
        self.foreground = ClasswiseForeground(self.embedding) if config.foreground_weight else None

    def embed(self, batch: SnippetBatch) -> Tensor:
        """(B, T, D) -> (B, T, E); without an embedding, the features themselves."""
        x: Tensor = self.features(batch)
        return x

    def respond(self, x: Tensor, batch: SnippetBatch) -> HeadOutput:
        """(B, T, E) -> `cas` (B, T, C), `attention` (B, T), `video_scores` (B, C).

        `extras`: logits (B, C) of the videos; if enabled, fore_logits (B, C) of the foreground branch.
        """
        mask, rows = batch.mask, pack(x, batch.mask)
        attention = unpack(self.attention(rows), mask)
        cas = unpack(nn.functional.linear(rows, self.classifier.weight).float(), mask)
        # The classifier is linear: classifying the mean of features is the mean of classified features.
        logits = masked_mean(attention * cas, mask) + self.classifier.bias
        extras = {"logits": logits}
        if self.foreground is not None:
            extras["fore_logits"] = self.foreground(x, cas, mask)
        return HeadOutput(cas, attention.squeeze(-1), logits.sigmoid(), extras)

    def loss(self, output: HeadOutput, batch: SnippetBatch) -> dict[str, Tensor]:
        """`cls` (labels), `sparsity` (few attended snippets) and `foreground` (the branch), those with a weight."""
        assert output.attention is not None
        settings, labels = self.config, labels_of(batch)
        entropy = binary_cross_entropy_with_logits(output.extras["logits"].float(), labels.float(), reduction="none")
        terms = {"cls": entropy.mean() if self.authors else over_classes(entropy, THUMOS_CLASSES)}
        if settings.sparsity_weight:
            norm = output.attention.sum(dim=1)
            if not self.authors:
                norm = norm / batch.lengths * _THUMOS_SNIPPETS
            terms["sparsity"] = settings.sparsity_weight * norm.mean()
        if self.foreground is not None:
            branch = self.foreground.loss(output.extras["fore_logits"], labels)
            terms["foreground"] = settings.foreground_weight * branch
        return terms


def fuse(outputs: Mapping[str, HeadOutput]) -> HeadOutput:
    """Fuse outputs of streams: means of sigmoid of `cas`, of attention and of video scores; `cas` are logits again."""
    cas = torch.stack([output.cas.float() for output in outputs.values()])
    present, absent = (logsigmoid(sign * cas).logsumexp(dim=0) for sign in (1.0, -1.0))
    attention = {name: output.attention for name, output in outputs.items() if output.attention is not None}
    return HeadOutput(
        cas=present - absent,
        attention=weighted_mean(attention, {}),
        video_scores=weighted_mean({name: output.video_scores for name, output in outputs.items()}, {}),
    )


def create(num_classes: int, feature_dims: dict[str, int], config: Config, authors: bool) -> Head:
    """Create one STPN per stream, fused; for a single stream, the model alone."""
    return one_per_stream({name: Stpn(num_classes, dim, config, authors) for name, dim in feature_dims.items()}, fuse)


def from_authors(state_dict: Mapping[str, Any], num_classes: int) -> Head:
    """Load variables of the public reproduction, of one stream or stream -> variables; widths are read off them."""
    return of_streams(state_dict, lambda state: _from_authors(state, num_classes), fuse)


def _from_authors(state_dict: Mapping[str, Any], num_classes: int) -> Stpn:
    names = {
        f"{authors}/{'kernel' if kind == 'weight' else 'bias'}": f"{ours}.{kind}"
        for authors, ours in (
            ("Attention/dense", "attention.first"),
            ("Attention/dense_1", "attention.second"),
            ("Classification/class_weight", "classifier"),
        )
        for kind in ("weight", "bias")
    }
    variables = {key: value for key, value in state_dict.items() if not str(key).removesuffix(":0").endswith(_SLOTS)}
    plain = plain_keys(variables, _WHAT, ":0")
    # TensorFlow's matrices are (in, out).
    plain = {key: value.t() if key.endswith("/kernel") and value.ndim == 2 else value for key, value in plain.items()}
    hidden = plain.get("Attention/dense/kernel")
    width, features = hidden.shape if hidden is not None and hidden.ndim == 2 and hidden.numel() else (256, 1024)
    head = Stpn(num_classes, features, Config(attention_width=width), authors=True)
    load_renamed(head, plain, names, _WHAT)
    return head
