"""Clock times, as players and people write them: 1:03.5 and 1:02:03."""

import re

_CLOCK = re.compile(r"(?:(\d+):([0-5]?\d)|(\d+)):([0-5]?\d(?:\.\d*)?)", re.ASCII)


def clock_seconds(text: str) -> float | None:
    """Return the seconds of a clock time, `1:03.5` or `1:02:03`; None where a text is none."""
    match = _CLOCK.fullmatch(text)
    if match is None:
        return None
    hours, minutes, alone, seconds = match.groups(default="0")
    return int(hours) * 3600 + (int(minutes) + int(alone)) * 60 + float(seconds)
