"""Recall of proposals, video-level labels, paired intervals, and what `wtal evaluate` makes of them."""

import csv
import io
import json

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.reference import SHARED, needs_shared
from wtal.cli import main
from wtal.data.ambiguous import read_ambiguous
from wtal.data.annotations import read_annotations, write_annotations
from wtal.data.classifications import holds_classifications, read_classifications
from wtal.data.detections import read_made
from wtal.data.segments import Annotation, Detection, Segment, tiou
from wtal.errors import FormatError, UsageError
from wtal.eval import compare_detections, evaluate_detections, evaluate_labels, evaluate_proposals
from wtal.eval.classification import best_scores
from wtal.pipeline.judging.tables import Figures, csv_table, markdown_table, text_table

spans = st.tuples(st.integers(0, 40), st.integers(1, 20)).map(lambda pair: (pair[0], pair[0] + pair[1]))
truths = st.dictionaries(
    st.sampled_from("abc"),
    st.lists(st.builds(lambda s: Annotation(*s, "run"), spans), min_size=1, max_size=4),
    min_size=1,
)
answers = st.dictionaries(
    st.sampled_from("abcz"),
    st.lists(st.builds(lambda s, score: Detection(*s, "any", score / 8), spans, st.integers(0, 8)), max_size=9),
)


def proposals(*segments):
    return [Detection(start, end, "any", score) for start, end, score in segments]


def test_recall_as_other_evaluators_have_it():
    """Figures that the tests of mmaction2 hold for ActivityNet's definition."""
    two = {name: [Annotation(0, 1, "run"), Annotation(1, 2, "run")] for name in ("v1", "v2")}
    found = {name: proposals((0, 1, 1), (1, 2, 1)) for name in two}
    made = evaluate_proposals(two, found, most=None)
    np.testing.assert_allclose(made.numbers, np.arange(0.02, 2.02, 0.02))
    np.testing.assert_array_equal(made.recall, [[0.0] * 49 + [0.5] * 50 + [1.0]] * 10)
    assert made.area == pytest.approx(0.255)
    one = {"v1": [Annotation(0, 1, "run")]}
    assert evaluate_proposals(one, {"v1": proposals((10, 11, 0.6), (11, 12, 0.4))}, most=None).area == 0
    many = {"v1": proposals(*((i, i + 1, 1 / (i + 1)) for i in range(100)))}
    made = evaluate_proposals(one, many, most=None)
    assert made.area == pytest.approx(0.99)
    assert made.recall_at == {1: 1, 5: 1, 10: 1, 50: 1, 100: 1}


@settings(max_examples=60, deadline=None)
@given(truths, answers, st.sampled_from([None, 1.0, 3.0, 100.0]))
def test_recall_equals_its_definition_written_plainly(truth, found, most):
    tious = (0.5, 0.75)
    made = evaluate_proposals(truth, found, tious, most)
    total = sum(map(len, found.values()))
    wanted = (most or max(total, 1) / len(truth)) * len(truth)
    best = {}
    for video in truth:
        ranked = sorted(found.get(video, ()), key=lambda d: -d.score)
        best[video] = ranked[: min(int(len(ranked) * (wanted / max(total, 1))), len(ranked))]
    kept = sum(map(len, best.values()))
    for step in (1, 30, 77, 100):
        share = step / 100 * (wanted / max(kept, 1))
        looked = {video: best[video][: min(int(len(best[video]) * share), len(best[video]))] for video in truth}
        for k, threshold in enumerate(tious):
            hits = [any(tiou(a, d) >= threshold for d in looked[v]) for v in truth for a in truth[v]]
            assert made.recall[k, step - 1] == pytest.approx(np.mean(hits))
    assert (np.diff(made.average_recall) >= 0).all()


def test_recall_needs_annotations():
    with pytest.raises(UsageError, match="no annotation to score against"):
        evaluate_proposals({"a": []}, {})


def test_labels_by_hand():
    labels = {"a": ["run"], "b": ["run", "jump"], "c": ["jump"], "d": []}
    scores = {"a": {"run": 0.9, "jump": 0.8}, "b": {"run": 0.2, "fly": 1.0}, "d": {"run": 0.5, "jump": 0.1}}
    made = evaluate_labels(labels, scores)
    assert made.ap == {"jump": 0, "run": pytest.approx((1 + 2 / 3) / 2)}
    assert made.mAP == pytest.approx(5 / 12)
    assert made.hit_at == {1: pytest.approx(1 / 3), 3: pytest.approx(2 / 3), 5: pytest.approx(2 / 3)}
    assert set(made.to_json()) == {"mAP", "hit@", "ap"}
    late = {"a": {"run": 0.1}, "b": {"run": 0.2}, "d": {"run": 0.5}}
    assert evaluate_labels(labels, late).ap["run"] == pytest.approx(2 / 3)
    assert evaluate_labels(labels, late, interpolated=False).ap["run"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert evaluate_labels(labels, {}).mAP == 0
    with pytest.raises(UsageError, match="no label to score against"):
        evaluate_labels({"a": []}, scores)
    with pytest.raises(UsageError, match="finite, got inf"):
        evaluate_labels(labels, {"a": {"run": float("inf")}})


def test_the_best_score_of_each_label_stands_for_the_video():
    found = {"a": [Detection(0, 1, "run", -2), Detection(3, 4, "run", -1), Detection(0, 1, "jump", 3)], "b": []}
    assert best_scores(found) == {"a": {"run": -1, "jump": 3}, "b": {}}


@pytest.fixture
def collection():
    """Twelve videos of two classes; one file that finds the middle of each, and one that finds half of them."""
    rng = np.random.default_rng(1)
    truth, good, poor = {}, {}, {}
    for i in range(12):
        name, label = f"video-{i:02d}", ("run", "jump")[i % 2]
        truth[name] = [Annotation(10, 20, label), Annotation(30, 44, label)]
        good[name] = [Detection(11, 20, label, float(rng.random())), Detection(29, 44, label, float(rng.random()))]
        poor[name] = [good[name][0], Detection(60, 70, label, float(rng.random()))]
    return truth, good, poor


def test_intervals_are_repeatable_and_paired(collection):
    truth, good, poor = collection
    made = compare_detections(truth, good, poor, (0.5, 0.7), draws=200)
    assert made == compare_detections(truth, good, poor, (0.5, 0.7), draws=200)
    assert made != compare_detections(truth, good, poor, (0.5, 0.7), draws=200, seed=1)
    assert [*made.figures] == ["0.5", "0.7", "average"]
    for name, file in (("first", good), ("second", poor)):
        whole = evaluate_detections(truth, file, (0.5, 0.7))
        assert getattr(made.figures["0.5"], name).value == pytest.approx(whole.mAP[0.5])
    gap = made.figures["average"]
    assert gap.difference.low <= gap.difference.value <= gap.difference.high
    assert gap.difference.low > 0
    assert gap.ahead == 1
    back = compare_detections(truth, poor, good, (0.5, 0.7), draws=200).figures["average"]
    assert back.difference.low == pytest.approx(-gap.difference.high)
    assert back.ahead == 0
    same = compare_detections(truth, good, good, (0.5, 0.7), draws=20).figures["average"]
    assert (same.difference.low, same.difference.high, same.ahead) == (0, 0, 0.5)


@pytest.mark.parametrize("protocol", ["activitynet", "thumos14-kit", "snippet"])
def test_a_video_that_is_drawn_twice_is_two_videos(protocol, collection, monkeypatch):
    truth, good, poor = collection
    unsure = {"video-03": [Segment(0, 90)], "video-04": [Segment(60, 90)]}
    weights = np.array([2, 0, 1, 3, 1, 1, 0, 1, 2, 0, 1, 1])
    monkeypatch.setattr("wtal.eval.bootstrap._weights", lambda *_: iter([weights]))
    drawn = compare_detections(truth, good, poor, (0.5,), protocol, unsure, draws=1).figures["0.5"]
    copies = [(name, f"{name}/{i}") for name, count in zip(truth, weights, strict=True) for i in range(count)]

    def repeated(videos):
        return {copy: videos[name] for name, copy in copies if name in videos}

    for estimate, file in ((drawn.first, good), (drawn.second, poor)):
        whole = evaluate_detections(repeated(truth), repeated(file), (0.5,), protocol, repeated(unsure))
        assert estimate.low == estimate.high == pytest.approx(whole.average)


@pytest.mark.parametrize(("draws", "confidence"), [(0, 0.9), (10, 1.0)])
def test_draws_that_make_no_interval_are_refused(draws, confidence, collection):
    with pytest.raises(UsageError, match="at least one draw"):
        compare_detections(*collection, draws=draws, confidence=confidence)


def test_ambiguous_ranges_are_read(tmp_path):
    path = tmp_path / "Ambiguous_test.txt"
    path.write_text("video_1  0.0 1.4\n\nvideo_2 5 6.5\nvideo_1\t7 8\n")
    assert read_ambiguous(path) == {"video_1": [Segment(0, 1.4), Segment(7, 8)], "video_2": [Segment(5, 6.5)]}
    for line, message in (("video 1", "line 1: wanted `video start end`"), ("v 2 1", "start <= end"), ("v a 1", "'a'")):
        path.write_text(line)
        with pytest.raises(FormatError, match=message):
            read_ambiguous(path)


def test_ambiguous_ranges_of_annotations_are_kept(tmp_path):
    path = tmp_path / "truth.json"
    entry = {"subset": "test", "annotations": [], "ambiguous": [[1, 2], ["3", "4.5"], [9, 8]]}
    path.write_text(json.dumps({"database": {"a": entry}}))
    dataset = read_annotations(path, "activitynet")
    assert dataset.videos["a"].ambiguous == (Segment(1, 2), Segment(3, 4.5))
    assert any("ambiguous ranges without finite start <= end" in note for note in dataset.notes)
    again = read_annotations(write_annotations(dataset, tmp_path / "again.json"), "activitynet")
    assert again.videos["a"].ambiguous == dataset.videos["a"].ambiguous
    path.write_text(json.dumps({"database": {"a": {"annotations": [], "ambiguous": [[1]]}}}))
    with pytest.raises(FormatError, match=r"a\.ambiguous\[0\]: wanted \[start, end\]"):
        read_annotations(path, "activitynet")


def test_classification_files_are_read(tmp_path):
    path = tmp_path / "scores.json"
    path.write_text(json.dumps({"results": {"a": [{"label": "run", "score": 1}, {"label": "run", "score": 0.5}]}}))
    assert holds_classifications(path)
    assert read_classifications(path) == {"a": {"run": 1.0}}
    for entry, message in (
        ({"label": "run", "score": 1, "segment": [0, 1]}, "without a segment"),
        ({"label": 3, "score": 1}, r"results\.a\[0\]\.label: wanted a text"),
        ({"label": "run", "score": "1"}, r"\.score: wanted a finite number"),
    ):
        path.write_text(json.dumps({"results": {"a": [entry]}}))
        with pytest.raises(FormatError, match=message):
            read_classifications(path)


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


@pytest.fixture
def files(tmp_path, collection):
    truth, good, poor = collection
    database = {
        name: {"subset": "validation", "annotations": [{"label": a.label, "segment": [a.start, a.end]} for a in found]}
        for name, found in truth.items()
    }
    (tmp_path / "truth.json").write_text(json.dumps({"database": database}))
    for name, found in (("good", good), ("poor", poor)):
        results = {
            video: [{"label": d.label, "score": d.score, "segment": [d.start, d.end]} for d in here]
            for video, here in found.items()
        }
        (tmp_path / f"{name}.json").write_text(json.dumps({"results": results}))
    return tmp_path


def call(*arguments):
    return CliRunner().invoke(main, ["evaluate", *map(str, arguments)])


def test_the_command_judges_by_protocol_and_in_every_format(files):
    given = (files / "good.json", "--annotations", files / "truth.json")
    for protocol in ("thumos14", "thumos14-kit", "snippet", "snippet-best"):
        value = json.loads(call(*given, "--protocol", protocol, "--json").stdout)
        assert value["protocol"] == protocol
        assert [*value["averages"]] == ["0.1:0.5", "0.3:0.7", "0.1:0.7", "0.1:0.9"]
    assert [*json.loads(call(*given, "--protocol", "activitynet", "--json").stdout)["averages"]] == ["0.5:0.95"]
    assert json.loads(call(*given, "--protocol", "thumos14", "--tiou", "0.5", "--json").stdout)["mAP"] == {"0.5": 1.0}
    table = list(csv.DictReader(io.StringIO(call(*given, "--format", "csv").stdout)))
    assert [row["name"] for row in table] == ["mAP", "jump", "run"]
    assert float(table[0]["average 0.1:0.7"]) == 1
    assert "| mAP | 100.00 |" in call(*given, "--format", "markdown").stdout
    assert call(*given).stdout.splitlines()[-1].startswith("average ")
    wrong = call(*given, "--protocol", "tumos14")
    assert wrong.exit_code == 2
    assert "did you mean 'thumos14'" in wrong.stderr


def test_the_command_compares_and_judges_other_tasks(files):
    given = (files / "good.json", "--annotations", files / "truth.json")
    value = json.loads(call(*given, "--against", files / "poor.json", "--draws", 50, "--json").stdout)
    assert value["mAP"]["average"]["difference"]["low"] > 0
    assert (value["draws"], value["seed"]) == (50, 0)
    assert "A - B low" in call(*given, "--against", files / "poor.json", "--draws", 5, "--format", "csv").stdout
    assert json.loads(call(*given, "--task", "proposals", "--json").stdout)["AR"]["100"] > 0.5
    assert json.loads(call(*given, "--task", "classification", "--json").stdout)["mAP"] == 1
    assert "the highest of each label's detections" in call(*given, "--task", "classification").stdout
    assert call(*given, "--task", "proposals", "--against", files / "poor.json").exit_code == 2
    for task, option in (("proposals", "--protocol=snippet"), ("classification", "--tiou=0.5")):
        useless = call(*given, "--task", task, option)
        assert (useless.exit_code, option.partition("=")[0] in useless.stderr) == (2, True)


STAMPS = {"tuned_with_segments": True, "weights": {"rgb": "random 3", "flow": "none"}}


@pytest.mark.parametrize("indent", [None, 1])
def test_what_a_file_says_of_itself_is_repeated(files, indent):
    content = json.loads((files / "good.json").read_text())
    (files / "stamped.json").write_text(json.dumps({**content, "wtal": STAMPS}, indent=indent))
    truth = ("--annotations", files / "truth.json")
    for more in ((), ("--task", "proposals"), ("--task", "classification"), ("--against", files / "poor.json")):
        text = call(files / "stamped.json", *truth, *more).stdout
        assert "tuned with segments" in text
        assert text.splitlines()[-1] == "a dry run: features were made with random weights: rgb"
        value = json.loads(call(files / "stamped.json", *truth, *more, "--json").stdout)
        assert (value["tuned_with_segments"], value["random_weights"]) == (True, ["rgb"])
    assert "tuned with segments" in call(files / "good.json", *truth, "--against", files / "stamped.json").stdout
    csv_form = call(files / "stamped.json", *truth, "--format", "csv")
    assert "tuned" not in csv_form.stdout
    assert "tuned" in csv_form.stderr


def test_a_file_that_says_nothing_is_not_taken_at_its_word(files):
    truth = ("--annotations", files / "truth.json")
    content = json.loads((files / "good.json").read_text())
    sober = {"tuned_with_segments": False, "weights": {"rgb": "sha256 12", "flow": "none"}}
    forms = {"good": content, "sober": {**content, "wtal": sober}, "odd": {**content, "wtal": ["tuned_with_segments"]}}
    forms["named"] = {"results": {**content["results"], "wtal": []}}
    for name, form in forms.items():
        (files / f"{name}.json").write_text(json.dumps(form))
        made = call(files / f"{name}.json", *truth)
        assert made.exit_code == 0
        assert "tuned" not in made.output
        assert "random" not in made.output


def test_the_command_takes_ambiguous_ranges_and_video_level_scores(files):
    (files / "unsure.txt").write_text("video-00 0 90\n")
    given = ("--annotations", files / "truth.json", "--protocol", "snippet", "--ambiguous", files / "unsure.txt")
    judged = call(files / "good.json", *given)
    assert "left out: 2" in judged.stderr
    idle = call(files / "good.json", *given[:2], *given[4:])
    assert idle.exit_code == 2
    assert "--ambiguous is nothing to the protocol 'activitynet'" in idle.stderr
    scores = {f"video-{i:02d}": [{"label": ("run", "jump")[i % 2], "score": 1}] for i in range(12)}
    (files / "scores.json").write_text(json.dumps({"results": scores}))
    made = call(files / "scores.json", "--annotations", files / "truth.json", "--task", "classification")
    assert "those of the file" in made.stdout
    assert "mAP      100.00" in made.stdout


@pytest.mark.parametrize("form", ["at the end", "first", "spaced", "UTF-16"])
def test_what_a_file_says_of_itself_is_read_wherever_it_stands(tmp_path, form):
    made, results = {"tuned_with_segments": True, "weights": {"rgb": "random:3"}}, {"results": {"a": []}}
    content = {"wtal": made, **results} if form == "first" else {**results, "wtal": made}
    text = json.dumps(content, separators=(",", " : ") if form == "spaced" else None)
    path = tmp_path / "found.json"
    path.write_text(text, encoding="utf-16" if form == "UTF-16" else "utf-8")
    assert read_made(path) == made
    path.write_text('{"results": {"wtal": []}}')
    assert read_made(path) == {}


@needs_shared
def test_thumos14_as_its_annotations_lie():
    dataset = read_annotations(SHARED / "data/annotations/Thumos14reduced-Annotations")
    assert sum(len(video.ambiguous) for video in dataset.videos.values()) > 90
