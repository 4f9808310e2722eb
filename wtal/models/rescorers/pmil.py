"""P-MIL: proposals are the instances of multiple-instance learning (Ren, Yang, Zhang, Zhang; CVPR 2023).

A proposal, extended by a quarter of its length on each side, is cut into bins by RoIAlign; maxima over the bins before,
in and after it give [mid - left, mid, mid - right], from which three small networks compute C + 1 classes, an attention
and a completeness. Each stream has its own model. With attention a and completeness q in [0, 1] and class softmax p,
each averaged over streams:

    score of class c = p_c * a * q,   video score of c = sum(a * p_c) / sum(a)

Training uses video-level labels only: the mean of each class's best proposals against the labels, once unweighted and
with background (`mil_orig`), once weighted by the attention and without background (`mil_supp`); the ranking of
overlapping proposals by the other stream (`irc`); and, for completeness, the overlap with proposals selected by the
other stream's attention (`comp`). The last two ramp up to their weight during training.

Differences from the authors' code, whose behaviour `authors=True` restores:

- They divide the labels of a video by their sum plus 1e-4.
- A region shorter than a snippet is extended to one snippet to the right of its start, here about its middle.

In both modes: a single stream selects by its own attention, and there is no `irc`. With more than two streams, each
learns from the next one. The ramp depends on the share of training, and is as long as theirs: 30 of 200 epochs.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import kl_div, mse_loss

from wtal.config import Config as Base
from wtal.data.batch import stream_order
from wtal.errors import UsageError
from wtal.models.head import load_renamed, plain_keys
from wtal.models.layers.losses import cross_entropy, labels_of, with_background
from wtal.models.layers.regions import bin_means
from wtal.models.layers.temporal import Dropout, masked_topk_mean, unpack
from wtal.models.rescorer import ProposalBatch, Rescorer, RescorerOutput

_PARTS = [2, 8, 2]
"""Bins before a proposal, in it and after it."""
_REACH = 0.25
"""Surroundings on each side, relative to the proposal's length."""
_TOGETHER = 512
"""Proposals whose bins are in memory at once."""
_UNSEEN = torch.finfo(torch.float32).min / 4
"""Logit that excludes an entry from a softmax; finite, so that its share of 0 is multiplied by a number."""
_STREAMS = {"rgb": "prop_v_backbone", "flow": "prop_f_backbone"}
_LAYERS = {
    "fusion": "prop_fusion.0",
    "classes.0": "prop_classifier.0",
    "classes.2": "prop_classifier.2",
    "attention.0": "prop_attention.0",
    "attention.2": "prop_attention.2",
    "completeness.0": "prop_completeness.0",
    "completeness.2": "prop_completeness.2",
}


class Config(Base):
    """Weights and ratios are those of the public code for THUMOS14; widths are ours."""

    width: int = Field(256, ge=1)
    """Width of a proposal's embedding. The public code's: 1024."""
    head_width: int = Field(128, ge=1)
    """Hidden width of the three networks after it. The public code's: 512."""
    dropout: float = Field(0.5, ge=0, lt=1)
    """Dropout of the embedding."""
    top_k_ratio: int = Field(8, ge=1)
    """The best max(1, M // ratio) of M proposals count per class."""
    orig_weight: float = Field(2.0, ge=0)
    """Weight of `mil_orig`."""
    supp_weight: float = Field(1.0, ge=0)
    """Weight of `mil_supp`."""
    irc_weight: float = Field(2.0, ge=0)
    """Weight of `irc`, the instance-level rank consistency, after its ramp."""
    comp_weight: float = Field(20.0, ge=0)
    """Weight of `comp`, the completeness, after its ramp."""
    ramp: float = Field(0.15, ge=0, le=1)
    """Share of training in which both ramp up, as exp(-5 (1 - x)^2): 30 of 200 epochs."""
    pick_share: float = Field(0.8, ge=0, le=1)
    """Proposals whose attention exceeds this share of the video's highest are selected as complete, best first, if they
    do not overlap an earlier one."""


class StreamNetwork(nn.Module):
    """One stream's model: proposals of D features as (N, 3 D) -> logits of classes, attention and completeness."""

    def __init__(self, in_features: int, num_classes: int, config: Config) -> None:
        super().__init__()
        self.fusion = nn.Linear(3 * in_features, config.width)
        self.dropout = Dropout(config.dropout)
        self.classes, self.attention, self.completeness = (
            nn.Sequential(nn.Linear(config.width, config.head_width), nn.ReLU(), nn.Linear(config.head_width, outputs))
            for outputs in (num_classes + 1, 1, 1)
        )

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, 3 D) -> (N, C + 1), (N,), (N,)."""
        x = self.dropout(torch.relu(self.fusion(rows)))
        return self.classes(x), self.attention(x)[:, 0], self.completeness(x)[:, 0]


class PMIL(Rescorer):
    """`extras`: logits `cas_STREAM` (N, C + 1), `attention_STREAM` and `completeness_STREAM` (N,) of each STREAM."""

    def __init__(self, num_classes: int, feature_dims: Mapping[str, int], config: Config, authors: bool) -> None:
        super().__init__()
        self.num_classes, self.config, self.authors = num_classes, config, authors
        self.streams = nn.ModuleDict(
            {name: StreamNetwork(feature_dims[name], num_classes, config) for name in stream_order(feature_dims)}
        )

    def forward(self, batch: ProposalBatch) -> RescorerOutput:
        """Run every stream's model, then average their probabilities.

        Raises:
            UsageError: when the batch lacks a stream.
        """
        missing = [name for name in self.streams if name not in batch.snippets.streams]
        if missing:
            raise UsageError(f"pmil has a model for {', '.join(self.streams)}; the features lack {missing[0]!r}")
        extras: dict[str, Tensor] = {}
        for name, network in self.streams.items():
            logits = network(region_features(batch, name, to_the_right=self.authors))
            extras |= {
                f"{kind}_{name}": x for kind, x in zip(("cas", "attention", "completeness"), logits, strict=True)
            }
        classes = torch.stack([extras[f"cas_{name}"].softmax(dim=-1) for name in self.streams]).mean(dim=0)
        attention, completeness = (
            torch.stack([extras[f"{kind}_{name}"].sigmoid() for name in self.streams]).mean(dim=0)
            for kind in ("attention", "completeness")
        )
        weighted = torch.cat([attention[:, None] * classes[:, :-1], attention[:, None]], dim=1)
        sums = weighted.new_zeros(len(batch.counts), self.num_classes + 1).index_add_(0, batch.video, weighted)
        video_scores = sums[:, :-1] / sums[:, -1:].clamp(min=torch.finfo(sums.dtype).tiny)
        return RescorerOutput(weighted[:, :-1] * completeness[:, None], video_scores, extras)

    def loss(self, output: RescorerOutput, batch: ProposalBatch, share: float) -> dict[str, Tensor]:
        """`mil_orig`, `mil_supp`, `irc` and `comp`, averaged over the streams."""
        config = self.config
        terms = [self._stream_terms(name, other, output.extras, batch) for name, other in self._pairs()]
        orig, supp, irc, comp = (torch.stack(values).mean() for values in zip(*terms, strict=True))
        rise = ramp(share, config.ramp)
        return {
            "mil_orig": config.orig_weight * orig,
            "mil_supp": config.supp_weight * supp,
            "irc": config.irc_weight * rise * irc,
            "comp": config.comp_weight * rise * comp,
        }

    def _pairs(self) -> list[tuple[str, str]]:
        """List the streams, each with the one from which it learns."""
        names = list(self.streams)
        return list(zip(names, names[1:] + names[:1], strict=True))

    def _stream_terms(
        self, name: str, other: str, extras: Mapping[str, Tensor], batch: ProposalBatch
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Unweighted loss terms of one stream; 0 if no video has proposals."""
        cas, attention = extras[f"cas_{name}"].float(), extras[f"attention_{name}"].float().sigmoid()
        labels, present = labels_of(batch.snippets).float(), batch.counts > 0
        zero = cas.sum() * 0.0
        if not present.any():
            return zero, zero, zero, zero
        orig = self._classification(cas, labels, 1.0, batch.mask[present], present)
        supp = self._classification(attention[:, None] * cas, labels, 0.0, batch.mask[present], present)
        guide = extras[f"attention_{other}"].float().sigmoid().detach()
        teacher, completeness = (
            extras[f"cas_{other}"].float().detach(),
            extras[f"completeness_{name}"].float().sigmoid(),
        )
        counts = batch.counts.tolist()
        ranks, overlaps = [], []
        for video_labels, student, leader, focus, complete, borders in zip(
            labels, *(torch.split(x, counts) for x in (cas, teacher, guide, completeness, batch.borders)), strict=True
        ):
            own = video_labels.nonzero()[:, 0]
            if len(borders) and len(own):
                shared = pairwise_tiou(borders)
                ranks.append(rank_consistency(student[:, own], leader[:, own], focus, shared > 0))
                overlaps.append(mse_loss(complete, overlap_with_picked(shared, focus, self.config.pick_share)))
        irc = torch.stack(ranks).mean() if ranks and name != other else zero
        return orig, supp, irc, torch.stack(overlaps).mean() if overlaps else zero

    def _classification(self, cas: Tensor, labels: Tensor, background: float, mask: Tensor, present: Tensor) -> Tensor:
        """(N, C + 1), (B, C) -> scalar: cross entropy of the mean of each class's best proposals."""
        video_logits = masked_topk_mean(unpack(cas, mask), mask, self.config.top_k_ratio)
        target = with_background(labels[present], background)
        if self.authors:
            plain = torch.cat([labels[present], torch.full_like(labels[present][:, :1], background)], dim=1)
            target = plain / (plain.sum(dim=1, keepdim=True) + 1e-4)
        return cross_entropy(video_logits, target)


def region_features(batch: ProposalBatch, stream: str, to_the_right: bool = False) -> Tensor:
    """(N, 3 D): [mid - left, mid, mid - right] of each proposal, maxima over the bins of its parts."""
    features, lengths = batch.snippets.streams[stream], batch.snippets.lengths
    reach = _REACH * (batch.borders[:, 1:] - batch.borders[:, :1]) * batch.borders.new_tensor([[-1.0, 1.0]])
    parts = []
    for borders, video in zip(
        torch.split(batch.borders + reach, _TOGETHER), torch.split(batch.video, _TOGETHER), strict=True
    ):
        bins = bin_means(features, lengths, borders, video, sum(_PARTS), to_the_right)
        left, mid, right = (part.amax(dim=1) for part in torch.split(bins, _PARTS, dim=1))
        parts.append(torch.cat([mid - left, mid, mid - right], dim=1))
    return torch.cat(parts)


def ramp(share: float, until: float) -> float:
    """Map the completed share of training to that of a weight: exp(-5 (1 - x)^2), and 1 from `until` on."""
    progress = min(share / until, 1.0) if until else 1.0
    return math.exp(-5.0 * (1.0 - progress) ** 2)


def pairwise_tiou(borders: Tensor) -> Tensor:
    """(M, 2) -> tIoU (M, M)."""
    start, end = borders.unbind(dim=1)
    shared = (torch.minimum(end[:, None], end) - torch.maximum(start[:, None], start)).clamp(min=0)
    length = end - start
    return shared / (length[:, None] + length - shared).clamp(min=torch.finfo(borders.dtype).tiny)


def rank_consistency(student: Tensor, teacher: Tensor, attention: Tensor, overlap: Tensor) -> Tensor:
    """Logits (M, n) of n classes twice, the teacher's attention (M,), overlap (M, M) bool -> scalar.

    For each proposal of above-average attention, and each class: the divergence between the student's and the teacher's
    softmax over the proposals that overlap it, averaged over both; 0 if there is no such proposal. In double precision,
    as it is a small difference of large numbers.
    """
    anchors = overlap[attention > attention.mean()]  # (A, M)
    if not len(anchors):
        return student.sum() * 0.0
    divergences = []
    for own, leading in zip(student.double().unbind(dim=1), teacher.double().unbind(dim=1), strict=True):
        own_logits, target_logits = (torch.where(anchors, logits, _UNSEEN) for logits in (own, leading))
        divergence = kl_div(own_logits.log_softmax(dim=1), target_logits.softmax(dim=1), reduction="none")
        divergences.append(divergence.sum(dim=1).mean())
    return torch.stack(divergences).mean().to(student.dtype)


def overlap_with_picked(tiou: Tensor, attention: Tensor, share: float) -> Tensor:
    """Pairwise tiou (M, M), attention (M,) -> (M,): the highest tiou of each proposal with a selected one.

    Selected are proposals with more than a `share` of the highest attention, best first; each excludes all that overlap
    it.
    """
    order = attention.sort(descending=True, stable=True).indices
    waiting = order[attention[order] > share * attention.max()]
    best = torch.zeros_like(attention)
    while len(waiting):
        own = tiou[waiting[0]]
        best = torch.maximum(best, own.to(best.dtype))
        waiting = waiting[1:][own[waiting[1:]] == 0]
    return best


def create(num_classes: int, feature_dims: dict[str, int], config: Config, authors: bool) -> PMIL:
    """Create a P-MIL over streams of the given widths."""
    return PMIL(num_classes, feature_dims, config, authors)


def from_authors(state_dict: Mapping[str, Any], num_classes: int) -> PMIL:
    """Load a P-MIL from the authors' checkpoint, with one model of rgb and one of flow; widths are read off it."""
    plain = {
        key: value[..., 0] if value.ndim == 3 and value.shape[-1] == 1 else value
        for key, value in plain_keys(state_dict, "P-MIL").items()
    }
    dims = {name: max(1, _columns(plain, f"{module}.prop_fusion.0.weight") // 3) for name, module in _STREAMS.items()}
    widths = [_columns(plain, f"prop_v_backbone.prop_classifier.{layer}.weight") for layer in (0, 2)]
    network = create(num_classes, dims, Config(width=widths[0], head_width=widths[1]), authors=True)
    names = {
        f"{module}.{author_name}.{kind}": f"streams.{name}.{own_name}.{kind}"
        for name, module in _STREAMS.items()
        for own_name, author_name in _LAYERS.items()
        for kind in ("weight", "bias")
    }
    load_renamed(network, plain, names, "P-MIL")
    return network


def _columns(state: Mapping[str, Tensor], key: str) -> int:
    """Input width of a layer; 1 if it is missing or not a matrix, which loading then refuses."""
    tensor = state.get(key)
    return tensor.shape[1] if tensor is not None and tensor.ndim == 2 else 1
