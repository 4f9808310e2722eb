"""Second stage from the command line: its output, its input, and interruptions."""

import json
import shutil

import numpy as np
import pytest
import torch

from tests.support.bases import NARROW, STORE, TRUTH, answer, call, make_base
from wtal.data.annotations import read_annotations
from wtal.data.detections import read_detections
from wtal.models.refinement import trainer as module
from wtal.pipeline.runs import Run, open_run

SMALL = (
    "--set", "refine.train.steps=6", "--set", "refine.train.checkpoint_every=2", "--set", "refine.train.batch_size=3",
    "--set", "refine.student.width=16", "--set", "refine.min_agreement=1.0", "--set", "refine.rounds=2",
)  # fmt: skip


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """Base with a refined run of its first run: (root, folder of the refined run)."""
    root = tmp_path_factory.mktemp("taught")
    make_base(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        lines = answer("refine", teacher(root), *SMALL).splitlines()
    return root, root / lines[-1]


@pytest.fixture
def place(taught, tmp_path, monkeypatch):
    """Copy of the base to work in."""
    shutil.copytree(taught[0], tmp_path / "base")
    monkeypatch.chdir(tmp_path / "base")
    return tmp_path / "base" / taught[1].relative_to(taught[0])


def teacher(root):
    return json.loads((root / "runs.json").read_text())[0]


def parameters(folder):
    return torch.load(sorted(folder.glob("stage-*.pt"))[-1], weights_only=True)["head"]


def assert_same(state, other):
    assert state.keys() == other.keys()
    for key in state:
        torch.testing.assert_close(state[key], other[key], rtol=0, atol=0)


def test_a_refined_run_is_a_run(place):
    run = Run.open(place)
    assert run.refined
    assert run.finished
    assert run.seed == 0
    assert run.teacher().folder.resolve() == (place.parents[3] / teacher(place.parents[3])).resolve()
    detections = read_detections(run.detections())
    assert sorted(detections) == sorted(run.store().ids)
    labels = {detection.label for own in detections.values() for detection in own}
    assert labels
    assert labels <= set(run.classes)
    ends = {key: run.store().grid(key).end for key in detections}
    for key, own in detections.items():
        assert all(0 <= d.start < d.end <= ends[key] and 0 < d.score <= 1 for d in own)
        assert [d.score for d in own] == sorted((d.score for d in own), reverse=True)


@pytest.mark.parametrize(
    "command",
    [
        ("evaluate", "RUN"),
        ("evaluate", "RUN", "--stage", "0"),
        ("detect", "RUN", "--use-labels"),
        ("detect", "RUN", "--set", "localize.max_detections=3"),
        ("show", "RUN"),
        ("diagnose", "RUN", "--out", "page"),
        ("export", "RUN", "--to", "csv", "--out", "exported"),
        ("submit", "RUN", "--challenge", "activitynet", "--out", "challenge.json"),
        ("ensemble", "RUN", "TEACHER", "--by", "detections"),
    ],
)
def test_what_takes_a_run_takes_it(place, command):
    if command[0] == "evaluate" and "--stage" in command:
        answer("detect", place, "--stage", "0")
    words = {"RUN": str(place), "TEACHER": teacher(place.parents[3])}
    result = call(*(words.get(word, word) for word in command))
    assert result.exit_code == 0, result.output


def test_times_of_annotations_never_teach(place):
    """Change times, not labels: the same segments and the same parameters."""
    before, segments = parameters(place), (place / "segments-0.json").read_text()
    truth = json.loads((place.parents[3] / "truth.json").read_text())
    for video in truth["database"].values():
        for number, annotation in enumerate(video["annotations"]):
            annotation["segment"] = [0.1 * number, 0.1 * number + 0.05]
    (place.parents[3] / "truth.json").write_text(json.dumps(truth))
    own = read_annotations(place.parents[3] / "truth.json")
    assert any(video.annotations for video in own.videos.values())
    shutil.rmtree(place.parent)
    folder = place.parents[3] / answer("refine", teacher(place.parents[3]), *SMALL).splitlines()[-1]
    assert folder == place
    assert (folder / "segments-0.json").read_text() == segments
    assert_same(parameters(folder), before)


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 2, 3, 4, 5])
def test_a_killed_run_goes_on_to_the_same_numbers(place, step, monkeypatch):
    before = parameters(place)
    shutil.rmtree(place.parent)
    own = module.StudentTrainer._one_step

    def dying(self, segments):
        if self.step == step:
            raise KeyboardInterrupt
        return own(self, segments)

    monkeypatch.setattr(module.StudentTrainer, "_one_step", dying)
    assert call("refine", teacher(place.parents[3]), *SMALL).exit_code != 0
    assert not Run.open(place).finished
    assert call("detect", place).exit_code == 1
    monkeypatch.setattr(module.StudentTrainer, "_one_step", own)
    answer("refine", teacher(place.parents[3]), *SMALL)
    assert_same(parameters(place), before)


def test_what_is_refined_already_is_left_alone(place):
    marks = {path: path.stat().st_mtime_ns for path in place.iterdir() if path.is_file()}
    assert "already refined" in call("refine", teacher(place.parents[3]), *SMALL).stderr
    assert {path: path.stat().st_mtime_ns for path in marks} == marks


def test_other_settings_make_another_run(place):
    other = answer("refine", teacher(place.parents[3]), *SMALL, "--set", "refine.rounds=1").splitlines()[-1]
    assert place.parents[3] / other != place
    assert not (place.parents[3] / other / "stage-1.pt").exists()


def test_seeds_of_a_head_are_its_own(place):
    result = call("refine", teacher(place.parents[3]), *SMALL, "--seeds", "5,6")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--seeds has no effect without an ensemble" in result.stderr


def test_a_stage_that_is_not_there_leaves_nothing(place):
    run = open_run(place.parents[3] / teacher(place.parents[3]))
    before = sorted(run.folder.rglob("*"))
    assert call("detect", run.folder, "--stage", "7").exit_code == 2
    assert sorted(run.folder.rglob("*")) == before


@pytest.mark.slow
def test_an_ensemble_teaches(place):
    root = place.parents[3]
    second = answer("train", "kth/basnet", *STORE, *TRUTH, *NARROW, "--seeds", "1").strip()
    for by in ("activations", "detections"):
        joined = answer("ensemble", teacher(root), second, "--by", by)
        folders = answer("refine", joined, *SMALL, "--seeds", "0,3").splitlines()[-2:]
        seeds = [open_run(root / folder).seed for folder in folders]
        assert seeds == [0, 3]
        assert all(read_detections(open_run(root / folder).detections()) for folder in folders)


@pytest.mark.parametrize("share", [0.1, 0.0])
def test_a_packed_student_answers_as_its_run(place, share):
    from wtal.data.store import FeatureStore
    from wtal.pipeline.exchange.packed_model import pack_model, read_model
    from wtal.pipeline.new_videos.detector import Detector
    from wtal.pipeline.new_videos.model import features_key, model_of

    root = place.parents[3]
    changed = answer("refine", teacher(root), *SMALL, "--set", f"refine.border_share={share}").splitlines()[-1]
    run = open_run(root / changed)
    assert (run.folder == Run.open(place).folder) == (share == 0.0)
    model = read_model(pack_model(model_of(run), root / "model.wtal"))
    assert model.digest == model_of(run).digest
    detector = Detector.__new__(Detector)
    detector.model, detector.device, detector.config = model, "cpu", run.recipe.localize
    from wtal.pipeline.new_videos import detector as own

    detector._trained = {id(head): own._trained(head, "cpu") for head in model.heads()}
    detector._students = {id(student): own._trained_student(student, "cpu") for student in model.students()}
    store, wanted = FeatureStore.open(run.store_folder()), read_detections(run.detections())
    assert any(wanted.values())
    for key in store.ids:
        found = detector.find({features_key(model): store[key]})
        assert [d.label for d in found] == [d.label for d in wanted[key]]
        np.testing.assert_allclose(
            [(d.start, d.end, d.score) for d in found],
            [(d.start, d.end, d.score) for d in wanted[key]],
            rtol=1e-5,
            atol=1e-6,
        )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "refine.rounds=9"], "rounds"),
        (["--set", "train.steps=9"], "accepts only refine.KEY=VALUE"),
        (["--set", "refine.student.name=nobody"], "there is no student 'nobody'"),
        (["--set", "refine.student.wdth=9"], "wdth"),
        (["--set", "refine.student=3"], "student"),
    ],
)
def test_refusals_are_one_line(place, words, message):
    result = call("refine", teacher(place.parents[3]), *words)
    assert result.exit_code == 2, result.stderr
    assert message in result.stderr, result.stderr
    assert result.stderr.count("\n") == 1, result.stderr


def test_a_student_teaches_no_student(place):
    result = call("refine", place)
    assert result.exit_code == 2
    assert "already refined" in result.stderr


def test_a_student_is_not_searched_for_signals(place):
    result = call("detect", place, "--set", "localize.smooth=2.0")
    assert result.exit_code == 2
    assert "smooth" in result.stderr


def test_activations_of_a_student_are_not_averaged(place):
    result = call("ensemble", place, teacher(place.parents[3]))
    assert result.exit_code == 2
    assert "--by detections" in result.stderr


def test_a_teacher_that_has_gone_is_named(place):
    run = place.parents[3] / teacher(place.parents[3])
    shutil.rmtree(run)
    result = call("detect", place)
    assert result.exit_code == 1
    assert str(run.name) in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_dry_run_prints_all_settings(place):
    content = json.loads(answer("refine", teacher(place.parents[3]), "--dry-run"))
    assert content["student"]["width"] > 0
    assert content["train"]["steps"] > 0


def test_show_names_the_student_and_its_teacher(place):
    text = answer("show", place)
    assert "student    actionformer: width: 16" in text
    assert "teacher    " in text
    assert teacher(place.parents[3]).split("/")[-2] in text
