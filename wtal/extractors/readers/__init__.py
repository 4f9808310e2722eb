"""One video library per file: each yields frames with exact times. The contract of a file is `ReaderLeaf`."""
# ruff: noqa: N802 - members are named as modules name them

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from wtal.registry import Registry

if TYPE_CHECKING:
    from wtal.extractors.decoding.reader import TimedFrame, VideoInfo


class ReaderLeaf(Protocol):
    """A module of `readers/`. It may be a `HasVariants` too."""

    def version(self) -> str:
        """Return the version of the library that decodes."""

    def why_not(self) -> str | None:
        """Return None if the reader works on this machine, else the reason in a few words."""

    def frames(self, info: "VideoInfo") -> "Iterator[TimedFrame]":
        """Decode frames in sequence, in shown order, upright (rotation applied), at native size.

        Raises:
            VideoError: when the file cannot be read at all.
            VideoBroken: after the last good frame, when parts of the file could not be decoded.
        """


@runtime_checkable
class HasVariants(Protocol):
    """A module that decodes in other ways too, each a reader of its own: a user writes `torchcodec:cuda`."""

    @property
    def VARIANTS(self) -> "Mapping[str, ReaderLeaf]":
        """The readers by what stands behind the colon."""


READERS = Registry[ReaderLeaf]("reader", __name__, ReaderLeaf)
