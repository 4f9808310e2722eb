"""One layout of published features per file, as they come in and go out; `LayoutLeaf` says what a file holds.

`wtal.data.layout` has what they share.
"""
# ruff: noqa: N802 - members are named as modules name them

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from wtal.registry import Registry

if TYPE_CHECKING:
    from wtal.data.layout import Exported, Item


class LayoutLeaf(Protocol):
    """A module of `layouts/`. It may be a `NamesVideos` too."""

    @property
    def FPS(self) -> str:
        """Frames per second that rows of the published files count in; empty where rows are spread over their video."""

    @property
    def STRIDE(self) -> str:
        """Frames from one row to the next; empty where `FPS` is."""

    @property
    def BACKBONE(self) -> str:
        """Name of the network whose features they are."""

    def sniff(self, path: Path) -> bool:
        """Return whether files look like this layout and like no other."""

    def read(self, path: Path, annotations: Path | None, dims: Mapping[str, int]) -> "list[Item]":
        """Return the videos in order; `dims` are stream -> D, as far as the user names them.

        Raises:
            FormatError: when the files are not of this layout.
        """

    def write(self, folder: Path, videos: "Sequence[Exported]") -> None:
        """Write videos into an empty folder."""


@runtime_checkable
class NamesVideos(Protocol):
    """A module in whose files videos have other names than `wtal.data.layout.file_name` gives them."""

    def name_of(self, video_id: str) -> str:
        """Return the name of a video in the files."""


LAYOUTS = Registry[LayoutLeaf]("layout", __name__, LayoutLeaf)
