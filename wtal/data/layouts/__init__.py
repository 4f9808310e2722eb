"""One layout of published features per file, for import and export; `LayoutLeaf` is the contract of a file.

Their common parts are in `wtal.data.layout`.
"""
# ruff: noqa: N802 - members are named as in modules

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from wtal.errors import UsageError
from wtal.registry import Registry

if TYPE_CHECKING:
    from wtal.data.layout import ExportedVideo, Item


class LayoutLeaf(Protocol):
    """A module of `layouts/`. It may also be a `NamesVideos`."""

    @property
    def FPS(self) -> str:
        """Frames per second of the rows in published files; empty if rows are spread over their video."""

    @property
    def STRIDE(self) -> str:
        """Frames from one row to the next; empty if `FPS` is."""

    @property
    def BACKBONE(self) -> str:
        """Name of the network that computed the features."""

    def sniff(self, path: Path) -> bool:
        """Return True if files match this layout and no other."""

    def read(self, path: Path, annotations: Path | None, dims: Mapping[str, int]) -> "list[Item]":
        """Return the videos in order; `dims` are the widths named by the user, stream -> D.

        Raises:
            FormatError: when the files are not of this layout.
        """

    def write(self, folder: Path, videos: "Sequence[ExportedVideo]") -> None:
        """Write videos into an empty folder."""


@runtime_checkable
class NamesVideos(Protocol):
    """A module whose files do not name videos by `wtal.data.layout.file_name`."""

    def name_of(self, video_id: str) -> str:
        """Return the name of a video in the files."""


LAYOUTS = Registry[LayoutLeaf]("layout", __name__, LayoutLeaf)


def guess_layout(path: Path) -> str:
    """Detect the one layout that matches the files at `path`; return its name.

    Raises:
        UsageError: when no layout matches, or more than one.
    """
    fitting = [name for name in LAYOUTS.names() if LAYOUTS.load(name).sniff(path)]
    if len(fitting) == 1:
        return fitting[0]
    known = " or ".join(fitting) if fitting else f"none of {', '.join(LAYOUTS.names())}"
    raise UsageError(f"{path} matches {known}; name its layout: --layout NAME")
