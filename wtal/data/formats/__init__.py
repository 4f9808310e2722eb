"""One annotation file format per file; `FormatLeaf` is the contract of a file."""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from wtal.registry import Registry

if TYPE_CHECKING:
    from wtal.data.dataset import Dataset


class FormatLeaf(Protocol):
    """A module of `formats/`."""

    def sniff(self, path: Path) -> bool:
        """Return True if a file or folder matches this format and no other; False if there is nothing."""

    def read(self, path: Path) -> "Dataset":
        """Read the annotations.

        Raises:
            FormatError: when the file is malformed, naming the line or the key.
        """


DATASETS = Registry[FormatLeaf]("dataset", __name__, FormatLeaf)
