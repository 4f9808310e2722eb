"""Ties in ActivityNet's script: against its rules as plain loops, and its figures on small files."""

import json
import zlib

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.reference import SHARED, needs_shared
from wtal.cli import main
from wtal.data.annotations import read_annotations
from wtal.data.detections import read_detections
from wtal.data.segments import Annotation, Detection
from wtal.errors import UsageError
from wtal.eval import compare_detections, diagnose_detections, evaluate_detections
from wtal.eval.curves import precision_recall
from wtal.eval.thresholds import parse_tious

TIOUS = (0.1, 0.5, 0.75)

# Few different seconds and scores: most of them are tied, and many segments have no length.
ticks = st.integers(0, 6).map(float)
spans = st.tuples(ticks, ticks).map(lambda pair: (min(pair), max(pair)))
labels = st.sampled_from(["run", "jump"])
annotations = st.builds(lambda span, label: Annotation(*span, label), spans, labels)
truths = st.dictionaries(st.sampled_from("abc"), st.lists(annotations, max_size=24), min_size=1).filter(
    lambda truth: any(truth.values())
)
detections = st.builds(lambda span, label, score: Detection(*span, label, score / 2), spans, labels, st.integers(0, 3))
found_by_video = st.dictionaries(st.sampled_from("abcz"), st.lists(detections, max_size=24))


def script(truth, found, label, threshold):
    """Average precision by the script: a loop over detections, both orders by numpy, read in reverse."""
    wanted = [(video, a) for video in truth for a in truth[video] if a.label == label]
    offered = [(video, d) for video in found for d in found[video] if d.label == label]
    taken, hits = set(), []
    for place in np.array([d.score for _, d in offered]).argsort()[::-1]:
        video, d = offered[place]
        here = [i for i, (other, _) in enumerate(wanted) if other == video]
        with np.errstate(invalid="ignore"):
            overlap = np.array([_overlap(d, wanted[i][1]) for i in here])
        best = [j for j in overlap.argsort()[::-1] if not overlap[j] < threshold and here[j] not in taken]
        taken |= {here[j] for j in best[:1]}
        hits.append(bool(best))
    precision = [sum(hits[: i + 1]) / (i + 1) for i in range(len(hits))]
    return sum(max(precision[i:]) for i, hit in enumerate(hits) if hit) / len(wanted)


def _overlap(first, second):
    shared = max(0.0, min(first.end, second.end) - max(first.start, second.start))
    return np.float64(shared) / np.float64((second.end - second.start) + (first.end - first.start) - shared)


@settings(max_examples=150, deadline=None)
@given(truths, found_by_video)
def test_it_equals_the_loops_of_the_script(truth, found):
    for protocol in ("activitynet", "thumos14"):
        result = evaluate_detections(truth, found, TIOUS, protocol, ties="official")
        for label, by_tiou in result.ap.items():
            plain = [script(truth, found, label, threshold) for threshold in TIOUS]
            assert list(by_tiou.values()) == pytest.approx(plain, abs=1e-12)


def test_the_last_of_equal_scores_comes_first_and_nothing_over_nothing_is_a_hit():
    truth = {"a": [Annotation(0, 10, "c")]}
    found = {"a": [Detection(0, 10, "c", 0.5), Detection(30, 40, "c", 0.5)]}
    assert evaluate_detections(truth, found, [0.5]).average == 1
    assert evaluate_detections(truth, found, [0.5], ties="official").average == 0.5
    points = {"a": [Annotation(0, 10, "c"), Annotation(20, 20, "c")]}
    found = {"a": [Detection(0, 10, "c", 0.9), Detection(45, 45, "c", 0.8)]}
    assert evaluate_detections(points, found, [0.5]).average == 0.5
    assert evaluate_detections(points, found, [0.5], ties="official").average == 1
    elsewhere = {"a": [found["a"][0]], "b": [found["a"][1]]}
    assert evaluate_detections(points, elsewhere, [0.5], ties="official").average == 0.5


def test_every_figure_of_detections_takes_the_ties():
    truth = {"a": [Annotation(0, 10, "c")]}
    found = {"a": [Detection(0, 10, "c", 0.5), Detection(30, 40, "c", 0.5)]}
    diagnosis = diagnose_detections(truth, found, [0.5], ties="official")
    assert diagnosis.evaluation.average == 0.5
    assert diagnosis.removal.mean_ap.tolist() == [0.5]
    assert precision_recall(truth, found, [0.5], ties="official")["c"][0].ap == 0.5
    compared = compare_detections(truth, found, found, [0.5], draws=2, ties="official")
    assert compared.figures["average"].first.value == 0.5


@pytest.mark.filterwarnings("error")
def test_lengths_without_end_warn_of_nothing():
    truth = {"a": [Annotation(2, 4, "run")]}
    found = {"a": [Detection(-1e308, 1e308, "run", 2), Detection(2, 4, "run", 1)]}
    assert evaluate_detections(truth, found, [0.5], ties="official").average == 0.5


@pytest.mark.parametrize("protocol", ["thumos14-kit", "snippet", "snippet-best"])
def test_other_protocols_have_no_such_ties(protocol):
    with pytest.raises(UsageError, match="has its own; omit the option"):
        evaluate_detections({"a": [Annotation(0, 1, "c")]}, {}, [0.5], protocol, ties="official")
    with pytest.raises(UsageError, match="did you mean 'official'"):
        evaluate_detections({"a": [Annotation(0, 1, "c")]}, {}, [0.5], ties="oficial")


@pytest.fixture
def files(tmp_path):
    truth = {"a": {"subset": "validation", "duration": 50, "annotations": [{"label": "c", "segment": [0, 10]}]}}
    found = [{"label": "c", "score": 0.5, "segment": segment} for segment in ([0, 10], [30, 40])]
    (tmp_path / "truth.json").write_text(json.dumps({"database": truth}))
    (tmp_path / "found.json").write_text(json.dumps({"results": {"a": found}}))
    return tmp_path / "found.json", "--annotations", tmp_path / "truth.json"


def call(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.mark.slow
def test_the_commands_take_ties_and_state_them(files):
    usual = json.loads(call("evaluate", *files, "--json").stdout)
    official = json.loads(call("evaluate", *files, "--ties", "official", "--json").stdout)
    assert (usual["average"], "ties" in usual) == (1, False)
    assert (official["average"], official["ties"]) == (0.5, "official")
    against = ("--against", files[0], "--draws", 2, "--json")
    compared = json.loads(call("evaluate", *files, "--ties", "official", *against).stdout)
    assert (compared["ties"], compared["mAP"]["average"]["first"]["value"]) == ("official", 0.5)
    diagnosed = json.loads(call("diagnose", *files, "--ties", "official", "--json").stdout)
    assert (diagnosed["ties"], diagnosed["average"]) == ("official", 0.5)
    for more in (("--protocol", "snippet"), ("--task", "proposals"), ("--task", "classification")):
        refused = call("evaluate", *files, "--ties", "official", *more)
        assert (refused.exit_code, refused.stderr.count("--ties")) == (2, 1)


@needs_shared
@pytest.mark.parametrize(("name", "usual", "official"), [("ties", 1.0, 0.5), ("nolength", 0.5, 1.0)])
def test_the_cases_come_out_as_by_the_script(name, usual, official):
    folder = SHARED / "cases" / "11_evaluator"
    given = ("evaluate", folder / f"{name}_found.json", "--annotations", folder / f"{name}_truth.json", "--json")
    assert json.loads(call(*given).stdout)["average"] == usual
    assert json.loads(call(*given, "--ties", "official").stdout)["average"] == official


def _sorts_as_there():
    """Compare numpy's order of equal values with that on the processor of the script's figures."""
    return zlib.crc32(np.argsort(np.arange(5000) % 5).astype(np.int64).tobytes()) == 3034995004


@needs_shared
@pytest.mark.skipif(not _sorts_as_there(), reason="needs a processor on which numpy sorts ties as the script's did")
@pytest.mark.parametrize(("kind", "tious"), [("thumos", "0.1:0.9:0.1"), ("anet", "0.5:0.95:0.05")])
def test_parity_with_the_script_where_thousands_of_scores_are_tied(kind, tious):
    folder = SHARED / "reference/evaluation"
    dataset = read_annotations(SHARED / "data/annotations/thumos14/gt.json")
    truth = {video.id: video.annotations for video in dataset.select("test")}
    found = read_detections(folder / "thumos_pred_1.json")
    result = evaluate_detections(truth, found, parse_tious(tious), ties="official")
    expected = json.loads((folder / f"thumos_expected_{kind}_1.json").read_text())
    for label, values in expected["ap"].items():
        assert list(result.ap[label].values()) == pytest.approx(values, abs=1e-12, rel=0)
