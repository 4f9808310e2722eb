"""Whole chain of commands on the collection rendered by `wtal demo`."""

import csv
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from tests.support.videos import constant, write_video
from wtal.cli import main
from wtal.data.annotations import read_annotations
from wtal.data.detections import read_detections
from wtal.data.store import FeatureStore
from wtal.extractors.demo.video import render_collection
from wtal.models.training.checkpoint import Checkpoint

STEPS = ("--set", "train.steps=6", "--set", "train.checkpoint_every=3")
QUICK = (*STEPS, "--set", "head.name=basnet")
FEWER = {"training": 20, "validation": 8, "testing": 2}
"""Subset -> number of the demo's videos."""


def wtal(*arguments, code=0):
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exit_code == code, f"{result.output}{result.exception!r}"
    return result


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Result of `wtal demo --json` with fewer videos: (folder, output)."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wtal.pipeline.demo.VIDEOS", FEWER)
        patch.setattr("wtal.pipeline.demo.render_collection", partial(render_collection, videos=FEWER))
        yield folder, json.loads(wtal("demo", "--out", folder, "--json").stdout)


@pytest.fixture
def workspace(demo, tmp_path):
    """Workspace with the demo's store and annotations, without a run."""
    folder, made = demo
    for name, target in (("features", Path(made["store"]).parent), ("annotations", folder / "workspace/annotations")):
        (tmp_path / name).symlink_to(target)
    return tmp_path


def state(run):
    return Checkpoint.newest(Path(run)).head


@pytest.mark.slow
def test_the_demo_learns_to_find_its_actions(demo):
    _, made = demo
    assert made["mAP"]["0.5"]["mean"] >= 0.6
    assert made["mAP"]["0.5"]["seeds"] == [made["mAP"]["0.5"]["mean"]]
    assert made["failures"] == {}
    assert Path(made["report"]).is_relative_to(made["runs"][0])
    assert len(list(Path(made["report"]).parent.glob("data-*/0*-poster.jpg"))) == sum(FEWER.values())
    values = [made["mAP"][tiou]["mean"] for tiou in sorted(made["mAP"])]
    assert values == sorted(values, reverse=True)


@pytest.mark.slow
def test_a_second_demo_uses_what_is_there_and_says_the_same(demo):
    folder, made = demo
    files = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.suffix in (".mp4", ".npy", ".pt")}
    assert json.loads(wtal("demo", "--out", folder, "--json").stdout) == made
    assert {p: p.stat().st_mtime_ns for p in files} == files


@pytest.mark.slow
def test_every_video_is_detected_labelled_or_not(demo):
    folder, made = demo
    dataset = read_annotations(folder / "annotations.json")
    found = read_detections(Path(made["detections"][0]))
    assert set(found) == set(dataset.videos)
    assert any(found[video.id] for video in dataset.select("testing"))
    with Path(made["tables"][0]).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(map(len, found.values()))
    assert set(rows[0]) == {"video", "label", "start", "end", "score"}


@pytest.mark.slow
def test_the_submission_is_what_the_challenge_takes(demo):
    folder, made = demo
    content = json.loads(Path(made["submission"]).read_text())
    assert set(content) == {"version", "results", "external_data"}
    dataset = read_annotations(folder / "annotations.json")
    assert set(content["results"]) == {video.id for video in dataset.select("validation")}
    for name, entries in content["results"].items():
        for entry in entries:
            start, end = entry["segment"]
            assert isinstance(start, float)
            assert 0 <= start < end <= dataset.videos[name].duration
    call = ("submit", "--check", made["submission"], "--challenge", "hacs")
    wtal(*call, "--annotations", folder / "annotations.json", "--subset", "validation")
    assert "labels that are not classes" in wtal(*call, code=1).stdout


@pytest.mark.slow
def test_evaluating_the_run_the_file_and_the_table_agree(demo):
    folder, made = demo
    run = json.loads(wtal("evaluate", made["runs"][0], "--json").stdout)
    truth = ("--annotations", folder / "annotations.json", "--subset", "validation")
    file = json.loads(wtal("evaluate", made["detections"][0], *truth, "--tiou", "0.1:0.9:0.1", "--json").stdout)
    assert run == file
    assert {tiou: row["mean"] for tiou, row in made["mAP"].items()} == run["mAP"]
    assert run["average"] == pytest.approx(sum(run["mAP"].values()) / len(run["mAP"]))
    assert list(file["mAP"]) == [f"0.{i}" for i in range(1, 10)]
    table = json.loads(wtal("evaluate", made["tables"][0], *truth, "--json").stdout)
    assert table["mAP"] == run["mAP"]
    labels = json.loads(wtal("evaluate", made["runs"][0], "--task", "classification", "--json").stdout)
    assert labels["mAP"] > 0.5
    assert "the head's own" in wtal("evaluate", made["runs"][0], "--task", "classification").stdout


@pytest.mark.slow
def test_localization_is_done_again_without_the_head(demo):
    _, made = demo
    run, original = Path(made["runs"][0]), Path(made["detections"][0]).read_bytes()
    checkpoint = next(run.glob("checkpoint-*.pt"))
    hidden = checkpoint.rename(run / "hidden.pt")
    try:
        other = Path(wtal("detect", run, "--set", "localize.suppression=hard").stdout.strip())
    finally:
        hidden.rename(checkpoint)
    assert other != Path(made["detections"][0])
    assert sum(map(len, read_detections(other).values())) < sum(map(len, read_detections(original_of(made)).values()))
    assert Path(made["detections"][0]).read_bytes() == original
    assert "did you mean 'localize.nms_tiou'" in wtal("detect", run, "--set", "localize.nms_tio=1", code=2).stderr


def original_of(made):
    return Path(made["detections"][0])


@pytest.mark.slow
def test_labels_narrow_only_when_asked(demo):
    folder, made = demo
    dataset = read_annotations(folder / "annotations.json")
    narrowed = read_detections(Path(wtal("detect", made["runs"][0], "--use-labels").stdout.strip()))
    for name, found in narrowed.items():
        if dataset.videos[name].labels:
            assert {d.label for d in found} <= set(dataset.videos[name].labels)
    assert any(narrowed[video.id] for video in dataset.select("testing"))


@pytest.mark.slow
def test_training_never_sees_times(workspace, tmp_path):
    """Train on annotations without times to the same parameters, bit for bit."""
    annotations = next((workspace / "annotations").iterdir())
    content = json.loads(annotations.read_text())
    for video in content["database"].values():
        for annotation in video["annotations"]:
            annotation["segment"] = [0.0, 1.0]
    blind = tmp_path / "blind.json"
    blind.write_text(json.dumps(content))
    with_times = wtal("train", "--workspace", workspace, *QUICK).stdout.strip()
    without = wtal("train", "--workspace", workspace, "--annotations", blind, *QUICK).stdout.strip()
    assert with_times != without
    left, right = state(with_times), state(without)
    assert all(torch.equal(left[key], right[key]) for key in left)


@pytest.mark.slow
def test_bare_commands_take_the_only_and_the_newest(workspace):
    run = Path(wtal("train", "--workspace", workspace, *QUICK).stdout.strip())
    assert wtal("train", "--workspace", workspace, *QUICK).stdout.strip() == str(run)
    wtal("detect", "--workspace", workspace)
    made = wtal("submit", "--challenge", "hacs", "--workspace", workspace)
    assert str(run) in made.stderr
    other = Path(wtal("train", "--workspace", workspace, *QUICK, "--seeds", "1").stdout.strip())
    os.utime(run / "finished.json", ns=(10**18, 10**18))
    os.utime(other / "finished.json", ns=(10**18, 10**18))
    refused = wtal("submit", "--challenge", "hacs", "--workspace", workspace, code=2)
    assert str(run) in refused.stderr
    assert str(other) in refused.stderr
    assert "2 seeds" in wtal("submit", "--challenge", "hacs", run.parent, "--workspace", workspace, code=2).stderr


@pytest.mark.slow
def test_a_fold_may_choose_and_the_outputs_say_so(workspace):
    fold = ("--set", "evaluate.train_subset=training@!0/4", "--set", "evaluate.select_subset=training@0/4")
    run = Path(wtal("train", "--workspace", workspace, *QUICK, *fold, "--set", "train.select_every=2").stdout.strip())
    assert json.loads((run / "run.json").read_text())["tuned_with_segments"] is True
    detections = json.loads(Path(wtal("detect", run).stdout.strip()).read_text())
    assert detections["wtal"]["tuned_with_segments"] is True
    overlap = ("--set", "evaluate.select_subset=training@0/4")
    assert "hold out a fold" in wtal("train", "--workspace", workspace, *QUICK, *overlap, code=2).stderr
    reported = ("--set", "evaluate.select_subset=validation")
    assert "validation" in wtal("train", "--workspace", workspace, *QUICK, *reported, code=2).stderr


KILLER = """
import os, random, signal, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
import wtal.models.training.trainer
from wtal.pipeline.detect import detect
from wtal.pipeline.recipe import load_recipe
from wtal.pipeline.train import TrainInputs, train
from wtal.pipeline.workspace import Workspace

store, annotations, whole, cut = map(Path, sys.argv[1:])
recipe = load_recipe("bases/collection", ["train.steps=20", "train.checkpoint_every=1"])

def start(workspace):
    child = os.fork()
    if child == 0:
        detect(train(TrainInputs(store, annotations), recipe, [0], Workspace(workspace))[0])
        os._exit(0)
    return child

begun = time.monotonic()
assert os.waitpid(start(whole), 0)[1] == 0
length = time.monotonic() - begun
for kill in range(4):
    child = start(cut)
    time.sleep(random.uniform(0, length / 2))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
assert [os.waitpid(child, 0)[1] for child in [start(cut), start(cut)]] == [0, 0]
"""


@pytest.mark.slow
def test_kill_9_of_training_and_detection_changes_no_byte(demo, tmp_path):
    """Kill four times, then run twice at once: parameters and detections equal an uninterrupted run's."""
    folder, made = demo
    command = [sys.executable, "-c", KILLER, made["store"], folder / "annotations.json", tmp_path / "a", tmp_path / "b"]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    left, right = (next((tmp_path / name / "runs").glob("*/seed-0")) for name in "ab")
    assert all(torch.equal(value, state(right)[key]) for key, value in state(left).items())
    for name in ("detections/detections.json", "detections/detections.csv", "finished.json", "activations/index.json"):
        assert (left / name).read_bytes() == (right / name).read_bytes(), name


@pytest.mark.slow
def test_a_list_of_labels_is_enough(demo, tmp_path):
    """Folder of a user: some videos tagged, others not, no times."""
    folder, made = demo
    dataset = read_annotations(folder / "annotations.json")
    labels = tmp_path / "labels.csv"
    tagged = dataset.select("training")[:8]
    rows = [f"{video.id},{label}" for video in tagged for label in video.labels]
    labels.write_text("video,label\n" + "\n".join(rows) + "\n")
    (tmp_path / "ws").mkdir()
    (tmp_path / "ws/features").symlink_to(Path(made["store"]).parent)
    call = ("run", folder / "videos", "--labels", labels, "--workspace", tmp_path / "ws", *QUICK, "--no-check")
    answer = json.loads(wtal(*call, "--seeds", "0,1", "--json").stdout)
    assert answer["mAP"] == {}
    assert answer["submission"] is None
    assert len(answer["detections"]) == 2
    assert set(read_detections(Path(answer["detections"][0]))) == set(FeatureStore.open(made["store"]).ids)


def run_again(demo, workspace, *extra, code=0):
    folder, _ = demo
    call = ("run", folder / "videos", "--annotations", folder / "annotations.json", "--workspace", workspace, *STEPS)
    result = wtal(*call, *extra, "--no-report", "--json", code=code)
    return json.loads(result.stdout) if code == 0 else result


QUICKLY = pytest.mark.parametrize(
    "how", [("--quick",), ("--no-check", "--set", "ensemble.seeds=1")], ids=["head", "ensemble"]
)


@pytest.mark.slow
@QUICKLY
def test_a_second_run_follows_what_it_is_told(demo, workspace, how):
    """Train the heads once; localization, thresholds and the reported subset are those of each call."""
    first = run_again(demo, workspace, *how)
    fewer = run_again(demo, workspace, *how, "--set", "localize.max_detections=1", "--set", "evaluate.tiou=0.5")
    assert fewer["runs"] == first["runs"]
    assert list(fewer["mAP"]) == ["0.5"]
    assert all(len(found) <= 1 for found in read_detections(Path(fewer["detections"][0])).values())
    assert fewer["detections"] != first["detections"]
    trained = run_again(demo, workspace, *how, "--test-subset", "training")
    assert trained["runs"] == first["runs"]
    assert trained["mAP"] != first["mAP"]
    both = run_again(demo, workspace, *how, "--test-subset", "training,validation")
    assert both["mAP"] not in (trained["mAP"], first["mAP"])
    refused = run_again(demo, workspace, *how, "--test-subset", "valdation", code=2)
    assert "did you mean 'validation'" in refused.stderr


@pytest.mark.slow
def test_labels_narrow_the_whole_run(demo, workspace):
    folder, _ = demo
    plain = run_again(demo, workspace, "--quick")
    narrowed = run_again(demo, workspace, "--quick", "--use-labels", "--challenge", "hacs")
    assert narrowed["runs"] == plain["runs"]
    dataset = read_annotations(folder / "annotations.json")
    for name, entries in json.loads(Path(narrowed["submission"]).read_text())["results"].items():
        assert {entry["label"] for entry in entries} <= set(dataset.videos[name].labels)
    judged = json.loads(
        wtal("evaluate", narrowed["detections"][0], "--annotations", folder / "annotations.json", "--json").stdout
    )
    assert judged["mAP"] == {tiou: row["mean"] for tiou, row in narrowed["mAP"].items()}


@pytest.mark.slow
def test_new_training_videos_make_a_new_run_and_other_collections_stay_out(demo, workspace):
    folder, _ = demo
    some = sorted((folder / "videos").glob("training_0[0-7]*.mp4"))
    call = ("run", "--annotations", folder / "annotations.json", "--workspace", workspace, *STEPS, "--quick", "--json")
    call = (*call, "--test-subset", "training", "--no-report")
    first = json.loads(wtal(*call, *some[:6]).stdout)
    assert set(read_detections(Path(first["detections"][0]))) == {path.stem for path in some[:6]}
    second = json.loads(wtal(*call, *some).stdout)
    assert first["runs"] != second["runs"]
    assert json.loads(wtal(*call, *some[:6]).stdout)["runs"] == first["runs"]


@pytest.mark.slow
def test_a_run_that_was_chosen_on_a_fold_is_localized_again(workspace):
    fold = ("--set", "evaluate.train_subset=training@!0/4", "--set", "evaluate.select_subset=training@0/4")
    run = wtal("train", "--workspace", workspace, *QUICK, *fold, "--set", "train.select_every=3").stdout.strip()
    own = wtal("detect", run).stdout.strip()
    assert wtal("detect", run, "--set", "localize.nms_tiou=0.2").stdout.strip() != own
    assert "tuned with segments" in wtal("evaluate", run).stdout
    assert json.loads(wtal("evaluate", run, "--json").stdout)["tuned_with_segments"] is True
    assert "accepts only localize.KEY=VALUE" in wtal("detect", run, "--set", "train.steps=3", code=2).stderr


@pytest.mark.slow
def test_a_detection_file_is_submitted_by_subset(demo, tmp_path):
    folder, made = demo
    truth = ("--annotations", folder / "annotations.json", "--subset", "validation")
    out = tmp_path / "file.json"
    wtal("submit", "--challenge", "hacs", made["detections"][0], *truth, "--out", out)
    assert json.loads(out.read_text())["results"] == json.loads(Path(made["submission"]).read_text())["results"]
    only = tmp_path / "only.json"
    wtal("submit", "--challenge", "hacs", made["runs"][0], "--out", only, "--results-only")
    assert set(json.loads(only.read_text())) == {"results"}


@pytest.mark.slow
def test_videos_without_a_snippet_are_detected_as_empty(tmp_path):
    """A video shorter than one stride has no snippet under the papers' tail policy, and no detections."""
    videos = tmp_path / "videos"
    videos.mkdir()
    for name, count in (("short", 5), ("long", 60), ("longer", 80)):
        write_video(videos / f"{name}.mp4", constant(25, count))
    labels = tmp_path / "labels.csv"
    labels.write_text("video,label\nlong,blink\nlonger,wave\nshort,wave\n")
    call = ("run", videos, "--labels", labels, "--workspace", tmp_path / "ws", *STEPS, "--quick", "--json")
    made = json.loads(wtal(*call, "--set", "extract.tail=drop", "--set", "extract.stride=16").stdout)
    found = read_detections(Path(made["detections"][0]))
    assert found["short"] == []
    assert set(found) == {"short", "long", "longer"}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("run", "VIDEOS"), 2, "--annotations FILE or --labels FILE"),
        (("run", "VIDEOS", "--annotations", "absent.json"), 2, "no annotations at absent.json"),
        (("run", "VIDEOS", "--annotations", "TRUTH", "--train-subset", "trainig"), 2, "did you mean 'training'"),
        (
            ("run", "VIDEOS", "--annotations", "TRUTH", "--head", "basnet", "--set", "head.widht=3"),
            2,
            "did you mean 'head.width'",
        ),
        (("run", "VIDEOS", "--annotations", "TRUTH", "--set", "head=3"), 2, "--set head=3: head: "),
        (("run", "VIDEOS", "--annotations", "TRUTH", "--head", "basnet", "--set", "head.width=3.5"), 2, "width"),
        (("run", "VIDEOS", "--annotations", "TRUTH", "--set", "head.width=3"), 2, "also set head.name"),
        (("run", "VIDEOS", "--annotations", "TRUTH", "--test-subset", "valdation"), 2, "did you mean 'validation'"),
        (("run", "VIDEOS", "--annotations", "TRUTH", "--seeds", "0,0"), 2, "different whole numbers"),
        (("run", "VIDEOS", "--annotations", "TRUTH", "--recipe", "colection"), 2, "did you mean 'collection'"),
        (("evaluate", "absent"), 2, "absent does not exist"),
        (("evaluate", "TRUTH"), 2, "--annotations is required"),
        (("detect", "VIDEOS"), 2, "is not a run"),
        (("show", "absent"), 2, "absent does not exist"),
        (("submit", "--check", "absent", "--challenge", "hacs"), 2, "absent does not exist"),
    ],
)
@pytest.mark.slow
def test_wrong_calls_are_answered_in_one_line(demo, tmp_path, arguments, code, said):
    folder, _ = demo
    names = {"VIDEOS": folder / "videos", "TRUTH": folder / "annotations.json"}
    extra = () if arguments[0] in ("evaluate", "show") else ("--workspace", tmp_path)
    result = wtal(*(names.get(a, a) for a in arguments), *extra, code=code)
    assert said in result.stderr
    assert len([line for line in result.stderr.splitlines() if line.startswith("wtal:")]) == 1
    assert not (tmp_path / "features").exists()


@pytest.mark.slow
def test_the_default_is_one_checked_ensemble_and_killed_it_goes_on(demo, workspace):
    """Call `wtal run` without options, except for the number of steps."""
    folder, _ = demo
    result = wtal(
        "run", folder / "videos", "--annotations", folder / "annotations.json", "--workspace", workspace, *STEPS
    )
    (run,) = [path for path in (workspace / "runs").iterdir() if path.name.startswith("ensemble-")]
    record = json.loads((run / "run.json").read_text())
    assert len(record["ensemble"]["members"]) == 9
    assert set(record["label_check"]["classes"]) == set(record["classes"])
    assert result.stderr.count("label check: ") >= len(record["classes"])
    detections = json.loads((run / "detections/detections.json").read_text())
    assert set(detections["wtal"]["label_check"]) == set(record["classes"])
    heads = {path: path.stat().st_mtime_ns for path in workspace.rglob("finished.json")}
    (run / "finished.json").unlink()
    again = run_again(demo, workspace)
    assert again["runs"] == [str(run)]
    assert again["label_check"] == record["label_check"]
    unchanged = {path: path.stat().st_mtime_ns for path in heads if path.parent != run}
    assert unchanged == {path: when for path, when in heads.items() if path.parent != run}
    assert json.loads((run / "detections/detections.json").read_text()) == detections


@pytest.mark.slow
def test_a_run_may_end_in_a_student(demo, workspace):
    """`--refine` trains a student after the head, which is then printed, judged and drawn."""
    folder, _ = demo
    call = ("run", folder / "videos", "--annotations", folder / "annotations.json", "--workspace", workspace, *QUICK)
    small = ("--set", "refine.train.steps=4", "--set", "refine.student.width=16")
    content = json.loads(wtal(*call, "--refine", *small, "--json").stdout)
    (run,) = content["runs"]
    assert "refined-basnet" in run
    assert Path(content["report"]).is_relative_to(run)
    assert content["mAP"]
    call = (*call, "--no-report")
    assert json.loads(wtal(*call, "--refine", *small, "--json").stdout)["runs"] == [run]
    assert "refined" not in json.loads(wtal(*call, "--json").stdout)["runs"][0]
    assert "refine" in json.loads(wtal(*call, *small, "--dry-run").stdout)
    assert "refine" not in json.loads(wtal(*call, *small, "--no-refine", "--dry-run").stdout)
