"""The tables of experiments in their page."""

from pathlib import Path

from experiments._tables import refresh


def test_tables_fill_their_places_and_nothing_else(tmp_path: Path) -> None:
    """An empty place, a filled one and one whose table is not made; a second call changes nothing."""
    page, results = tmp_path / "page.md", tmp_path / "results"
    results.mkdir()
    (results / "one.md").write_text("| 1 |\n")
    (results / "two.md").write_text("| 2 |\n")
    page.write_text(
        "<!-- table: one -->\n<!-- end -->\n\nbetween\n\n"
        "<!-- table: two -->\n\n| old |\n\n<!-- end -->\n\nafter\n\n<!-- table: three -->\n<!-- end -->\n"
    )
    assert refresh(results, page) == ["three"]
    wanted = (
        "<!-- table: one -->\n\n| 1 |\n\n<!-- end -->\n\nbetween\n\n"
        "<!-- table: two -->\n\n| 2 |\n\n<!-- end -->\n\nafter\n\n<!-- table: three -->\n<!-- end -->\n"
    )
    assert page.read_text() == wanted
    refresh(results, page)
    assert page.read_text() == wanted
