"""Pictures of a run's activations: their content, their seconds, and equal bytes every time."""

import subprocess
import sys
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
from click.testing import CliRunner

from tests.support.figures import bars, ylabels
from tests.support.planted import planted_videos
from wtal.cli import main
from wtal.data.files import write_json
from wtal.data.grid import SnippetGrid
from wtal.data.store.writer import StoreWriter
from wtal.errors import UsageError
from wtal.pipeline.detect import detect
from wtal.pipeline.ensembles.ensemble import ensemble
from wtal.pipeline.judging.ground_truth import rules_of
from wtal.pipeline.judging.observed import chosen, observe, ranked_videos
from wtal.pipeline.judging.run_pictures import observed_sections
from wtal.pipeline.judging.snippet_pictures import embedding_section
from wtal.pipeline.judging.sources import Question, only_source, source_of
from wtal.pipeline.recipe import Recipe
from wtal.pipeline.runs import open_runs
from wtal.pipeline.train import TrainInputs, train
from wtal.pipeline.workspace import Workspace
from wtal.report.page import png

HEADS = {
    "rskp": {"name": "rskp", "width": 16, "scale": 10.0, "n_mu": 4},
    "tscn": {"name": "tscn", "width": 16, "iterations": 2},
    "basnet": {"name": "basnet", "width": 16, "filter_width": 8},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Function from a head to a run of a few steps on planted features, with detections."""
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


def observed_of(run):
    """Detections of a run, judged per video at a tIoU of 0.5."""
    question = Question()
    source = source_of(run, question)
    rules = rules_of(source, question)
    return observe(source, rules, rules.truth.judged(source), question, 0.5)


def sections_of(run, videos=()):
    """Sections on a run, judged as in `observed_of`."""
    return observed_sections(observed_of(run), videos)


def pictures(sections):
    return {picture.name: picture for section in sections for picture in section.pictures}


@pytest.mark.slow
def test_sections_of_a_run_with_representative_snippets(runs):
    sections = sections_of(runs["rskp"])
    assert [one.title for one in sections] == [
        "Activations in single videos",
        "Failure cases",
        "Embedded snippets",
        "Pseudo labels",
    ]
    made = pictures(sections)
    assert {"activations-best", "activations-median", "activations-worst", "embeddings", "representatives"} <= {*made}
    assert len(made) == sum(len(one.pictures) for one in sections)
    observed = observed_of(runs["rskp"])
    ap = {name: evaluation.ap for name, evaluation in observed.evaluations.items()}
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
    observed = observed_of(runs["rskp"])
    trained, video = observed.trained(None), next(iter(observed.keys))
    answer = observed.ask(trained, video)
    length = observed.pictured_video("", video).grid.num_snippets
    assert answer.embeddings[""].shape == (length, HEADS["rskp"]["width"])
    assert answer.means.shape == (4, HEADS["rskp"]["width"])
    taught = answer.pseudo_labels
    np.testing.assert_allclose(taught["pseudo label"].sum(axis=1), 1, atol=1e-5)
    # Equation 7: the others' activations together, sharpened.
    logs = 0.8 * np.log(taught["intra-video branch"]) + 0.2 * np.log(taught["inter-video branch"])
    sharp = np.exp((logs - logs.max(axis=1, keepdims=True)) / 0.2)
    np.testing.assert_allclose(taught["pseudo label"], sharp / sharp.sum(axis=1, keepdims=True), atol=1e-4)


@pytest.mark.slow
def test_refinement_shows_the_pseudo_ground_truth_of_each_iteration(runs):
    sections = sections_of(runs["tscn"], videos=["video-07"])
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
    observed = observed_of(runs["tscn"])
    for stage in (0, 1):
        taught = observed.ask(observed.trained(stage), "video-07").pseudo_labels
        assert list(taught) == ["attention, rgb", "attention, flow", "fused", "pseudo ground truth"]
        np.testing.assert_array_equal(taught["pseudo ground truth"], taught["fused"] > 0.5)


@pytest.mark.slow
def test_a_head_without_pseudo_labels_has_no_such_section_and_pictures_leave_no_trace(runs):
    before = {path: path.stat().st_mtime_ns for path in runs["basnet"].folder.rglob("*")}
    sections = sections_of(runs["basnet"])
    assert {path: path.stat().st_mtime_ns for path in runs["basnet"].folder.rglob("*")} == before
    assert [one.title for one in sections] == ["Activations in single videos", "Failure cases", "Embedded snippets"]


@pytest.mark.parametrize(
    ("by", "titles"), [("activations", ["Activations in single videos", "Failure cases"]), ("detections", [])]
)
def test_an_ensemble_has_no_head_to_ask(runs, by, titles):
    workspace = Workspace(runs["basnet"].folder.parents[2])
    made = ensemble(
        [runs["basnet"].folder, runs["tscn"].folder],
        workspace,
        by,
        assignments=["localize.activation=none"] if titles else [],
    )
    assert [one.title for one in sections_of(made.run)] == titles


@pytest.mark.slow
def test_snippets_are_drawn_evenly_and_alike(runs):
    observed = observed_of(runs["basnet"])
    once, again = (embedding_section(observed, {}, 3, videos=4, snippets=50) for _ in range(2))
    assert once.tables == again.tables
    assert once.tables[0].rows["all streams"]["snippets"] == "48"
    assert "4 of 6 videos" in once.pictures[0].caption
    assert png(once.pictures[0]) == png(again.pictures[0])
    other = embedding_section(observed, {}, 4, videos=4, snippets=50)
    assert png(other.pictures[0]) != png(once.pictures[0])


def test_what_cannot_be_drawn_says_why(runs, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    section = next(one for one in sections_of(runs["basnet"]) if one.title == "Embedded snippets")
    assert section.text.startswith("Not drawn: sklearn is not installed")
    assert not section.pictures


def test_unknown_videos_and_files_are_refused(runs, tmp_path):
    with pytest.raises(UsageError, match="'video-77' in the subset"):
        sections_of(runs["basnet"], videos=["video-77"])
    file = runs["basnet"].folder / "detections" / "detections.json"
    question = Question(annotations=runs["basnet"].folder.parents[2] / "annotations" / "planted.json")
    with pytest.raises(UsageError, match="a run's folder"):
        observe(only_source(file, question), rules_of(only_source(file, question), question), {}, question, 0.5)
    with pytest.raises(UsageError, match="a run's folder"):
        open_runs(file)


@pytest.mark.slow
def test_the_page_of_a_run_shows_them(runs, tmp_path):
    name = min(observed_of(runs["basnet"]).keys)
    call = partial(CliRunner().invoke, main)
    given = ["diagnose", str(runs["basnet"].folder), "--out", str(tmp_path / "page")]
    said = call([*given, "--videos", name])
    assert said.exit_code == 0, said.output
    page = (tmp_path / "page" / "index.html").read_text()
    assert f"Video 1: {name}" in page
    assert (tmp_path / "page" / "activations-video-1.png").exists()
    assert "Embedded snippets" in page
    assert call([*given, "--errors-only"]).exit_code == 0
    assert "Embedded snippets" not in (tmp_path / "page" / "index.html").read_text()
    for extra, message in (
        (["--videos", "other"], "no activations of 'other'"),
        (["--errors-only"], "leaves them"),
    ):
        refused = call([*given, "--videos", name, *extra])
        assert (refused.exit_code, message in refused.stderr) == (2, True), refused.stderr
    file = next((runs["basnet"].folder / "detections").glob("*.json"))
    refused = call(["diagnose", str(file), "--annotations", str(tmp_path / "truth.json"), "--videos", name])
    assert (refused.exit_code, "is a file" in refused.stderr) == (2, True), refused.stderr


def test_the_entry_needs_neither_torch_nor_matplotlib_before_it_is_called():
    check = (
        "import wtal.pipeline.judging.run_pictures, sys\n"
        "assert not {'torch', 'matplotlib', 'sklearn'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
