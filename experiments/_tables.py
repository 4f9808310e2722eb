"""The tables of `results/` into the page of the documentation, between the lines that name them."""

import re
from pathlib import Path

from wtal.data.files import write_atomic

PAGE = Path(__file__).parents[1] / "docs" / "experiments.md"
ENSEMBLES = PAGE.with_name("ensembles.md")
_PLACE = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def refresh(results: Path, page: Path = PAGE) -> list[str]:
    """Put every table that is there into its place in `page`; returns the names of those that are not."""
    missing = []

    def table(place: re.Match[str]) -> str:
        path = results / f"{place[2]}.md"
        if not path.is_file():
            missing.append(place[2])
            return place[0]
        return f"{place[1]}\n{path.read_text(encoding='utf-8').strip()}\n\n{place[3]}"

    write_atomic(page, _PLACE.sub(table, page.read_text(encoding="utf-8")).encode())
    return missing
