"""Figures as text, Markdown and CSV."""

from wtal.pipeline.judging.tables import Figures, csv_table, markdown_table, text_table


def test_tables():
    figures = Figures({"mAP": {"@0.5": 0.5, "average": 0.25}, "a|b": {"@0.5": 1.0}}, ("average",), ("a note",), "title")
    assert text_table(figures).splitlines() == [
        "title",
        "percent    @0.5",
        "mAP       50.00",
        "a|b      100.00",
        "average 25.00",
    ]
    assert markdown_table(figures).splitlines() == [
        "title",
        "",
        "| percent | @0.5 | average |",
        "| --- | ---: | ---: |",
        "| mAP | 50.00 | 25.00 |",
        "| a\\|b | 100.00 |  |",
        "",
        "- a note",
    ]
    assert csv_table(figures) == "name,@0.5,average\nmAP,0.5,0.25\na|b,1.0,"
