"""FAC-Net: Foreground-Action Consistency Network (Huang, Wang, Li; ICCV 2021, arXiv 2108.06524).

Snippets are embedded by two layers. Class centres W_a and one foreground centre W_f score them by cosine similarity,
S_a = delta cos(x, W_a) and S_f = delta cos(x, W_f), and three branches connect the two:

    CW   class-wise foreground: features that each class attends to (softmax over time of S_a) against W_f
    CA   class-agnostic attention: features that the foreground attends to (softmax over time of S_f) against W_a
    MIL  multiple-instance learning: scores S_a, averaged by their own attention

each at several temperatures of the attention and averaged (hybrid attention, section 3.6), then softmax over classes.

    L = L_cw + 0.1 L_ca + 0.1 L_mil       cross entropy; background is absent in CW and CA, present in MIL

One model per stream. `cas` are the logits S_a; two streams are fused by the mean of their class probabilities, which is
then the softmax of `cas`. There is no attention (B, T): detections come from the softmax of `cas` over classes. The
authors fuse detections instead, those of flow ahead of those of rgb: that is `localize.streams = "union"` with a weight
of 0.1 for rgb.

Where code and paper differ, the defaults are the code's, which produced the published numbers: the embedding's layers
see one snippet (convolutions over time in the paper), dropout follows each ReLU, the foreground centre starts as the
negative of the background's, and video scores are scaled by 10 instead of delta (`video_scale = 5` is the paper's).

Difference from the authors' code: gradients are averaged over the videos of a batch instead of summed, which makes no
difference to Adam; the recipes divide their weight decay by the number of videos. `authors=True` changes nothing else.
"""

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from wtal import config
from wtal.data.batch import SnippetBatch
from wtal.models.head import EmbeddingHead, Head, HeadOutput, load_renamed, plain_keys
from wtal.models.layers.foreground import TEMPERATURES, attended
from wtal.models.layers.late_fusion import fuse_probabilities, of_streams, one_per_stream
from wtal.models.layers.losses import cross_entropy, labels_of, normalized, with_background
from wtal.models.layers.similarity import cosine
from wtal.models.layers.temporal import Dropout, masked_softmax, pack, unpack


class Config(config.Config):
    """Defaults are from section 4.2 of the paper and its public code unless noted."""

    width: int = Field(1024, ge=1)
    """Width of both embedding layers."""
    dropout: float = Field(0.5, ge=0, lt=1)
    """Dropout after each of them."""
    delta: float = Field(5.0, gt=0)
    """Scale of the cosine similarities of snippets."""
    video_scale: float = Field(10.0, gt=0)
    """Scale of the cosine similarities of videos; code. The paper uses delta for both."""
    temperatures: tuple[float, ...] = Field(TEMPERATURES, min_length=1)
    """Temperatures of the hybrid attention (Table 4); a single one is plain attention (Table 3)."""
    background: bool = True
    """Make background a class (Table 3)."""
    cw_weight: float = Field(1.0, ge=0)
    """Weight of the class-wise foreground branch; 0 omits it (Table 3, Figure 4)."""
    ca_weight: float = Field(0.1, ge=0)
    """Weight of the class-agnostic attention branch; 0 omits it."""
    mil_weight: float = Field(0.1, ge=0)
    """Weight of the multiple-instance learning branch; 0 omits it."""


class FacNet(EmbeddingHead):
    """The model of one stream. Video scores are those of CA, or of CW or MIL if it is missing."""

    attends = False

    def __init__(self, num_classes: int, in_features: int, config: Config) -> None:
        super().__init__()
        self.num_classes, self.config, self.embedding = num_classes, config, config.width
        self.first = nn.Linear(in_features, config.width)
        self.dropout = Dropout(config.dropout)
        self.second = nn.Linear(config.width, config.width)
        self.actions = nn.Parameter(torch.empty(num_classes + config.background, config.width))
        for weight in (self.first.weight, self.second.weight, self.actions):
            nn.init.xavier_uniform_(weight)
        nn.init.zeros_(self.first.bias)
        nn.init.zeros_(self.second.bias)
        if config.cw_weight or config.ca_weight:
            opposite = -self.actions.detach()[-1:].clone()
            self.foreground = nn.Parameter(
                opposite if config.background else nn.init.xavier_uniform_(torch.empty_like(opposite))
            )

    def embed(self, batch: SnippetBatch) -> Tensor:
        """(B, T, D) -> (B, T, E), non-negative."""
        rows = torch.relu(self.first(pack(batch.features(), batch.mask)))
        return unpack(self.dropout(torch.relu(self.second(self.dropout(rows)))), batch.mask)

    def respond(self, x: Tensor, batch: SnippetBatch) -> HeadOutput:
        """(B, T, E) -> `cas` (B, T, C + 1), or (B, T, C) without a background class; `video_scores` (B, C).

        `extras`: cw_logits, ca_logits, mil_logits and their softmax cw_pred, ca_pred, mil_pred, (B, C + 1) each, for
        the enabled branches.
        """
        settings, mask = self.config, batch.mask
        cas = settings.delta * cosine(x, self.actions)
        logits = {}
        if settings.ca_weight:
            scores = settings.delta * cosine(x, self.foreground)
            features = attended(x, scores, mask, settings.temperatures)
            logits["ca"] = settings.video_scale * _mean([cosine(x, self.actions)[:, 0] for x in features])
        if settings.cw_weight:
            features = attended(x, cas, mask, settings.temperatures)
            logits["cw"] = settings.video_scale * _mean([cosine(x, self.foreground)[..., 0] for x in features])
        if settings.mil_weight or not logits:
            averaged = [
                (masked_softmax(temperature * cas, mask) * cas).sum(dim=1) for temperature in settings.temperatures
            ]
            logits["mil"] = settings.video_scale / settings.delta * _mean(averaged)
        scores = next(iter(logits.values())).softmax(dim=-1)[:, : self.num_classes]
        extras = {f"{name}_logits": value for name, value in logits.items()}
        extras |= {f"{name}_pred": value.softmax(dim=-1) for name, value in logits.items()}
        return HeadOutput(cas * mask[..., None], None, scores, extras)

    def loss(self, output: HeadOutput, batch: SnippetBatch) -> dict[str, Tensor]:
        """`cw`, `ca` (background absent) and `mil` (background present), those with a weight."""
        settings, labels = self.config, labels_of(batch)
        terms = {}
        for name, weight, background in (
            ("cw", settings.cw_weight, 0.0),
            ("ca", settings.ca_weight, 0.0),
            ("mil", settings.mil_weight, 1.0),
        ):
            if weight:
                target = with_background(labels, background) if settings.background else normalized(labels)
                terms[name] = weight * cross_entropy(output.extras[f"{name}_logits"], target)
        return terms


def create(num_classes: int, feature_dims: dict[str, int], config: Config, authors: bool) -> Head:
    """Create one FAC-Net per stream, fused; for a single stream, the model alone."""
    return one_per_stream(
        {name: FacNet(num_classes, dim, config) for name, dim in feature_dims.items()}, fuse_probabilities
    )


def from_authors(state_dict: Mapping[str, Any], num_classes: int) -> Head:
    """Load the authors' checkpoint of one stream, or stream -> checkpoint; the widths are read off the tensors."""
    return of_streams(state_dict, lambda state: _from_authors(state, num_classes), fuse_probabilities)


def _from_authors(state_dict: Mapping[str, Tensor], num_classes: int) -> FacNet:
    names = {
        "ac_center": "actions",
        "fg_center": "foreground",
        **{f"feature_embedding.process.0.{kind}": f"first.{kind}" for kind in ("weight", "bias")},
        **{f"feature_embedding.process.3.{kind}": f"second.{kind}" for kind in ("weight", "bias")},
    }
    plain = plain_keys(state_dict, "FAC-Net")
    first = plain.get("feature_embedding.process.0.weight")
    width, in_features = first.shape if first is not None and first.ndim == 2 else (Config().width, 1024)
    head = FacNet(num_classes, in_features, Config(width=width))
    load_renamed(head, plain, names, "FAC-Net")
    return head


def _mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean(dim=0)
