"""One video library per file: each yields frames with exact times. The contract of a file is `ReaderLeaf`."""
# ruff: noqa: N802 - members are named as modules name them

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from wtal.errors import UsageError, VideoError
from wtal.registry import Registry, suggest

if TYPE_CHECKING:
    from wtal.extractors.decoding.reader import TimedFrame, VideoInfo


class ReaderLeaf(Protocol):
    """A module of `readers/`. It may also be a `HasReaderVariants`."""

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
class HasReaderVariants(Protocol):
    """A module with further ways of decoding, each a separate reader, such as `torchcodec:cuda`."""

    @property
    def VARIANTS(self) -> "Mapping[str, ReaderLeaf]":
        """The further readers by the part of their name after the colon."""


READERS = Registry[ReaderLeaf]("reader", __name__, ReaderLeaf)


def reader_names() -> list[str]:
    """Return the names of all readers; those with a colon follow their leaf."""
    names = []
    for name in READERS.names():
        module = READERS.load(name)
        variants = sorted(module.VARIANTS) if isinstance(module, HasReaderVariants) else []
        names += [name, *(f"{name}:{variant}" for variant in variants)]
    return names


def find_reader(name: str) -> ReaderLeaf:
    """Return the reader named `leaf` or `leaf:variant`, whether or not it can be used on this machine.

    Raises:
        UsageError: when there is no such reader.
    """
    module = READERS.load(name)
    _, colon, variant = name.partition(":")
    if not colon:
        return module
    if not isinstance(module, HasReaderVariants) or variant not in module.VARIANTS:
        raise UsageError(f"there is no reader {name!r}; {suggest(name, reader_names())}")
    return module.VARIANTS[variant]


def load_reader(name: str) -> ReaderLeaf:
    """Load a reader of `readers/`.

    Raises:
        UsageError: when the reader is unknown.
        VideoError: when it cannot be used on this machine, with the reason.
    """
    reader = find_reader(name)
    if (reason := reader.why_not()) is not None:
        raise VideoError(f"reader {name} cannot be used here: {reason}")
    return reader


def reader_identity(name: str) -> dict[str, Any]:
    """Return as JSON the reader that decodes, and its version.

    Raises:
        UsageError: when there is no such reader.
        VideoError: when it cannot be used on this machine.
    """
    return {"policy": name, "versions": {name: load_reader(name).version()}}


def read(info: "VideoInfo", reader: str) -> "Iterator[TimedFrame]":
    """Iterate over the frames of the file with one reader, by name."""
    return load_reader(reader).frames(info)
