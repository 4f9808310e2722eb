"""Findings counted by kind, with the first few offenders by name: how nothing is passed over in silence."""

from collections.abc import Collection


def first_names(names: Collection[str], show: int = 3) -> str:
    """All names, or where there are more than `show` the first of them: `first: a, b, c`."""
    shown = ", ".join(list(names)[:show])
    return shown if len(names) <= show else f"first: {shown}"


class Tally:
    """Findings of several kinds, in the order of their first appearance.

    A finding is a phrase in the plural ("segments that end after their video"); an offender says where.
    """

    def __init__(self, show: int = 3) -> None:
        self._show = show
        self._counts: dict[str, int] = {}
        self._first: dict[str, list[str]] = {}

    def add(self, finding: str, offender: str) -> None:
        """Count `finding` once more; the first few different offenders are kept by name."""
        self._counts[finding] = self._counts.get(finding, 0) + 1
        first = self._first.setdefault(finding, [])
        if len(first) < self._show and offender not in first:
            first.append(offender)

    def sentences(self) -> tuple[str, ...]:
        """One line for each kind of finding: `segments that end after their video: 58 (first: a, b, c)`."""
        return tuple(f"{finding}: {count} ({self._named(finding)})" for finding, count in self._counts.items())

    def _named(self, finding: str) -> str:
        names = ", ".join(self._first[finding])
        return names if self._counts[finding] == len(self._first[finding]) else f"first: {names}"
