"""UM (WUM): Weakly-supervised localization by Uncertainty Modeling (Lee, Wang, Lu, Byun; AAAI 2021, arXiv 2006.07006).

Background snippets belong to no class, not even a background class: they are recognized by the length of their
features. A convolution over three snippets and a ReLU give features f_t, a linear classifier their activations, and

    score_act   softmax of the mean of each class's top T // 9 activations, as in multiple-instance learning
    score_bkg   softmax of the mean activations of the T // 4 snippets of shortest features
    loss_cls    binary cross entropy of score_act against labels that sum to one
    loss_um     alpha * (max(0, m - ||mean f_act||) + ||mean f_bkg||)^2: features of the T // 9 longest grow to the
                margin m, those of the T // 4 shortest vanish
    loss_be     beta * binary cross entropy of score_bkg against 1 / C: background belongs to no class

In training one random choice of snippets, common to both, takes precedence among the longest and the shortest. `cas` is
the log softmax over the C classes: (B, T, C), without background. `attention` is the probability of foreground: lengths
rescaled from the mean of the shortest (0) to the mean of the longest (1) snippets. Detections come from their product
and, as a second set of proposals, from the attention alone. FAC-Net's class-wise foreground branch is an add-on (ICCV
2021, Table 5); it attends by `cas`. With raw activations it would raise those of absent classes in the background, for
lack of a background class, and with them their video scores.

Differences from the authors' code, whose behaviour `authors=True` restores:

- Their cross entropies are means over the C classes, so that their gradients fade as classes are added. Here the sums
  are divided by at most the 20 classes of THUMOS14: means up to 20 classes, and no weaker at 200.
- If the random choice keeps too few snippets, theirs adds arbitrary others. Here the longest (shortest) of the others
  follow, so that a short video never learns from its background as if it were action.
- Their T is the padded length, and padding is computed on; here T counts real snippets, and there is no padding.
"""

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn

from wtal import config
from wtal.data.batch import SnippetBatch
from wtal.models.head import EmbeddingHead, HeadOutput, load_renamed, plain_keys
from wtal.models.layers.foreground import ClasswiseForeground
from wtal.models.layers.losses import THUMOS_CLASSES, binary_cross_entropy, labels_of, normalized
from wtal.models.layers.temporal import Dropout, TemporalConv, masked_topk_mean, pack, unpack


class Config(config.Config):
    """Defaults are those of the public code, which are the paper's, unless noted."""

    width: int = Field(2048, ge=1)
    """Channels of the features."""
    dropout: float = Field(0.7, ge=0, lt=1)
    """Dropout of the features before the classifier."""
    input_dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout of input channels, over the whole video; ours, for small collections. The paper has none."""
    selection_dropout: float = Field(0.7, ge=0, lt=1)
    """Share of the snippets that rank last among the longest and the shortest in training; code."""
    action_ratio: int = Field(9, ge=1)
    """r_act: the k = max(1, T // ratio) longest features and highest activations are action."""
    background_ratio: int = Field(4, ge=1)
    """r_bkg: the k = max(1, T // ratio) shortest features are background."""
    margin: float = Field(100.0, gt=0)
    """m, the target length of action features."""
    uncertainty_weight: float = Field(5e-4, ge=0)
    """alpha, weight of the uncertainty term."""
    background_weight: float = Field(1.0, ge=0)
    """beta, weight of the background entropy term."""
    foreground_weight: float = Field(0.0, ge=0)
    """Weight of FAC-Net's class-wise foreground branch; 0 omits it."""


class Um(EmbeddingHead):
    """`cas` (B, T, C) are log probabilities, without background."""

    def __init__(self, num_classes: int, in_features: int, config: Config, authors: bool) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.embedding = config.width
        self.config = config
        self.authors = authors
        self.conv = TemporalConv(in_features, config.width, 3)
        self.classifier = TemporalConv(config.width, num_classes, bias=False)
        self.dropout = Dropout(config.dropout)
        self.input_dropout = nn.Dropout1d(config.input_dropout) if config.input_dropout else nn.Identity()
        self.selection_dropout = nn.Dropout(config.selection_dropout)
        self.foreground = ClasswiseForeground(config.width) if config.foreground_weight else None

    def embed(self, batch: SnippetBatch) -> Tensor:
        """Embed the features of B videos as (B, T, E), non-negative."""
        mask = self._mask(batch)
        x = pack(self.input_dropout(batch.features().transpose(1, 2)).transpose(1, 2), mask)
        return unpack(torch.relu_(self.conv(x, mask)), mask)

    def respond(self, x: Tensor, batch: SnippetBatch) -> HeadOutput:
        """(B, T, E) -> `cas` (B, T, C), log probabilities; `attention` (B, T); `video_scores` (B, C).

        `extras`: score_bkg (B, C), feat_norm (B, T), and the mean features of action and of background, feat_act and
        feat_bkg (B, E); if enabled, fore_logits (B, C) of the foreground branch.
        """
        mask = self._mask(batch)
        rows: Tensor = self.classifier(self.dropout(pack(x, mask)), mask)
        activations, cas = unpack(rows.float(), mask), unpack(rows.float().log_softmax(dim=-1), mask)
        norm = x.float().norm(dim=-1)
        action, background = self._selected(norm.detach(), mask)
        features = torch.stack([action, background], dim=1) @ x.float()
        scores = masked_topk_mean(activations, mask, self.config.action_ratio)
        extras = {
            "score_bkg": (background[:, None] @ activations)[:, 0].softmax(dim=-1),
            "feat_norm": norm,
            "feat_act": features[:, 0],
            "feat_bkg": features[:, 1],
        }
        if self.foreground is not None:
            extras["fore_logits"] = self.foreground(x, cas, mask)
        return HeadOutput(
            cas=cas,
            attention=_between(norm, (background * norm).sum(dim=1), (action * norm).sum(dim=1)) * batch.mask,
            video_scores=scores.softmax(dim=-1),
            extras=extras,
        )

    def loss(self, output: HeadOutput, batch: SnippetBatch) -> dict[str, Tensor]:
        """`loss_cls` (labels), `loss_um` (long features of action, short ones of background), `loss_be` (no class).

        Also `foreground`, the term of FAC-Net's branch, if enabled.
        """
        target, settings, extras = normalized(labels_of(batch)), self.config, output.extras
        terms = {"loss_cls": binary_cross_entropy(output.video_scores, target, THUMOS_CLASSES, self.authors)}
        if settings.uncertainty_weight:
            short = torch.relu(settings.margin - extras["feat_act"].norm(dim=-1))
            distance = (short + extras["feat_bkg"].norm(dim=-1)) ** 2
            terms["loss_um"] = settings.uncertainty_weight * distance.mean()
        if settings.background_weight:
            uniform = torch.full_like(target, 1.0 / self.num_classes)
            entropy = binary_cross_entropy(extras["score_bkg"], uniform, THUMOS_CLASSES, self.authors)
            terms["loss_be"] = settings.background_weight * entropy
        if self.foreground is not None:
            branch = self.foreground.loss(extras["fore_logits"], labels_of(batch))
            terms["foreground"] = settings.foreground_weight * branch
        return terms

    def _mask(self, batch: SnippetBatch) -> Tensor:
        # The authors' code treats padding as snippets.
        return torch.ones_like(batch.mask) if self.authors else batch.mask

    def _selected(self, norm: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T), (B, T) -> weights (B, T) of the snippets with the longest and shortest features, summing to one."""
        drawn = self.selection_dropout(torch.ones_like(norm))
        highest = norm.amax(dim=1, keepdim=True)
        sides = []
        for height, ratio in ((norm, self.config.action_ratio), (highest - norm, self.config.background_ratio)):
            # Snippets that were not drawn follow after all that were, in their own order.
            order = height * drawn if self.authors else torch.where(drawn > 0, height, height - highest - 1.0)
            rank = order.masked_fill(~mask, -torch.inf).argsort(dim=1, descending=True, stable=True).argsort(dim=1)
            counts = (mask.sum(dim=1, keepdim=True) // ratio).clamp(min=1)
            sides.append((rank < counts) / counts)
        return sides[0], sides[1]


def _between(values: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """(B, T), (B,), (B,) -> (B, T): 0 at `low`, 1 at `high`, clamped; 0 if the two are equal."""
    span = (high - low)[:, None]
    return ((values - low[:, None]) / torch.where(span > 0, span, 1.0)).clamp(0.0, 1.0)


def create(num_classes: int, feature_dims: dict[str, int], config: Config, authors: bool) -> Um:
    """Create a UM over the concatenated streams."""
    return Um(num_classes, sum(feature_dims.values()), config, authors)


def from_authors(state_dict: Mapping[str, Tensor], num_classes: int) -> Um:
    """Load a UM from the authors' checkpoint; the widths are read off its tensors."""
    names = {
        "cas_module.conv.0.weight": "conv.weight",
        "cas_module.conv.0.bias": "conv.bias",
        "cas_module.classifier.0.weight": "classifier.weight",
    }
    plain = plain_keys(state_dict, "UM")
    first = plain.get("cas_module.conv.0.weight")
    shape = first.shape if first is not None and first.ndim == 3 else (Config().width, 2048, 3)
    head = Um(num_classes, shape[1], Config(width=shape[0]), authors=True)
    load_renamed(head, plain, names, "UM")
    return head
