"""Damage to the files of a run: one line with the file and a remedy; a damaged log stops nothing."""

import json
from fractions import Fraction

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from wtal.cli import main
from wtal.data.files import write_json
from wtal.data.grid import SnippetGrid
from wtal.data.locks import Lock, locked
from wtal.data.store.writer import StoreWriter
from wtal.errors import WtalError
from wtal.models.training.log import TrainLog, read_log
from wtal.pipeline.detect import detect
from wtal.pipeline.recipe import Recipe
from wtal.pipeline.runs import Run
from wtal.pipeline.train import TrainInputs, train
from wtal.pipeline.workspace import Workspace


@pytest.fixture
def run(tmp_path):
    """Run of two steps with its activations and detections."""
    root, rng, database = Workspace(tmp_path), np.random.default_rng(0), {}
    writer = StoreWriter.open(root.features / "made-12x12@25-000000", {"backbone": "made"})
    for number in range(4):
        streams = {"rgb": rng.standard_normal((9, 5)).astype(np.float32)}
        writer.write(f"v{number}", SnippetGrid(Fraction(25), 108, Fraction(12), 12), streams, {"reader": "none"})
        segments = [{"label": ("run", "jump")[number % 2], "segment": [1, 2]}]
        database[f"v{number}"] = {"subset": "training" if number < 3 else "validation", "annotations": segments}
    annotations = write_json(root.annotations / "made.json", {"database": database})
    settings = {"head": {"name": "basnet", "width": 4, "filter_width": 4}, "train": {"steps": 2, "batch_size": 2}}
    (made,) = train(TrainInputs(writer.publish().path, annotations), Recipe.parse(settings), (0,), root)
    detect(made)
    return made


def refusal(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 1, f"{result.output}{result.exception!r}"
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("wtal: ")]
    return line


def edited(path, *keys, value):
    content = json.loads(path.read_text())
    holder = content
    for key in keys[:-1]:
        holder = holder[key]
    holder[keys[-1]] = value
    path.write_text(json.dumps(content))


def nested(levels):
    value = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (["classes"], "run"),
        (["classes"], ["run", "run"]),
        (["classes", 0], "\ud800"),
        (["seed"], "0"),
        (["features"], 3),
        (["features", "weights"], {"rgb": 1}),
        (["feature_dims", "rgb"], 0),
        (["feature_dims", "rgb"], 5.0),
        (["tuned_with_segments"], 1),
        (["recipe", "evaluate"], []),
        (["recipe", "head"], {"width": 4}),
        (["recipe", "train"], None),
        (["labels"], {"run": {"positive": "2"}}),
        (["label_check"], {"classes": {}}),
        (["ensemble"], {"by": "activations"}),
        (["ensemble"], 10**30),
        (["colour"], "red"),
        (["recipe", "localize", "smooth"], nested(300)),
        (["features", "flow"], nested(900)),
    ],
    ids=lambda value: str(value)[:40],
)
@pytest.mark.parametrize("command", ["show", "evaluate", "pack"])
def test_a_damaged_record_of_a_run_is_named(run, keys, value, command, tmp_path):
    path = run.folder / "run.json"
    edited(path, *keys, value=value)
    line = refusal(command, run.folder, *([tmp_path / "m.wtal"] if command == "pack" else []))
    assert line.startswith(f"wtal: {path} is damaged (")
    assert line.endswith("; restore it, train the run again, or upgrade wtal")


@pytest.mark.parametrize("text", ["", "{", "[" * 10**5, '{"seed": 1, "seed": 2}', '{"seed": NaN}', '{"seed": 1e400}'])
def test_what_is_no_json_of_ours_is_named(run, text):
    for path, folder in ((run.folder / "run.json", run.folder), (run.store().path / "index.json", run.store_folder())):
        path.write_text(text)
        assert f"{path} is damaged (" in refusal("show", folder)


@pytest.mark.parametrize(
    "text", ["", "[]", "\0\1", '{"step": 1, "step": 2}', '{"step": "1"}', '{"selection_score": NaN}', '{"colour": 1}']
)
@pytest.mark.parametrize("command", ["show", "detect", "evaluate", "export", "pack"])
def test_a_damaged_end_of_a_run_is_named(run, text, command, tmp_path):
    path = run.folder / "finished.json"
    path.write_text(text)
    more = {"pack": [tmp_path / "m.wtal"], "export": ["--to", "csv"]}.get(command, [])
    line = refusal(command, run.folder, *more)
    assert line.startswith(f"wtal: {path} is damaged (")
    assert line.endswith("; remove it, and repeat the command that made the run: it resumes from what is there")


def test_the_way_out_of_a_damaged_end_finishes_the_run(run):
    path, root = run.folder / "finished.json", Workspace(run.folder.parents[2])
    whole, inputs = path.read_bytes(), TrainInputs(run.store_folder(), run.annotations_file())
    path.write_text("")
    with pytest.raises(WtalError, match="is damaged"):
        train(inputs, run.recipe, (1, 0), root)
    assert not (run.folder.parent / "seed-1").exists()
    path.unlink()
    train(inputs, run.recipe, (0,), root)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("value", [None, "x", [], [1.0], [1.0, "x"], [1e308, 0.0]], ids=str)
def test_damaged_activations_are_named(run, value):
    path = run.activations_folder() / "index.json"
    edited(path, "videos", "v0", "info", "video_scores", value=value)
    line = refusal("detect", run.folder, "--device", "cpu")
    assert str(path) in line
    assert "be recomputed" in line


def test_activations_that_are_not_finite_are_refused(run):
    path = run.activations_folder() / "cas-00000.npy"
    content = bytearray(path.read_bytes())
    content[-4:] = np.float32(np.nan).tobytes()
    path.write_bytes(content)
    assert "are not finite" in refusal("detect", run.folder, "--device", "cpu")


def test_a_video_whose_grid_has_other_rows_is_named(run):
    path = run.store_folder() / "index.json"
    edited(path, "videos", "v0", "grid", "frames", value=1008)
    assert f"{path} is damaged (v0: a grid of 84 snippets and 9 rows)" in refusal("show", run.store_folder())


@pytest.mark.parametrize("place", [0.02, 0.3, 0.6, 0.9])
def test_a_flipped_bit_of_a_checkpoint_never_passes(run, place):
    (path,) = run.folder.glob("checkpoint-*.pt")
    whole = path.read_bytes()
    state = torch.load(path, weights_only=True)["head"]
    for folder in ("activations", "detections"):
        (run.folder / folder).rename(run.folder / f"old-{folder}")
    for bit in range(8):
        at = int(place * len(whole)) + bit
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
        result = CliRunner().invoke(main, ["pack", str(run.folder), str(run.folder / "m.wtal")])
        if result.exit_code == 0:  # padding
            same = torch.load(path, weights_only=True)["head"]
            assert all(torch.equal(value, same[key]) for key, value in state.items())
        else:
            assert result.exit_code == 1, repr(result.exception)
            assert result.stderr.startswith(f"wtal: {path} is damaged (")


@pytest.mark.parametrize(
    ("key", "value"),
    [("step", "2"), ("head", {}), ("head", {"x": 1}), ("scaler", {}), ("best", [1.0]), ("average", [])],
)
def test_a_checkpoint_of_another_content_is_named(run, key, value):
    (path,) = run.folder.glob("checkpoint-*.pt")
    torch.save({**torch.load(path, weights_only=True), key: value}, path)
    line = refusal("pack", run.folder, run.folder / "m.wtal")
    assert str(path if key != "head" or value else run.folder) in line
    assert line.endswith("; remove it to train again")


@pytest.mark.parametrize(
    "garbled", [b'{"step": 2, "los', b"\xff\xfe\n", b"[]\n", b'{"step": "2"}\n', b"\n", b"[" * 10**5 + b"\n", b"7\n"]
)
def test_a_garbled_line_of_the_log_stops_nothing(tmp_path, garbled):
    line = b'{"step": 1, "loss": 0.5, "seconds": 0.1}\n'
    (tmp_path / "log.jsonl").write_bytes(line + garbled)
    assert [entry["step"] for entry in read_log(tmp_path)] == [1]
    with TrainLog(tmp_path, 1) as log:
        log.write(2, {"loss": 0.25}, None, 0.0)
    first, second = (tmp_path / "log.jsonl").read_bytes().splitlines(keepends=True)
    assert first == line
    assert json.loads(second)["step"] == 2


def test_a_lock_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / ".lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="a lock must not be a link"), locked(tmp_path / ".lock"):
        pass
    with pytest.raises(OSError, match="a lock must not be a link"):
        Lock.acquire(tmp_path / ".lock", wait=False)
    assert not (tmp_path / "elsewhere").exists()


def test_a_run_is_what_it_was(run):
    assert Run.open(run.folder).to_json() == run.to_json()
