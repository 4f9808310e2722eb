"""Two processes with the same work, and remains of killed ones: waited for, resumed, recognized as finished."""

import shutil
from contextlib import contextmanager

import numpy as np
import pytest

from tests.support.bases import answer, call, named
from tests.support.disks import die, killed, waiting
from tests.support.stores import content
from wtal.data.locks import Lock, locked
from wtal.data.store import FeatureStore
from wtal.data.store.part import key_of
from wtal.data.store.writer import StoreWriter, has_parts
from wtal.errors import UsageError, WtalError
from wtal.pipeline.detect import detect
from wtal.pipeline.ensembles.ensemble import ensemble
from wtal.pipeline.exchange.export_features import export_features
from wtal.pipeline.exchange.import_features import import_features
from wtal.pipeline.exchange.merge import merge
from wtal.pipeline.new_videos.open_model import open_model
from wtal.pipeline.progress import Reporter, Task
from wtal.pipeline.runs import open_run
from wtal.pipeline.workspace import Workspace

LAYOUTS = ["npy-per-video", "wtalc-joint"]


class Notes(Reporter):
    """Reporter that collects lines, with a call for each video."""

    def __init__(self, on_video=lambda: None):
        self.lines, self.on_video = [], on_video

    @contextmanager
    def task(self, name, total, unit):
        task = Task()
        task.advance = lambda count=1, note="": self.on_video()
        yield task

    def say(self, text):
        self.lines.append(text)


@pytest.fixture
def place(base, tmp_path, monkeypatch):
    """Copy of the base as the working directory."""
    shutil.copytree(base, tmp_path / "place")
    monkeypatch.chdir(tmp_path / "place")
    return tmp_path / "place"


@pytest.mark.parametrize("kind", ["merge", "import"])
def test_two_that_fill_one_store_wait_for_each_other(kind, place, monkeypatch):
    workspace = Workspace(place / "new")

    def fill():
        if kind == "merge":
            return merge([place / named(place, "RGB"), place / named(place, "FLOW")], workspace)
        return import_features(place / "exported-rgb", None, workspace).store

    target = fill()
    whole, first = content(target), FeatureStore.open(target)
    video = first.ids[2]
    features, mark = first[video], first.fingerprint(video)
    streams = {name: values.copy() for name, values in features.streams.items()}
    shutil.rmtree(target)
    writer = StoreWriter.open(target, first.identity)
    claim = writer.claim(video)
    assert claim.__enter__()
    with waiting(monkeypatch, fill, lambda lock: lock.endswith(f"{key_of(video)}.lock")) as returned:
        assert returned == []
        writer.write(video, features.grid, streams, features.info, mark)
        claim.__exit__(None, None, None)
    assert content(target) == whole


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_export_waits_for_another_one_and_finds_it_done(layout, place, monkeypatch):
    store, out, notes = place / "workspace/features/planted", place / "sub/out", Notes()
    export_features(store, layout, place / "made")
    whole = content(place / "made")
    (place / "sub").mkdir()
    lock = Lock.acquire(place / "sub/.out.lock", wait=True)
    second = waiting(
        monkeypatch,
        lambda: export_features(store, layout, out, reporter=notes),
        lambda path: path.endswith(".out.lock"),
    )
    with second as returned:
        (place / "made").rename(out)
        lock.release()
    assert returned == [out]
    assert notes.lines[-1] == f"{out} exists already"
    assert content(out) == whole
    assert [path.name for path in (place / "sub").iterdir()] == ["out"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_killed_export_is_made_anew(layout, place):
    store, out = place / "workspace/features/planted", place / "out"
    export_features(store, layout, place / "made")
    left = iter([lambda: None, lambda: None, die])
    killed(lambda: export_features(store, layout, out, reporter=Notes(lambda: next(left)())))
    assert {".out.tmp", ".out.lock"} <= {path.name for path in place.iterdir()}
    assert export_features(store, layout, out) == out
    assert content(out) == content(place / "made")
    assert not {".out.tmp", ".out.lock"} & {path.name for path in place.iterdir()}


def test_an_export_of_other_rows_is_no_work_that_is_done(place):
    store, out = place / "workspace/features/planted", place / "out"
    export_features(store, "npy-per-video", out)
    before = content(out)
    assert export_features(store, "npy-per-video", out) == out
    opened = FeatureStore.open(store)
    videos = [opened[video] for video in opened]
    writer = StoreWriter.open(place / "changed", opened.identity)
    for video in videos:
        streams = {**video.streams, "rgb": video.streams["rgb"] + np.float32(video is videos[-1])}
        writer.write(video.id, video.grid, streams, video.info)
    shutil.rmtree(store)
    writer.publish().path.rename(store)
    with pytest.raises(UsageError, match="already holds something else"):
        export_features(store, "npy-per-video", out)
    with pytest.raises(UsageError, match="already holds"):
        export_features(store, "npy-per-video", place / "videos")
    assert content(out) == before


def test_what_a_killed_publication_left_in_a_run_is_removed(place, monkeypatch):
    folders = [place / named(place, name) for name in ("RUN0", "RUN1")]
    run = open_run(folders[1])
    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "_clean", die)
        killed(lambda: detect(run))
    assert has_parts(run.activations_folder())
    assert len(FeatureStore.open(run.activations_folder())) == 7
    ensemble(folders, Workspace(place / "workspace"))
    assert not has_parts(run.activations_folder())


def test_a_killed_submission_leaves_nothing_for_the_next_one(place, monkeypatch):
    run, folder = named(place, "RUN0"), place / "workspace/submissions"
    with monkeypatch.context() as patch:
        patch.setattr("wtal.pipeline.exchange.submit.check_submission", die)
        killed(lambda: call("submit", run, "--challenge", "hacs"))
    assert [path.suffix for path in folder.iterdir()] == [".tmp"]
    file = answer("submit", run, "--challenge", "hacs")
    assert [str(path.relative_to(place)) for path in folder.iterdir()] == [file]


def test_who_wants_a_run_that_is_being_trained_is_told(place):
    folder = place / named(place, "RUN1")
    shutil.rmtree(place / named(place, "RUN0"))
    (folder / "finished.json").unlink()
    with locked(folder / ".lock"):
        for command in (["detect"], ["submit", "--challenge", "hacs"]):
            refused = call(*command)
            assert refused.exit_code == 2
            assert f"{folder.relative_to(place)} is still being trained; wait for it" in refused.stderr
        with pytest.raises(WtalError, match="is still being trained; run again when it has finished"):
            open_model(folder)
    assert "is only partly trained; train it again" in call("detect").stderr
    refused = call("detect", "workspace/runs/nothing")
    assert refused.exit_code == 2
    assert "nothing does not exist; pass a run's folder; if its training has just started, wait" in refused.stderr


def test_detection_waits_for_the_training_of_its_run_and_says_so(place):
    run, lines = open_run(place / named(place, "RUN1")), []
    training = locked(run.folder / ".lock")
    training.__enter__()

    class Releasing(Reporter):
        def say(self, text):
            lines.append(text)
            training.__exit__(None, None, None)

    assert detect(run, reporter=Releasing()).is_file()
    assert lines == [f"another process is training {run.folder} or detecting in it; waiting"]
