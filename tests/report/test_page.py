"""Page with its pictures: one file, equal bytes, and the content of each figure."""

import subprocess
import sys

import numpy as np
import pytest

from tests.support.judged import odd_videos
from tests.support.pages import PNG, read
from wtal.data.segments import Annotation
from wtal.errors import MissingExtraError
from wtal.eval import diagnose_detections, evaluate_proposals
from wtal.eval.curves import precision_recall
from wtal.report.characteristics import characteristic_sections
from wtal.report.errors import error_sections
from wtal.report.judge import few_tious, precision_by_tiou, precision_recall_curves, recall_by_proposals
from wtal.report.page import Page, PageTable, Picture, Section, png, write_page, write_pictures
from wtal.report.style import canvas, drawable, pale


@pytest.fixture(scope="module")
def scene():
    return odd_videos()


def picture(name="line", caption="how to read it"):
    figure, (axes,) = canvas()
    axes.plot([0, 1], [1, 0])
    return Picture(name, caption, figure)


def test_a_page_is_one_file_that_needs_nothing_from_elsewhere(tmp_path):
    table = PageTable("a table", {"a<b": {"x": "1", "y": "<2>"}, "c": {"y": "3"}})
    sections = (Section("First & last", "One.\n\nTwo <i>.", (table,), (picture(),)), Section("Empty"))
    page = Page("A <title>", sections, {"file": "a&b.json"}, ("random <weights>",))
    path = write_page(page, tmp_path / "new" / "folder")
    assert path.name == "index.html"
    reader = read(path)
    words = " ".join(reader.text)
    for text in ("A <title>", "One.", "Two <i>.", "a<b", "<2>", "random <weights>", "a&b.json", "how to read it"):
        assert text in words
    attributes = [value for _, attrs in reader.tags for name, value in attrs.items() if name in ("src", "href")]
    assert sum(value.startswith("data:image/png;base64,") for value in attributes) == 1
    assert [value for value in attributes if not value.startswith(("data:", "#"))] == []
    assert {tag for tag, _ in reader.tags} & {"script", "link", "i"} == set()
    assert {value[1:] for value in attributes if value[0] == "#"} == {
        attrs["id"] for tag, attrs in reader.tags if tag == "section"
    }
    assert "http" not in path.read_text(encoding="utf-8")
    assert (path.parent / "line.png").read_bytes().startswith(PNG)
    assert sorted(one.name for one in path.parent.iterdir()) == ["index.html", "line.png"]
    cells = [tag for tag, _ in reader.tags if tag == "td"]
    assert len(cells) == 1 + 4  # the corner, and a cell of each column even where a row lacks it


def test_equal_pictures_have_equal_bytes_and_names_are_taken_once(tmp_path):
    assert png(picture()) == png(picture())
    assert [path.name for path in write_pictures([picture("a"), picture("b")], tmp_path)] == ["a.png", "b.png"]
    with pytest.raises(ValueError, match="two pictures are named 'a'"):
        write_pictures([picture("a"), picture("a")], tmp_path / "twice")
    assert not (tmp_path / "twice").exists()


def test_what_is_there_stays_where_a_page_cannot_be_written(tmp_path):
    page = Page("old", (Section("one", pictures=(picture(),)),), {})
    path = write_page(page, tmp_path)
    before = {one.name: one.read_bytes() for one in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="two pictures"):
        write_page(Page("new", (Section("two", pictures=(picture(), picture())),), {}), tmp_path)
    assert {one.name: one.read_bytes() for one in path.parent.iterdir()} == before


def test_colours_on_white():
    assert pale("#000000", 1.0) == "#000000"
    assert pale("#0072b2", 0.0) == "#ffffff"


def test_without_matplotlib_there_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"matplotlib is not installed; run: pip install 'wtal\[report\]'"):
        drawable()


def test_pictures_leave_the_process_as_it_was():
    import matplotlib

    # Looking up the backend would choose one.
    before = {key: matplotlib.rcParams[key] for key in matplotlib.rcParams if key != "backend"}
    png(picture())
    assert {key: matplotlib.rcParams[key] for key in before} == before
    check = "from tests.report.test_page import *; png(picture()); assert 'matplotlib.pyplot' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def heights(axes):
    return [bar.get_height() for bar in axes.patches]


def test_bars_of_the_points_are_a_hundred(scene):
    truth, found, durations = scene
    made = diagnose_detections(truth, found, (0.3, 0.5, 0.7), durations=durations)
    points, errors = error_sections(made, 1)
    (axes,) = points.pictures[0].figure.axes
    bars = np.array(heights(axes)).reshape(7, 3)
    np.testing.assert_allclose(bars.sum(axis=0), 100)
    np.testing.assert_allclose(bars[0], 100 * made.removal.mean_ap)
    by_rank, gains = errors.pictures
    assert sum(heights(by_rank.figure.axes[0])) == pytest.approx(100 * (made.counts[1].sum(axis=1) > 0).sum())
    assert heights(gains.figure.axes[0])[:5] == pytest.approx(100 * made.removal.alone[1])
    (table,) = errors.tables
    columns = [[int(row[name]) for row in table.rows.values()] for name in ("1G", "all")]
    assert [sum(column[:-1]) for column in columns] == [column[-1] for column in columns]
    assert columns[1][-1] == sum(map(len, found.values()))


def test_buckets_are_drawn_as_they_are(scene):
    truth, found, durations = scene
    made = diagnose_detections(truth, found, (0.5,), durations=durations, buckets="thumos14")
    sensitivity, missed = characteristic_sections(made, 0)
    panels = sensitivity.pictures[0].figure.axes
    assert [axes.get_title(loc="left").split()[0] for axes in panels] == ["length", "coverage", "instances"]
    widths = [bar.get_width() for bar in panels[0].patches]
    expected = [100 * one.normalized[0] for one in made.characteristics["length"]]
    np.testing.assert_allclose(widths, expected)
    rows = missed.tables[0].rows
    assert sum(int(row["annotations"]) for name, row in rows.items() if name.startswith("length")) == made.annotations
    for section in (sensitivity, missed):
        assert png(section.pictures[0]).startswith(PNG)
    assert characteristic_sections(diagnose_detections(truth, {}, (0.5,), durations=durations), 0)


def test_curves_and_lines(scene):
    truth, found, _ = scene
    curves = precision_recall(truth, found, (0.3, 0.5))
    drawn = precision_recall_curves(curves, (0.3, 0.5))
    assert png(drawn).startswith(PNG)
    titles = {axes.get_title(loc="left"): axes.get_title(loc="right") for axes in drawn.figure.axes}
    assert set(titles) == set(curves)
    many = {f"class {i:03d}": curves["dive"] for i in range(40)}
    assert len(precision_recall_curves(many, (0.3, 0.5)).figure.axes) == 20
    assert "10 best" in precision_recall_curves(many, (0.3, 0.5)).caption
    one = {0.3: 0.5, 0.5: 0.25}
    (axes,) = precision_by_tiou({"seed 0": one, "seed 1": {0.3: 0.7, 0.5: 0.25}}).figure.axes
    assert axes.lines[-1].get_ydata() == pytest.approx([60, 25])
    proposals = evaluate_proposals(truth, found)
    (axes,) = recall_by_proposals(proposals).figure.axes
    np.testing.assert_allclose(axes.lines[0].get_ydata(), 100 * proposals.average_recall)


def test_a_class_without_a_detection_has_a_curve():
    curves = precision_recall({"a": [Annotation(0, 1, "run"), Annotation(0, 1, r"$\frac$ _^")]}, {}, (0.5,))
    assert png(precision_recall_curves(curves, (0.5,))).startswith(PNG)


def test_thresholds_to_draw():
    assert few_tious((0.1, 0.3, 0.5, 0.7, 0.9)) == (0.3, 0.5, 0.7)
    assert few_tious((0.5, 0.55, 0.75, 0.95)) == (0.5, 0.75, 0.95)
    assert few_tious((0.2, 0.4, 0.6, 0.8)) == (0.2, 0.6, 0.8)
    assert few_tious((0.4,)) == (0.4,)
