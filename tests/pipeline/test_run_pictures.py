"""Pictures of what a run's head sees: what is drawn, at which seconds, and that it is drawn alike every time."""

import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from tests.support.planted import planted_videos
from wtal.cli import main
from wtal.data.files import write_json
from wtal.data.grid import SnippetGrid
from wtal.data.segments import Annotation, Detection, Segment
from wtal.data.store.writer import StoreWriter
from wtal.errors import UsageError
from wtal.eval import evaluate_detections
from wtal.eval.per_video import Verdict, judge_videos, nearest
from wtal.models.layers.memory_bank import ClassMemory, VideoMemory
from wtal.models.layers.random_walk import Means
from wtal.models.localization.config import LocalizeConfig
from wtal.models.localization.signals import Activations
from wtal.pipeline.detect import detect
from wtal.pipeline.ensembles.ensemble import ensemble
from wtal.pipeline.judging.evaluate import Question
from wtal.pipeline.judging.observed import chosen, observe, ranked_videos
from wtal.pipeline.judging.run_pictures import run_sections
from wtal.pipeline.judging.snippet_pictures import embedding_section
from wtal.pipeline.recipe import Recipe
from wtal.pipeline.train import TrainInputs, train
from wtal.pipeline.workspace import Workspace
from wtal.report.activations import PALETTE, Case, class_colours, video_picture
from wtal.report.embeddings import BACKGROUND, Points, neighbours_alike, tsne
from wtal.report.failures import missed_annotations, surest_false_positives, worst_videos
from wtal.report.page import png
from wtal.report.pseudo_labels import pseudo_label_picture
from wtal.report.timeline import Bar, Bars, Curve, Curves, lanes_of, timeline

HEADS = {
    "rskp": {"name": "rskp", "width": 16, "scale": 10.0, "n_mu": 4},
    "tscn": {"name": "tscn", "width": 16, "iterations": 2},
    "basnet": {"name": "basnet", "width": 16, "filter_width": 8},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Head -> a run of a few steps on planted features, with its detections."""
    root = Workspace(tmp_path_factory.mktemp("workspace"))
    writer = StoreWriter.open(root.features / "planted-12x12@25-000000", {"backbone": "planted"})
    database = {}
    for i, video in enumerate(planted_videos(12, seed=0)):
        grid = SnippetGrid(Fraction(25), len(video.streams["rgb"]) * 25 // 2, Fraction(25, 2), 12)
        writer.write(video.id, grid, video.streams, {"reader": "none"})
        segments = [{"label": one.label, "segment": [one.start, one.end]} for one in video.annotations]
        database[video.id] = {"subset": "training" if i < 6 else "validation", "annotations": segments}
    store = writer.publish()
    annotations = write_json(root.annotations / "planted.json", {"database": database})
    made = {}
    for name, head in HEADS.items():
        settings = {"head": head, "train": {"steps": 40, "sampling": "full", "batch_size": 4, "learning_rate": 2e-3}}
        settings["localize"] = {"activation": "softmax", "class_threshold": 0.1, "threshold_step": 0.1}
        (made[name],) = train(TrainInputs(store.path, annotations), Recipe.parse(settings), (0,), root)
        detect(made[name])
    return made


def ylabels(figure):
    return [axes.get_ylabel() for axes in figure.axes]


def bars(axes):
    """(start, end, filled) of each bar, in seconds."""
    return [
        (patch.get_x(), patch.get_x() + patch.get_width(), patch.get_facecolor() == patch.get_edgecolor())
        for patch in axes.patches
    ]


def pictures(sections):
    return {picture.name: picture for section in sections for picture in section.pictures}


# Verdicts


def test_average_precision_of_a_video_ranks_all_its_classes_together():
    truth = {"a": [Annotation(0, 10, "run"), Annotation(20, 30, "jump")], "b": [Annotation(0, 4, "run")], "c": []}
    found = {
        "a": [Detection(0, 10, "run", 0.9), Detection(50, 60, "jump", 0.8), Detection(20, 29, "jump", 0.7)],
        "c": [Detection(0, 1, "run", 0.5)],
        "elsewhere": [Detection(0, 1, "run", 0.5)],
    }
    made = judge_videos(truth, found, (0.5, 0.95), tiou=0.5)
    assert list(made) == ["a", "b", "c"]
    # At 0.5 hits at ranks 1 and 3 of two annotations; at 0.95 the first alone.
    assert made["a"].ap == pytest.approx(((1 + 2 / 3) / 2 + 1 / 2) / 2)
    assert made["a"].recalled == (True, True)
    assert made["a"].outcomes == ("true positive", "background", "true positive")
    assert [one.score for one in made["a"].detections] == [0.9, 0.8, 0.7]
    assert (made["b"].ap, made["b"].missed) == (0.0, (Annotation(0, 4, "run"),))
    assert made["c"].ap is None
    assert made["c"].wrong == ((Detection(0, 1, "run", 0.5), "background"),)


def test_with_one_class_a_video_is_judged_as_a_file_of_its_own():
    rng = np.random.default_rng(0)
    truth, found = {}, {}
    for name in "abcdef":
        starts = np.cumsum(rng.integers(5, 15, 4))
        truth[name] = [Annotation(float(s), float(s + 4), "run") for s in starts]
        near = [(s + rng.normal(0, 1), s + 4 + rng.normal(0, 1)) for s in starts for _ in range(3)]
        found[name] = [Detection(*sorted((max(0, s), max(0, e))), "run", float(rng.random())) for s, e in near]
    made = judge_videos(truth, found, (0.3, 0.5, 0.7), tiou=0.5)
    for name in truth:
        alone = evaluate_detections({name: truth[name]}, {name: found[name]}, (0.3, 0.5, 0.7))
        assert made[name].ap == pytest.approx(alone.average)
        assert sum(made[name].recalled) == made[name].outcomes.count("true positive")


def test_the_nearest_of_a_class():
    others = [Detection(0, 10, "run", 1), Detection(0, 5, "run", 1), Detection(0, 4, "jump", 1)]
    assert nearest(Annotation(0, 5, "run"), others, own=True) == (1.0, "run")
    assert nearest(Annotation(0, 5, "run"), others, own=False) == (0.8, "jump")
    assert nearest(Annotation(20, 25, "run"), others, own=True) == (0.0, "")


def test_tables_of_failures():
    truth = {"a": [Annotation(0, 10, "run"), Annotation(20, 30, "jump")], "b": [Annotation(0, 4, "run")]}
    found = {"a": [Detection(40, 50, "run", 0.9), Detection(0, 9, "run", 0.5)], "b": [Detection(0, 4, "run", 0.4)]}
    verdicts = judge_videos(truth, found, (0.5,), tiou=0.5)
    worst = worst_videos(verdicts, 0.5).rows
    assert list(worst) == ["a", "b"]
    assert worst["a"]["what went wrong"] == "misses 1 jump; ranks false before true: 1 background"
    assert worst["b"]["what went wrong"] == "nothing"
    assert worst["a"]["nearest"] == "0.45"
    (row,) = surest_false_positives(verdicts, 0.5).rows.values()
    assert (row["seconds"], row["error"], row["overlaps"]) == ("40.0 to 50.0", "background", "-")
    missed = missed_annotations(verdicts, {"a": {"jump": 0.125}, "b": {}}, 0.5).rows
    assert missed["1. a"]["video score"] == "0.125"
    assert missed["1. a"]["nearest of its class"] == "tIoU 0.00"


# Timelines


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
    verdict = Verdict(
        0.5,
        (Annotation(0, 1, "run"),),
        (True,),
        (Detection(0, 1, "run", 0.9), Detection(2, 3, "jump", 0.1)),
        ("true positive", "background"),
    )
    return replace(Case("best", "a video", verdict, both, grid), **settings)


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


# Snippets on a plane


def test_tsne_says_the_same_twice_and_keeps_groups_together():
    rng = np.random.default_rng(0)
    centres = 5 * rng.standard_normal((2, 64))
    label = np.repeat([0, 1], 30)
    vectors = (centres[label] + rng.standard_normal((60, 64))).astype(np.float32)
    places = tsne(vectors, seed=1)
    np.testing.assert_array_equal(places, tsne(vectors.copy(), seed=1))
    distance = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    assert (label[distance.argmin(axis=1)] == label).all()
    assert tsne(vectors[:3], seed=1).shape == (3, 2)


def test_neighbours_are_of_other_videos():
    vectors = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1]], np.float32)
    alike = Points(vectors, np.array([0, 0, BACKGROUND, BACKGROUND]), np.array([0, 1, 0, 1]))
    assert neighbours_alike(alike) == (1.0, 0.5)
    # Beside each in its own video lies its like; in the other video are only others.
    apart = Points(vectors, np.array([0, 0, BACKGROUND, BACKGROUND]), np.array([0, 0, 1, 1]))
    assert neighbours_alike(apart) == (0.0, 0.0)
    alone = Points(vectors, np.zeros(4, np.int64), np.zeros(4, np.int64))
    assert np.isnan(neighbours_alike(alone)).all()


def test_what_a_memory_keeps():
    means = Means(torch.eye(2)[None], torch.ones(1, 2, dtype=torch.bool))
    memory = ClassMemory(3, slots=4, width=2, empty_slots=False)
    memory.store(means, torch.tensor([[[0, 0.5, 0, 0], [0, 0.9, 0, 0]]]), torch.tensor([[0.0, 1, 0]]), None)
    features, classes = memory.kept()
    assert features.tolist() == [[0, 1], [1, 0]]
    assert classes.tolist() == [1, 1]
    of_videos = VideoMemory(3, capacity=3, count=2, width=2, momentum=0.9)
    assert [len(one) for one in of_videos.kept()] == [0, 0]


# Runs


def test_sections_of_a_run_with_representative_snippets(runs):
    sections = run_sections(runs["rskp"])
    assert [one.title for one in sections] == [
        "Activations in single videos",
        "Failure cases",
        "Embedded snippets",
        "Pseudo labels",
    ]
    made = pictures(sections)
    assert {"activations-best", "activations-median", "activations-worst", "embeddings", "representatives"} <= {*made}
    assert len(made) == sum(len(one.pictures) for one in sections)
    observed = observe(runs["rskp"], Question(), 0.5)
    ap = {name: verdict.ap for name, verdict in observed.verdicts.items()}
    shown = chosen(observed, ())
    assert ap[shown["worst"]] == min(ap.values())
    assert ap[shown["best"]] == max(ap.values())
    assert ranked_videos(observed)[len(ap) // 2] == shown["median"]
    annotations = made["activations-worst"].figure.axes[0]
    truth = observed.records[shown["worst"]].annotations
    assert sorted(bars(annotations)) == sorted((one.start, one.end, True) for one in truth)
    names = ["annotations", "main branch", "intra-video branch", "inter-video branch", "pseudo label"]
    assert ylabels(made["pseudo-labels-best"].figure) == names
    stars = [len(one.get_offsets()) for one in made["representatives"].figure.axes[0].collections]
    assert stars[-2] == HEADS["rskp"]["n_mu"]
    assert "representative snippets of the memory" in made["embeddings"].caption
    for picture in made.values():
        assert png(picture)[1:4] == b"PNG"


def test_an_answer_is_the_heads_with_the_labels(runs):
    observed = observe(runs["rskp"], Question(), 0.5)
    trained, video = observed.trained(None), next(iter(observed.keys))
    answer = observed.ask(trained, video)
    length = observed.case("", video).grid.num_snippets
    assert answer.embeddings[""].shape == (length, HEADS["rskp"]["width"])
    assert answer.means.shape == (4, HEADS["rskp"]["width"])
    taught = answer.pseudo_labels
    np.testing.assert_allclose(taught["pseudo label"].sum(axis=1), 1, atol=1e-5)
    # Equation 7: the others' activations together, sharpened.
    logs = 0.8 * np.log(taught["intra-video branch"]) + 0.2 * np.log(taught["inter-video branch"])
    sharp = np.exp((logs - logs.max(axis=1, keepdims=True)) / 0.2)
    np.testing.assert_allclose(taught["pseudo label"], sharp / sharp.sum(axis=1, keepdims=True), atol=1e-4)


def test_refinement_shows_the_pseudo_ground_truth_of_each_iteration(runs):
    sections = run_sections(runs["tscn"], videos=["video-07"])
    made = pictures(sections)
    assert {name for name in made if not name.startswith("failure")} == {
        "activations-video-1",
        "embeddings",
        "pseudo-labels-video-1",
    }
    assert ylabels(made["pseudo-labels-video-1"].figure) == ["annotations", "iteration 1", "iteration 2"]
    assert ylabels(made["activations-video-1"].figure)[2:6] == ["cas", "cas, rgb", "cas, flow", "attention"]
    assert [axes.get_title(loc="left") for axes in made["embeddings"].figure.axes][::2] == [
        "rgb: foreground and background",
        "flow: foreground and background",
    ]
    observed = observe(runs["tscn"], Question(), 0.5)
    for stage in (0, 1):
        taught = observed.ask(observed.trained(stage), "video-07").pseudo_labels
        assert list(taught) == ["attention, rgb", "attention, flow", "fused", "pseudo ground truth"]
        np.testing.assert_array_equal(taught["pseudo ground truth"], taught["fused"] > 0.5)


def test_a_head_without_pseudo_labels_has_no_such_section_and_pictures_leave_no_trace(runs):
    before = {path: path.stat().st_mtime_ns for path in runs["basnet"].rglob("*")}
    sections = run_sections(runs["basnet"])
    assert {path: path.stat().st_mtime_ns for path in runs["basnet"].rglob("*")} == before
    assert [one.title for one in sections] == ["Activations in single videos", "Failure cases", "Embedded snippets"]


@pytest.mark.parametrize(
    ("by", "titles"), [("activations", ["Activations in single videos", "Failure cases"]), ("detections", [])]
)
def test_an_ensemble_has_no_head_to_ask(runs, by, titles):
    workspace = Workspace(runs["basnet"].parents[2])
    made = ensemble(
        [runs["basnet"], runs["tscn"]], workspace, by, assignments=["localize.activation=none"] if titles else []
    )
    assert [one.title for one in run_sections(made.folder)] == titles


def test_snippets_are_drawn_evenly_and_alike(runs):
    observed = observe(runs["basnet"], Question(), 0.5)
    once, again = (embedding_section(observed, {}, 3, videos=4, snippets=50) for _ in range(2))
    assert once.tables == again.tables
    assert once.tables[0].rows["all streams"]["snippets"] == "48"
    assert "4 of 6 videos" in once.pictures[0].caption
    assert png(once.pictures[0]) == png(again.pictures[0])
    other = embedding_section(observed, {}, 4, videos=4, snippets=50)
    assert png(other.pictures[0]) != png(once.pictures[0])


def test_what_cannot_be_drawn_says_why(runs, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    section = next(one for one in run_sections(runs["basnet"]) if one.title == "Embedded snippets")
    assert section.text.startswith("Not drawn: sklearn is not installed")
    assert not section.pictures


def test_unknown_videos_and_files_are_refused(runs, tmp_path):
    with pytest.raises(UsageError, match="'video-77' in the subset"):
        run_sections(runs["basnet"], videos=["video-77"])
    file = runs["basnet"] / "detections" / "detections.json"
    question = Question(annotations=runs["basnet"].parents[2] / "annotations" / "planted.json")
    with pytest.raises(UsageError, match="a run's folder"):
        run_sections(file, question=question)


def test_the_page_of_a_run_shows_them(runs, tmp_path):
    name = min(observe(runs["basnet"], Question(), 0.5).keys)
    call = partial(CliRunner().invoke, main)
    given = ["diagnose", str(runs["basnet"]), "--out", str(tmp_path / "page")]
    said = call([*given, "--videos", name])
    assert said.exit_code == 0, said.output
    page = (tmp_path / "page" / "index.html").read_text()
    assert f"Video 1: {name}" in page
    assert (tmp_path / "page" / "activations-video-1.png").exists()
    assert "Embedded snippets" in page
    assert call([*given, "--errors-only"]).exit_code == 0
    assert "Embedded snippets" not in (tmp_path / "page" / "index.html").read_text()
    for extra, message in ((["--videos", "other"], "no activations of 'other'"), (["--errors-only"], "leaves out")):
        refused = call([*given, "--videos", name, *extra])
        assert (refused.exit_code, message in refused.stderr) == (2, True), refused.stderr
    file = next((runs["basnet"] / "detections").glob("*.json"))
    refused = call(["diagnose", str(file), "--annotations", str(tmp_path / "truth.json"), "--videos", name])
    assert (refused.exit_code, "is a file" in refused.stderr) == (2, True), refused.stderr


def test_the_entry_needs_neither_torch_nor_matplotlib_before_it_is_called():
    check = (
        "import wtal.pipeline.judging.run_pictures, sys\n"
        "assert not {'torch', 'matplotlib', 'sklearn'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
