"""Features to class activations and detections."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wtal.data.batch import SnippetBatch
    from wtal.models.head import create_head, load_author_checkpoint
    from wtal.models.rescorer import create_rescorer, load_author_rescorer
    from wtal.models.student import create_student, load_author_student

__all__ = [
    "SnippetBatch",
    "create_head",
    "create_rescorer",
    "create_student",
    "load_author_checkpoint",
    "load_author_rescorer",
    "load_author_student",
]


def __getattr__(name: str) -> Any:
    # Late, so that localization and the help texts never import torch.
    if name == "SnippetBatch":
        from wtal.data.batch import SnippetBatch

        return SnippetBatch
    if name in __all__:
        from wtal.models import head, rescorer, student

        modules = {"student": student, "rescorer": rescorer}
        return getattr(modules.get(name.rpartition("_")[2], head), name)
    raise AttributeError(name)
