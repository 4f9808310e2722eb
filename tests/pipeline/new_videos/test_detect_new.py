"""`wtal detect RUN VIDEO`: the same bytes as extract and detect, and a refusal of other features."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import wtal
from tests.pipeline.new_videos.conftest import LAST, call, line_of, results
from tests.support.reference import REPOSITORY
from tests.support.videos import constant, write_video, write_with_sound
from wtal.data.detections import read_detections, read_made, to_json
from wtal.data.store import FeatureStore
from wtal.errors import UsageError, VideoError, WeightsError, WtalError
from wtal.pipeline.extraction.machine import Machine
from wtal.pipeline.extraction.sources import Sources, read_sources
from wtal.pipeline.new_videos.model import model_of
from wtal.pipeline.new_videos.same_features import config_of, same_extractor
from wtal.pipeline.runs import Run


def detect(collection, workspace, *arguments, code=0):
    result = call("detect", collection.run, *arguments, "--workspace", workspace, "--json", code=code)
    return json.loads(result.stdout)


def test_a_folder_gives_the_bytes_of_extract_and_detect(collection, tmp_path):
    made = detect(collection, tmp_path, collection.videos)
    assert Path(made["detections"]).read_bytes() == collection.detections.read_bytes()
    assert Path(made["table"]).read_bytes() == collection.detections.with_suffix(".csv").read_bytes()
    assert made["failures"] == {}
    assert any(results(made["detections"]).values())
    (store,) = made["stores"]
    own, new = FeatureStore.open(Run.open(collection.run).store_folder()), FeatureStore.open(store)
    assert new.identity == own.identity
    assert len(new) == len(own)
    assert not (tmp_path / "features").exists()


def test_a_run_is_read_and_its_recipe_parsed_once(collection, tmp_path, counted):
    video = collection.videos / f"{LAST}.mp4"
    paths = [collection.run / name for name in ("finished.json", "run.json")]
    assert counted(detect, collection, tmp_path, video) == ({str(path): 1 for path in paths}, 1)


def test_a_second_call_reads_no_video_again(collection, tmp_path):
    video = collection.videos / f"{LAST}.mp4"
    first = detect(collection, tmp_path, video)
    files = {path: path.stat().st_mtime_ns for path in Path(first["stores"][0]).glob("*.npy")}
    again = call("detect", collection.run, video, "--workspace", tmp_path)
    assert "1 of 1 videos are already in" in again.stderr
    assert {path: path.stat().st_mtime_ns for path in files} == files
    assert first["detections"] in again.stdout
    best = results(first["detections"])[LAST][0]
    assert f"{best['label']} {best['segment'][0]:9.2f} {best['segment'][1]:9.2f} s" in again.stdout


def test_files_of_one_name_are_different_videos(collection, tmp_path):
    for number, folder in enumerate(("one", "two")):
        (tmp_path / folder).mkdir()
        shutil.copy(collection.videos / f"v{number}.mp4", tmp_path / folder / "clip.mp4")
    ws = tmp_path / "ws"
    alone = [
        results(detect(collection, ws, tmp_path / name / "clip.mp4")["detections"])["clip"] for name in ("one", "two")
    ]
    assert alone == [collection.found("v0"), collection.found("v1")]
    both = results(detect(collection, ws, tmp_path / "one", tmp_path / "two")["detections"])
    assert list(both.values()) == alone


def test_what_fails_is_told_and_the_rest_is_found(collection, tmp_path):
    (tmp_path / "bad.mp4").write_bytes((collection.videos / "v0.mp4").read_bytes()[:300])
    made = detect(collection, tmp_path / "ws", tmp_path / "bad.mp4", collection.videos / "v1.mp4", code=3)
    assert set(made["failures"]) == {"bad"}
    assert results(made["detections"]) == {"v1": collection.found("v1")}
    reasons = json.loads((Path(made["detections"]).parent / "failures.json").read_text())
    assert reasons == made["failures"]


def test_what_a_folder_holds_besides_videos_is_told_as_by_extract(collection, tmp_path):
    given = tmp_path / "given"
    (given / "folder.mp4").mkdir(parents=True)
    os.mkfifo(given / "pipe.mp4")
    (given / "notes.txt").write_text("")
    shutil.copy(collection.videos / "v0.mp4", given)
    said = [
        call(*command, given, "--workspace", tmp_path / "ws").stderr.splitlines()
        for command in (("detect", collection.run), ("extract",))
    ]
    for lines in said:
        assert "folders and pipes with a video's name, skipped: 2 (folder.mp4, pipe.mp4)" in "\n".join(lines)
        assert "files without a video's name, skipped: 1 (notes.txt)" in "\n".join(lines)


@pytest.mark.parametrize("linked", [False, True])
def test_a_pipe_fails_at_once(collection, tmp_path, linked):
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "link.mp4").symlink_to(tmp_path / "pipe.mp4")
    pipe = tmp_path / ("link.mp4" if linked else "pipe.mp4")
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.alarm(60)
    try:
        made = detect(collection, tmp_path / "ws", pipe, collection.videos / "v1.mp4", code=3)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    assert made["failures"] == {pipe.stem: "not a regular file: copy it to one first"}
    assert results(made["detections"]) == {"v1": collection.found("v1")}


def test_other_localization_is_kept_apart(collection, tmp_path):
    video = collection.videos / f"{LAST}.mp4"
    own = detect(collection, tmp_path, video, "--out", tmp_path / "out")
    fewer = detect(collection, tmp_path, video, "--out", tmp_path / "out", "--set", "localize.max_detections=1")
    assert Path(own["detections"]) == tmp_path / "out/detections.json"
    assert results(fewer["detections"])[LAST] == results(own["detections"])[LAST][:1]
    assert fewer["detections"] != own["detections"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ("VIDEO", "--use-labels"),
            "--use-labels, --subset and --stage apply only to the videos of the run's own store",
        ),
        (("VIDEO", "--stage", "0"), "--use-labels, --subset and --stage"),
        (("--out", "x"), "--out, --weights and --jobs are for new videos"),
        (("VIDEO", "--watch", "."), "--watch FOLDER takes all videos from the folder"),
        (("VIDEO", "--set", "train.steps=3"), "a trained run accepts only localize.KEY=VALUE"),
        (("missing.mp4",), "missing.mp4 does not exist"),
    ],
)
def test_wrong_calls_are_one_line(collection, tmp_path, options, said):
    video = collection.videos / f"{LAST}.mp4"
    given = [video if option == "VIDEO" else option for option in options]
    assert said in line_of("detect", collection.run, *given, "--workspace", tmp_path, code=2)


def test_a_picture_after_the_sound_is_exported_at_the_seconds_of_a_player(collection, tmp_path):
    """Detections count from the beginning of the file, include the picture's start, and are exported unchanged."""
    (tmp_path / "videos").mkdir()
    late = write_with_sound(tmp_path / "videos" / "late.mov", 0.48)
    made = call("detect", collection.run, late, "--workspace", tmp_path / "ws", "--json")
    file = Path(json.loads(made.stdout)["detections"])
    assert read_made(file)["begins"] == {"late": 0.48}
    (detections,) = read_detections(file).values()
    assert detections
    assert min(detection.start for detection in detections) >= 0.48
    call("export", file, "--to", "activitynet,losslesscut-csv", "--videos", late.parent, "--out", tmp_path / "out")
    _, *rows = csv.reader((tmp_path / "out" / "late-losslesscut.csv").read_text().splitlines())
    seconds = sorted((round(detection.start, 3), round(detection.end, 3)) for detection in detections)
    assert sorted((float(row[0]), float(row[1])) for row in rows) == pytest.approx(seconds, abs=0.002)
    from_picture = read_detections(next((tmp_path / "out").glob("*-activitynet.json")))["late"]
    assert sorted(d.start for d in from_picture) == pytest.approx([start - 0.48 for start, _ in seconds], abs=0.002)


def test_what_is_no_run_is_told(collection, tmp_path):
    assert "does not exist; pass a run's folder or a packed model" in line_of(
        "detect", tmp_path / "no", collection.videos, code=2
    )
    assert "wanted a run or a packed model, got a video" in line_of("detect", collection.videos / "v0.mp4", code=2)


@pytest.mark.slow
@pytest.mark.parametrize("by", ["activations", "detections"])
def test_an_ensemble_answers_as_for_its_own_videos(collection, tmp_path, by):
    root = tmp_path / "ws"
    shutil.copytree(collection.workspace, root)
    (store,) = (root / "features").iterdir()
    steps = ("--set", "train.steps=3", "--set", "evaluate.test_subset=training", "--workspace", root)
    others = [
        call("train", "--store", store, "--set", f"head.name={head}", *steps).stdout.strip() for head in ("wtalc", "um")
    ]
    members = (root / "runs" / collection.run.parent.name, *others)
    made = json.loads(call("ensemble", *members, "--by", by, "--workspace", root, "--json").stdout)
    new = json.loads(call("detect", made["run"], collection.videos, "--workspace", root, "--json").stdout)
    assert results(new["detections"]) == results(made["detections"])
    packed = call("pack", made["run"], tmp_path / "three.wtal").stdout.strip()
    other = json.loads(call("detect", packed, collection.videos, "--workspace", tmp_path / "2", "--json").stdout)
    assert Path(other["detections"]).read_bytes() == Path(new["detections"]).read_bytes()
    shown = call("show", packed).stdout
    assert f"of 3, by {by}" in shown
    shutil.rmtree(others[0])
    assert "needs its members for new videos, and one is missing" in line_of(
        "pack", made["run"], tmp_path / "again.wtal"
    )


KILLED = """
import os, signal, sys
from pathlib import Path
from wtal.cli import main
import wtal.data.store.writer as writer
import wtal.pipeline.new_videos.detect_new as detect_new

def die(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[1] == "unpublished":
    writer.StoreWriter.publish = die
else:
    detect_new.write_failures = die
main(sys.argv[2:])
"""


@pytest.mark.slow
def test_killed_it_goes_on_where_it_was(collection, tmp_path):
    call_ = ("detect", collection.run, collection.videos, "--workspace", tmp_path, "--out", tmp_path / "out")
    for moment in ("unpublished", "published"):
        command = [sys.executable, "-c", KILLED, moment, *map(str, call_)]
        assert subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=False).returncode == -9
    (store,) = (tmp_path / "new-videos/features").iterdir()
    before = FeatureStore.open(store).ids
    assert len(before) == 5
    assert "5 of 5 videos are already in" in call(*call_).stderr
    assert (tmp_path / "out/detections.json").read_bytes() == collection.detections.read_bytes()


def changed(identity, path, value):
    """Copy of an identity with another value at a path."""
    copy = json.loads(json.dumps(identity))
    place = copy
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return copy


def test_the_settings_come_from_the_identity(collection):
    run = Run.open(collection.run)
    config = config_of(run.features)
    assert (config.backbone, config.flow, config.streams, config.reader) == (
        "motion-pyramid", "dis:medium", ("rgb", "flow"), "pyav",
    )  # fmt: skip
    extractor, notes = same_extractor(run.features, Sources(), (), Machine())
    assert extractor.identity == run.features
    assert notes == []
    only = {**run.features, "weights": {"rgb": run.features["weights"]["rgb"]}, "flow": None}
    assert config_of(only).streams == ("rgb",)
    from_picture = {**run.features, "zero": "picture"}
    assert same_extractor(from_picture, Sources(), (), Machine())[0].identity == from_picture


def test_another_library_is_noted_and_other_numbers_are_refused(collection):
    features = Run.open(collection.run).features
    older = changed(features, ("flow", "opencv"), "4.0.0")
    _, notes = same_extractor(older, Sources(), (), Machine())
    assert len(notes) == 1
    assert "flow.opencv is" in notes[0]
    assert "4.0.0 for the model's features" in notes[0]
    for path, value in [
        (("weights", "rgb", "cells"), 7),
        (("flow", "parameters", "patch_size"), 4),
        (("size", "short_side"), 100),
    ]:
        with pytest.raises(WtalError, match=rf"cannot be made here: {path[0]}.*{path[-1]} is {value} there"):
            same_extractor(changed(features, path, value), Sources(), (), Machine())


def test_features_of_elsewhere_are_refused(collection):
    features = Run.open(collection.run).features
    with pytest.raises(UsageError, match="merged from several stores"):
        same_extractor({"backbone": "a+b", "merged": [], "weights": {}}, Sources(), (), Machine())
    with pytest.raises(UsageError, match="not extracted by wtal"):
        same_extractor({"backbone": "i3d", "layout": "npy-per-video"}, Sources(), (), Machine())
    with pytest.raises(UsageError, match="there is no backbone 'motoin'"):
        same_extractor({**features, "backbone": "motoin"}, Sources(), (), Machine())
    elsewhere = changed(features, ("flow", "implementation"), "slow")
    with pytest.raises(UsageError, match="has no implementation 'slow'"):
        same_extractor(elsewhere, Sources(), (), Machine())


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """Checkpoint of I3D's rgb stream, and identity and sources of a store from it."""
    torch = pytest.importorskip("torch")
    from wtal.extractors import create_backbone
    from wtal.extractors.execution.config import ExtractConfig
    from wtal.pipeline.extraction.extract import extract
    from wtal.pipeline.workspace import Workspace

    root = tmp_path_factory.mktemp("network")
    torch.save(create_backbone("i3d", "rgb", "random:3").state_dict(), root / "mine.pt")
    video = write_video(root / "clip.mp4", constant(25, 16))
    config = ExtractConfig(backbone="i3d", streams=("rgb",))
    made = extract([video], config, Workspace(root / "ws"), (f"rgb={root / 'mine.pt'}",))
    return root / "mine.pt", FeatureStore.open(made.store).identity, read_sources(made.store)


@pytest.mark.slow
def test_weights_are_looked_for_where_they_were_and_refused_when_others(network, tmp_path, monkeypatch):
    monkeypatch.setenv("WTAL_WORKSPACE", str(tmp_path))
    path, identity, sources = network
    assert sources.weights == {"rgb": str(path)}
    assert same_extractor(identity, sources, (), Machine())[0].identity == identity
    abroad = sources.for_others()
    assert abroad.weights == {"rgb": "mine.pt"}
    with pytest.raises(WeightsError, match=r"came from mine\.pt, which is not here; put mine\.pt into .*weights"):
        same_extractor(identity, abroad, (), Machine())
    assert same_extractor(identity, abroad, (f"rgb={path}",), Machine())[0].identity == identity
    (tmp_path / "weights").mkdir()
    shutil.copy(path, tmp_path / "weights/mine.pt")
    assert same_extractor(identity, abroad, (), Machine())[0].identity == identity
    with pytest.raises(WeightsError, match="its weights of rgb have sha256"):
        same_extractor(changed(identity, ("weights", "rgb", "weights", "sha256"), "0" * 64), sources, (), Machine())


def test_the_rule_auto_of_earlier_versions_is_pyav(collection):
    run = Run.open(collection.run)
    before = {
        **run.features,
        "reader": {"policy": "auto-1", "versions": {"decord": "0.6", **run.features["reader"]["versions"]}},
    }
    extractor, notes = same_extractor(before, Sources(), (), Machine())
    assert (extractor.identity, notes) == (run.features, [])


def test_random_weights_come_from_the_identity():
    from wtal.pipeline.new_videos.same_features import _weights

    identity = {"weights": {"rgb": {"weights": {"random": 7}}}, "reader": {"policy": "auto-1"}, "backbone": "i3d"}
    config = config_of({**identity, "flow": None, "fps": "25", "stride": 16, "tail": "pad", "dtype": "float32"})
    assert _weights(identity, config, Sources(), ()) == (("rgb", "random:7"),)


def test_a_model_has_no_path_of_this_machine(collection):
    model = model_of(Run.open(collection.run))
    sources = Sources("hf:/data/models/mae", {"rgb": "/data/w.pt", "flow": "imagenet:/data/v.pt"}).for_others()
    assert sources == Sources("hf:mae", {"rgb": "w.pt", "flow": "imagenet:v.pt"})
    assert replace(model.sources, backbone="") == Sources()


def test_the_settings_of_a_packed_model_are_those_of_its_run(collection, tmp_path):
    packed = call("pack", collection.run, tmp_path / "model.wtal").stdout.strip()
    listed = [call("detect", source, "--set", "help").stdout for source in (packed, collection.run)]
    assert listed[0] == listed[1] != call("detect", "--set", "help", "--workspace", tmp_path).stdout


def test_from_python_it_is_a_list_of_detections(collection, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    packed = call("pack", collection.run, tmp_path / "model.wtal").stdout.strip()
    for source in (packed, collection.run):
        model = wtal.load(source)
        assert model.classes == ("a", "b")
        detections = model.detect(collection.videos / f"{LAST}.mp4")
        assert [to_json(detection) for detection in detections] == collection.found(LAST)
    (tmp_path / "bad.mp4").write_text("no video")
    with pytest.raises(VideoError, match=r"bad\.mp4: not a video"):
        model.detect("bad.mp4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.mp4", "model.wtal"]


@pytest.mark.slow
def test_a_packed_model_gives_the_same_bytes_in_a_fresh_place(collection, tmp_path):
    """Search in another process and folder, without the workspace of the training."""
    shutil.copy(call("pack", collection.run, tmp_path / "model.wtal").stdout.strip(), tmp_path / "moved.wtal")
    command = ("-m", "wtal", "detect", tmp_path / "moved.wtal", collection.videos, "--json")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    environment.pop("WTAL_WORKSPACE", None)
    done = subprocess.run(
        [sys.executable, *map(str, command)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert (tmp_path / made["detections"]).read_bytes() == collection.detections.read_bytes()
