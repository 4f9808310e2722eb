"""Put the tables of `results/` into the pages of the docs, between their marks."""

import re
from pathlib import Path

from wtal.data.files import write_atomic

PAGE = Path(__file__).parents[1] / "docs" / "experiments.md"
PAGES = (PAGE, PAGE.with_name("ensembles.md"), PAGE.with_name("second-stage.md"))
_MARKS = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def refresh(results: Path, page: Path = PAGE) -> list[str]:
    """Put every existing table between its marks in `page`; return the names of missing tables."""
    missing = []

    def table(marks: re.Match[str]) -> str:
        path = results / f"{marks[2]}.md"
        if not path.is_file():
            missing.append(marks[2])
            return marks[0]
        return f"{marks[1]}\n{path.read_text(encoding='utf-8').strip()}\n\n{marks[3]}"

    write_atomic(page, _MARKS.sub(table, page.read_text(encoding="utf-8")).encode())
    return missing
