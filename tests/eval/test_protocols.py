"""Each protocol against its plain rules, its laws, and published figures."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.reference import SHARED, needs_shared
from wtal.data.annotations import read_annotations
from wtal.data.detections import read_detections
from wtal.data.segments import Annotation, Detection, Segment
from wtal.errors import UsageError
from wtal.eval import evaluate_detections, matching
from wtal.eval.matching import settle
from wtal.eval.protocols import PROTOCOLS
from wtal.eval.thresholds import averages, covered_ranges, parse_tious

TIOUS = (0.1, 0.5, 0.75)
VIDEOS = "abcd"

# A grid of half seconds makes equal overlaps, equal scores and thresholds that are met exactly; tenths do not.
ticks = st.one_of(st.integers(0, 60).map(lambda i: i / 2), st.integers(0, 300).map(lambda i: i / 10))
spans = st.tuples(ticks, ticks).map(lambda pair: (min(pair), max(pair)))
labels = st.sampled_from(["run", "jump"])
annotations = st.builds(lambda span, label: Annotation(*span, label), spans, labels)
truths = st.dictionaries(st.sampled_from(VIDEOS), st.lists(annotations, max_size=5), min_size=1).filter(
    lambda truth: any(truth.values())
)
detections = st.builds(lambda span, label, score: Detection(*span, label, score / 4), spans, labels, st.integers(0, 8))
found_by_video = st.dictionaries(st.sampled_from(VIDEOS + "z"), st.lists(detections, max_size=8))
ranges = st.dictionaries(
    st.sampled_from(VIDEOS), st.lists(st.builds(lambda span: Segment(*span), spans), max_size=2), max_size=2
)


@st.composite
def apart_truths(draw):
    """Annotations on whole snippets that share no time."""
    truth = {}
    for video in draw(st.sets(st.sampled_from(VIDEOS), min_size=1)):
        cuts = sorted(draw(st.sets(st.integers(0, 99), min_size=2, max_size=8)))
        edges = [0.64 * cut for cut in cuts[: len(cuts) // 2 * 2]]
        truth[video] = [
            Annotation(start, end, draw(labels)) for start, end in zip(edges[::2], edges[1::2], strict=True)
        ]
    return truth


apart = apart_truths()
every_protocol = pytest.mark.parametrize("name", PROTOCOLS)


def tiou(a, b):
    shared = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    union = (a[1] - a[0]) + (b[1] - b[0]) - shared
    return shared / union if union > 0 else float(a[0] == b[0])


def span_overlap(a, b):
    shared = min(a[1], b[1]) - max(a[0], b[0])
    return shared / (max(a[1], b[1]) - min(a[0], b[0])) if shared > 0 else 0.0


def snippets(segment):
    return range(round(segment.start * 25 / 16), round(segment.end * 25 / 16))


def set_overlap(a, b):
    union = set(a) | set(b)
    return len(set(a) & set(b)) / len(union) if union else 0.0


def mean_precision(flags, positives, interpolated):
    precision = [sum(flags[: i + 1]) / (i + 1) for i in range(len(flags))]
    return sum(max(precision[i:]) if interpolated else precision[i] for i, hit in enumerate(flags) if hit) / positives


def official(truth, found, ambiguous, label, threshold):
    """ActivityNet's script, implemented independently."""
    wanted = [(v, a) for v in truth for a in truth[v] if a.label == label]
    ranked = sorted(((v, d) for v in found for d in found[v] if d.label == label), key=lambda p: -p[1].score)
    free, flags = set(range(len(wanted))), []
    for video, d in ranked:
        overlaps = {i: tiou((d.start, d.end), (a.start, a.end)) for i, (v, a) in enumerate(wanted) if v == video}
        fitting = [
            i for i in sorted(free & overlaps.keys(), key=lambda i: (overlaps[i], i)) if overlaps[i] >= threshold
        ]
        free -= set(fitting[-1:])
        flags.append(bool(fitting))
    return mean_precision(flags, len(wanted), True)


def kit(truth, found, ambiguous, label, threshold):
    """THUMOS14's kit."""
    flags = []
    for video in sorted({*truth, *found}):
        theirs = sorted((d for d in found.get(video, ()) if d.label == label), key=lambda d: -d.score)
        free = list(range(len(theirs)))
        for a in (a for a in truth.get(video, ()) if a.label == label):
            overlaps = {i: span_overlap((a.start, a.end), (theirs[i].start, theirs[i].end)) for i in free}
            best = max(free, key=lambda i: (overlaps[i], -i), default=None)
            if best is not None and overlaps[best] > threshold:
                free.remove(best)
        for i, d in enumerate(theirs):
            unsure = any(span_overlap((d.start, d.end), (r.start, r.end)) > 0 for r in ambiguous.get(video, ()))
            if i not in free or not unsure:
                flags.append((d.score, i not in free))
    ranked = [hit for _, hit in sorted(flags, key=lambda pair: -pair[0])]
    return mean_precision(ranked, sum(a.label == label for v in truth for a in truth[v]), False)


def rounded(truth, found, ambiguous, label, threshold, best):
    """W-TALC's evaluation; with `best`, FAC-Net's and RSKP's."""
    wanted = [(v, snippets(a)) for v in truth for a in truth[v] if a.label == label]
    positives, flags = len(wanted), []
    candidates = [(v, d) for v in found if truth.get(v) for d in found[v] if d.label == label]
    sure = [
        (v, d)
        for v, d in candidates
        if not any(set_overlap(snippets(d), snippets(r)) > 0 for r in ambiguous.get(v, ()))
    ]
    for video, d in sorted(sure, key=lambda pair: -pair[1].score):
        overlaps = [set_overlap(s, snippets(d)) if v == video else -1.0 for v, s in wanted]
        fitting = [i for i, overlap in enumerate(overlaps) if overlap >= threshold]
        if fitting:
            del wanted[max(fitting, key=lambda i: (overlaps[i], -i)) if best else fitting[0]]
        flags.append(bool(fitting))
    return mean_precision(flags, positives, best)


PLAIN = {
    "activitynet": official,
    "thumos14": official,
    "thumos14-kit": kit,
    "snippet": lambda *case: rounded(*case, best=False),
    "snippet-best": lambda *case: rounded(*case, best=True),
}


@every_protocol
@settings(max_examples=40, deadline=None)
@given(truths, found_by_video, ranges)
def test_it_equals_its_rules_written_plainly(name, truth, found, ambiguous):
    result = evaluate_detections(truth, found, TIOUS, name, ambiguous)
    for label, by_tiou in result.ap.items():
        for threshold, value in by_tiou.items():
            assert value == pytest.approx(PLAIN[name](truth, found, ambiguous, label, threshold), abs=1e-12)


@every_protocol
@settings(max_examples=20, deadline=None)
@given(truths, found_by_video, ranges, st.randoms(use_true_random=False))
def test_the_order_of_the_input_does_not_matter_where_scores_differ(name, truth, found, ambiguous, order):
    pairs = [(v, d) for v in found for d in found[v]]
    pairs = [(v, Detection(d.start, d.end, d.label, float(i))) for i, (v, d) in enumerate(pairs)]
    before = evaluate_detections(truth, _by_video(pairs), TIOUS, name, ambiguous)
    order.shuffle(pairs)
    assert evaluate_detections(truth, _by_video(pairs), TIOUS, name, ambiguous).ap == before.ap


@every_protocol
@settings(max_examples=20, deadline=None)
@given(apart)
def test_perfect_detections_have_one_and_those_twice_have_what_half_of_them_wrong_gives(name, truth):
    pairs = [(v, Detection(a.start, a.end, a.label, 0.0)) for v in truth for a in truth[v]]
    once = [(v, Detection(d.start, d.end, d.label, 1 / (1 + i))) for i, (v, d) in enumerate(pairs)]
    twice = [pair for pair in once for _ in range(2)]
    perfect = evaluate_detections(truth, _by_video(once), TIOUS, name)
    doubled = evaluate_detections(truth, _by_video(twice), TIOUS, name)
    for label, by_tiou in doubled.ap.items():
        count = sum(a.label == label for v in truth for a in truth[v])
        assert list(perfect.ap[label].values()) == pytest.approx([1] * len(TIOUS))
        expected = np.mean([i / (2 * i - 1) for i in range(1, count + 1)])
        assert list(by_tiou.values()) == pytest.approx([expected] * len(TIOUS))


@every_protocol
@settings(max_examples=20, deadline=None)
@given(truths, found_by_video)
def test_none_give_zero_and_a_single_class_is_its_own_mean(name, truth, found):
    assert evaluate_detections(truth, {v: [] for v in found}, TIOUS, name).average == 0
    label = next(a.label for v in truth for a in truth[v])
    alone = {v: [a for a in truth[v] if a.label == label] for v in truth}
    result = evaluate_detections(alone, found, TIOUS, name)
    assert result.mAP == result.ap[label]
    if name != "snippet" and name != "snippet-best":  # there a video that loses its annotations is left out
        assert result.ap[label] == evaluate_detections(truth, found, TIOUS, name).ap[label]


@settings(max_examples=20, deadline=None)
@given(truths, found_by_video, st.sampled_from([0.0, -1e4, 1e7]))
def test_pairs_are_found_block_by_block_and_far_from_zero(truth, found, shift):
    truth = {v: [Annotation(a.start + shift, a.end + shift, a.label) for a in truth[v]] for v in truth}
    found = {v: [Detection(d.start + shift, d.end + shift, d.label, d.score) for d in found[v]] for v in found}
    whole = evaluate_detections(truth, found, TIOUS).ap
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "_AT_ONCE", 2)
        assert evaluate_detections(truth, found, TIOUS).ap == whole
    for label in whole:
        assert list(whole[label].values()) == pytest.approx([official(truth, found, {}, label, t) for t in TIOUS])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), unique=True), st.randoms(use_true_random=False))
def test_rounds_settle_as_one_after_the_other_does(pairs, order):
    order.shuffle(pairs)
    pairs.sort(key=lambda pair: pair[0])
    taken, expected = set(), []
    for chooser in range(7):
        wanted = [(i, one) for i, (who, one) in enumerate(pairs) if who == chooser and one not in taken]
        taken |= {one for _, one in wanted[:1]}
        expected += [i for i, _ in wanted[:1]]
    chooser, chosen = (
        (np.array(side, np.intp) for side in zip(*pairs, strict=True)) if pairs else np.empty((2, 0), np.intp)
    )
    assert sorted(settle(chooser, chosen).tolist()) == sorted(expected)


def test_what_tells_the_protocols_apart():
    truth = {"a": [Annotation(0, 10, "run"), Annotation(2, 12, "run")]}
    at_threshold = {"a": [Detection(0, 5, "run", 1)]}
    assert evaluate_detections(truth, at_threshold, [0.5]).average == 0.5
    assert evaluate_detections(truth, at_threshold, [0.5], "thumos14-kit").average == 0
    better_but_later = {"a": [Detection(1, 10, "run", 0.9), Detection(0, 10, "run", 0.1)]}
    alone = {"a": [Annotation(0, 10, "run")]}
    assert evaluate_detections(alone, better_but_later, [0.5]).average == 1
    assert evaluate_detections(alone, better_but_later, [0.5], "thumos14-kit").average == 0.5
    second_first = {"a": [Detection(2, 12, "run", 0.9), Detection(0, 6.3, "run", 0.1)]}
    assert evaluate_detections(truth, second_first, [0.5], "snippet-best").average == 1
    assert evaluate_detections(truth, second_first, [0.5], "snippet").average == 0.5
    half_a_snippet = {"a": [Detection(0.3, 9.8, "run", 1)]}
    assert evaluate_detections(alone, half_a_snippet, [0.99]).average == 0
    assert evaluate_detections(alone, half_a_snippet, [0.99], "snippet").average == 0
    assert evaluate_detections(alone, {"a": [Detection(0.3, 10.2, "run", 1)]}, [0.99], "snippet").average == 1


def test_ambiguous_ranges_and_what_is_said_of_them():
    truth, unsure = {"a": [Annotation(0, 10, "run")], "b": []}, {"a": [Segment(9, 30)]}
    found = {"a": [Detection(20, 30, "run", 0.9), Detection(0, 10, "run", 0.5)], "b": [Detection(0, 9, "run", 0.8)]}
    values = {name: evaluate_detections(truth, found, [0.5], name, unsure) for name in PROTOCOLS}
    averages = {name: result.average for name, result in values.items()}
    assert averages == {
        "activitynet": pytest.approx(1 / 3),
        "thumos14": pytest.approx(1 / 3),
        "thumos14-kit": 0.5,  # the first is not counted, that of the other video is
        "snippet": 0,  # both of the first video are left out
        "snippet-best": 0,
    }
    assert values["thumos14-kit"].notes[-1].endswith("not counted unless matched to an annotation: 2")
    silent, left_out = values["snippet"].notes
    assert "left out: 2" in left_out
    assert silent == "classes without a detection, AP 0: 1 ('run'); the original would report mAP 0"
    assert values["snippet"].undetected == ("run",)
    assert "none are known" in evaluate_detections(truth, found, [0.5], "snippet").notes[0]
    none = evaluate_detections(truth | {"c": [Annotation(0, 1, "jump")]}, found, [0.5])
    assert (none.notes, none.ap["jump"]) == (("classes without a detection, AP 0: 1 ('jump')",), {0.5: 0})
    assert values["activitynet"].notes == ()


def test_thresholds_and_averages():
    assert len(parse_tious(PROTOCOLS["activitynet"].tious)) == 10
    assert [*covered_ranges(parse_tious("0.1:0.9:0.1"))] == ["0.1:0.5", "0.3:0.7", "0.1:0.7", "0.1:0.9"]
    assert covered_ranges((0.5, 0.75)) == {}
    assert covered_ranges((0.2, 0.3, 0.5), ["0.2:0.5", "0.3:0.5", "0.3:0.6"]) == {
        "0.2:0.5": (0.2, 0.3, 0.5),
        "0.3:0.5": (0.3, 0.5),
    }
    assert averages({0.2: 0.5, 0.3: 0.25}, ["0.2:0.3"]) == {"0.2:0.3": 0.375}
    truth = {"a": [Annotation(0, 10, "run")]}
    result = evaluate_detections(truth, {"a": [Detection(0, 6, "run", 1)]}, None, "thumos14")
    assert result.averages == {
        "0.1:0.5": 1,
        "0.3:0.7": pytest.approx(4 / 5),
        "0.1:0.7": pytest.approx(6 / 7),
        "0.1:0.9": pytest.approx(6 / 9),
    }
    assert result.to_json()["averages"] == result.averages
    with pytest.raises(UsageError, match="did you mean 'thumos14'"):
        evaluate_detections(truth, {}, None, "tumos14")


@needs_shared
@pytest.mark.parametrize("tiou", ["0.3", "0.5"])
def test_the_kit_gives_a_published_figure_back(tiou):
    folder = SHARED / "data/predictions/scnn"
    expected = json.loads((folder / "expected.json").read_text())
    dataset = read_annotations(folder / "thumos14_test_annotations.json")
    truth = {video.id: video.annotations for video in dataset.select("test")}
    ambiguous = {video.id: video.ambiguous for video in dataset.select("test")}
    assert sum(map(len, ambiguous.values())) == 99
    found = read_detections(folder / f"detections_tiou{tiou}.json")
    result = evaluate_detections(truth, found, [float(tiou)], "thumos14-kit", ambiguous)
    assert result.average == pytest.approx(expected["mAP"][tiou], abs=expected["tolerance"], rel=0)


def _by_video(pairs):
    found = {}
    for video, detection in pairs:
        found.setdefault(video, []).append(detection)
    return found
