"""Features to class activations and detections."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wtal.data.batch import SnippetBatch
    from wtal.models.head import create_head, load_author_checkpoint

__all__ = ["SnippetBatch", "create_head", "load_author_checkpoint"]


def __getattr__(name: str) -> Any:
    # Late, so that localization and the help texts never import torch.
    if name == "SnippetBatch":
        from wtal.data.batch import SnippetBatch

        return SnippetBatch
    if name in __all__:
        from wtal.models import head

        return getattr(head, name)
    raise AttributeError(name)
