"""One annotation file format per file; `FormatLeaf` says what a file holds."""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from wtal.registry import Registry

if TYPE_CHECKING:
    from wtal.data.dataset import Dataset


class FormatLeaf(Protocol):
    """A module of `formats/`."""

    def sniff(self, path: Path) -> bool:
        """Return whether a file or folder looks like this format and like no other; False where there is nothing."""

    def read(self, path: Path) -> "Dataset":
        """Read the annotations.

        Raises:
            FormatError: naming the line or the key that is not as the format wants it.
        """


DATASETS = Registry[FormatLeaf]("dataset", __name__, FormatLeaf)
