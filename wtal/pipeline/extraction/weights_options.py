"""Options that select weights, for the streams of the backbones of one call."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from wtal.errors import UsageError
from wtal.extractors.backbones import BACKBONES
from wtal.registry import suggest

STREAMS = ("rgb", "flow")
_A_WORD = re.compile(rf"[\w-]+(/({'|'.join(STREAMS)}))?")
Pairs = tuple[tuple[str, str], ...]


def share_out(given: Sequence[str], backbones: Mapping[str, Sequence[str]]) -> dict[str, Pairs]:
    """Return the (stream, source) pairs of each backbone from options; `backbones` maps full names to streams.

    An option is `SOURCE` for all, `STREAM=SOURCE`, `BACKBONE=SOURCE` or `BACKBONE/STREAM=SOURCE`; the latest form in
    this order that matches a stream gives its source. BACKBONE is a name with or without the variant. An existing file
    is always a source, whatever its name looks like.

    Raises:
        UsageError: when an option matches no stream, or two different ones match the same.
    """
    choices: dict[tuple[str, str], tuple[int, str]] = {}
    for text in given:
        rank, source, takers = _read(text, backbones)
        if not takers:
            names = ", ".join(f"{name} ({', '.join(streams)})" for name, streams in backbones.items())
            raise UsageError(f"--weights {text} matches none of the backbones of this call: {names}")
        for taker in takers:
            known, other = choices.get(taker, (-1, ""))
            if rank == known and other != source:
                raise UsageError(
                    f"--weights gives two sources for {' '.join(taker)}: {other} and {source}; leave one out"
                )
            if rank >= known:
                choices[taker] = rank, source
    return {
        name: tuple((stream, choices[name, stream][1]) for stream in sorted(streams) if (name, stream) in choices)
        for name, streams in backbones.items()
    }


def _read(text: str, backbones: Mapping[str, Sequence[str]]) -> tuple[int, str, list[tuple[str, str]]]:
    """Return an option's specificity, its source, and the (backbone, stream) pairs that it applies to."""
    everybody = [(name, stream) for name, streams in backbones.items() for stream in streams]
    key, equals, source = text.partition("=")
    if not equals or Path(text).exists():
        return 0, text, everybody
    if key in STREAMS:
        return 1, source, [taker for taker in everybody if taker[1] == key]
    owner, slash, stream = key.rpartition("/")
    if slash and any(_is(name, owner) for name in backbones):
        for name, streams in backbones.items():
            if _is(name, owner) and stream not in streams:
                raise UsageError(f"--weights {text}: {name} has no stream {stream!r}; {suggest(stream, streams)}")
        return 3, source, [taker for taker in everybody if _is(taker[0], owner) and taker[1] == stream]
    if _is_backbone(key) or (_is_backbone(owner) and stream in STREAMS):
        return 2, source, [taker for taker in everybody if _is(taker[0], key)]
    if _A_WORD.fullmatch(key):
        hint = suggest(key, [*STREAMS, *BACKBONES.names()])
        raise UsageError(
            f"--weights {text}: {key} is neither a stream nor a backbone, and {text} is not a file; {hint}"
        )
    return 0, text, everybody


def _is(name: str, asked: str) -> bool:
    return asked in (name, name.partition(":")[0])


def _is_backbone(text: str) -> bool:
    return text.partition(":")[0] in BACKBONES.names()
