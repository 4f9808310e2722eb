"""TSCN for HACS: two-stream consensus by pseudo ground truth (Zhai, Wang, Doermann, Yuan; HACS 2021, arXiv 2106.10829).

Each stream has its own base model: a convolution over three snippets embeds, one layer gives an attention a_t, one
classifies. The attention-weighted mean of the snippets, x_fg, is classified by a softmax over the C classes (there is
no background class), and so is every snippet (the T-CAM s_t). A base model is trained with

    L_base = L_cls + 0.1 L_smooth + 0.1 L_norm + 0.1 L_dist + 0.1 L_guide

L_smooth: neighbours have similar attention; L_norm: the lowest attentions fall, the highest rise; L_dist: x_fg and
x_bg, the mean of the unattended snippets, differ in direction; L_guide: the T-CAM follows the attention, its teacher.

Then the streams teach each other. Both attentions, fused with weight beta = 0.6 for rgb, determine which snippets are
action (a > 0.5); this pseudo ground truth G of the last iteration's model supervises both attentions in the next,

    L_total = L_cls + 0.1 L_dist + 0.1 L_guide + 0.01 L_pseudo         L_pseudo: binary cross entropy of a against G

for four more iterations of ten epochs. Each iteration is a stage of training whose parameters are saved; the final head
is a running average of them. G is recomputed for the snippets of each batch, with the last iteration's parameters.

`cas` (B, T, C) are logarithms of the fused T-CAM, without background, so that a softmax recovers the T-CAM; `streams`
has each stream's own output.

There is no public code. Our choices where the paper is silent: ReLU after the convolution; x_bg is weighted by 1 - a
(as in the authors' ECCV paper); cross entropy is summed over classes, as its mean would fade as classes are added;
parameters carry over from one iteration to the next; "successive weight 0.2" is the weight of the newer parameters in
the average (0.8 in the mean teacher's reading, `average_weight`). `authors=True` changes nothing.
"""

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import binary_cross_entropy as entropy_of
from torch.nn.functional import cosine_similarity, dropout

from wtal import config
from wtal.data.batch import SnippetBatch, stream_order
from wtal.errors import UsageError, WeightsError
from wtal.models.head import Head, HeadOutput
from wtal.models.layers.late_fusion import weighted_mean
from wtal.models.layers.losses import binary_cross_entropy, labels_of, normalized
from wtal.models.layers.temporal import TemporalConv, masked_mean, masked_topk_mean, pack, unpack

_SMALL = 1e-8


class Config(config.Config):
    """Defaults are from section 2.1 of the paper unless noted."""

    width: int = Field(0, ge=0)
    """Width of the embedding; 0 is the width of the stream's features, as in the paper."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout of the embedding; ours, for small collections. The paper names none."""
    input_dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout of feature channels, over the whole video; ours, for small collections. The paper names none."""
    smooth_weight: float = Field(0.1, ge=0)
    """lambda_1, weight of the smooth term (Table 1)."""
    norm_weight: float = Field(0.1, ge=0)
    """lambda_2, weight of the normalization term (Table 1)."""
    dist_weight: float = Field(0.1, ge=0)
    """lambda_3, weight of the distinctness term (Table 1)."""
    guide_weight: float = Field(0.1, ge=0)
    """lambda_4, weight of the guide term (Table 1)."""
    pseudo_weight: float = Field(0.01, ge=0)
    """lambda_5, weight of the pseudo ground truth."""
    norm_ratio: int = Field(8, ge=1)
    """k: the normalization term uses the max(1, T // k) lowest and highest attentions."""
    margin: float = Field(0.5, ge=-1, le=1)
    """m, margin of the distinctness term: no loss for a cosine of x_fg and x_bg below it."""
    rgb_share: float = Field(0.6, ge=0, le=1)
    """beta, weight of rgb against flow in every fusion; other streams have equal weights."""
    pseudo_threshold: float = Field(0.5, ge=0, le=1)
    """theta: a fused attention above this is action."""
    iterations: int = Field(5, ge=1)
    """Number of iterations: the base model's plus those that refine it (Table 2); 1 is the base model alone."""
    average_weight: float = Field(0.2, ge=0, le=1)
    """Weight of an iteration's parameters in the running average; 1 keeps only the last iteration's."""


class BaseModel(nn.Module):
    """The model of one stream."""

    def __init__(self, num_classes: int, in_features: int, config: Config) -> None:
        super().__init__()
        width = config.width or in_features
        self.config = config
        self.embed = TemporalConv(in_features, width, 3)
        self.attend = nn.Linear(width, 1)
        self.classify = nn.Linear(width, num_classes)

    def forward(self, x: Tensor, mask: Tensor, training: bool) -> HeadOutput:
        """(B, T, D), (B, T) -> `cas` (B, T, C) logits, `attention`, `video_scores`; `extras`: x_fg and x_bg (B, E)."""
        if training and self.config.input_dropout:
            x = x * dropout(torch.ones_like(x[:, :1]), self.config.input_dropout)  # drops a channel in all snippets
        rows = torch.relu(self.embed(pack(x, mask), mask))  # (N, E), the real snippets of all videos
        rows = dropout(rows, self.config.dropout, training)
        features = unpack(rows, mask)  # (B, T, E)
        attention = unpack(torch.sigmoid(self.attend(rows)), mask)[..., 0]  # (B, T)
        x_fg = _weighted(features, attention)  # (B, E)
        return HeadOutput(
            cas=unpack(self.classify(rows), mask),
            attention=attention,
            video_scores=self.classify(x_fg).softmax(dim=-1),
            extras={"x_fg": x_fg, "x_bg": _weighted(features, (1.0 - attention) * mask)},
            embedding=features,
        )


class Tscn(Head):
    """One base model per stream, with the teacher and the average of all of them as buffers."""

    iteration: Tensor

    def __init__(self, num_classes: int, feature_dims: Mapping[str, int], config: Config) -> None:
        super().__init__()
        self.num_classes, self.config, self.stages = num_classes, config, config.iterations
        self.base = nn.ModuleDict(
            {s: BaseModel(num_classes, feature_dims[s], config) for s in stream_order(feature_dims)}
        )
        self.shares = _shares(list(self.base), config.rgb_share)
        self.register_buffer("iteration", torch.zeros((), dtype=torch.long))
        if config.iterations > 1:
            for copy in ("teacher", "average"):
                for name, parameter in self.base.named_parameters():
                    self.register_buffer(_buffer(copy, name), torch.zeros_like(parameter))

    def forward(self, batch: SnippetBatch) -> HeadOutput:
        """(B, T, D) per stream -> fused `cas` (B, T, C), `attention` (B, T), `video_scores` (B, C).

        Raises:
            UsageError: when the batch lacks a stream.
        """
        missing = [name for name in self.base if name not in batch.streams]
        if missing:
            raise UsageError(f"this head has a model for {', '.join(self.base)}; the features lack {missing[0]!r}")
        outputs = {s: model(batch.streams[s], batch.mask, self.training) for s, model in self.base.items()}
        probabilities = {s: output.cas.float().softmax(dim=-1) for s, output in outputs.items()}  # (B, T, C) each
        tcam = weighted_mean(probabilities, self.shares)  # (B, T, C)
        return HeadOutput(
            cas=tcam.clamp(min=torch.finfo(tcam.dtype).tiny).log(),
            attention=_fused({s: output.attention for s, output in outputs.items()}, self.shares),
            video_scores=weighted_mean({s: output.video_scores for s, output in outputs.items()}, self.shares),
            streams=outputs,
        )

    def loss(self, output: HeadOutput, batch: SnippetBatch) -> dict[str, Tensor]:
        """`cls`, `smooth`, `norm`, `dist`, `guide` per stream; in refinement `pseudo` replaces `smooth` and `norm`."""
        refining = int(self.iteration) > 0 and self.config.iterations > 1
        truth = self._pseudo_ground_truth(batch) if refining and self.config.pseudo_weight else None
        terms = {}
        for stream, answer in output.streams.items():
            for name, (weight, value) in self._terms(answer, batch, truth, refining).items():
                terms[f"{name}_{stream}"] = weight * value
        return terms

    def pseudo_labels(self, output: HeadOutput, batch: SnippetBatch) -> dict[str, Tensor]:
        """Attention (B, T) of each stream, their fusion, and the pseudo ground truth of the next iteration."""
        if int(self.iteration) == 0 or self.config.iterations == 1:
            return {}
        attention = {f"attention, {s}": answer.attention for s, answer in output.streams.items()}
        attention["fused"] = output.attention
        present = {name: values for name, values in attention.items() if values is not None}
        return present | {"pseudo ground truth": self._pseudo_ground_truth(batch)}

    @torch.no_grad()
    def end_stage(self, stage: int) -> None:
        """Make the parameters the next iteration's teacher, and add them to the average."""
        self.iteration.fill_(stage + 1)
        if self.config.iterations == 1:
            return
        weight = self.config.average_weight if stage else 1.0
        for name, parameter in self.base.named_parameters():
            self.get_buffer(_buffer("teacher", name)).copy_(parameter)
            self.get_buffer(_buffer("average", name)).lerp_(parameter, weight)

    @torch.no_grad()
    def finish(self) -> None:
        """Replace the last iteration's parameters by the average."""
        if self.config.iterations > 1:
            for name, parameter in self.base.named_parameters():
                parameter.copy_(self.get_buffer(_buffer("average", name)))

    @torch.no_grad()
    def _pseudo_ground_truth(self, batch: SnippetBatch) -> Tensor:
        """(B, T) in {0, 1}: 1 where the last iteration's fused attention is high."""
        attention = {}
        for stream, model in self.base.items():
            names = [name for name, _ in model.named_parameters()]
            state = {name: self.get_buffer(_buffer("teacher", f"{stream}.{name}")) for name in names}
            attention[stream] = functional_call(model, state, (batch.streams[stream], batch.mask, False)).attention
        return (_fused(attention, self.shares) > self.config.pseudo_threshold).float()

    def _terms(
        self, output: HeadOutput, batch: SnippetBatch, truth: Tensor | None, refining: bool
    ) -> dict[str, tuple[float, Tensor]]:
        """One stream's terms with their weights."""
        assert output.attention is not None
        settings, mask, labels, attention = self.config, batch.mask, labels_of(batch), output.attention.float()
        terms = {"cls": (1.0, binary_cross_entropy(output.video_scores, normalized(labels), classes=1))}
        if settings.smooth_weight and not refining:
            terms["smooth"] = (settings.smooth_weight, _smooth(attention, mask).mean())
        if settings.norm_weight and not refining:
            low, high = (
                masked_topk_mean(attention[..., None], mask, settings.norm_ratio, lowest=b) for b in (True, False)
            )
            terms["norm"] = (settings.norm_weight, (low - high).mean())
        if settings.dist_weight:
            similarity = cosine_similarity(output.extras["x_fg"].float(), output.extras["x_bg"].float(), dim=-1)
            terms["dist"] = (settings.dist_weight, torch.relu(similarity - settings.margin).mean())
        if settings.guide_weight:
            terms["guide"] = (settings.guide_weight, _guide(output.cas, attention.detach(), mask, labels).mean())
        if truth is not None:
            each = entropy_of(attention.clamp(0.0, 1.0), truth, reduction="none")
            terms["pseudo"] = (settings.pseudo_weight, masked_mean(each, mask).mean())
        return terms


def _smooth(attention: Tensor, mask: Tensor) -> Tensor:
    """(B, T), (B, T) -> (B,): twice the mean step between neighbours, as each step counts from both sides."""
    steps = (attention[:, 1:] - attention[:, :-1]).abs() * mask[:, 1:]
    return 2.0 * steps.sum(dim=1) / (mask.sum(dim=1) - 1).clamp(min=1)


def _guide(cas: Tensor, attention: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
    """(B, T, C), (B, T), (B, T), (B, C) -> (B,): distance between the T-CAM's labelled classes and the attention.

    With several labels the highest activation counts; a video without labels has distance 0.
    """
    labelled = cas.float().softmax(dim=-1).masked_fill(labels[:, None] == 0, 0.0).amax(dim=-1)
    return masked_mean((attention - labelled).abs(), mask) * (labels.sum(dim=1) > 0)


def _weighted(features: Tensor, weights: Tensor) -> Tensor:
    """(B, T, E), (B, T) -> (B, E): weighted mean over time."""
    total = weights.sum(dim=1, keepdim=True).clamp(min=_SMALL)
    return torch.einsum("bt,bte->be", weights / total, features)


def _fused(attention: Mapping[str, Tensor | None], shares: Mapping[str, float]) -> Tensor:
    return weighted_mean({s: values for s, values in attention.items() if values is not None}, shares)


def _shares(streams: list[str], rgb: float) -> dict[str, float]:
    """Weights of the streams: beta and 1 - beta for rgb and flow, equal for any others."""
    return {"rgb": rgb, "flow": 1.0 - rgb} if set(streams) == {"rgb", "flow"} else dict.fromkeys(streams, 1.0)


def _buffer(copy: str, name: str) -> str:
    return f"{copy}_{name.replace('.', '_')}"


def create(num_classes: int, feature_dims: dict[str, int], config: Config, authors: bool) -> Tscn:
    """Create one base model per stream."""
    return Tscn(num_classes, feature_dims, config)


def from_authors(state_dict: Mapping[str, Tensor], num_classes: int) -> Tscn:
    """Raise: the authors published neither code nor checkpoint.

    Raises:
        WeightsError: always, naming some of the given keys.
    """
    raise WeightsError(
        f"tscn has no authors' checkpoint to load, none is public; got {', '.join(list(state_dict)[:3])}"
    )
