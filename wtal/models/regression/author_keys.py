"""Authors' checkpoints of pyramids: keys, shapes, and the settings inferred from them."""

from collections.abc import Mapping
from typing import Any, TypeVar

from torch import Tensor, nn

from wtal.errors import ConfigError
from wtal.models.head import load_renamed, plain_keys
from wtal.models.regression.pyramid import PyramidConfig

Settings = TypeVar("Settings", bound=PyramidConfig)
_KINDS = ("weight", "bias")


def author_tensors(state_dict: Mapping[str, Any], what: str) -> tuple[dict[str, Tensor], int, dict[str, Any]]:
    """Read a state dict: key -> tensor, the width D of the features, and the settings inferred from shapes and counts.

    Raises:
        WeightsError: when a value is not a tensor.
    """
    plain = plain_keys(state_dict, what)
    first = plain.get("backbone.embd.0.conv.weight")
    inferred = {
        "embedding_depth": _count(plain, "backbone.embd.", "conv.weight"),
        "head_depth": _count(plain, "cls_head.head.", "conv.weight"),
        "stem_blocks": _count(plain, "backbone.stem.", "mlp.0.weight"),
        "branch_blocks": _count(plain, "backbone.branch.", "mlp.0.weight"),
    }
    if first is None or first.ndim != 3:
        return plain, 1, inferred | {"embedding_depth": max(1, inferred["embedding_depth"])}
    return (
        plain,
        first.shape[1],
        inferred | {"width": first.shape[0], "embedding_depth": max(1, inferred["embedding_depth"])},
    )


def author_config(
    kind: type[Settings], form: Mapping[str, Any], given: Mapping[str, Any], inferred: Mapping[str, Any], where: str
) -> Settings:
    """Return the settings of a checkpoint: those of a form, those `given`, and those `inferred` from its tensors.

    Raises:
        ConfigError: when the last two conflict, or a setting is unknown or invalid.
    """
    for name, value in inferred.items():
        if given.get(name, value) != value:
            raise ConfigError(f"{where}: {name} is {value} in the checkpoint, got {given[name]}; leave it out")
    return kind.parse({**form, **given, **inferred}, where)


def load_author_tensors(student: nn.Module, plain: Mapping[str, Tensor], names: Mapping[str, str], what: str) -> None:
    """Load `plain` into `student`, whose parameter `names[key]` is named `key` there, and may have axes of length 1.

    The normalizer is not among them: it keeps its initial value.

    Raises:
        WeightsError: for the first keys that are missing, left over, or mis-shaped.
    """
    own = student.state_dict()
    reshaped = {
        key: value.reshape(own[names[key]].shape)
        if key in names and _long_axes(value) == _long_axes(own[names[key]])
        else value
        for key, value in plain.items()
    }
    normalizer = {"normalizer": own["normalizer"]}
    load_renamed(student, reshaped | normalizer, {**names, "normalizer": "normalizer"}, what)


def frame_names(config: PyramidConfig) -> dict[str, str]:
    """Map the authors' keys of embedding, neck, class head and border scales to ours."""
    names = trunk_names("backbone.embd", "backbone.embd_norm", "embedding", config.embedding_depth)
    names |= head_names("cls_head", "cls_head", "classes", config.head_depth)
    for level in range(config.branch_blocks + 1):
        names |= {f"neck.fpn_norms.{level}.{kind}": f"neck.{level}.{kind}" for kind in _KINDS}
        names[f"reg_head.scale.{level}.scale"] = f"scales.{level}"
    return names


def head_names(module: str, last: str, name: str, depth: int) -> dict[str, str]:
    """Map the authors' keys of a head named `module`, with the last convolution `last`, to ours under `name`."""
    names = trunk_names(f"{module}.head", f"{module}.norm", f"{name}.trunk", depth)
    return names | {f"{module}.{last}.conv.{kind}": f"{name}.last.{kind}" for kind in _KINDS}


def trunk_names(convs: str, norms: str, name: str, depth: int) -> dict[str, str]:
    """Map the authors' keys of convolutions and their norms to ours under `name`."""
    names = {f"{convs}.{i}.conv.weight": f"{name}.convs.{i}.weight" for i in range(depth)}
    return names | {f"{norms}.{i}.{kind}": f"{name}.norms.{i}.{kind}" for i in range(depth) for kind in _KINDS}


def block_names(config: PyramidConfig, layers: Mapping[str, str], tensors: Mapping[str, str]) -> dict[str, str]:
    """Map the authors' keys of all blocks to ours; `layers` of a block have a weight and a bias, `tensors` do not."""
    blocks = [f"stem.{i}" for i in range(config.stem_blocks)] + [f"branch.{i}" for i in range(config.branch_blocks)]
    whole = {f"{key}.{kind}": f"{name}.{kind}" for key, name in layers.items() for kind in _KINDS} | dict(tensors)
    return {f"backbone.{block}.{key}": f"{block}.{name}" for block in blocks for key, name in whole.items()}


def _count(plain: Mapping[str, Tensor], prefix: str, ending: str) -> int:
    return len([key for key in plain if key.startswith(prefix) and key.endswith(f".{ending}")])


def _long_axes(tensor: Tensor) -> list[int]:
    return [size for size in tensor.shape if size != 1]
