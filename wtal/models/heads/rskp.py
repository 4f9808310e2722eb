"""RSKP: Representative Snippet Knowledge Propagation (Huang, Wang, Li; CVPR 2022 and its supplement).

Snippets F are embedded and summarized by a few representative ones (EM attention, equations 1 to 3). These are
propagated into F along a bipartite random walk (equations 4 to 6, in the exact low-rank form of
`wtal.models.layers.random_walk`): those of the video itself (intra-video branch F^a), and those of the video's classes
from a memory bank (inter-video branch F^e, in the second half of the run). One classification head, FAC-Net's without
its class-wise foreground branch and with sigmoid attention, sees F, F^a and F^e; the activations of the latter two are
online pseudo labels for the first (equation 7). The loss (equation 8) has the terms

    cls_fore   class-agnostic attention head against the labels, all branches
    cls_back   multiple-instance head against labels and background, all branches, gamma = 0.2
    att        mean of the lowest minus mean of the highest foreground scores, main branch, beta = 0.1
    spl        cross entropy of the main branch's activations against the fused others', alpha

`base` replaces the network by another method (Table 6): any head with separate `embed` and `respond`. Its own terms
apply to every branch except for `main_terms`, its logits are fused instead of probabilities, and `temperature` should
be 1, as the code's value suits the scale of its own network.

Where code and paper differ, the defaults are the code's, which produced the published numbers: pseudo labels and
activations are sharpened by a temperature of 0.2, alpha falls from 1 to 0.5 once the memory is used, the
multiple-instance head aggregates features with sigmoid attention (`mil = "scores"` is the supplement's), means start
from Xavier's uniform distribution (`mu_init = "orthogonal"` is the paper's).

Differences from the authors' code, whose behaviour `authors=True` restores:

- Their `cas` of a batch with labels is the main branch's in evaluation too, as in their training code; without
  `authors`, and for batches without labels, evaluation fuses main and intra-video branch: the softmax of `cas` is then
  0.6 of the main branch's class probabilities plus 0.4 of the intra-video branch's. `video_scores` are fused in the
  same way in both modes.
- Their empty memory slots (when a class's videos have fewer means than slots) take part as zeros.

Different in both modes: their memory is updated after each video; here all videos of a step first retrieve and are then
stored together. Theirs is filled after the epoch of index 100 of 200, here after the share `warmup` of the steps. For a
video without any entry in the memory, the intra-video branch also serves as the inter-video one.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from wtal.config import about
from wtal.data.batch import SnippetBatch
from wtal.errors import ConfigError
from wtal.models.head import (
    EmbeddingHead,
    Head,
    HeadOutput,
    Moment,
    RepresentativeSnippets,
    load_renamed,
    matrix_shape,
    plain_keys,
)
from wtal.models.heads import HEADS, create_head
from wtal.models.layers.branches import cross_entropy_with, fused, named, teacher, unnamed
from wtal.models.layers.buckets import in_parts
from wtal.models.layers.cosine_network import CosineNetwork, NetworkConfig
from wtal.models.layers.losses import labels_of
from wtal.models.layers.memory_bank import ClassMemory, Memory, VideoMemory
from wtal.models.layers.random_walk import Means, Propagation, Walk, among_snippets
from wtal.models.layers.representatives import Representatives, Summary, extremes
from wtal.models.layers.temporal import masked_mean
from wtal.registry import suggest

_BRANCHES = {"o": "main branch", "m": "intra-video branch", "r": "inter-video branch"}


class Config(NetworkConfig):
    """Defaults are those of the authors' code for THUMOS14, and of the paper where no other source is named.

    The settings of RSKP's own network come first, from `NetworkConfig`.
    """

    branches: Literal["main", "intra", "all"] = "all"
    """Trained branches: the main branch alone, also the intra-video branch, also the memory's inter-video branch."""
    summary: Literal[Summary, "snippets"] = "em"
    """Representative snippets: means of EM attention, from learned or fixed starts (Table 4, without BP); snippets of
    the highest class scores; cluster centres; or all snippets (Table 3)."""
    n_mu: int = Field(8, ge=1)
    """Number of representative snippets per video; supplement, section 3."""
    mu_init: Literal["xavier", "orthogonal"] = "xavier"
    """Initialization of the means from which EM starts: the code's, or section 3.1's."""
    em_iterations: int = Field(2, ge=1)
    """Iterations of EM attention; section 3.1."""
    em_scale: float = Field(5.0, gt=0)
    """lambda, sharpness of the affinities."""
    extremes: int = Field(0, ge=0)
    """Use only this many representative snippets of the highest, and as many of the lowest foreground scores; 0 uses
    all. Supplement, Table 2, which gives no number."""
    region: Literal["whole", "foreground", "background"] = "whole"
    """Part of the snippets' features that is summarized and updated; supplement, Table 2."""
    propagation: Propagation = "closed"
    """Equation 6, by a K x K or a T x T solve; `walk_steps` steps of equations 4 and 5, or of these with fixed means;
    Z M alone; or equation 6 on the class scores instead of the features (Table 5)."""
    w: float = Field(0.5, ge=0, lt=1)
    """Weight of the propagated features, against the snippets' own."""
    walk_steps: int = Field(1, ge=1)
    """Steps of the iterated forms (Figure 5)."""
    distill: Literal["scores", "l1", "l2"] = "scores"
    """Pseudo labels: class activations, or the updated features, by L1 or L2 distance; supplement, Table 3."""
    temperature: float = Field(0.2, gt=0)
    """Divisor of both activations; code. The paper has none, i.e. 1."""
    pseudo_weight: float = Field(1.0, ge=0)
    """alpha, weight of the pseudo labels, before the memory is used."""
    memory_pseudo_weight: float = Field(0.5, ge=0)
    """alpha from then on; code. It stays 1 in the paper."""
    intra_weight: float = Field(1.0, ge=0)
    """Weight of the classification terms of the intra-video branch; 0 omits them, as in Table 5."""
    inter_weight: float = Field(0.5, ge=0)
    """Weight of the classification terms of the inter-video branch; code."""
    inter_share: float = Field(0.2, ge=0, le=1)
    """Share of the inter-video branch in the pseudo labels, and among the branches fused with the main one; code."""
    memory: Literal["class", "video"] = "class"
    """A table of the best means of each class, or of the means of every video (supplement, Table 2)."""
    memory_slots: int = Field(5, ge=1)
    """Means per class; supplement, section 3."""
    memory_videos: int = Field(256, ge=1)
    """Rows of the table of videos, at least the number of training videos; ours, THUMOS14 has 200."""
    memory_momentum: float = Field(0.999, ge=0, le=1)
    """Momentum of the table of videos; MoCo's, to which the supplement refers."""
    memory_fusion: Literal["late", "concat"] = "late"
    """A separate branch for the memory's means, or one branch for them and the video's own (supplement, Table 3)."""
    warmup: float = Field(0.5, ge=0, le=1)
    """Share of the run before the memory is used: 100 of 200 epochs; section 4.2."""
    test_branches: Literal["main", "intra", "all"] = "intra"
    """Branches fused in evaluation; `all` queries the memory with the predicted classes (supplement, Table 4)."""
    test_main: float = Field(0.6, ge=0, le=1)
    """Weight of the main branch in evaluation; code. The authors give 0.8 for ActivityNet."""
    test_class_threshold: float = Field(0.1, ge=0, le=1)
    """Classes of at least this score, and the best class, are predicted; section 4.2."""
    base: str = ""
    """Another head in place of RSKP's own network: stpn, bm, um, facnet (Table 6). Empty: its own."""
    base_settings: dict[str, Any] = Field(default_factory=dict)
    """Settings of that head."""
    main_terms: tuple[str, ...] = ("att",)
    """Terms of the network's loss that apply to the main branch only, as in section 4.4 on Table 6."""

    @model_validator(mode="after")
    def _of_a_head(self) -> Self:
        """Refuse an unknown `base`, or settings that it does not have."""
        if self.base:
            with about("head.base"):
                leaf = HEADS.load(self.base)
            leaf.Config.parse(self.base_settings, section="head.base_settings")
        return self


def _require_terms(config: Config, terms: Collection[str]) -> None:
    """Refuse `main_terms` that are not among the network's; the default is for RSKP's own."""
    if config.main_terms == Config.model_fields["main_terms"].default:
        return
    for term in config.main_terms:
        if term not in terms:
            raise ConfigError(f"head.main_terms: the network has no term {term!r}; {suggest(term, terms)}")


class Rskp(Head):
    """A network, representative snippets, their propagation, and a memory of them.

    `memory.features` (C, S, E), `memory.scores` (C, S) and `memory.filled` () are buffers, and may be set.
    """

    def __init__(self, num_classes: int, base: EmbeddingHead, config: Config, authors: bool) -> None:
        super().__init__()
        self.num_classes, self.config, self.authors = num_classes, config, authors
        self.pairs, self.stages = base.pairs, base.stages
        self.base = base
        self.walk = Walk(config.propagation, config.w, config.em_scale, config.walk_steps)
        self.representatives = _representatives(base.embedding, config)
        self.memory = _memory(num_classes, base.embedding, config, authors)

    def forward(self, batch: SnippetBatch) -> HeadOutput:
        """(B, T, D) -> `cas`, `attention` and `video_scores` in the base's shapes, fused in evaluation.

        `extras`: the output of each branch, o_*, m_* and r_*: cas, att, scores and the base's own extras; with labels,
        mu (B, K, E), mu_present (B, K) and mu_pred (B, K, C + 1), representative snippets and their classes.
        """
        # The authors of another head may compute on padding, so the batch is not split.
        output = self._answer(batch) if self.authors else in_parts(self._answer, batch, self.base.embedding)
        if self.training and batch.labels is not None and self.memory is not None and self.memory.is_filled:
            own = Means(output.extras["mu"], output.extras["mu_present"])
            self.memory.store(own, output.extras["mu_pred"], batch.labels, batch)
        return output

    def loss(self, output: HeadOutput, batch: SnippetBatch) -> dict[str, Tensor]:
        """The base's terms, each summed over branches, and `spl`, the pseudo labels' term.

        Raises:
            ConfigError: when `main_terms` names a term that the base does not have.
        """
        config = self.config
        updated = config.propagation != "scores"
        weights = {"o": 1.0, "m": updated * config.intra_weight, "r": updated * config.inter_weight}
        terms: dict[str, Tensor] = {}
        for name, weight in weights.items():
            if not weight or f"{name}_cas" not in output.extras:
                continue
            own = self.base.loss(unnamed(name, output), batch)
            _require_terms(config, own)
            for term, value in own.items():
                if name == "o" or term not in config.main_terms:
                    terms[term] = terms[term] + weight * value if term in terms else weight * value
        filled = self.memory is not None and self.memory.is_filled
        pseudo = config.memory_pseudo_weight if filled else config.pseudo_weight
        if pseudo and "m_cas" in output.extras:
            terms["spl"] = pseudo * masked_mean(self._disagreement(output.extras), batch.mask).mean()
        return terms

    def pseudo_labels(self, output: HeadOutput, batch: SnippetBatch) -> dict[str, Tensor]:
        """(B, T, C + 1) of each branch and of equation 7; empty without labels, or if features are distilled."""
        if self.config.distill != "scores" or batch.labels is None or "m_cas" not in output.extras:
            return {}
        logits = {label: output.extras.get(f"{name}_cas") for name, label in _BRANCHES.items()}
        by_branch = {label: cas.float().softmax(dim=-1) for label, cas in logits.items() if cas is not None}
        return by_branch | {"pseudo label": teacher(output.extras, self.config.inter_share, self.config.temperature)}

    def representative_snippets(self, output: HeadOutput) -> RepresentativeSnippets | None:
        """Return the videos' own representative snippets; None without labels, as their classes are unknown then."""
        mu = [output.extras[name] for name in ("mu", "mu_present", "mu_pred") if name in output.extras]
        return RepresentativeSnippets(*mu) if mu else None

    def remembered_snippets(self) -> tuple[Tensor, Tensor] | None:
        """Return the means in the memory; None without a memory, and until it is filled."""
        return None if self.memory is None or not self.memory.is_filled else self.memory.entries()

    def begin_step(self, moment: Moment, videos: Callable[[], Iterator[SnippetBatch]]) -> None:
        """At the end of the warm-up, fill the memory with the representative snippets of all training videos."""
        self.base.begin_step(moment, videos)
        if moment.step == 0 and isinstance(self.memory, VideoMemory):
            self.memory.admit(key for batch in videos() for key in batch.ids)  # refuse at once, not half a run later
        if self.memory is None or self.memory.is_filled or moment.share < self.config.warmup:
            return
        self.eval()
        with torch.no_grad():
            for batch in videos():
                x = self.base.embed(batch)
                own = self._represent(x, self.base.respond(x, batch), batch)
                self.memory.store(own, self._recognize(own, batch), labels_of(batch), batch)
        self.memory.filled.fill_(1.0)

    def end_stage(self, stage: int) -> None:
        """Call the base's `end_stage`."""
        self.base.end_stage(stage)

    def finish(self) -> None:
        """Call the base's `finish`."""
        self.base.finish()

    def _answer(self, batch: SnippetBatch) -> HeadOutput:
        x = self.base.embed(batch)  # (B, T, E)
        main = self.base.respond(x, batch)  # cas (B, T, C + 1), attention (B, T), video_scores (B, C)
        if self.config.branches == "main" or (not self.training and self.config.test_branches == "main"):
            return replace(main, extras=named("o", main), embedding=None if self.training else x)
        own = self._represent(x, main, batch)  # features (B, K, E), present (B, K)
        branches = {"o": main, **self._branches(x, own, main, batch)}
        cas, scores = self._combined(branches, x, own, batch)  # (B, T, C + 1), (B, C)
        extras = {key: value for name, branch in branches.items() for key, value in named(name, branch).items()}
        if batch.labels is not None and self.representatives is not None:
            extras |= {"mu": own.features, "mu_present": own.present, "mu_pred": self._recognize(own, batch)}
        return HeadOutput(cas, main.attention, scores, extras, embedding=None if self.training else x)

    def _represent(self, x: Tensor, main: HeadOutput, batch: SnippetBatch) -> Means:
        """(B, T, E) -> the representative snippets of each video."""
        if self.representatives is None:
            return Means(x, batch.mask)
        evidence = main.cas.softmax(dim=-1)[..., : self.num_classes].amax(dim=-1)
        means: Means = self.representatives(self._part(x, main), batch.mask, evidence)
        if not self.config.extremes:
            return means
        return extremes(means, self._foreground(self._respond_to(means, batch)), self.config.extremes)

    def _branches(self, x: Tensor, own: Means, main: HeadOutput, batch: SnippetBatch) -> dict[str, HeadOutput]:
        """Outputs of the branches other than the main one."""
        known = None if batch.labels is None else self._recall(own, batch.labels, batch)
        if known is None or self.config.memory_fusion == "concat":
            return {"m": self._walked(x, known or own, main, batch)}
        return {"m": self._walked(x, own, main, batch), "r": self._walked(x, known, main, batch)}

    def _recall(self, own: Means, labels: Tensor, batch: SnippetBatch) -> Means | None:
        """Look up labels (B, C) in the memory; a video without entries gets its own means. None until it is filled."""
        if self.memory is None or not self.memory.is_filled:
            return None
        remembered = self.memory.retrieve(labels, batch)
        joins = ~remembered.present.any(dim=1, keepdim=True) | (self.config.memory_fusion == "concat")
        return remembered.beside(own._replace(present=own.present & joins))

    def _walked(self, x: Tensor, means: Means, main: HeadOutput, batch: SnippetBatch) -> HeadOutput:
        """Return the base's output for (B, T, E) once `means` are propagated into it."""
        config = self.config
        if config.propagation == "scores":
            of_means = self._respond_to(means, batch).cas
            return replace(main, cas=self.walk.of_scores(main.cas, of_means, x, means, batch.mask))
        part = self._part(x, main)  # (B, T, E)
        if self.representatives is None:
            walked = among_snippets(part, batch.mask, config.em_scale, config.w)
        else:
            walked = self.walk(part, means, batch.mask)  # (B, T, E)
        walked = walked if part is x else walked + (x - part)
        answer = self.base.respond(walked, batch)
        if config.distill == "scores":
            return answer
        # The mean over features is ours: the supplement does not give the scale of the distances.
        distance = (x - walked.detach()).abs() if config.distill == "l1" else (x - walked.detach()).square()
        return replace(answer, extras={**answer.extras, "apart": distance.mean(dim=-1)})

    def _part(self, x: Tensor, main: HeadOutput) -> Tensor:
        """(B, T, E) -> the part of it that is summarized and updated."""
        if self.config.region == "whole":
            return x
        foreground = self._foreground(main)[..., None]
        return x * (foreground if self.config.region == "foreground" else 1.0 - foreground)

    def _foreground(self, answer: HeadOutput) -> Tensor:
        assert answer.attention is not None
        return answer.attention

    @torch.no_grad()
    def _respond_to(self, means: Means, batch: SnippetBatch) -> HeadOutput:
        """Return the base's output for means in place of the snippets of a video; no gradient."""
        return self.base.respond(means.features.detach(), replace(batch, streams={}, mask=means.present))

    def _recognize(self, means: Means, batch: SnippetBatch) -> Tensor:
        """K means -> (B, K, C + 1) class probabilities."""
        return self._respond_to(means, batch).cas.float().softmax(dim=-1)

    def _combined(
        self, branches: dict[str, HeadOutput], x: Tensor, own: Means, batch: SnippetBatch
    ) -> tuple[Tensor, Tensor]:
        """`cas` and `video_scores`: the main branch's in training, fused in evaluation."""
        config, main, intra = self.config, branches["o"], branches["m"]
        if self.training:
            return main.cas, main.video_scores
        weighted, probabilities = [(config.test_main, main), (1 - config.test_main, intra)], not config.base
        if config.test_branches == "all":
            scores = fused(weighted, probabilities)[1]
            predicted = (scores >= config.test_class_threshold) | (scores == scores.amax(dim=1, keepdim=True))  # (B, C)
            recalled = self._recall(own, predicted, batch)
            if recalled is not None:
                inter, share = self._walked(x, recalled, main, batch), (1 - config.test_main) * config.inter_share
                weighted[1:] = [(1 - config.test_main - share, intra), (share, inter)]
        cas, scores = fused(weighted, probabilities)
        return (main.cas if self.authors and batch.labels is not None else cas), scores

    def _disagreement(self, extras: dict[str, Tensor]) -> Tensor:
        """(B, T), between the main branch and the others: cross entropy, or distance of features."""
        if self.config.distill != "scores":
            return extras["m_apart"]
        taught = teacher(extras, self.config.inter_share, self.config.temperature)
        return cross_entropy_with(taught, extras["o_cas"], self.config.temperature)


def create(num_classes: int, feature_dims: dict[str, int], config: Config, authors: bool) -> Rskp:
    """Create an RSKP over the concatenated streams, on its own network or on another head.

    Raises:
        ConfigError: when settings conflict, or the other head has no embedding.
    """
    width = sum(feature_dims.values())
    base: Head = CosineNetwork(num_classes, width, config)
    if config.base:
        base = create_head(config.base, num_classes, {"features": width}, authors=authors, **config.base_settings)
    if not isinstance(base, EmbeddingHead):
        raise ConfigError(
            f"head.base = {config.base!r} has no embedding to work on; take stpn, bm, um, facnet or wtalc"
        )
    if not base.attends and (config.extremes or config.region != "whole"):
        raise ConfigError(f"head.base = {config.base!r} has no attention; leave head.region and head.extremes alone")
    _check(config)
    return Rskp(num_classes, base, config, authors)


def from_authors(state_dict: Mapping[str, Tensor], num_classes: int) -> Rskp:
    """Load an RSKP from the authors' checkpoint, with an empty memory; the widths are read off its tensors."""
    names = {
        "mu": "representatives.mu",
        "ac_center": "base.actions",
        "fg_center": "base.foreground",
        "feature_embedding.0.weight": "base.linear.weight",
        "feature_embedding.0.bias": "base.linear.bias",
    }
    plain = plain_keys(state_dict, "RSKP")
    width, features = matrix_shape(plain, "feature_embedding.0.weight", (Config().width, 2048))
    config = Config(width=width, n_mu=matrix_shape(plain, "mu", (Config().n_mu, width))[0])
    head = Rskp(num_classes, CosineNetwork(num_classes, features, config), config, authors=True)
    buffers = dict(head.named_buffers())
    load_renamed(head, {**plain, **buffers}, {**names, **{key: key for key in buffers}}, "RSKP")
    return head


def _representatives(width: int, config: Config) -> Representatives | None:
    if config.branches == "main" or config.summary == "snippets":
        return None
    # The means reach the loss through the classification terms of the updated features alone.
    learned = config.summary == "em" and config.propagation != "scores" and config.intra_weight > 0
    return Representatives(
        config.summary, config.n_mu, width, config.em_iterations, config.em_scale, config.mu_init, learned
    )


def _memory(num_classes: int, width: int, config: Config, authors: bool) -> Memory | None:
    if config.branches != "all":
        return None
    if config.memory == "class":
        return ClassMemory(num_classes, config.memory_slots, width, empty_slots=authors)
    count = min(config.n_mu, 2 * config.extremes or config.n_mu)
    return VideoMemory(num_classes, config.memory_videos, count, width, config.memory_momentum)


def _check(config: Config) -> None:
    """Refuse settings that conflict.

    Raises:
        ConfigError: for the first conflict.
    """
    if config.branches == "all" and config.summary == "snippets":
        raise ConfigError("head.summary = 'snippets' leaves nothing to remember; set head.branches = 'intra'")
    if config.branches == "all" and config.memory == "video" and config.summary not in ("em", "em_fixed"):
        raise ConfigError(
            "head.memory = 'video' needs the same number of means in every video; set head.summary to em or em_fixed"
        )
    if config.propagation == "scores" and (config.distill != "scores" or config.region != "whole"):
        raise ConfigError("head.propagation = 'scores' updates no features; leave head.distill and head.region alone")
