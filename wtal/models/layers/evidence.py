"""DELU's evidence (ECCV 2022): class activations are evidence for classes, and lack of evidence is uncertainty.

With evidence e >= 0 for each of C classes, alpha = e + 1 are the parameters of a Dirichlet distribution, S is their sum
and u = C / S its uncertainty. DELU and DDG-Net share the two loss terms built on it.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from wtal.data.batch import SnippetBatch
from wtal.models.head import HeadOutput, Moment
from wtal.models.layers.losses import labels_of
from wtal.models.layers.temporal import masked_mean
from wtal.models.layers.two_streams import TwoStreamConfig, TwoStreamHead, disagreement

ACTIVITYNET: Mapping[str, Any] = {
    "pooling": 13,
    "top_k_ratio": 5,
    "guide_weight": 0.8,
    "evidence": "relu",
    "evidence_ratio": 5,
    "edl_weight": 1.2,
    "uct_guide_weight": 0.2,
    "amplitude": 0.2,
}
"""The authors' settings for ActivityNet."""
_BOUND = 10.0
"""Bound of activations: larger ones add no evidence."""


class EvidenceConfig(TwoStreamConfig):
    """Defaults are the public code's for THUMOS14 unless noted."""

    guide_weight: float = Field(0.4, ge=0)
    """alpha_2, weight of the attention against the background. ActivityNet: 0.8."""
    evidence: Literal["exp", "relu"] = "exp"
    """A video's evidence and loss: exp of its activations and a weighted log-likelihood; or their positive part and the
    squared distance of labels from the expected shares. ActivityNet: relu."""
    evidence_ratio: int = Field(9, ge=1)
    """The max(1, T // ratio) snippets of highest attention form a video's evidence. ActivityNet: 5."""
    edl_weight: float = Field(1.3, ge=0)
    """alpha_edl, weight of the video's evidence. ActivityNet: 1.2."""
    uct_guide_weight: float = Field(0.4, ge=0)
    """alpha_uct_guide, weight of the guide term that depends on uncertainty. ActivityNet: 0.2."""
    amplitude: float = Field(0.7, ge=0, lt=1)
    """The guide term's weights are within 1 plus or minus this. ActivityNet: 0.2."""
    curriculum: Literal["certain-first", "uncertain-first"] = "certain-first"
    """Snippets that weigh more in the first half of training, and less in the second: easy to hard, as in the paper's
    text, or the reverse, which is the order in which the public code sorts."""


class EvidenceHead(TwoStreamHead):
    """Two streams, and the terms `edl` and `uct_guide`."""

    config: EvidenceConfig
    share: float = 0.0
    """Completed share of training, in [0, 1]."""

    def begin_step(self, moment: Moment, videos: Callable[[], Iterator[SnippetBatch]]) -> None:
        """Record the progress of training, on which the weights of `uct_guide` depend."""
        self.share = moment.share

    def loss(self, output: HeadOutput, batch: SnippetBatch) -> dict[str, Tensor]:
        """The terms of `TwoStreamHead`, plus `edl` and `uct_guide`, those with a weight."""
        settings, mask, terms = self.config, self.seen(batch), super().loss(output, batch)
        if settings.edl_weight:
            attention = (output.extras["rgb_attention"] + output.extras["flow_attention"]) / 2
            activations = mean_at_highest(output.extras["cas_supp"], attention, mask, settings.evidence_ratio)
            likelihood = log_likelihood if settings.evidence == "exp" else squared_distance
            loss = likelihood(activations[:, : self.num_classes].float(), labels_of(batch))
            terms["edl"] = settings.edl_weight * loss.mean()
        if settings.uct_guide_weight:
            guided = self._curriculum(output.extras["cas_supp"], mask) * disagreement(output)
            terms["uct_guide"] = settings.uct_guide_weight * masked_mean(guided, mask).mean()
        return terms

    @torch.no_grad()
    def _curriculum(self, cas: Tensor, mask: Tensor) -> Tensor:
        """(B, T, C + 1), (B, T) -> positive weights (B, T), 1 at the middle rank and in the middle of training."""
        order = (-_evidence(cas)).masked_fill(~mask, torch.inf).argsort(dim=1, stable=True)
        # The authors use the sorting permutation as if it were the ranks.
        rank = order if self.authors else order.argsort(dim=1)
        position = (2 * rank + 1) / mask.sum(dim=1, keepdim=True) - 1.0  # in (-1, 1), uncertain ones last
        if self.config.curriculum == "certain-first" and not self.authors:
            position = -position
        return 1.0 + self.config.amplitude * torch.tanh(position * (1.0 - 2.0 * self.share))


def mean_at_highest(values: Tensor, attention: Tensor, mask: Tensor, ratio: int) -> Tensor:
    """(B, T, C), (B, T), (B, T) -> (B, C): mean over the max(1, length // ratio) snippets of highest attention."""
    counts = (mask.sum(dim=1) // ratio).clamp(min=1)
    highest = attention.detach().masked_fill(~mask, -torch.inf).topk(int(counts.max()), dim=1).indices
    chosen = values.gather(1, highest[..., None].expand(-1, -1, values.shape[-1]))
    among = torch.arange(highest.shape[1], device=values.device)[None, :] < counts[:, None]
    return chosen.masked_fill(~among[..., None], 0.0).sum(dim=1) / counts[:, None]


def log_likelihood(activations: Tensor, labels: Tensor) -> Tensor:
    """(B, C), multi-hot (B, C) -> (B,): -log of the expected share of each label, for exponential evidence.

    Labels are weighted by 1 / alpha, so that the one with the least evidence counts most, and their sum by (1 - u)
    times their number.
    """
    alpha = activations.clamp(-_BOUND, _BOUND).exp() + 1.0
    total = alpha.sum(dim=1, keepdim=True)
    certainty = 1.0 - alpha.shape[1] / total.detach()
    shares = labels / alpha
    shares = shares / shares.sum(dim=1, keepdim=True).clamp(min=torch.finfo(shares.dtype).tiny)
    weights = certainty * labels.sum(dim=1, keepdim=True) * shares
    return (weights * (total.log() - alpha.log())).sum(dim=1)


def squared_distance(activations: Tensor, labels: Tensor) -> Tensor:
    """(B, C), multi-hot (B, C) -> (B,): squared distance of labels from the expected shares, for rectified evidence."""
    alpha = activations.relu() + 1.0
    return (labels - alpha / alpha.sum(dim=1, keepdim=True)).square().sum(dim=1)


def _evidence(cas: Tensor) -> Tensor:
    """(B, T, C + 1) -> (B, T): S of each snippet, background included; lower means more uncertain."""
    return (cas.float().clamp(-_BOUND, _BOUND).exp() + 1.0).sum(dim=-1)
