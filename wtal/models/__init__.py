"""Features to class activations and detections."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wtal.models.head import create_head, load_author_checkpoint

__all__ = ["create_head", "load_author_checkpoint"]


def __getattr__(name: str) -> Any:
    # Late, so that localization and the help texts never import torch.
    if name in __all__:
        from wtal.models import head

        return getattr(head, name)
    raise AttributeError(name)
