"""Data of a run on its videos: durations, curves, annotations, failures, and the folder of its verdicts."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.support.stores import IDENTITY, add, grid_of
from wtal.data.detections import write_detections
from wtal.data.segments import Annotation, Detection
from wtal.data.store.index import write_failures
from wtal.data.store.writer import StoreWriter
from wtal.pipeline.recipe import Recipe
from wtal.pipeline.runs import Run
from wtal.pipeline.viewing.gather import gather
from wtal.pipeline.viewing.write_report import write_report


@pytest.fixture
def run(tmp_path):
    """Run of two classes in a workspace, with activations of one of its two videos."""
    features = StoreWriter.open(tmp_path / "features" / "store", IDENTITY)
    for video in ("short", "zebra"):
        add(features, video)
    store = features.publish()
    write_failures(store.path, {"broken": "the file is empty (0 bytes)"})
    truth = {"subset": "a", "duration": 2, "annotations": [{"label": "run", "segment": [0.2, 1]}]}
    (tmp_path / "truth.json").write_text(json.dumps({"database": {"zebra": truth}}))
    localize = {"activation": "sigmoid", "smooth": 0.0}
    record = {
        "recipe": Recipe.parse({"head": {"name": "basnet"}, "localize": localize}).plain(),
        "seed": 0,
        "store": "../../../features/store",
        "annotations": "../../../truth.json",
        "features": {},
        "feature_dims": {},
        "classes": ["jump", "run"],
        "tuned_with_segments": False,
    }
    run = Run.write(tmp_path / "runs" / "name" / "seed-0", record)
    detections = {"short": [], "zebra": [Detection(0.1, 0.9, "run", 0.5)]}
    write_detections(detections, run.detections_file(), origin={"label_check": {"run": "weak"}})
    activations = StoreWriter.open(run.activations_folder(), {"run": "x"})
    arrays = {
        "cas": np.tile(np.array([-50, 50, 0], np.float32), (1300, 1)),
        "attention": np.linspace(0, 1, 1300, dtype=np.float32)[:, None],
    }
    activations.write("zebra", grid_of(1300), arrays, {"video_scores": [0.0, 1.0]}, "x")
    activations.publish()
    return run


def test_a_run_tells_all_that_it_knows(run, tmp_path):
    collection = gather(run.folder.parent)
    short, zebra = collection.videos
    assert zebra.duration == run.store().grid("zebra").duration
    assert (short.annotations, zebra.annotations) == ((), (Annotation(0.2, 1.0, "run"),))
    assert (short.labels, zebra.labels) == (None, ("run",))
    assert collection.failures == {"broken": "the file is empty (0 bytes)"}
    assert collection.checked == {"run": "weak"}
    assert collection.folder == run.folder / "report"
    assert collection.verdicts == tmp_path / "verdicts.json"  # a new training makes a new run, and the same review
    assert gather(run.detections_file()).folder == run.folder / "report"


def test_a_run_named_from_its_parent_has_the_same_title_page_and_verdicts(run, monkeypatch):
    whole = gather(run.folder)
    monkeypatch.chdir(run.folder.parent)
    named = gather(Path(run.folder.name))
    assert (named.title, named.folder, named.verdicts) == (whole.title, whole.folder, whole.verdicts)


def test_curves_are_those_of_localization_and_of_bounded_length(run):
    short, zebra = gather(run.folder).videos
    assert short.curves is None
    curves = zebra.curves
    assert curves.classes["jump"].max() < 0.01 < 0.99 < curves.classes["run"].min()
    assert len(curves.attention) == 434  # the highest of three snippets each
    assert curves.attention[0] == pytest.approx(2 / 1299)
    assert curves.step == pytest.approx(3 * float(grid_of(1300).period))


def test_a_run_whose_store_and_annotations_have_gone_is_shown(run, tmp_path):
    (tmp_path / "truth.json").unlink()
    (tmp_path / "features" / "store" / "index.json").unlink()
    collection = gather(run.folder)
    assert [video.duration for video in collection.videos] == [None, None]
    assert collection.videos[1].curves is not None
    assert write_report(collection).page.is_file()
