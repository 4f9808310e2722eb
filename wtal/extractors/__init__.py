"""Pixels to features: readers, optical flow, backbones. The only package that imports cv2, av, decord, torchcodec."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wtal.extractors.backbone import create_backbone

__all__ = ["create_backbone"]


def __getattr__(name: str) -> Any:
    # Lazy, so that reader processes and help texts never import torch.
    if name == "create_backbone":
        from wtal.extractors.backbone import create_backbone

        return create_backbone
    raise AttributeError(name)
