"""`wtal ensemble`: comparable means on a common clock, fused detections, and a folder that works as a run."""

import json
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.support.planted import planted_videos
from tests.support.reference import REPOSITORY
from wtal.cli import main
from wtal.data.detections import read_detections
from wtal.data.files import write_json
from wtal.data.grid import SnippetGrid
from wtal.data.store import FeatureStore
from wtal.data.store.resample import resampled
from wtal.data.store.writer import StoreWriter
from wtal.models.localization.config import LocalizeConfig
from wtal.models.localization.ensemble import comparable
from wtal.models.localization.localize import Activations
from wtal.pipeline.ensembles.members import common_ids
from wtal.pipeline.workspace import Workspace

NAMES = {"dive": "Springboard diving", "jump": "High jump", "throw": "Javelin throw"}
LEFT_OUT = "video-13"
RECIPE = """
[train]
steps = 40
batch_size = 8
sampling = "full"
learning_rate = 3e-3
[localize]
signal = "product"
activation = "softmax"
range = "video"
threshold_stop = 0.95
threshold_step = 0.1
nms_tiou = 0.45
[evaluate]
tiou = "0.3:0.7:0.2"
"""


def call(*arguments, code=0):
    result = CliRunner().invoke(main, [str(one) for one in arguments])
    assert result.exit_code == code, f"{result.output}{result.exception!r}"
    return result


def line_of(*arguments, code):
    """Line printed by a refused call."""
    said = call(*arguments, code=code).stderr.strip().splitlines()
    (line,) = [one for one in said if one.startswith("wtal: ")]
    assert said[-1] == line
    return line


def test_videos_are_matched_by_id():
    first, second = common_ids([["a", "v_b"], ["b", "c", "v_a"]])
    assert first == {"a": "a", "v_b": "v_b"}
    assert second == {"a": "v_a", "v_b": "b", "c": "c"}


def write_store(path, videos, stride, backbone="planted", weights=None):
    """Planted features, from a grid of 12 frames per snippet, on a grid of another stride."""
    own_weights = {"weights": weights} if weights else {}
    writer = StoreWriter.open(path, {"backbone": backbone, **own_weights})
    for video in videos:
        own = SnippetGrid(Fraction(25), 12 * len(video.streams["rgb"]), Fraction(12), 12)
        grid = SnippetGrid(Fraction(25), own.frames, Fraction(stride), stride)
        streams = {name: resampled(values, own, grid) for name, values in video.streams.items()}
        writer.write(video.id, grid, streams, {"reader": "none"}, f"mark of {video.id}")
    return writer.publish().path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Workspace with runs of four heads on two stores of different grids; the second lacks a video."""
    root = Workspace(tmp_path_factory.mktemp("ensemble"))
    videos = planted_videos(16, seed=0)
    one = write_store(root.features / "planted-12x12@25-000000", videos, 12)
    fewer = [video for video in videos if video.id != LEFT_OUT]
    random = {"rgb": {"weights": {"random": 3}}, "flow": {}}
    other = write_store(root.features / "other-20x20@25-000000", fewer, 20, "other", random)
    database = {
        video.id: {
            "subset": "training" if number < 12 else "validation",
            "duration": 0.48 * len(video.streams["rgb"]),
            "annotations": [
                {"label": NAMES[a.label], "segment": [0.96 * a.start, 0.96 * a.end]} for a in video.annotations
            ],
        }
        for number, video in enumerate(videos)
    }
    annotations = write_json(root.annotations / "planted.json", {"database": database})
    (root.root / "recipe.toml").write_text(RECIPE)

    def train(store, *settings):
        options = [part for one in settings for part in ("--set", one)]
        call(
            "train",
            root.root / "recipe.toml",
            *options,
            "--store",
            store,
            "--annotations",
            annotations,
            "--seeds",
            "0,1",
            "--workspace",
            root.root,
        )
        newest = max(root.runs.iterdir(), key=lambda path: (path / "seed-1" / "finished.json").stat().st_mtime_ns)
        call("detect", newest)
        return newest

    basnet = train(one, "head.name=basnet", "head.width=16", "head.filter_width=8")
    facnet = train(one, "head.name=facnet", "head.width=16", "localize.range=class")
    bm = train(other, "head.name=bm", "head.embedding=16", "head.attention_width=8", "localize.class_threshold=0.1")
    return root, basnet, facnet, bm


def joined(root, *arguments):
    result = call("ensemble", *arguments, "--workspace", root.root, "--json")
    return json.loads(result.stdout), result.stderr


def test_seeds_are_averaged(made):
    root, basnet, *_ = made
    value, said = joined(root, basnet, "--out", "seeds")
    folder = Path(value["run"])
    assert folder == root.runs / "seeds"
    assert value["members"] == [str(basnet / "seed-0"), str(basnet / "seed-1")]
    means = FeatureStore.open(folder / "activations")
    stores = [FeatureStore.open(basnet / f"seed-{seed}/activations") for seed in (0, 1)]
    assert means.ids == stores[0].ids
    softmax = LocalizeConfig(activation="softmax")
    for key in means.ids[:3]:
        said = [Activations(one[key].streams["cas"], None, np.zeros(3)) for one in stores]
        parts = [comparable(one, softmax) for one in said]
        np.testing.assert_allclose(means[key].streams["cas"], sum(one.cas for one in parts) / 2, atol=1e-6)
        attention = sum(one[key].streams["attention"] for one in stores) / 2
        np.testing.assert_allclose(means[key].streams["attention"], attention, atol=1e-6)
    assert LEFT_OUT not in said


@pytest.mark.parametrize("by", ["activations", "detections"])
def test_other_commands_take_it_as_a_run(made, by, tmp_path):
    root, basnet, facnet, bm = made
    value, said = joined(root, basnet / "seed-0", facnet / "seed-0", bm / "seed-0", "--by", by, "--out", f"three-{by}")
    folder, own = Path(value["run"]), Path(value["detections"])
    assert value["lacking"] == [LEFT_OUT]
    assert f"1 of 16 videos are missing from some members; using those that have them (first: {LEFT_OUT})" in said
    stamped = json.loads(own.read_text())["wtal"]
    assert stamped["weights"]["rgb of other-20x20@25-000000"] == "random 3"
    assert stamped["tuned_with_segments"] is False
    judged = json.loads(call("evaluate", folder, "--json").stdout)
    assert judged["mAP"]["0.3"] > 0.5
    assert judged["random_weights"] == ["rgb of other-20x20@25-000000"]
    again = json.loads(call("detect", folder, "--set", "localize.nms_tiou=0.01", "--json").stdout)["detections"]
    assert again != [str(own)]
    few = sum(map(len, read_detections(Path(again[0])).values()))
    assert few < sum(map(len, read_detections(own).values()))
    narrowed = Path(call("detect", folder, "--use-labels").stdout.strip())
    truth = json.loads((root.annotations / "planted.json").read_text())["database"]
    for key, found in read_detections(narrowed).items():
        assert {one.label for one in found} <= {a["label"] for a in truth[key]["annotations"]}
    out = tmp_path / "hacs.json"
    call("submit", folder, "--challenge", "hacs", "--out", out)
    assert set(json.loads(out.read_text())["results"]) == {f"video-{i}" for i in range(12, 16)}
    named = call("submit", folder, "--challenge", "hacs", "--workspace", tmp_path).stdout.strip()
    assert Path(named).name == f"hacs-three-{by}.json"
    assert f"of 3, by {by}" in call("show", folder).stdout
    assert "0.333 of facnet" in call("show", folder).stdout
    call("evaluate", folder, "--task", "classification")
    call("evaluate", folder, "--against", basnet / "seed-0", "--draws", "5")


def test_grids_meet_in_seconds(made):
    """The output of a member counts alone if only that member has the video, on its grid if that is the finest."""
    root, basnet, _, bm = made
    value, _ = joined(root, bm / "seed-0", basnet / "seed-0", "--weights", "1e-9,1")
    means = FeatureStore.open(Path(value["run"]) / "activations")
    fine = FeatureStore.open(basnet / "seed-0/activations")
    for key in (LEFT_OUT, "video-00"):
        assert means.grid(key) == fine.grid(key)
        np.testing.assert_allclose(means[key].streams["attention"], fine[key].streams["attention"], atol=1e-6)


def test_weights_are_of_runs_and_shared_by_seeds(made):
    root, basnet, _, bm = made
    value, _ = joined(root, basnet, bm / "seed-0", "--weights", "2,1")
    members = json.loads((Path(value["run"]) / "run.json").read_text())["ensemble"]["members"]
    assert [one["weight"] for one in members] == pytest.approx([1 / 3, 1 / 3, 1 / 3])
    assert members[0]["run"] == f"../{basnet.name}/seed-0"
    assert Path(value["run"]).name.startswith("ensemble-basnet+bm-")


def test_a_class_that_one_member_looks_for_is_looked_for(made):
    root, basnet, _, bm = made
    value, _ = joined(root, basnet / "seed-0", bm / "seed-0", "--out", "threshold")
    localize = json.loads((Path(value["run"]) / "run.json").read_text())["recipe"]["localize"]
    assert localize["class_threshold"] == pytest.approx(0.05)  # half of bm's
    assert (localize["activation"], localize["range"]) == ("none", "video")
    value, _ = joined(root, basnet / "seed-0", bm / "seed-0", "--set", "localize.class_threshold=0.3")
    localize = json.loads((Path(value["run"]) / "run.json").read_text())["recipe"]["localize"]
    assert localize["class_threshold"] == 0.3


def test_a_second_call_does_nothing_twice(made):
    root, basnet, facnet, _ = made
    for by in ("activations", "detections"):
        first, _ = joined(root, basnet / "seed-0", facnet / "seed-0", "--by", by)
        files = {path: path.stat().st_mtime_ns for path in Path(first["run"]).rglob("*") if path.is_file()}
        second, said = joined(root, basnet / "seed-0", facnet / "seed-0", "--by", by)
        assert second == first
        assert "exists already" in said
        assert {path: path.stat().st_mtime_ns for path in Path(first["run"]).rglob("*") if path.is_file()} == files


def test_other_members_or_settings_are_another_ensemble(made):
    root, basnet, facnet, bm = made
    pair = (basnet / "seed-0", facnet / "seed-0")
    calls = [
        (*pair,), (*pair[::-1],), (*pair, "--weights", "1,2"), (*pair, "--by", "detections"),
        (*pair, "--set", "localize.nms_tiou=0.3"), (basnet / "seed-1", facnet / "seed-0"),
    ]  # fmt: skip
    assert len({joined(root, *arguments)[0]["run"] for arguments in calls}) == len(calls)
    joined(root, *pair, "--out", "named")
    here = ("--workspace", root.root)
    assert "holds another run, or an ensemble of other members" in line_of(
        "ensemble", pair[0], bm / "seed-0", "--out", "named", *here, code=2
    )
    assert "holds other files (seed-0)" in line_of("ensemble", *pair, "--out", basnet.name, *here, code=2)


def test_what_was_tuned_stays_marked(made, tmp_path):
    root, basnet, facnet, _ = made
    copy = tmp_path / "runs" / "tuned" / "seed-0"
    shutil.copytree(basnet / "seed-0", copy)
    shutil.copytree(root.features, tmp_path / "features")
    run = json.loads((copy / "run.json").read_text())
    run |= {"tuned_with_segments": True, "annotations": str(root.annotations / "planted.json")}
    write_json(copy / "run.json", run)
    value, _ = joined(root, facnet / "seed-0", copy)
    assert "tuned with segments" in call("evaluate", value["run"]).stdout
    stamped = call("evaluate", value["detections"], "--annotations", root.annotations / "planted.json").stdout
    assert "tuned with segments" in stamped


def test_the_mean_can_be_tuned_and_detections_cannot(made, tmp_path):
    root, basnet, facnet, _ = made
    value, _ = joined(root, basnet / "seed-0", facnet / "seed-0")
    tuned = call(
        "tune", value["run"], "--subset", "training@0/4", "--over", "nms_tiou=0.3,0.5", "--out", tmp_path / "t.toml"
    )
    assert "tuned with segments" in tuned.stdout
    (file,) = call("detect", value["run"], "--set", f"localize.preset={tmp_path / 't.toml'}").stdout.split()
    assert json.loads(Path(file).read_text())["wtal"]["tuned_with_segments"] is True
    value, _ = joined(root, basnet / "seed-0", facnet / "seed-0", "--by", "detections")
    assert "has no activations" in line_of("tune", value["run"], "--subset", "training@0/4", code=2)


def test_settings_that_would_be_wrong_or_change_nothing_are_refused(made):
    root, basnet, facnet, _ = made
    pair = (basnet / "seed-0", facnet / "seed-0", "--workspace", root.root)
    mean, _ = joined(root, *pair[:2])
    fused, _ = joined(root, *pair[:2], "--by", "detections")
    squashed = "add --set localize.activation=none"
    assert squashed in line_of("ensemble", *pair, "--set", "localize.preset=rskp", code=2)
    assert squashed in line_of("detect", mean["run"], "--set", "localize.activation=softmax", code=2)
    call("detect", mean["run"], "--set", "localize.preset=rskp", "--set", "localize.activation=none")
    assert "no logits to choose classes by" in line_of(
        "detect", mean["run"], "--set", "localize.class_from=cas", code=2
    )
    assert "the head has no stream 'rgb'" in line_of("detect", mean["run"], "--streams", "rgb", code=2)
    assert "has no stages" in line_of("detect", mean["run"], "--stage", "0", code=2)
    for arguments in (("detect", fused["run"]), ("ensemble", *pair, "--by", "detections")):
        assert "got threshold_stop" in line_of(*arguments, "--set", "localize.threshold_stop=0.5", code=2)
    assert "accepts only localize.KEY=VALUE" in line_of("ensemble", *pair, "--set", "train.steps=3", code=2)


def test_an_ensemble_may_be_a_member(made):
    root, basnet, _, bm = made
    seeds, _ = joined(root, basnet)
    for by in ("activations", "detections"):
        value, _ = joined(root, seeds["run"], bm / "seed-0", "--by", by)
        assert json.loads(call("evaluate", value["run"], "--json").stdout)["mAP"]["0.3"] > 0.5
    single, _ = joined(root, basnet / "seed-0", basnet / "seed-1", bm / "seed-0", "--weights", "1,1,2")
    nested, _ = joined(root, seeds["run"], bm / "seed-0")
    left, right = (FeatureStore.open(Path(one["run"]) / "activations") for one in (single, nested))
    np.testing.assert_allclose(left["video-00"].streams["cas"], right["video-00"].streams["cas"], atol=1e-6)


def test_what_does_not_go_together_is_refused_by_name(made, tmp_path):
    root, basnet, facnet, bm = made
    here = ("--workspace", root.root)
    first = basnet / "seed-0"
    assert "there is no run at" in line_of("ensemble", first, tmp_path / "none", *here, code=2)
    assert "is not a run" in line_of("ensemble", first, root.features, *here, code=2)
    assert "at least two members, got 1" in line_of("ensemble", first, *here, code=2)
    assert "is named twice" in line_of("ensemble", basnet, first, *here, code=2)
    for weights, why in (("1", "takes one per run, 2 in all, got 1"), ("1,-1", "above 0, got 1, -1"),
                         ("1,x", "takes numbers separated by commas"), ("1,nan", "above 0")):  # fmt: skip
        assert why in line_of("ensemble", basnet, facnet, "--weights", weights, *here, code=2)

    def changed(name, change):
        copy = tmp_path / name / "runs" / "x" / "seed-0"
        shutil.copytree(bm / "seed-0", copy)
        (tmp_path / name / "features").symlink_to(root.features)
        run = json.loads((copy / "run.json").read_text()) | {"annotations": str(root.annotations / "planted.json")}
        change(run)
        write_json(copy / "run.json", run)
        return copy

    renamed = changed("classes", lambda run: run.update(classes=["High jump", "Javelin throw", "Shot put"]))
    assert "it lacks Springboard diving and it adds Shot put" in line_of("ensemble", first, renamed, *here, code=2)
    subset = changed("subset", lambda run: run["recipe"]["evaluate"].update(test_subset="training"))
    assert "reports subset 'training'" in line_of("ensemble", first, subset, *here, code=2)
    other = json.loads((root.annotations / "planted.json").read_text())
    other["database"]["video-15"]["subset"] = "training"
    write_json(tmp_path / "other.json", other)
    labels = changed("labels", lambda run: run.update(annotations=str(tmp_path / "other.json")))
    assert "trained with annotations other than" in line_of("ensemble", first, labels, *here, code=2)
    open_ = changed("unfinished", lambda run: None)
    (open_ / "finished.json").unlink()
    assert "is not finished" in line_of("ensemble", first, open_, *here, code=1)
    gone = changed("gone", lambda run: run.update(store="../../../nowhere"))
    assert "which does not exist" in line_of("ensemble", first, gone, *here, code=1)


def test_classes_are_matched_by_name(made, tmp_path):
    root, basnet, facnet, _ = made
    copy = tmp_path / "runs" / "reversed" / "seed-0"
    shutil.copytree(facnet / "seed-0", copy, ignore=shutil.ignore_patterns("activations"))
    (tmp_path / "features").symlink_to(root.features)
    run = json.loads((copy / "run.json").read_text())
    write_json(copy / "run.json", run | {"classes": run["classes"][::-1]})
    (tmp_path / "annotations").symlink_to(root.annotations)
    means = []
    for member in (facnet / "seed-0", copy):
        value, _ = joined(root, basnet / "seed-0", member)
        means.append(FeatureStore.open(Path(value["run"]) / "activations")["video-00"].streams["cas"])
    first = FeatureStore.open(basnet / "seed-0/activations")["video-00"].streams["cas"]
    own = comparable(Activations(first, None, np.zeros(3)), LocalizeConfig(activation="softmax")).cas
    np.testing.assert_allclose(2 * means[0] - own, (2 * means[1] - own)[:, ::-1], atol=1e-5)


def test_where_nothing_can_be_written_there_is_one_line(made, tmp_path):
    root, basnet, facnet, _ = made
    (tmp_path / "file").write_text("")
    where = ("--out", tmp_path / "file" / "folder", "--workspace", root.root)
    assert str(tmp_path / "file") in line_of("ensemble", basnet / "seed-0", facnet / "seed-0", *where, code=1)


SLOW = """
import sys, time
from pathlib import Path
from wtal.pipeline.ensembles import parts as ensemble_parts
from wtal.pipeline.ensembles.ensemble import ensemble
from wtal.pipeline.workspace import Workspace

write, pause = ensemble_parts._write_mean, float(sys.argv[1])
def slow(*arguments):
    write(*arguments)
    print("one", flush=True)
    time.sleep(pause)
ensemble_parts._write_mean = slow
ensemble([Path(one) for one in sys.argv[4:]], Workspace(Path(sys.argv[2])), out=sys.argv[3])
"""


def start(pause, root, out, *runs):
    command = [sys.executable, "-c", SLOW, str(pause), str(root.root), out, *map(str, runs)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_killed_and_made_by_two_at_once_it_is_the_same(made):
    root, basnet, facnet, _ = made
    pair = (basnet / "seed-0", facnet / "seed-1")
    whole, _ = joined(root, *pair, "--out", "whole")
    killed = start(30, root, "cut", *pair)
    assert killed.stdout.readline() == "one\n"
    killed.kill()
    killed.wait()
    assert not (root.runs / "cut" / "finished.json").exists()
    assert "is not finished; run `wtal ensemble`" in line_of("detect", root.runs / "cut", code=1)
    two = [start(0, root, "cut", *pair) for _ in range(2)]
    lines = sum(len(one.communicate()[0].splitlines()) for one in two)
    assert [one.returncode for one in two] == [0, 0]
    assert lines == 15  # the killed process had finished one of 16 videos, and none is computed twice
    assert contents(root.runs / "cut") == contents(Path(whole["run"]))
