"""Count findings by kind, with the names of the first few, so that nothing is skipped silently."""

from collections.abc import Collection


def first_names(names: Collection[str], show: int = 3) -> str:
    """List all names, or, if there are more than `show`, the first of them: `first: a, b, c`."""
    shown = ", ".join(list(names)[:show])
    return shown if len(names) <= show else f"first: {shown}"


class Tally:
    """Findings of several kinds, in the order of their first appearance.

    A finding is a plural phrase ("segments that end after their video"); an offender is a video or a place.
    """

    def __init__(self, show: int = 3) -> None:
        self._show = show
        self._counts: dict[str, int] = {}
        self._first: dict[str, list[str]] = {}

    def add(self, finding: str, offender: str) -> None:
        """Count `finding` once more; the names of the first few different offenders are stored."""
        self._counts[finding] = self._counts.get(finding, 0) + 1
        first = self._first.setdefault(finding, [])
        if len(first) < self._show and offender not in first:
            first.append(offender)

    def sentences(self) -> tuple[str, ...]:
        """Return one line per kind of finding: `segments that end after their video: 58 (first: a, b, c)`."""
        return tuple(f"{finding}: {count} ({self._named(finding)})" for finding, count in self._counts.items())

    def _named(self, finding: str) -> str:
        names = ", ".join(self._first[finding])
        return names if self._counts[finding] == len(self._first[finding]) else f"first: {names}"
