"""W-TALC: Weakly-supervised Temporal Activity Localization and Classification (Paul, Roy, Roy-Chowdhury; ECCV 2018).

One layer embeds snippets, one classifies them. A video's score for a class is the mean of its k = ceil(T / 8) highest
activations (equation 2); the loss is

    L = 0.5 L_mil + 0.5 L_casl

L_mil is the cross entropy of the softmax of these scores (equations 3 and 4), L_casl the co-activity similarity of
pairs of videos that share a class: their features where the class is active are pulled together, away from their
features where it is not (equations 5 to 8, `wtal.models.layers.losses.co_activity`). Three such pairs come first in a
batch.

`cas` are logits (B, T, C), without background; there is no attention. FAC-Net's class-wise foreground branch is an
add-on (ICCV 2021, Table 5).

Detections come from `cas` alone: for classes whose mean of the top T / 8 activations is positive, the snippets above
the midpoint of the smallest and largest activation, scored by their largest activation plus 0.7 of the class's mean
(`localize.class_from = "cas"`, `inner = "max"`).

Differences from the authors' code, whose behaviour `authors=True` restores:

- It divides the sum of L_casl over all pairs and shared classes by their number, so that a pair that shares two classes
  counts twice. Here each pair counts once.
- It pads videos to one length and computes on the padding, so that `cas` is not 0 there; k and the co-activity count
  real snippets only, as here.

A batch in which no pair shares a class has no L_casl; theirs divides by zero. Their state dict has an unused layer
`fc1`, whose shape is checked before it is dropped.
"""

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn

from wtal import config
from wtal.data.batch import SnippetBatch
from wtal.errors import WeightsError
from wtal.models.head import EmbeddingHead, HeadOutput, load_renamed, plain_keys
from wtal.models.layers.foreground import ClasswiseForeground
from wtal.models.layers.losses import co_activity, cross_entropy, labels_of, normalized
from wtal.models.layers.temporal import Dropout, masked_topk_mean, pack, unpack


class Config(config.Config):
    """Defaults are from section 4.1 of the paper and its public code unless noted."""

    width: int = Field(2048, ge=1)
    """Width of the embedding."""
    dropout: float = Field(0.7, ge=0, lt=1)
    """Dropout of the embedding."""
    input_dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout of feature channels, over the whole video; ours, for small collections. The paper has none."""
    top_k_ratio: int = Field(8, ge=1)
    """The top k = ceil(T / ratio) snippets form a class's video score."""
    mil_weight: float = Field(0.5, ge=0)
    """lambda, weight of the multiple-instance term."""
    casl_weight: float = Field(0.5, ge=0)
    """1 - lambda, weight of the co-activity similarity."""
    pairs: int = Field(3, ge=0)
    """Pairs of videos that share a class at the front of a training batch; code: 3 of 5."""
    foreground_weight: float = Field(0.0, ge=0)
    """Weight of FAC-Net's class-wise foreground branch; 0 omits it."""


class WTalc(EmbeddingHead):
    """`cas` (B, T, C) are logits, without background."""

    attends = False

    def __init__(self, num_classes: int, in_features: int, config: Config, authors: bool) -> None:
        super().__init__()
        self.num_classes, self.config, self.embedding, self.authors = num_classes, config, config.width, authors
        self.pairs = config.pairs if config.casl_weight else 0
        self.fc = nn.Linear(in_features, config.width)
        self.classifier = nn.Linear(config.width, num_classes)
        for layer in (self.fc, self.classifier):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.dropout = Dropout(config.dropout)
        self.input_dropout = nn.Dropout1d(config.input_dropout)
        if config.foreground_weight:
            self.foreground = ClasswiseForeground(config.width)

    def embed(self, batch: SnippetBatch) -> Tensor:
        """(B, T, D) -> (B, T, E)."""
        mask, x = self._computed(batch), self.input_dropout(batch.features().transpose(1, 2)).transpose(1, 2)
        return unpack(self.dropout(torch.relu(self.fc(pack(x, mask)))), mask)

    def respond(self, x: Tensor, batch: SnippetBatch) -> HeadOutput:
        """(B, T, E) -> `cas` (B, T, C), `video_scores` (B, C); `extras`: scores (B, C), before softmax, and x."""
        mask = self._computed(batch)
        cas = unpack(self.classifier(pack(x, mask)), mask)
        scores = masked_topk_mean(cas, batch.mask, self.config.top_k_ratio, rounding="up")
        extras = {"scores": scores, "features": x}
        if self.config.foreground_weight:
            extras["foreground"] = self.foreground(x, cas, batch.mask)
        return HeadOutput(cas, None, scores.softmax(dim=-1), extras)

    def loss(self, output: HeadOutput, batch: SnippetBatch) -> dict[str, Tensor]:
        """`mil`, `casl` and, if enabled, `foreground`."""
        settings, labels = self.config, labels_of(batch)
        terms = {}
        if settings.mil_weight:
            terms["mil"] = settings.mil_weight * cross_entropy(output.extras["scores"], normalized(labels))
        if self.pairs:
            similarity = co_activity(output.extras["features"], output.cas, batch, self.pairs, self.authors)
            terms["casl"] = settings.casl_weight * similarity
        if settings.foreground_weight:
            loss = self.foreground.loss(output.extras["foreground"], labels)
            terms["foreground"] = settings.foreground_weight * loss
        return terms

    def _computed(self, batch: SnippetBatch) -> Tensor:
        """(B, T): the snippets on which layers run; with `authors`, padding too."""
        return torch.ones_like(batch.mask) if self.authors else batch.mask


def create(num_classes: int, feature_dims: dict[str, int], config: Config, authors: bool) -> WTalc:
    """Create a W-TALC over the concatenated streams."""
    return WTalc(num_classes, sum(feature_dims.values()), config, authors)


def from_authors(state_dict: Mapping[str, Tensor], num_classes: int) -> WTalc:
    """Load a W-TALC from the authors' checkpoint; the widths are read off its tensors."""
    plain = plain_keys(state_dict, "W-TALC")
    first = plain.get("fc.weight")
    width, in_features = (
        first.shape if first is not None and first.ndim == 2 and first.numel() else (Config().width, 2048)
    )
    unused = {"fc1.weight": (width, width), "fc1.bias": (width,)}
    for key, shape in unused.items() if first is not None else ():
        if key in plain and tuple(plain[key].shape) != shape:
            raise WeightsError(f"not a checkpoint of W-TALC: {key} is {tuple(plain[key].shape)}, wanted {shape}")
    head = WTalc(num_classes, in_features, Config(width=width), authors=True)
    names = {f"{layer}.{kind}": f"{layer}.{kind}" for layer in ("fc", "classifier") for kind in ("weight", "bias")}
    load_renamed(head, {key: value for key, value in plain.items() if key not in unused}, names, "W-TALC")
    return head
