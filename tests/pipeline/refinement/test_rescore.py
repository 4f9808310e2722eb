"""Rescorer as a second stage from the command line: its output, its input, and interruptions."""

import json
import shutil

import numpy as np
import pytest

from tests.pipeline.refinement.test_refine import assert_same, parameters, teacher
from tests.support.bases import NARROW, STORE, TRUTH, answer, call, make_base
from wtal.data.detections import read_detections
from wtal.data.segments import Detection
from wtal.models.refinement import rescoring as module
from wtal.pipeline.progress import SILENT
from wtal.pipeline.refinement.teacher import Teacher
from wtal.pipeline.runs import Run, open_run

SMALL = (
    "--set", "refine.rescorer.name=pmil", "--set", "refine.rescorer.width=8", "--set", "refine.rescorer.head_width=8",
    "--set", "refine.train.steps=5", "--set", "refine.train.checkpoint_every=2", "--set", "refine.train.batch_size=3",
    "--set", "refine.train.max_proposals=20",
)  # fmt: skip


@pytest.fixture(scope="module")
def rescored(tmp_path_factory):
    """Base with a rescored run of its first run: (root, folder of the rescored run)."""
    root = tmp_path_factory.mktemp("rescored")
    make_base(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        lines = answer("refine", teacher(root), *SMALL).splitlines()
    assert lines[0].split()[:3] == ["proposals", "videos", "median"]
    assert [line.split()[0] for line in lines[1:3]] == ["teacher", "pmil"]
    return root, root / lines[-1]


@pytest.fixture
def place(rescored, tmp_path, monkeypatch):
    """Copy of the base to work in."""
    shutil.copytree(rescored[0], tmp_path / "base")
    monkeypatch.chdir(tmp_path / "base")
    return tmp_path / "base" / rescored[1].relative_to(rescored[0])


def test_a_rescored_run_is_a_run_whose_segments_are_the_teachers(place):
    run = Run.open(place)
    assert run.refined
    assert run.finished
    detections = read_detections(run.detections())
    assert sorted(detections) == sorted(run.store().ids)
    assert {d.label for own in detections.values() for d in own} <= set(run.classes)
    proposals = Teacher(run.teacher(), run.recipe.localize, "cpu", SILENT).proposals(list(detections), {})
    for key, own in detections.items():
        assert own
        assert {(d.start, d.end) for d in own} <= {(d.start, d.end) for d in proposals[key]}
        assert [d.score for d in own] == sorted((d.score for d in own), reverse=True)


@pytest.mark.parametrize(
    "command",
    [
        ("evaluate", "RUN"),
        ("detect", "RUN", "--use-labels"),
        ("detect", "RUN", "--set", "localize.max_detections=3"),
        ("detect", "RUN", "--set", "localize.threshold_step=0.1"),
        ("show", "RUN"),
        ("diagnose", "RUN", "--out", "page"),
        ("export", "RUN", "--to", "csv", "--out", "exported"),
        ("ensemble", "RUN", "TEACHER", "--by", "detections"),
    ],
)
def test_what_takes_a_run_takes_it(place, command):
    words = {"RUN": str(place), "TEACHER": teacher(place.parents[3])}
    result = call(*(words.get(word, word) for word in command))
    assert result.exit_code == 0, result.output


def test_times_of_annotations_never_teach(place):
    """Change times, not labels: the same parameters."""
    before = parameters(place)
    truth = json.loads((place.parents[3] / "truth.json").read_text())
    for video in truth["database"].values():
        for number, annotation in enumerate(video["annotations"]):
            annotation["segment"] = [0.1 * number, 0.1 * number + 0.05]
    (place.parents[3] / "truth.json").write_text(json.dumps(truth))
    shutil.rmtree(place.parent)
    folder = place.parents[3] / answer("refine", teacher(place.parents[3]), *SMALL).splitlines()[-1]
    assert folder == place
    assert_same(parameters(folder), before)


@pytest.mark.parametrize("step", [1, 2, 4])
def test_a_killed_run_goes_on_to_the_same_numbers(place, step, monkeypatch):
    before = parameters(place)
    shutil.rmtree(place.parent)
    own = module.RescorerTrainer._one_step

    def dying(self):
        if self.step == step:
            raise KeyboardInterrupt
        return own(self)

    monkeypatch.setattr(module.RescorerTrainer, "_one_step", dying)
    assert call("refine", teacher(place.parents[3]), *SMALL).exit_code != 0
    assert not Run.open(place).finished
    assert call("detect", place).exit_code == 1
    monkeypatch.setattr(module.RescorerTrainer, "_one_step", own)
    answer("refine", teacher(place.parents[3]), *SMALL)
    assert_same(parameters(place), before)


def test_a_packed_rescorer_answers_as_its_run(place):
    from wtal.data.store import FeatureStore
    from wtal.pipeline.exchange.packed_model import pack_model, read_model
    from wtal.pipeline.new_videos import detector as own
    from wtal.pipeline.new_videos.model import features_key, model_of

    run = Run.open(place)
    model = read_model(pack_model(model_of(run), place.parents[3] / "model.wtal"))
    assert model.digest == model_of(run).digest
    detector = own.Detector.__new__(own.Detector)
    detector.model, detector.device, detector.config = model, "cpu", run.recipe.localize
    own._refuse_misfit(model, detector.config)
    detector._trained = {id(head): own._trained(head, "cpu") for head in model.heads()}
    detector._students = {id(student): own._trained_student(student, "cpu") for student in model.students()}
    store, wanted = FeatureStore.open(run.store_folder()), read_detections(run.detections())
    for key in store.ids:
        found = detector.find({features_key(model): store[key]})
        assert [d.label for d in found] == [d.label for d in wanted[key]]
        np.testing.assert_allclose(
            [(d.start, d.end, d.score) for d in found],
            [(d.start, d.end, d.score) for d in wanted[key]],
            rtol=1e-5,
            atol=1e-6,
        )


def test_an_ensemble_proposes(place):
    root = place.parents[3]
    second = answer("train", "kth/basnet", *STORE, *TRUTH, *NARROW, "--seeds", "1").strip()
    for by in ("activations", "detections"):
        joined = answer("ensemble", teacher(root), second, "--by", by)
        folder = answer("refine", joined, *SMALL).splitlines()[-1]
        assert any(read_detections(open_run(root / folder).detections()).values())


def test_a_video_without_proposals_answers_with_nothing_and_teaches_nothing(place, monkeypatch):
    root, run = place.parents[3], Run.open(place)
    shutil.rmtree(place.parent)
    silent, proposals = run.store().ids[0], Teacher.proposals
    monkeypatch.setattr(Teacher, "proposals", lambda self, keys, labels: proposals(self, keys, labels) | {silent: []})
    folder = root / answer("refine", teacher(root), *SMALL).splitlines()[-1]
    assert read_detections(Run.open(folder).detections())[silent] == []
    assert json.loads((folder / "proposals.json").read_text())["figures"]["taught"] == 4
    shutil.rmtree(folder.parent)
    monkeypatch.setattr(Teacher, "proposals", lambda self, keys, labels: {key: [] for key in keys})
    result = call("refine", teacher(root), *SMALL)
    assert result.exit_code == 1
    assert "has no proposals" in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "refine.rescorer.name=nobody"], "there is no rescorer 'nobody'"),
        (["--set", "refine.rescorer.wdth=9"], "wdth"),
        (["--set", "refine.rescorer.name=pmil", "--set", "refine.rounds=1"], "rounds"),
    ],
)
def test_refusals_are_one_line(place, words, message):
    result = call("refine", teacher(place.parents[3]), *words)
    assert result.exit_code == 2, result.stderr
    assert message in result.stderr, result.stderr
    assert result.stderr.count("\n") == 1, result.stderr


def test_there_are_no_rounds(place):
    result = call("detect", place, "--stage", "0")
    assert result.exit_code == 2
    assert "no rounds" in result.stderr


def test_equal_borders_of_two_classes_are_one_proposal():
    proposals = [Detection(1.0, 2.0, "a", 0.5), Detection(1.0, 2.0, "b", 0.4), Detection(0.5, 0.5, "b", 0.4)]
    np.testing.assert_array_equal(module.distinct_borders(proposals), [[1.0, 2.0]])
    assert module.distinct_borders([]).shape == (0, 2)
