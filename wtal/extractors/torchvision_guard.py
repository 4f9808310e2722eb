"""Use torchvision with a torch that its compiled part was not built for.

The wheels of torchvision on PyPI are linked against CUDA. With a CPU-only torch, its compiled operators do not load,
and then `import torchvision` itself fails, because it registers metadata for the operators `nms` and `qnms`, unknown to
torch: "operator torchvision::nms does not exist". Everything that imports torchvision fails with it: the models of
pytorchvideo, the video models of transformers.

In that case only, the two operators are declared without being implemented. Networks and transforms in plain torch then
work; `torchvision.ops.nms` and the decoding of images stay unavailable. If the wheels match, nothing is changed.
"""

import sys
from typing import Any

import torch

from wtal.errors import MissingExtraError, require

EXTRA = "backbones"
"""The optional extra that installs torchvision and the libraries that need it."""

_OPERATORS = ("nms", "qnms")
_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_declared: list[Any] = []
"""Declarations, kept alive here: they last only as long as their library."""


def ready() -> None:
    """Make `import torchvision` work with any torch. Call it before the first such import.

    Raises:
        MissingExtraError: when torchvision is not installed, or not importable for another reason.
    """
    try:
        require("torchvision", EXTRA)
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise _misfit(error) from error
        _declare()
        try:
            require("torchvision", EXTRA)
        except RuntimeError as second:
            raise _misfit(second) from second


def _declare() -> None:
    """Declare the operators unknown to torch, and discard the torchvision that half-loaded without them."""
    torch_library: Any = torch.library
    library = torch_library.Library("torchvision", "FRAGMENT")
    for name in _OPERATORS:
        if not hasattr(torch.ops.torchvision, name):
            library.define(name + _SIGNATURE)
    _declared.append(library)
    for module in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[module]


def _misfit(error: RuntimeError) -> MissingExtraError:
    reason = str(error).partition("\n")[0]
    return MissingExtraError(
        f"torchvision does not fit torch {torch.__version__} ({reason}); install the torchvision of that release"
    )
