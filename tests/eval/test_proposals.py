"""Recall of proposals: other evaluators' figures, and the plain definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wtal.data.segments import Annotation, Detection, tiou
from wtal.errors import UsageError
from wtal.eval import evaluate_proposals

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
    """Figures for ActivityNet's definition from the tests of mmaction2."""
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
