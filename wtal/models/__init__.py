"""Features to class activations and detections."""

from typing import TYPE_CHECKING, Any

from wtal.models.heads import create_head, load_author_checkpoint
from wtal.models.rescorers import create_rescorer, load_author_rescorer
from wtal.models.students import create_student, load_author_student

if TYPE_CHECKING:
    from wtal.data.batch import SnippetBatch

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
    raise AttributeError(name)
