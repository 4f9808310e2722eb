"""The page and its pictures, and what `wtal diagnose` and `wtal evaluate --plots` make of detections."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from click.testing import CliRunner

from tests.support.reference import SHARED, needs_shared
from wtal.cli import main
from wtal.data.segments import Annotation, Detection
from wtal.errors import MissingExtraError
from wtal.eval import diagnose_detections, evaluate_proposals
from wtal.eval.curves import precision_recall
from wtal.report.characteristics import characteristic_sections
from wtal.report.errors import error_sections
from wtal.report.judge import few_tious, precision_by_tiou, precision_recall_curves, recall_by_proposals
from wtal.report.page import Page, Picture, Section, Table, png, write_page, write_pictures
from wtal.report.style import canvas, drawable, pale

PNG = b"\x89PNG\r\n\x1a\n"
VOID = {"meta", "img", "br", "hr"}


class Reader(HTMLParser):
    """Tags in their order, each closed where it must be; and the text between them."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.tags, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data.strip())


def read(path):
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    assert reader.open == []
    return reader


def picture(name="line", caption="how to read it"):
    figure, (axes,) = canvas()
    axes.plot([0, 1], [1, 0])
    return Picture(name, caption, figure)


@pytest.fixture(scope="module")
def scene():
    """Twelve videos of three classes with odd names, and detections of which half are near an annotation."""
    rng = np.random.default_rng(3)
    classes = ("<run> & jump", "throw", "dive")
    truth, found, durations = {}, {}, {}
    for i in range(12):
        name, label = f"video-{i:02d}", classes[i % 3]
        starts = np.sort(rng.uniform(0, 90, 4))
        truth[name] = [Annotation(a, a + b, label) for a, b in zip(starts, rng.uniform(1, 30, 4), strict=True)]
        durations[name] = 130.0
        near = [Detection(max(0.0, a.start + rng.normal()), a.end + 1, label, float(rng.random())) for a in truth[name]]
        far = [Detection(a, a + 5, str(rng.choice(classes)), float(rng.random())) for a in rng.uniform(0, 99, 6)]
        found[name] = near + near[:1] + far
    return truth, found, durations


# The page


def test_a_page_is_one_file_that_needs_nothing_from_elsewhere(tmp_path):
    table = Table("a table", {"a<b": {"x": "1", "y": "<2>"}, "c": {"y": "3"}})
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
    check = "from tests.report.test_report import *; png(picture()); assert 'matplotlib.pyplot' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


# The figures


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


# The commands


@pytest.fixture
def files(tmp_path, scene):
    truth, found, durations = scene
    database = {
        name: {
            "subset": "validation",
            "duration": durations[name],
            "annotations": [{"label": a.label, "segment": [a.start, a.end]} for a in here],
        }
        for name, here in truth.items()
    }
    (tmp_path / "truth.json").write_text(json.dumps({"database": database}))
    results = {
        name: [{"label": d.label, "score": d.score, "segment": [d.start, d.end]} for d in here]
        for name, here in found.items()
    }
    made = {"weights": {"rgb": "random 3", "flow": "sha256 ab"}, "tuned_with_segments": True, "use_labels": False}
    (tmp_path / "found.json").write_text(json.dumps({"results": results, "wtal": made}))
    return tmp_path


def call(*arguments):
    return CliRunner().invoke(main, [*map(str, arguments)])


def test_a_detection_file_is_diagnosed(files, scene):
    truth, found, durations = scene
    given = (files / "found.json", "--annotations", files / "truth.json", "--tiou", "0.3:0.7:0.1")
    said = call("diagnose", *given)
    assert said.exit_code == 0, said.output
    page = files / "found-report" / "index.html"
    assert said.stdout.splitlines()[-1] == str(page)
    words = " ".join(read(page).text)
    assert "random weights: the features of rgb" in words
    assert "tuned with segments" in words
    assert "random weights" in said.stdout
    value = json.loads((page.parent / "diagnosis.json").read_text())
    judged = json.loads(call("evaluate", *given, "--json").stdout)
    assert value["mAP"] == judged["mAP"]
    assert {key: one["mAP"] for key, one in value["diagnosis"].items()} == judged["mAP"]
    for one in value["diagnosis"].values():
        assert one["mAP"] + sum(one["gain_shared"].values()) == pytest.approx(1)
    shown = [line.split()[-5:] for line in said.stdout.splitlines() if re.match(r"[a-z ]+ +\d", line, re.IGNORECASE)]
    assert np.array(shown, float).sum(axis=0) == pytest.approx(100, abs=0.05)
    made = diagnose_detections(truth, found, (0.5,), durations=durations)
    assert value["diagnosis"]["0.5"]["by"]["length"]["XS"]["annotations"] == made.annotations
    assert "nearly all annotations have length XS; --buckets fifths" in words
    assert f"{100 * judged['mAP']['0.5']:.2f}" in words
    pictures = {path.stem for path in page.parent.glob("*.png")}
    assert pictures == {
        "map-by-tiou",
        "precision-recall",
        "points",
        "errors-by-rank",
        "gains",
        "sensitivity",
        "missed",
        "average-recall",
    }


def test_options_choose_threshold_buckets_and_folder(files):
    given = ("diagnose", files / "found.json", "--annotations", files / "truth.json", "--out", files / "out")
    value = json.loads(call(*given, "--at", 0.7, "--buckets", "fifths", "--json").stdout)
    assert value["page"] == str(files / "out" / "index.html")
    assert value["buckets"] == "fifths"
    assert value["diagnosis"]["0.7"]["by"]["length"]["XL"]["annotations"] == 9
    words = " ".join(read(files / "out" / "index.html").text)
    assert "At tIoU 0.7." in words
    assert json.loads(call(*given, "--protocol", "thumos14", "--json").stdout)["buckets"] == "thumos14"


def test_wrong_calls_have_one_line(files, monkeypatch):
    given = ("diagnose", files / "found.json", "--annotations", files / "truth.json")
    (files / "file").write_text("")
    for extra, code, message in (
        (("--at", 0.33), 2, "--at 0.33 is none of the thresholds: 0.1, 0.2"),
        (("--out", files / "file"), 2, "--out is a folder"),
        (("--subset", "training"), 2, "no subset 'training'"),
        (("--out", files / "file" / "below"), 1, "Not a directory"),
    ):
        said = call(*given, *extra)
        assert (said.exit_code, message in said.stderr, said.stdout) == (code, True, ""), said.stderr
        assert len(said.stderr.splitlines()) == 1
    assert call("diagnose", files / "found.json").exit_code == 2
    assert "nothing at" in call("diagnose", files / "none.json").stderr
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    said = call(*given)
    assert (said.exit_code, said.stderr) == (1, "wtal: matplotlib is not installed; run: pip install 'wtal[report]'\n")
    assert not (files / "found-report").exists()
    assert call("evaluate", *given[1:], "--plots", files / "plots").exit_code == 1


def test_evaluate_draws_its_figures(files):
    given = ("evaluate", files / "found.json", "--annotations", files / "truth.json")
    said = call(*given, "--plots", files / "plots")
    assert said.exit_code == 0, said.output
    assert said.stdout == call(*given).stdout
    assert call(*given, "--plots", files / "plots", "--task", "proposals").exit_code == 0
    assert {path.name for path in (files / "plots").iterdir()} == {
        "map-by-tiou.png",
        "precision-recall.png",
        "average-recall.png",
    }
    assert call(*given, "--plots", files / "plots", "--task", "classification").exit_code == 2
    assert call(*given, "--plots", files / "plots", "--against", files / "found.json").exit_code == 2


@needs_shared
def test_published_detections_have_a_page(tmp_path):
    folder = SHARED / "data/predictions/scnn"
    truth = ("--annotations", folder / "thumos14_test_annotations.json", "--subset", "test")
    given = ("diagnose", folder / "detections_tiou0.5.json", *truth, "--protocol", "thumos14-kit", "--out", tmp_path)
    said = call(*given)
    assert said.exit_code == 0, said.output
    value = json.loads((tmp_path / "diagnosis.json").read_text())
    expected = json.loads((folder / "expected.json").read_text())
    assert value["mAP"]["0.5"] == pytest.approx(expected["mAP"]["0.5"], abs=expected["tolerance"], rel=0)
    assert [*value["diagnosis"]["0.5"]["by"]] == ["length", "instances"]
    assert any("left out of coverage: 212" in note for note in value["notes"])
    assert (tmp_path / "index.html").stat().st_size < 2 << 20
