"""Timelines of videos: bars, curves and tracks at their seconds."""

from dataclasses import replace
from fractions import Fraction

import numpy as np

from tests.support.figures import bars, ylabels
from wtal.data.grid import SnippetGrid
from wtal.data.segments import Annotation, Detection, Segment
from wtal.eval.diagnosis.per_video import VideoEvaluation
from wtal.models.localization.config import LocalizeConfig
from wtal.models.localization.signals import Activations
from wtal.report.activations import PALETTE, PicturedVideo, class_colours, video_picture
from wtal.report.pseudo_labels import pseudo_label_picture
from wtal.report.timeline import Bar, Bars, Curve, Curves, lanes_of, timeline


def test_bars_and_curves_lie_at_their_seconds():
    edges = np.array([0.0, 1.0, 2.0, 2.5])
    tracks = [
        Bars("truth", [Bar(Segment(0.5, 1.5), "#000000")]),
        Bars("found", [Bar(Segment(0, 2), "#000000", "0.5", hollow=True), Bar(Segment(1, 2.5), "#000000")]),
        Curves("cas", [Curve(edges, np.array([0.1, 0.9, 0.2]), "#000000")]),
    ]
    figure = timeline(2.5, tracks, "a video", {"run": "#000000"}, [Bar(Segment(0.5, 1.5), "#000000")])
    truth, found, cas = figure.axes
    assert ylabels(figure) == ["truth", "found", "cas"]
    assert bars(truth) == [(0.5, 1.5, True)]
    assert bars(found) == [(0, 2, False), (1, 2.5, True)]
    assert [text.get_text() for text in found.texts] == ["0.5"]
    shade, stairs = cas.patches
    np.testing.assert_allclose(stairs.get_data().edges, edges)
    np.testing.assert_allclose(stairs.get_data().values, [0.1, 0.9, 0.2])
    assert (shade.get_x(), shade.get_x() + shade.get_width()) == (0.5, 1.5)
    assert truth.get_xlim() == (0, 2.5)


def test_bars_that_overlap_lie_below_one_another():
    segments = [Segment(0, 5), Segment(5, 9), Segment(4, 6), Segment(4, 5), Segment(6, 7)]
    assert lanes_of(segments) == [1, 1, 2, 3, 2]


def a_case(**settings):
    grid = SnippetGrid(Fraction(25), 95, Fraction(25), 25)
    cas = np.array([[3, 0, 0], [0, 3, 0], [0, 0, 3], [3, 0, 0]], np.float32)
    one = Activations(cas, np.array([1, 0.5, 0, 1], np.float32), np.array([0.7, 0.3], np.float32))
    both = replace(one, streams={"flow": one, "rgb": replace(one, attention=None)})
    evaluation = VideoEvaluation(
        0.5,
        (Annotation(0, 1, "run"),),
        (True,),
        (Detection(0, 1, "run", 0.9), Detection(2, 3, "jump", 0.1)),
        ("true positive", "background"),
    )
    return replace(PicturedVideo("best", "a video", evaluation, both, grid), **settings)


def test_a_video_has_a_track_for_all_that_the_head_says():
    figure = video_picture("x", a_case(), ("jump", "run"), LocalizeConfig(activation="softmax"), 0.5).figure
    assert ylabels(figure) == ["annotations", "detections", "cas", "cas, rgb", "cas, flow", "attention", "video scores"]
    annotations, detections, cas, *_, attention, scores = figure.axes
    assert bars(annotations) == [(0, 1, True)]
    assert bars(detections) == [(0, 1, True), (2, 3, False)]
    run, jump = (patch.get_data() for patch in cas.patches[1:])
    softmax = np.exp(3) / (np.exp(3) + 2)
    np.testing.assert_allclose(run.values, [1 - softmax - (1 - softmax) / 2] * 1 + [softmax] + [(1 - softmax) / 2] * 2)
    np.testing.assert_allclose(jump.values, [softmax, (1 - softmax) / 2, (1 - softmax) / 2, softmax])
    # The last snippet is cut where the video ends.
    np.testing.assert_allclose(run.edges, [0, 1, 2, 3, 3.8])
    assert [text.get_text() for text in attention.get_legend().get_texts()] == ["flow", "fused"]
    assert scores.texts[0].get_text() == "jump 0.70,  run 0.30"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["run", "jump"]


def test_a_head_without_attention_or_streams_has_fewer_tracks():
    bare = replace(a_case().activations, attention=None, streams={})
    figure = video_picture("x", a_case(activations=bare), ("jump", "run"), LocalizeConfig(), 0.5).figure
    assert ylabels(figure) == ["annotations", "detections", "cas", "video scores"]


def test_few_classes_keep_their_colours_and_of_many_those_shown_have_one():
    assert class_colours(("a", "b"), ("b",)) == {"a": PALETTE[0], "b": PALETTE[1]}
    many = [f"class {i}" for i in range(20)]
    assert class_colours(many, ["class 19", "class 3"]) == {"class 19": PALETTE[0], "class 3": PALETTE[1]}


def test_pseudo_labels_have_a_track_each_and_actions_one_a_stage():
    classes = np.full((4, 3), 0.25, np.float32)
    made = {"": {"main branch": classes, "pseudo label": classes}}
    assert ylabels(pseudo_label_picture("x", a_case(), made, ("jump", "run")).figure) == [
        "annotations",
        "main branch",
        "pseudo label",
    ]
    one = {name: np.array([0, 1, 1, 0], np.float32) for name in ("rgb", "flow", "fused", "truth")}
    figure = pseudo_label_picture("x", a_case(), {"iteration 1": one, "iteration 2": one}, ("jump", "run")).figure
    assert ylabels(figure) == ["annotations", "iteration 1", "iteration 2"]
    assert [text.get_text() for text in figure.axes[1].get_legend().get_texts()] == ["truth", "rgb", "flow", "fused"]
    assert figure.axes[2].get_legend() is None
