"""DDG-Net: Discriminability-Driven Graph Network (Tang, Fan, Luo, Zhang, Zhang, Yang; ICCV 2023, arXiv 2307.16415).

A graph of a video's snippets in front of DELU (`wtal.models.heads.delu` has its equations and the further differences).
The attention of each raw stream separates action (both at least 0.5), background (both below) and ambiguous snippets.
Snippets are neighbours if their cosine, averaged over streams, is at least 0.8 and among the T // 10 highest of a
column.
With A the L1-normalized graphs (`wtal.models.layers.snippet_graph`), the features X of a stream become

    X_avg = X (A_action + A_background + A_ambiguous)
    X_gcn = two convolutions on A_action + two on A_background + ambiguous snippets' shares of these and of themselves
    X'    = X / 2 + (X_avg + X_gcn) / 4

and X' replaces CO2-Net's gated features: there are no gates. The same attention is then computed from X'. The loss is
DELU's plus 3.2 L_consistency + L_complementary:

L_consistency is the distance between X_avg and X_gcn: the mean over action snippets, weighted by exp(-(1/a - 1) / 0.5)
with a the mean raw attention, plus that over background snippets, with 1 - a; each over the videos that have any, and
averaged over streams. L_complementary suppresses the classes that a video lacks in its snippets, -log(1 - p) for each.

Masks are hard, and no gradient flows through them or the weights: as long as the attention assigns all snippets to one
kind, the other has no graph. A video of T snippets needs T x T matrices, 400 MB each for 10,000 snippets.

Differences from the authors' code, in addition to DELU's, whose behaviour `authors=True` restores:

- In a video of fewer than 10 snippets none has a neighbour, not even itself, so that features are halved; here each has
  at least one.
- Their T includes padding.
"""

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize

from wtal.data.batch import SnippetBatch
from wtal.errors import UsageError
from wtal.models.head import HeadOutput, load_renamed
from wtal.models.layers.evidence import ACTIVITYNET as EVIDENCE
from wtal.models.layers.evidence import EvidenceConfig, EvidenceHead
from wtal.models.layers.losses import labels_of
from wtal.models.layers.snippet_graph import GraphLayers, adjacency
from wtal.models.layers.temporal import masked_mean, unpack
from wtal.models.layers.two_streams import author_form, author_names, stream_widths

ACTIVITYNET: Mapping[str, Any] = {**EVIDENCE, "consistency_weight": 1.7, "complementary_weight": 0.5}
"""The authors' settings for ActivityNet."""
_LEAST = 1e-3


class Config(EvidenceConfig):
    """Defaults are the public code's for THUMOS14 unless noted."""

    action_threshold: float = Field(0.5, ge=0, le=1)
    """A snippet is action if both attentions are at least this."""
    background_threshold: float = Field(0.5, ge=0, le=1)
    """A snippet is background if both attentions are below this; at most `action_threshold`."""
    similarity_threshold: float = Field(0.8, ge=-1, le=1)
    """Minimum cosine of neighbours, averaged over streams."""
    neighbour_ratio: int = Field(10, ge=1)
    """A snippet averages over its max(1, T // ratio) most similar ones, itself included."""
    raw_share: float = Field(0.5, ge=0, le=1)
    """Share of the raw features in the graph's output."""
    temperature: float = Field(0.5, gt=0)
    """Temperature of the consistency weights."""
    consistency_weight: float = Field(3.2, ge=0)
    """alpha_5, weight of the distance between averaged and convolved features. ActivityNet: 1.7."""
    complementary_weight: float = Field(1.0, ge=0)
    """alpha_6, weight of the classes that a video lacks. ActivityNet: 0.5."""


class DdgNet(EvidenceHead):
    """DELU with a graph in place of its gates; the network and its other terms are `EvidenceHead`'s."""

    config: Config

    def add_enhancement(self, rgb: int, flow: int) -> int:
        """Create the graph's layers; return the width of the joined streams."""
        self.rgb_graph, self.flow_graph = GraphLayers(rgb), GraphLayers(flow)
        return rgb + flow

    def enhance(self, rgb: Tensor, flow: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Mix rows (N, D) of both streams among neighbours, mask (B, T); also return extras of the output.

        `extras`: first_rgb_attention and first_flow_attention (B, T), from raw features; action and background (B, T),
        masks; rgb_apart and flow_apart (B, T), distances between averaged and convolved features.
        """
        first = self.rgb_attention(rgb, mask), self.flow_attention(flow, mask)  # (B, T) each
        low, high = torch.minimum(*first), torch.maximum(*first)
        action = (low >= self.config.action_threshold) & mask
        background = (high < self.config.background_threshold) & mask & ~action
        lengths = mask.sum(dim=1).tolist()
        split = (torch.split(rows, lengths) for rows in (rgb, flow, action[mask], background[mask]))
        videos = [self._mixed(*video) for video in zip(*split, strict=True)]
        new_rgb, new_flow, rgb_apart, flow_apart = (torch.cat(parts) for parts in zip(*videos, strict=True))
        extras = {
            "first_rgb_attention": first[0],
            "first_flow_attention": first[1],
            "action": action,
            "background": background,
            "rgb_apart": unpack(rgb_apart[:, None], mask)[..., 0],
            "flow_apart": unpack(flow_apart[:, None], mask)[..., 0],
        }
        return new_rgb, new_flow, extras

    def loss(self, output: HeadOutput, batch: SnippetBatch) -> dict[str, Tensor]:
        """The terms of `EvidenceHead`, plus `consistency` and `complementary`, those with a weight."""
        settings, mask, terms = self.config, self.seen(batch), super().loss(output, batch)
        if settings.consistency_weight:
            terms["consistency"] = settings.consistency_weight * self._consistency(output.extras)
        if settings.complementary_weight:
            shares = output.cas.float().softmax(dim=-1)[..., : self.num_classes]
            absent = 1.0 - labels_of(batch)[:, None]
            loss = -(torch.log1p(-shares.clamp(max=1.0 - 1e-6)) * absent).sum(dim=-1)
            terms["complementary"] = settings.complementary_weight * masked_mean(loss, mask).mean()
        return terms

    def _mixed(self, rgb: Tensor, flow: Tensor, action: Tensor, background: Tensor) -> tuple[Tensor, ...]:
        """(T, D) of both streams of one video, masks (T,) -> new features (T, D) each, distances (T,) each."""
        count = len(rgb) // self.config.neighbour_ratio
        count = count if self.authors else max(1, count)
        similarity = (_cosines(rgb) + _cosines(flow)) / 2
        graph = adjacency(similarity, action, background, self.config.similarity_threshold, count)
        mixed, distances = [], []
        for x, layers in ((rgb, self.rgb_graph), (flow, self.flow_graph)):
            averaged, convolved = layers(x, graph, action, background)
            mixed.append(torch.lerp((averaged + convolved) / 2, x, self.config.raw_share))
            distances.append(torch.linalg.vector_norm((averaged - convolved).float(), dim=-1))
        return (*mixed, *distances)

    def _consistency(self, extras: Mapping[str, Tensor]) -> Tensor:
        """Scalar: mean distances of action and of background snippets, each over the videos that have any."""
        attention = (extras["first_rgb_attention"] + extras["first_flow_attention"]).detach().float() / 2
        distances = (extras["rgb_apart"] + extras["flow_apart"]) / 2
        total = distances.sum() * 0.0
        for members, confidence in ((extras["action"], attention), (extras["background"], 1.0 - attention)):
            weights = torch.exp(-(1.0 / confidence.clamp(min=_LEAST) - 1.0) / self.config.temperature) * members
            means = (weights * distances).sum(dim=1) / weights.sum(dim=1).clamp(min=_LEAST)
            total = total + means.sum() / members.any(dim=1).sum().clamp(min=1)
        return total


@torch.no_grad()
def _cosines(x: Tensor) -> Tensor:
    """(T, D) -> (T, T), in at least single precision."""
    with torch.autocast(x.device.type, enabled=False):
        units = normalize(x.to(torch.promote_types(torch.float32, x.dtype)), dim=1)
        return units @ units.T


def create(num_classes: int, feature_dims: dict[str, int], config: Config, authors: bool) -> DdgNet:
    """Create a DDG-Net over rgb and flow.

    Raises:
        UsageError: when the features are not rgb and flow, or do not suit the settings.
    """
    first, second = stream_widths("ddgnet", feature_dims, config.pooling)
    if config.background_threshold > config.action_threshold:
        raise UsageError(
            f"head.background_threshold {config.background_threshold} is above head.action_threshold "
            f"{config.action_threshold}: a snippet would be both; lower it"
        )
    return DdgNet(num_classes, first, second, config, authors)


def from_authors(
    state_dict: Mapping[str, Tensor],
    num_classes: int,
    evidence: str | None = None,
    pooling: int | None = None,
    action_threshold: float = 0.5,
    background_threshold: float = 0.5,
) -> DdgNet:
    """Load a DDG-Net from the authors' checkpoint; the widths are read off its tensors.

    `evidence` and `pooling` select the form, as for DELU; the thresholds are those of its training.
    """
    form = author_form(state_dict, num_classes, "DDG-Net", "Attn.attentions.0.0")
    settings = dict(ACTIVITYNET) if evidence == "relu" or (evidence is None and form.activitynet) else {}
    settings |= {} if pooling is None else {"pooling": pooling}
    settings |= {"action_threshold": action_threshold, "background_threshold": background_threshold}
    config = Config(width=form.width, attention_width=form.attention_width, **settings)
    head = DdgNet(num_classes, form.features, form.features, config, authors=True)
    load_renamed(head, form.tensors, _names(), "DDG-Net")
    return head


def _names() -> dict[str, str]:
    """Map the authors' keys to ours."""
    layers, attentions = {}, {}
    for number, stream in enumerate(("rgb", "flow")):
        attentions[f"Attn.attentions.{number}"] = f"{stream}_attention"
        for kind in ("action", "background"):
            for layer in (0, 1):
                layers[f"Attn.{kind}_graph.{number}.{layer}"] = f"{stream}_graph.{kind}.{layer}"
    return author_names(layers, attentions)
