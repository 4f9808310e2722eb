"""ActionFormer: a pyramid of local attention that classifies points and regresses borders (Zhang, Wu, Li; ECCV 2022).

Snippets are embedded by two convolutions. Blocks of local attention follow, in the stem at stride 1, in the branch each
at twice the stride of the previous one; a block is

    x <- pool(x) + a * attention(LN(x)),  x <- x + b * MLP(LN(x))

with channel-wise scales a and b that start near zero, and queries, keys and values from a depthwise convolution and a
norm each. Every level is normed, and two heads, shared by all levels, predict at each of its positions: C sigmoids, and
the distances to the left and right border in strides of the level. The training loss is the focal loss of all points
and the distance IoU of positive ones, both divided by a running number of positive points.

Differences from the authors' code, whose behaviour `authors=True` restores:

- Their norms add their bias to padding, and the next convolution carries it back into the video; max-pooling sees the
  zeros there. Here padding is masked after every norm, so that a video in a batch equals the video alone.
- They pad every video to `max_length`, longer ones to a multiple of the number that their windows require.
- Their position table is stretched over longer videos; here it continues.
"""

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from wtal.errors import ConfigError
from wtal.models.layers.temporal import Dropout
from wtal.models.regression.attention import attend
from wtal.models.regression.author_keys import (
    author_config,
    author_tensors,
    block_names,
    frame_names,
    head_names,
    load_author_tensors,
)
from wtal.models.regression.layers import DepthwiseConv, PointHead, Residual, mlp
from wtal.models.regression.levels import Level
from wtal.models.regression.pyramid import PyramidConfig, PyramidStudent, joined, per_level, refuse_even, to_batch
from wtal.models.student import Points, StudentOutput

_MLP = 4
"""Width of a block's MLP, relative to the block's."""


class Config(PyramidConfig):
    """Defaults are the public code's for THUMOS14 unless noted."""

    attention_heads: int = Field(4, ge=1)
    """Number of heads of each attention, which divide the width."""
    window: int = Field(19, ge=1)
    """Number of positions, odd, to which each attends, on its own level. ActivityNet: 7."""
    global_last: bool = False
    """Let the last level attend to the whole video; memory grows with its length squared. ActivityNet: on."""


FORMS: dict[str, dict[str, Any]] = {
    "thumos14": {"width": 512, "stem_blocks": 2, "branch_blocks": 5},
    "activitynet-1.3": {
        "width": 256,
        "stem_blocks": 2,
        "branch_blocks": 5,
        "window": 7,
        "global_last": True,
        "position_table": True,
        "max_length": 192,
        "normalizer": 200.0,
        "label_smoothing": 0.1,
        "regression_weight": 2.0,
    },
}
"""Settings of the authors' own forms."""


class Branch(nn.Module):
    """Query, key or value of an attention: a depthwise convolution, a norm and a linear layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = DepthwiseConv(width, 3, bias=False)
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, width)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor, level: Level, stride: int) -> Tensor:
        """(B, T, E) -> (B, T of `level`, E)."""
        rows = level.hide(level.pack(self.conv(x, stride)))
        return level.unpack(self.linear(self.norm(rows)))


class Block(nn.Module):
    """Attention and an MLP, each with a residual connection, at stride 1 or 2."""

    def __init__(self, config: Config, stride: int, window: int | None) -> None:
        super().__init__()
        width = config.width
        self.stride, self.window, self.heads = stride, window, config.attention_heads
        self.first_norm, self.second_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value = Branch(width), Branch(width), Branch(width)
        self.out = nn.Linear(width, width)
        nn.init.zeros_(self.out.bias)
        self.dropout = Dropout(config.dropout)
        self.mlp = mlp(width, _MLP * width, config.dropout)
        self.first_path = Residual(width, config.drop_path, config.residual_scale)
        self.second_path = Residual(width, config.drop_path, config.residual_scale)

    def forward(self, rows: Tensor, level: Level) -> tuple[Tensor, Level]:
        """Rows (N, E) of `level` -> rows of the output level, and that level."""
        output_level = level.halved() if self.stride == 2 else level
        x = level.unpack(self.first_norm(rows))
        query, key, value = (branch(x, output_level, self.stride) for branch in (self.query, self.key, self.value))
        attended = output_level.pack(attend(query, key, value, output_level.real, self.heads, self.window))
        attended = output_level.hide(self.dropout(self.out(attended)))
        rows = output_level.hide(level.pooled(rows) if self.stride == 2 else rows)
        rows = rows + self.first_path(attended, output_level)
        return rows + self.second_path(output_level.hide(self.mlp(self.second_norm(rows))), output_level), output_level


class ActionFormer(PyramidStudent):
    """`logits` (B, P, C) and `distances` (B, P, 2)."""

    def __init__(self, num_classes: int, in_features: int, config: Config, authors: bool) -> None:
        windows: list[int | None] = [config.window] * (config.stem_blocks + config.branch_blocks)
        if config.global_last and config.branch_blocks:
            windows[-1] = None
        blocks = [Block(config, 1 + (i >= config.stem_blocks), window) for i, window in enumerate(windows)]
        super().__init__(num_classes, in_features, config, blocks, authors)
        self.config = config
        self.borders = PointHead(config.width, 2, config.head_depth)
        self.scales = nn.ParameterList(torch.ones(()) for _ in range(config.branch_blocks + 1))

    def respond(self, rows: list[Tensor], levels: list[Level], points: Points) -> StudentOutput:
        """Compute the output from rows (N, E) of each level."""
        all_rows, all_levels = joined(rows, levels)
        distances = torch.relu(self.borders(all_rows, all_levels) * per_level(list(self.scales), levels))
        return StudentOutput(
            points=points,
            mask=torch.cat([level.real for level in levels], dim=1),
            logits=to_batch(self.classes(all_rows, all_levels), levels),
            distances=to_batch(distances, levels),
        )

    def divisor(self) -> int:
        """Return the number of snippets that all levels divide into whole windows."""
        last = int(2**self.config.branch_blocks)
        windowed = last // 2 if self.config.global_last else last
        return max(last, windowed * max(1, self.config.window // 2 * 2))


def create(num_classes: int, in_features: int, config: Config, authors: bool) -> ActionFormer:
    """Create an ActionFormer over features of D = `in_features`.

    Raises:
        ConfigError: when the window is even, or the width is not a multiple of the heads.
    """
    refuse_even("window", config.window)
    if config.width % config.attention_heads:
        raise ConfigError(
            f"width must be a multiple of attention_heads, got {config.width} and {config.attention_heads}"
        )
    return ActionFormer(num_classes, in_features, config, authors)


def from_authors(state_dict: Mapping[str, Any], num_classes: int, form: str, config: Mapping[str, Any]) -> ActionFormer:
    """Load an ActionFormer from the authors' checkpoint; widths and depths are read off its tensors.

    The window, the attention heads, the position table and `max_length` are not in it: they are those of `form`, or of
    `config`.
    """
    plain, in_features, inferred = author_tensors(state_dict, "ActionFormer")
    student = create(
        num_classes,
        in_features,
        author_config(Config, FORMS[form], config, inferred, "student actionformer"),
        authors=True,
    )
    load_author_tensors(student, plain, _names(student.config), "ActionFormer")
    return student


def _names(config: Config) -> dict[str, str]:
    """Map the authors' keys to ours."""
    layers = {"ln1": "first_norm", "ln2": "second_norm", "attn.proj": "out", "mlp.0": "mlp.0", "mlp.3": "mlp.3"}
    paths = {"drop_path_attn.scale": "first_path.scale", "drop_path_mlp.scale": "second_path.scale"}
    for kind in ("query", "key", "value"):
        layers |= {f"attn.{kind}_norm": f"{kind}.norm", f"attn.{kind}": f"{kind}.linear"}
        paths[f"attn.{kind}_conv.conv.weight"] = f"{kind}.conv.weight"
    names = frame_names(config) | head_names("reg_head", "offset_head", "borders", config.head_depth)
    return names | block_names(config, layers, paths)
