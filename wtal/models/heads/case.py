"""CASE: clusters of snippets separate foreground from background (Liu, Wang, Rong, Li, Zhang; ICCV 2023, 2312.14138).

Each stream has its own model, which sees one snippet at a time: one network gives class activations (C classes, no
background), another gives features b; from b come an attention a and the cosine with each of K = 16 prototypes, the
clusters.

Baseline. With p the softmax of the activations, averaged over streams, the snippets of highest (p + sum of a) / (1 +
streams) represent a class: a video's top T // 8 of them are averaged and classified (L_video, the mean over streams).
Those of its labelled classes are its foreground F, the others its background, in a generalized cross entropy of each
attention (L_attention).

Clusters. The snippets of a batch are assigned evenly to the clusters, by optimal transport of their cosines, and these
labels Q supervise each stream's clusters (L_cluster). The mean features of the clusters (by Q), of F and of its
complement have cosines, too: their transport, with the shares of F and of its complement as mass, determines which
clusters are foreground, and these labels R supervise in turn (L_cluster_class).

    L = L_video + sum over streams of (L_attention + L_cluster + 0.3 L_cluster_class)

Detection thresholds the mean of p, of each stream's a and of the foreground's share in each stream's clusters, which is
softmax(cluster logits) R. `cas` (B, T, C) are the logits of that mean, so that a sigmoid recovers it; each of `streams`
has its own activations. R is a buffer of the model.

Differences from the authors' code, whose behaviour `authors=True` restores:

- Their R at detection is that of the last training batch, saved next to the weights, and initially 1 / 16; here it is a
  moving average over steps, initially 1 / 2.
- Their clusters have a prior: a Gaussian of the distance between a snippet's rank by attention and its cluster's share
  of background. With a deviation of 10 it is constant within half a percent, and the "rank" is the sorting permutation
  (`argsort`), not the position. Here there is no prior, or, with `prior_deviation`, one on true ranks.
- They treat padding as snippets in counts, means and clusters, and add 1e-10 to a video's labels.

Different in both modes: their prototypes are set to length 1 at each pass; here cosines divide by the length.

As clusters are computed within a batch, its size is part of the method: 16 videos.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from wtal import config
from wtal.data.batch import SnippetBatch, stream_order
from wtal.errors import UsageError, WeightsError
from wtal.models.head import Head, HeadOutput, Moment, load_renamed, plain_keys
from wtal.models.layers.clusters import centres, rank_prior, transported
from wtal.models.layers.losses import cross_entropy, labels_of, normalized
from wtal.models.layers.similarity import cosine
from wtal.models.layers.temporal import Dropout, TemporalConv, pack, unpack

_SCALE = 10.0
"""Factor from cosines to the logits of clusters and of their classes."""
_SMALL = 1e-7
_AUTHORS_DEVIATION = 10.0
_LABELS = "cls_gt"
"""Name of the authors' file of R."""


class Config(config.Config):
    """Defaults are those of the paper and its code for THUMOS14 unless noted."""

    width: int = Field(512, ge=1)
    """Width of the classifier's hidden layer, and of the features that are clustered."""
    clusters: int = Field(16, ge=2)
    """K, number of prototypes per stream."""
    top_k_ratio: int = Field(8, ge=1)
    """The top max(1, T // ratio) snippets form a class's score, and its part of the foreground."""
    power: float = Field(0.7, gt=0, le=1)
    """q of the generalized cross entropy: 1 is the mean absolute error, near 0 the cross entropy."""
    attention_weight: float = Field(1.0, ge=0)
    """Weight of the attention term, against the foreground."""
    cluster_weight: float = Field(1.0, ge=0)
    """Weight of the clusters; with `cluster_class_weight` also 0, the baseline without clusters in detection."""
    cluster_class_weight: float = Field(0.3, ge=0)
    """Weight of the clusters' classes."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Momentum of the moving average of the clusters' classes; ours. The code keeps the last batch's, i.e. 0."""
    prior_deviation: float = Field(0.0, ge=0)
    """Standard deviation of the clusters' prior, in ranks from 0 to 1; 0: no prior. Ours: 0.1 makes it informative."""
    warmup: float = Field(0.0, ge=0, le=1)
    """Share of training in which activations alone select the snippets of a class; ours, for few classes: there is no
    background class, and if attention selects from the start, one of a few classes may act as background."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on both hidden layers; ours, for small collections."""
    input_dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout of feature channels, over the whole video; ours, for small collections."""


class StreamModel(nn.Module):
    """The model of one stream."""

    def __init__(self, num_classes: int, in_features: int, config: Config) -> None:
        super().__init__()
        self.hidden = TemporalConv(in_features, config.width)
        self.classify = TemporalConv(config.width, num_classes)
        self.embed = TemporalConv(in_features, config.width)
        self.attend = TemporalConv(config.width, 1)
        self.prototypes = nn.Parameter(nn.functional.normalize(torch.randn(config.clusters, config.width), dim=1))
        self.dropout, self.input_dropout = Dropout(config.dropout), nn.Dropout1d(config.input_dropout)

    def forward(self, x: Tensor, mask: Tensor) -> HeadOutput:
        """(B, T, D), (B, T) -> `cas` (B, T, C), `attention`; `extras`: features (B, T, E), cluster logits (B, T, K)."""
        rows = pack(self.input_dropout(x.transpose(1, 2)).transpose(1, 2), mask)  # (N, D), real snippets of all videos
        hidden = self.dropout(torch.relu(self.hidden(rows, mask)))
        features = self.dropout(torch.relu(self.embed(rows, mask)))
        cas = unpack(self.classify(hidden, mask), mask)
        return HeadOutput(
            cas=cas,
            attention=unpack(torch.sigmoid(self.attend(features, mask)), mask)[..., 0],
            video_scores=cas.new_zeros(len(cas), cas.shape[-1]),  # set later, from snippets that both streams select
            extras={
                "features": unpack(features, mask),
                "cluster": unpack(_SCALE * cosine(features[None], self.prototypes)[0], mask),
            },
            embedding=unpack(hidden, mask),
        )


class Case(Head):
    """One model per stream, and `cluster_foreground` (K,), the foreground share of each cluster (R)."""

    cluster_foreground: Tensor
    share: float = 1.0
    """Completed share of training."""

    def __init__(self, num_classes: int, feature_dims: Mapping[str, int], config: Config, authors: bool) -> None:
        super().__init__()
        self.num_classes, self.config, self.authors = num_classes, config, authors
        self.clustered = bool(config.cluster_weight or config.cluster_class_weight)
        self.ties_videos = self.clustered
        self.parts = nn.ModuleDict(
            {name: StreamModel(num_classes, feature_dims[name], config) for name in stream_order(feature_dims)}
        )
        initial = 1.0 / config.clusters if authors else 0.5
        self.register_buffer("cluster_foreground", torch.full((config.clusters,), initial))

    def forward(self, batch: SnippetBatch) -> HeadOutput:
        """(B, T, D) per stream -> `cas` (B, T, C), `attention` (B, T), `video_scores` (B, C).

        `extras`: combined (B, T, C), which selects a class's snippets in training; inference_combined (B, T, C), which
        detection thresholds; foreground_STREAM (B, T), from a stream's clusters; cluster_STREAM (B, T, K), logits.

        Raises:
            UsageError: when the batch lacks a stream.
        """
        missing = [name for name in self.parts if name not in batch.streams]
        if missing:
            raise UsageError(f"this head has a model for {', '.join(self.parts)}; the features lack {missing[0]!r}")
        mask = self._seen(batch)
        outputs: dict[str, HeadOutput] = {s: part(batch.streams[s], mask) for s, part in self.parts.items()}
        attentions = {s: _attention(output) for s, output in outputs.items()}
        clusters = {s: output.extras["cluster"] for s, output in outputs.items()}
        foregrounds = {s: logits.float().softmax(dim=-1) @ self.cluster_foreground for s, logits in clusters.items()}
        classes = _mean([output.cas.float().softmax(dim=-1) for output in outputs.values()])
        combined = classes if self.share < self.config.warmup else _combined(classes, list(attentions.values()))
        signs = [*attentions.values(), *(foregrounds.values() if self.clustered else ())]
        thresholded = _combined(classes, signs)
        chosen = Highest.of(combined if self.training else thresholded, mask, self.config.top_k_ratio)
        scores = {s: chosen.mean(output.cas).float().softmax(dim=-1) for s, output in outputs.items()}
        return HeadOutput(
            cas=torch.logit(thresholded, eps=1e-6) * mask[..., None],
            attention=_mean(list(attentions.values())) * batch.mask,
            video_scores=_mean(list(scores.values())),
            extras={
                "combined": combined,
                "inference_combined": thresholded,
                **{f"foreground_{s}": values for s, values in foregrounds.items()},
                **{f"cluster_{s}": values for s, values in clusters.items()},
            },
            streams={s: replace(output, video_scores=scores[s]) for s, output in outputs.items()},
        )

    def loss(self, output: HeadOutput, batch: SnippetBatch) -> dict[str, Tensor]:
        """`video`, `attention_STREAM`, `cluster`, `cluster_class`; updates R in training."""
        config, mask, labels = self.config, self._seen(batch), labels_of(batch)
        chosen = Highest.of(output.extras["combined"].detach(), mask, config.top_k_ratio)
        truth = chosen.of_classes(labels, mask.shape[1])
        target = normalized(labels) + (1e-10 if self.authors else 0.0)
        terms = {"video": _mean([cross_entropy(chosen.mean(x.cas), target) for x in output.streams.values()])}
        if config.attention_weight:
            for name, answer in output.streams.items():
                loss = generalised_cross_entropy(_attention(answer).float(), truth, mask, config.power)
                terms[f"attention_{name}"] = config.attention_weight * loss.mean()
        if self.clustered:
            terms |= self._of_clusters(output, truth, mask)
        return terms

    def begin_step(self, moment: Moment, videos: Callable[[], Iterator[SnippetBatch]]) -> None:
        """Record the progress of training, for the warm-up."""
        self.share = moment.share

    def pseudo_labels(self, output: HeadOutput, batch: SnippetBatch) -> dict[str, Tensor]:
        """(B, T) each: the attention, the foreground share from each stream's clusters, and F; empty without labels."""
        if batch.labels is None or output.attention is None:
            return {}
        mask = self._seen(batch)
        chosen = Highest.of(output.extras["combined"], mask, self.config.top_k_ratio)
        clusters = {f"clusters, {name}": output.extras[f"foreground_{name}"] for name in output.streams}
        return {"attention": output.attention, **clusters, "foreground": chosen.of_classes(batch.labels, mask.shape[1])}

    def _of_clusters(self, output: HeadOutput, truth: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Loss terms of the clusters and of their classes; the N rows are the real snippets of the batch."""
        answers, terms = list(output.streams.values()), {}
        foreground = pack(truth[..., None], mask)  # (N, 1)
        kinds = torch.cat([foreground, 1.0 - foreground], dim=1)  # (N, 2)
        logits = [pack(answer.extras["cluster"], mask).float() for answer in answers]  # (N, K) each
        rows = [pack(answer.extras["features"], mask).float() for answer in answers]  # (N, E) each
        even = logits[0].new_full((self.config.clusters,), 1.0 / self.config.clusters)
        prior = self._prior(pack(_mean([_attention(answer) for answer in answers])[..., None], mask)[:, 0])
        assignment = transported(_mean(logits).detach() / _SCALE, even, prior)  # Q, (N, K)
        similarities = [centres(x, assignment) @ centres(x, kinds).T for x in rows]  # (K, 2) each
        cluster_kinds = transported(_mean(similarities).detach(), kinds.mean(dim=0))  # R, (K, 2)
        if self.config.cluster_weight:
            loss = torch.stack([cross_entropy(x, assignment) for x in logits]).sum()
            terms["cluster"] = self.config.cluster_weight * loss
        if self.config.cluster_class_weight:
            loss = torch.stack([cross_entropy(_SCALE * x, cluster_kinds) for x in similarities]).sum()
            terms["cluster_class"] = self.config.cluster_class_weight * loss
        if self.training:
            self.cluster_foreground.lerp_(cluster_kinds[:, 0], 1.0 if self.authors else 1.0 - self.config.momentum)
        return terms

    def _prior(self, attention: Tensor) -> Tensor | None:
        """(N,) -> (N, K), from the snippets' ranks by descending attention; None without a prior."""
        deviation = self.config.prior_deviation or (_AUTHORS_DEVIATION if self.authors else 0.0)
        if not deviation:
            return None
        order = (-attention.detach().float()).argsort(stable=True)
        ranks = order if self.authors else order.argsort()
        return rank_prior(ranks / len(ranks), self.cluster_foreground, deviation)

    def _seen(self, batch: SnippetBatch) -> Tensor:
        return torch.ones_like(batch.mask) if self.authors else batch.mask


class Highest(NamedTuple):
    """The max(1, length // ratio) snippets of each class with the highest signal."""

    indices: Tensor
    """(B, k, C), with the longest video's k."""
    among: Tensor
    """(B, k, 1), True up to the video's own count."""

    @classmethod
    def of(cls, signal: Tensor, mask: Tensor, ratio: int) -> "Highest":
        """Select from a signal (B, T, C), mask (B, T)."""
        counts = (mask.sum(dim=1) // ratio).clamp(min=1)
        indices = signal.masked_fill(~mask[..., None], -torch.inf).topk(int(counts.max()), dim=1).indices
        return cls(indices, torch.arange(indices.shape[1], device=mask.device)[None, :, None] < counts[:, None, None])

    def mean(self, values: Tensor) -> Tensor:
        """(B, T, C) -> (B, C): mean of each class over its snippets."""
        chosen = values.gather(1, self.indices).masked_fill(~self.among, 0.0)
        return chosen.sum(dim=1) / self.among.sum(dim=1)

    def of_classes(self, labels: Tensor, length: int) -> Tensor:
        """Multi-hot (B, C), T -> (B, T): 1 where a snippet belongs to a labelled class."""
        members = (self.among * labels[:, None]).to(labels.dtype)
        snippets = labels.new_zeros(len(labels), length, labels.shape[1])
        return snippets.scatter_reduce(1, self.indices, members, "amax").amax(dim=-1)


def generalised_cross_entropy(probability: Tensor, truth: Tensor, mask: Tensor, power: float) -> Tensor:
    """(B, T) each, mask (B, T) -> (B,): (1 - p^q) / q, p of the true side; means over positives and negatives, summed.

    Source: Zhang and Sabuncu, NeurIPS 2018.
    """
    loss = 0.0 * probability.sum(dim=1)
    for share, kind in ((probability, truth), (1.0 - probability, (1.0 - truth) * mask)):
        each = (1.0 - (share + _SMALL) ** power) / power
        loss = loss + (each * kind).sum(dim=1) / kind.sum(dim=1).clamp(min=1.0)
    return loss


def _attention(answer: HeadOutput) -> Tensor:
    assert answer.attention is not None
    return answer.attention


def _mean(values: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(values)).mean(dim=0)


def _combined(classes: Tensor, signs: Sequence[Tensor]) -> Tensor:
    """(B, T, C) and (B, T) each -> (B, T, C): their mean."""
    return (classes + torch.stack(list(signs)).sum(dim=0)[..., None]) / (1 + len(signs))


def create(num_classes: int, feature_dims: dict[str, int], config: Config, authors: bool) -> Case:
    """Create a CASE with one model per stream."""
    return Case(num_classes, feature_dims, config, authors)


def from_authors(state_dict: Mapping[str, Tensor], num_classes: int) -> Case:
    """Load a CASE from the authors' checkpoint of rgb and flow; the widths are read off its tensors.

    Their file of R, `cls_gt.npy`, (K, 2), may be among the tensors as `cls_gt`; without it R has its initial value, and
    the clusters carry no information.
    """
    plain = plain_keys(state_dict, "CASE")
    first, prototypes = plain.get("cas_module_rgb.0.weight"), plain.get("clu_head_rgb.prototypes.weight")
    width, features = first.shape[:2] if first is not None and first.ndim == 3 else (Config().width, 1024)
    count = prototypes.shape[0] if prototypes is not None and prototypes.ndim == 2 else Config().clusters
    config = Config(width=width, clusters=count)
    head = Case(num_classes, {"rgb": features, "flow": features}, config, authors=True)
    shares = plain.pop(_LABELS, None)
    if shares is not None and tuple(shares.shape) != (count, 2):
        raise WeightsError(f"not a checkpoint of CASE: {_LABELS} is {tuple(shares.shape)}, wanted {(count, 2)}")
    foreground = head.cluster_foreground if shares is None else shares[:, 0].to(head.cluster_foreground)
    load_renamed(head, {**plain, "cluster_foreground": foreground}, _names(), "CASE")
    return head


def _names() -> dict[str, str]:
    """Map the authors' keys to ours."""
    names = {"cluster_foreground": "cluster_foreground"}
    for stream in ("rgb", "flow"):
        names[f"clu_head_{stream}.prototypes.weight"] = f"parts.{stream}.prototypes"
        layers = {
            f"cas_module_{stream}.0": "hidden",
            f"cas_module_{stream}.2": "classify",
            f"base_module_{stream}.0": "embed",
            f"att_module_{stream}": "attend",
        }
        for key, layer in layers.items():
            names |= {f"{key}.{kind}": f"parts.{stream}.{layer}.{kind}" for kind in ("weight", "bias")}
    return names
