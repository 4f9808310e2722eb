"""THUMOS14's ranges in which annotators could not tell: `Ambiguous_test.txt`, lines `video start end` in seconds."""

from pathlib import Path

from wtal.data.assemble import number
from wtal.data.files import read_text
from wtal.data.segments import Segment
from wtal.errors import FormatError

FILE_NAME = "Ambiguous_test.txt"


def read_ambiguous(path: Path) -> dict[str, list[Segment]]:
    """Read such a file, in its order; blanks of any number and kind stand between the three.

    Raises:
        FormatError: naming the line that is not as described.
    """
    ranges: dict[str, list[Segment]] = {}
    for line, text in enumerate(read_text(path).splitlines(), 1):
        cells, where = text.split(), f"{path}: line {line}"
        if not cells:
            continue
        if len(cells) != 3:
            raise FormatError(f"{where}: wanted `video start end`, got {text!r}")
        start, end = number(cells[1], where), number(cells[2], where)
        try:
            ranges.setdefault(cells[0], []).append(Segment(start, end))
        except ValueError as error:
            raise FormatError(f"{where}: {error}") from None
    return ranges
