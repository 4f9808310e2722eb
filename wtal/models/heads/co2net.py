"""CO2-Net: Cross-modal Consensus Network (Hong, Feng, Xu, Shan, Zheng; ACM MM 2021, arXiv 2107.12589).

Each stream is enhanced by a cross-modal consensus module (CCM): what the stream says of the whole video (its mean over
time) and what the other stream says of each snippet agree on a gate for every channel,

    X' = sigmoid(global(mean of X) * local(other)) X

and an attention is taken from the enhanced features of each. Both are fused, classified snippet by snippet, and

    L = L_mil(cas) + L_mil(cas suppressed by the attention) + L_contrastive + L_mutual + 0.8 L_norm + 0.8 L_guide

L_mil is the cross entropy of top-k means, the background present in the first and absent in the second; L_contrastive
W-TALC's co-activity of pairs of videos that share a class; L_mutual makes each stream's attention a teacher of the
other's; L_norm asks for few attended snippets, L_guide (the paper's L_oppo) for an attention that is the opposite of
the background's probability. Detections come from `cas` times the attention; so do the video scores.

On ActivityNet activations and attentions are averaged over 13 snippets (`pooling = 13`).

Differences from the authors' code, which `authors=True` runs instead:

- Their dropout stands between the attention's last layer and its sigmoid: half of the snippets have an attention of 0.5
  at every step of training. Here it stands before the last layer.
- Their k, means, pooling and co-activity count padding; here they count real snippets, and a pooling window at the ends
  of a video is divided by the snippets that it holds.
- Their co-activity is the mean over all that pairs share, so that pairs of more shared classes count more; here it is
  the mean over pairs of the means over what each shares.
- Their labels are divided by their number plus 1e-4; here they sum to one.
- Their state dict holds a layer `feat_encoder` that nothing uses; its shape is checked before it is left out.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from wtal import config
from wtal.data.batch import SnippetBatch, stream_order
from wtal.errors import UsageError, WeightsError
from wtal.models.head import Head, HeadOutput, load_renamed, plain_keys
from wtal.models.layers.losses import co_activity, cross_entropy, labels_of, with_background
from wtal.models.layers.temporal import Dropout, TemporalConv, masked_mean, masked_topk_mean, pack, unpack

_SLOPE = 0.2
_ACTIVITYNET = (100, 200)
"""Classes of its releases 1.2 and 1.3."""


class Config(config.Config):
    """Defaults are the public code's for THUMOS14, unless said otherwise."""

    fusion: Literal["ccm", "se", "ssma", "concat", "add"] = "ccm"
    """How streams are enhanced before they stand side by side (Table 6): the consensus module; a gate of each stream's
    own mean (squeeze and excitation); one gate of both streams' snippets (SSMA); not; or not, and added up."""
    attention_width: int = Field(512, ge=1)
    """Channels of the attention's two hidden layers."""
    width: int = Field(2048, ge=1)
    """Channels of the fused features and of the classifier."""
    dropout: float = Field(0.5, ge=0, lt=1)
    """Of the gates and of the attention."""
    fusion_dropout: float = Field(0.7, ge=0, lt=1)
    """Of the fused features and of the classifier."""
    input_dropout: float = Field(0.0, ge=0, lt=1)
    """On the features, channels of the whole video at once; ours, for small collections. The paper has none."""
    pooling: int = Field(1, ge=1)
    """Snippets that activations and attentions are averaged over, odd; 1 leaves them alone. ActivityNet: 13."""
    top_k_ratio: int = Field(7, ge=1)
    """k = max(1, T // ratio) snippets make a class's score in the loss. ActivityNet: 5."""
    score_ratio: int = Field(10, ge=1)
    """The same for video scores at inference."""
    pairs: int = Field(3, ge=0)
    """Pairs of videos of one class at the front of a training batch."""
    supp_weight: float = Field(1.0, ge=0)
    """Of the suppressed multiple-instance term."""
    contrastive_weight: float = Field(1.0, ge=0)
    """alpha_3, of the co-activity of pairs (the paper's L_cas)."""
    mutual_weight: float = Field(1.0, ge=0)
    """alpha_4, of mutual learning (L_ml)."""
    norm_weight: float = Field(0.8, ge=0)
    """alpha_1, of the mean attention."""
    guide_weight: float = Field(0.8, ge=0)
    """alpha_2, of the attention against the background (L_oppo)."""


class Gate(nn.Module):
    """A stream's features, each channel of each snippet weakened by a factor in (0, 1)."""

    def __init__(self, main: int, other: int, config: Config) -> None:
        super().__init__()
        self.kind = config.fusion
        # A convolution over the one position that a mean has sees its middle tap alone.
        self.whole = TemporalConv(main, main, 3 if config.fusion == "ccm" else 1)
        if config.fusion == "ccm":
            self.local = TemporalConv(other, main, 3)
        self.dropout = Dropout(config.dropout)

    def forward(self, main: Tensor, other: Tensor, mask: Tensor) -> Tensor:
        """Rows (N, D), rows of the other stream, mask -> rows (N, D)."""
        mean = masked_mean(unpack(main, mask), mask)
        middle = self.whole.weight[:, :, self.whole.kernel_size[0] // 2]
        gate = self.dropout(leaky_relu(nn.functional.linear(mean, middle, self.whole.bias), _SLOPE))
        gate = gate.repeat_interleave(mask.sum(dim=1), dim=0)
        if self.kind == "ccm":
            gate = gate * self.dropout(leaky_relu(self.local(other, mask), _SLOPE))
        return main * torch.sigmoid(gate)


class JointGate(nn.Module):
    """SSMA (Valada, Mohan, Burgard; IJCV 2020): one gate for both streams, of both streams, through a bottleneck."""

    def __init__(self, width: int, bottleneck: int) -> None:
        super().__init__()
        self.narrow = TemporalConv(width, bottleneck, 3)
        self.wide = TemporalConv(bottleneck, width, 3)

    def forward(self, both: Tensor, mask: Tensor) -> Tensor:
        """Rows (N, D) -> rows (N, D)."""
        return both * torch.sigmoid(self.wide(torch.relu(self.narrow(both, mask)), mask))


class StreamAttention(nn.Module):
    """Three convolutions and a sigmoid."""

    def __init__(self, in_features: int, config: Config, authors: bool) -> None:
        super().__init__()
        width = config.attention_width
        self.first = TemporalConv(in_features, width, 3)
        self.second = TemporalConv(width, width, 3)
        self.third = TemporalConv(width, 1)
        self.dropout = Dropout(config.dropout)
        self.authors = authors

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Rows (N, D) -> (B, T), 0 where padded."""
        x = self.dropout(leaky_relu(self.first(x, mask), _SLOPE))
        x = leaky_relu(self.second(x, mask), _SLOPE)
        logits = self.dropout(self.third(x, mask)) if self.authors else self.third(self.dropout(x), mask)
        return unpack(torch.sigmoid(logits), mask)[..., 0]


class Co2Net(Head):
    """`cas` (B, T, C + 1) are logits; `attention` is the mean of both streams'."""

    def __init__(self, num_classes: int, rgb: int, flow: int, config: Config, authors: bool) -> None:
        super().__init__()
        self.num_classes, self.config, self.authors = num_classes, config, authors
        self.pairs = config.pairs if config.contrastive_weight else 0
        if config.fusion in ("ccm", "se"):
            self.rgb_gate, self.flow_gate = Gate(rgb, flow, config), Gate(flow, rgb, config)
        if config.fusion == "ssma":
            self.joint_gate = JointGate(rgb + flow, config.attention_width)
        self.rgb_attention, self.flow_attention = (
            StreamAttention(rgb, config, authors),
            StreamAttention(flow, config, authors),
        )
        self.fusion = TemporalConv(rgb if config.fusion == "add" else rgb + flow, config.width)
        self.hidden = TemporalConv(config.width, config.width, 3)
        self.classifier = TemporalConv(config.width, num_classes + 1)
        self.dropout = Dropout(config.fusion_dropout)
        self.input_dropout = nn.Dropout1d(config.input_dropout)
        for layer in self.modules():
            if isinstance(layer, TemporalConv):
                nn.init.kaiming_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, batch: SnippetBatch) -> HeadOutput:
        """(B, T, D) of two streams -> `cas` (B, T, C + 1), `attention` (B, T), `video_scores` (B, C).

        `extras`: rgb_attention and flow_attention (B, T); cas_supp (B, T, C + 1); features (B, T, E).
        """
        # The authors' code computes on padding as on snippets.
        mask = torch.ones_like(batch.mask) if self.authors else batch.mask
        # Rows are the N real snippets of all videos, one after the other.
        rgb, flow = (self._rows(batch.streams[name], mask) for name in stream_order(batch.streams))  # (N, D) each
        rgb, flow = self._enhance(rgb, flow, mask)  # (N, D) each
        attentions = [
            self._pool(attention[..., None], mask)[..., 0]
            for attention in (self.rgb_attention(rgb, mask), self.flow_attention(flow, mask))
        ]  # (B, T) each
        attention = sum(attentions[1:], attentions[0]) / 2  # (B, T)
        joined = rgb + flow if self.config.fusion == "add" else torch.cat([rgb, flow], dim=-1)  # (N, D) or (N, 2D)
        features = self.dropout(leaky_relu(self.fusion(joined, mask), _SLOPE))  # (N, E)
        hidden = self.dropout(leaky_relu(self.hidden(self.dropout(features), mask), _SLOPE))  # (N, E)
        cas = self._pool(unpack(self.classifier(hidden, mask), mask), mask)  # (B, T, C + 1)
        lowest = cas.amin(dim=-1, keepdim=True)  # (B, T, 1)
        scores = masked_topk_mean(cas * attention[..., None], mask, self.config.score_ratio).softmax(
            dim=-1
        )  # (B, C + 1)
        return HeadOutput(
            cas=cas,
            attention=attention * batch.mask,
            video_scores=scores[:, : self.num_classes],
            extras={
                "rgb_attention": attentions[0],
                "flow_attention": attentions[1],
                "cas_supp": attention[..., None] * (cas - lowest) + lowest,
                "features": unpack(features, mask),
            },
            embedding=None if self.training else unpack(hidden, mask),
        )

    def loss(self, output: HeadOutput, batch: SnippetBatch) -> dict[str, Tensor]:
        """`mil_orig`, and with a weight `mil_supp`, `contrastive`, `mutual`, `norm` and `guide`."""
        settings, extras = self.config, output.extras
        mask = torch.ones_like(batch.mask) if self.authors else batch.mask
        rgb, flow = extras["rgb_attention"], extras["flow_attention"]
        three = [(rgb + flow) / 2, rgb, flow]
        terms = {"mil_orig": self._mil(output.cas, mask, batch, 1.0)}
        if settings.supp_weight:
            terms["mil_supp"] = settings.supp_weight * self._mil(extras["cas_supp"], mask, batch, 0.0)
        if self.pairs:
            seen = replace(batch, mask=mask)
            together = co_activity(extras["features"], extras["cas_supp"], seen, self.pairs, self.authors)
            terms["contrastive"] = settings.contrastive_weight * together
        if settings.mutual_weight:
            apart = 0.5 * (rgb - flow.detach()) ** 2 + 0.5 * (flow - rgb.detach()) ** 2
            terms["mutual"] = settings.mutual_weight * masked_mean(apart, mask).mean()
        if settings.norm_weight:
            terms["norm"] = settings.norm_weight * masked_mean(sum(three[1:], three[0]) / 3, mask).mean()
        if settings.guide_weight:
            background = output.cas.softmax(dim=-1)[..., -1]
            opposite = torch.stack([(1 - attention - background).abs() for attention in three]).mean(dim=0)
            terms["guide"] = settings.guide_weight * masked_mean(opposite, mask).mean()
        return terms

    def _rows(self, x: Tensor, mask: Tensor) -> Tensor:
        return pack(self.input_dropout(x.transpose(1, 2)).transpose(1, 2), mask)

    def _enhance(self, rgb: Tensor, flow: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of both streams -> the same, gated."""
        if self.config.fusion in ("ccm", "se"):
            return self.rgb_gate(rgb, flow, mask), self.flow_gate(flow, rgb, mask)
        if self.config.fusion == "ssma":
            both = self.joint_gate(torch.cat([rgb, flow], dim=-1), mask)
            return both[:, : rgb.shape[1]], both[:, rgb.shape[1] :]
        return rgb, flow

    def _pool(self, values: Tensor, mask: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C): means over `pooling` snippets around each."""
        size = self.config.pooling
        if size == 1:
            return values
        pooled = _windows(values, size)
        if self.authors:
            return pooled
        return pooled / _windows(mask[..., None].to(values.dtype), size).clamp(min=0.5 / size) * mask[..., None]

    def _mil(self, cas: Tensor, mask: Tensor, batch: SnippetBatch, background: float) -> Tensor:
        scores, target = (
            masked_topk_mean(cas, mask, self.config.top_k_ratio),
            with_background(labels_of(batch), background),
        )
        if self.authors:
            total = labels_of(batch).sum(dim=1, keepdim=True) + background
            target = target * total / (total + 1e-4)
        return cross_entropy(scores, target)


def _windows(values: Tensor, size: int) -> Tensor:
    """(B, T, C) -> (B, T, C): sums over `size` snippets around each, zero beyond the ends, divided by `size`."""
    pooled = nn.functional.avg_pool1d(values.transpose(1, 2), size, stride=1, padding=size // 2)
    return pooled.transpose(1, 2)


def create(num_classes: int, feature_dims: dict[str, int], config: Config, authors: bool) -> Co2Net:
    """A CO2-Net over rgb and flow.

    Raises:
        UsageError: when the features are not of two streams, or the settings do not fit them.
    """
    if len(feature_dims) != 2:
        raise UsageError(
            f"co2net enhances two streams by one another, the features have {', '.join(feature_dims) or 'none'}; "
            "extract rgb and flow, or take another head"
        )
    first, second = (feature_dims[name] for name in stream_order(feature_dims))
    if config.fusion == "add" and first != second:
        raise UsageError(f"head.fusion = 'add' needs streams of one width, got {first} and {second}; take another")
    if config.pooling % 2 == 0:
        raise UsageError(f"head.pooling must be odd, got {config.pooling}")
    return Co2Net(num_classes, first, second, config, authors)


def from_authors(
    state_dict: Mapping[str, Tensor], num_classes: int, pooling: int | None = None, top_k_ratio: int | None = None
) -> Co2Net:
    """A CO2-Net from the authors' checkpoint; the widths are read off its tensors.

    Their two forms share one layout. Without `pooling` and `top_k_ratio` it is the form of ActivityNet (13 and 5) for
    100 or 200 classes, which are ActivityNet's, and that of THUMOS14 (1 and 7) for any other number.
    """
    plain = plain_keys(state_dict, "CO2-Net")
    width, unused = _width(plain), {"feat_encoder.0.weight", "feat_encoder.0.bias"}
    shapes = {"feat_encoder.0.weight": (width, width, 3), "feat_encoder.0.bias": (width,)}
    for key in unused & plain.keys() if "fusion.0.weight" in plain else ():
        if tuple(plain[key].shape) != shapes[key]:
            raise WeightsError(f"not a checkpoint of CO2-Net: {key} is {tuple(plain[key].shape)}, wanted {shapes[key]}")
    hidden = plain.get("vAttn.attention.0.weight")
    narrow, half = hidden.shape[:2] if hidden is not None and hidden.ndim == 3 else (512, width // 2)
    pooled, ratio = (13, 5) if num_classes in _ACTIVITYNET else (1, 7)
    settings = Config(width=width, attention_width=narrow, pooling=pooling or pooled, top_k_ratio=top_k_ratio or ratio)
    head = Co2Net(num_classes, half, half, settings, authors=True)
    load_renamed(head, {key: value for key, value in plain.items() if key not in unused}, _names(), "CO2-Net")
    return head


def _width(plain: Mapping[str, Tensor]) -> int:
    fusion = plain.get("fusion.0.weight")
    return fusion.shape[0] if fusion is not None and fusion.ndim == 3 else Config().width


def _names() -> dict[str, str]:
    """The authors' keys -> ours."""
    layers = {"fusion.0": "fusion", "classifier.1": "hidden", "classifier.4": "classifier"}
    for module, stream in (("vAttn", "rgb"), ("fAttn", "flow")):
        layers |= {
            f"{module}.channel_conv.0": f"{stream}_gate.whole",
            f"{module}.bit_wise_attn.0": f"{stream}_gate.local",
            f"{module}.attention.0": f"{stream}_attention.first",
            f"{module}.attention.3": f"{stream}_attention.second",
            f"{module}.attention.5": f"{stream}_attention.third",
        }
    return {f"{key}.{kind}": f"{name}.{kind}" for key, name in layers.items() for kind in ("weight", "bias")}
