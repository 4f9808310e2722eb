"""Pixels to features: readers, optical flow, backbones. The only room that imports cv2, av, decord, torchcodec."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wtal.extractors.backbone import create_backbone

__all__ = ["create_backbone"]


def __getattr__(name: str) -> Any:
    # Late, so that the reader processes and the help texts never import torch.
    if name == "create_backbone":
        from wtal.extractors.backbone import create_backbone

        return create_backbone
    raise AttributeError(name)
