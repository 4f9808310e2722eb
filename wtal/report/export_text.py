"""Formatting of texts and times for files of other programs."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction

from wtal.data.segments import Detection
from wtal.data.video_ids import readable
from wtal.errors import VideoError

_INVISIBLE = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
"""Marks that change the direction of writing, by which a name can masquerade as another."""
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff]+")
_NO_MARKS = str.maketrans("|,", "__")
_RUNS = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""First characters that make a spreadsheet treat a cell as a formula; some also accept the full-width forms."""


def plain(text: str) -> str:
    """Return a label or name on one line, without control characters and direction marks."""
    text = _CONTROL.sub(" ", _INVISIBLE.sub("", readable(text)))
    return " ".join(text.split()) or "unnamed"


def unique(names: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """Return names distinct from one another and from `taken`: the later of two gets ` (2)`."""
    used, result = set(taken), []
    for name in names:
        number, new = 2, name
        while new in used:
            new, number = f"{name} ({number})", number + 1
        used.add(new)
        result.append(new)
    return result


def safe_cell(text: str) -> str:
    """Return a table cell that a spreadsheet treats as text: anything that it would run begins with an apostrophe."""
    return f"'{text}" if text.lstrip(" ").startswith(_RUNS) else text


def respelled(labels: Sequence[str], spell: Callable[[str], str]) -> dict[str, str]:
    """Return label -> its spelling in a format that lacks some characters, distinct for distinct labels.

    A label that needs no change keeps its spelling.
    """
    spelled = [spell(label) for label in labels]
    unchanged = [label for label, own in zip(labels, spelled, strict=True) if own == label]
    changed = [label for label, own in zip(labels, spelled, strict=True) if own != label]
    others = dict(zip(changed, unique(map(spell, changed), unchanged), strict=True))
    return {label: others.get(label, label) for label in labels}


def safe_cells(labels: Sequence[str]) -> dict[str, str]:
    """Return label -> its distinct table cell, which a spreadsheet treats as text."""
    return respelled(labels, safe_cell)


def boris_codes(labels: Sequence[str]) -> dict[str, str]:
    """Return label -> its distinct code of a behaviour, for which BORIS accepts neither `|` nor `,`."""
    return respelled(labels, lambda label: label.translate(_NO_MARKS))


def titled(detection: Detection, names: Mapping[str, str] | None = None) -> str:
    """Return a detection's label, as spelled in `names`, with its score."""
    label = detection.label if names is None else names[detection.label]
    return f"{label} {score_text(detection.score)}"


def score_text(score: float) -> str:
    """Return a score with three significant digits."""
    return f"{score:.3g}"


def milliseconds(detection: Detection) -> tuple[int, int]:
    """Return start and end in whole milliseconds, with the end after the start."""
    start = round(detection.start * 1000)
    return start, max(start + 1, round(detection.end * 1000))


def seconds_text(value: float) -> str:
    """Return seconds with three decimals, never as `-0.000`."""
    return f"{round(value, 3) + 0.0:.3f}"


def clock_text(value: int, comma: str = ".") -> str:
    """Return milliseconds as `HH:MM:SS.mmm`."""
    seconds, thousandths = divmod(value, 1000)
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}{comma}{thousandths:03d}"


def frame_span(detection: Detection, rate: Fraction | None, least: int = 1) -> tuple[int, int]:
    """Return the first frame of a detection and the frame after its last, by the nearest frame edges.

    Both are within half a frame of its seconds, unless it is shorter than `least` frames, which is then its length.

    Raises:
        VideoError: when there is no rate.
    """
    if rate is None:
        raise VideoError("frames cannot be numbered without a constant rate")
    first = round(detection.start * rate)
    return first, max(first + least, round(detection.end * rate))


def whole_rate(rate: Fraction) -> int:
    """Return the integer frames per second that timecodes count in: 30 for 29.97.

    Raises:
        VideoError: when the rate is neither an integer nor 1000/1001 of one.
    """
    nominal = round(rate)
    if nominal and (is_close(rate, Fraction(nominal)) or is_close(rate, Fraction(nominal * 1000, 1001))):
        return nominal
    raise VideoError(
        f"timecodes need an integer frame rate or 1000/1001 of one, but this file has {float(rate):.6g} frames per "
        "second"
    )


def is_ntsc(rate: Fraction) -> bool:
    """Return whether a rate is 1000/1001 of an integer."""
    return not is_close(rate, Fraction(whole_rate(rate)))


def is_close(rate: Fraction, other: Fraction) -> bool:
    """Return whether two rates are equal up to the rounding of a file's header."""
    return abs(rate - other) <= other / 50000


def timecode(frame: int, nominal: int) -> str:
    """Return a frame number as `HH:MM:SS:FF`, without dropped numbers.

    Raises:
        VideoError: when it reaches a hundred hours, for which the format has no digits.
    """
    seconds, rest = divmod(frame, nominal)
    minutes, seconds = divmod(seconds, 60)
    if minutes >= 6000:
        raise VideoError("timecodes end at 100 hours")
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}:{rest:02d}"
