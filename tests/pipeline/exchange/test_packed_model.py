"""Packed models: one file, the same output, and one line for each damaged, newer or foreign file."""

import io
import json
import zipfile
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from click.testing import CliRunner

from tests.support.planted import planted_videos
from wtal.cli import main
from wtal.data.files import write_json
from wtal.data.grid import SnippetGrid
from wtal.data.store.writer import StoreWriter
from wtal.errors import FormatError, UsageError
from wtal.eval.label_check import check_labels
from wtal.pipeline.exchange.packed_model import pack_model, read_model
from wtal.pipeline.new_videos.model import Model, ModelRecord, model_of
from wtal.pipeline.recipe import Recipe
from wtal.pipeline.runs import Run
from wtal.pipeline.train import TrainInputs, train
from wtal.pipeline.workspace import Workspace


def call(*arguments, code=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, f"{result.output}{result.exception!r}"
    return result


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run of a few steps on planted features."""
    root = Workspace(tmp_path_factory.mktemp("packed"))
    writer = StoreWriter.open(root.features / "planted-12x12@25-000000", {"backbone": "planted"})
    database = {}
    for video in planted_videos(6, seed=0):
        grid = SnippetGrid(Fraction(25), 12 * len(video.streams["rgb"]), Fraction(12), 12)
        writer.write(video.id, grid, video.streams, {"reader": "none"})
        labels = [{"label": annotation.label, "segment": [0, 1]} for annotation in video.annotations]
        database[video.id] = {"subset": "training", "annotations": labels}
    annotations = write_json(root.annotations / "planted.json", {"database": database})
    settings = {"head": {"name": "basnet", "width": 8, "filter_width": 8}, "train": {"steps": 2, "batch_size": 4}}
    (made,) = train(TrainInputs(writer.publish().path, annotations), Recipe.parse(settings), (0,), root)
    return made


@pytest.fixture(scope="module")
def packed(run, tmp_path_factory):
    return pack_model(model_of(run), tmp_path_factory.mktemp("models") / "model.wtal")


def equal(first: Model, second: Model) -> None:
    assert first.record == second.record
    for name in ("parameters", "shift", "gain"):
        left, right = getattr(first, name), getattr(second, name)
        assert sorted(left) == sorted(right)
        for key, array in left.items():
            assert array.dtype == right[key].dtype
            np.testing.assert_array_equal(array, right[key])
    assert len(first.members) == len(second.members)
    for left, right in zip(first.members, second.members, strict=True):
        equal(left, right)


def test_a_model_comes_back_as_it_was(run, packed, tmp_path):
    model = model_of(run)
    assert model.parameters
    equal(read_model(packed), model)
    assert read_model(packed).digest == model.digest
    again = pack_model(read_model(packed), tmp_path / "again.wtal")
    assert again.read_bytes() == packed.read_bytes()


def test_the_command_packs_and_shows(run, packed, tmp_path):
    made = call("pack", run.folder.parent, tmp_path / "model.wtal").stdout.strip()
    assert (tmp_path / "model.wtal").read_bytes() == packed.read_bytes()
    answer = json.loads(call("pack", run.folder, tmp_path / "model.wtal", "--json").stdout)
    assert answer == {"model": made, "bytes": packed.stat().st_size}
    shown = call("show", packed).stdout
    assert "basnet" in shown
    assert ", ".join(run.classes) in shown
    assert "the labels were not checked" in shown
    described = json.loads(call("show", packed, "--json").stdout)
    assert described["kind"] == "packed model"
    assert described["model"]["parameters"] == sum(array.size for array in model_of(run).parameters.values())


def test_what_a_check_of_labels_said_goes_along(run, tmp_path):
    rng, folds = np.random.default_rng(0), np.arange(48) % 3
    shown = (rng.random((48, 1)) < 0.4).astype(np.float64)
    check = check_labels(["dive"], shown, shown, folds).to_json()
    content = {**run.to_json(), "label_check": check}
    checked = pack_model(model_of(Run(run.folder, content)), tmp_path / "checked.wtal")
    assert read_model(checked).record.label_check == check
    assert "dive: learned (AUC 1.00" in call("show", checked).stdout


def test_numbers_of_all_kinds_come_back(run, tmp_path):
    model = model_of(run)
    odd = {
        "number": np.array(7, np.int64),
        "empty": np.zeros((0, 3), np.float32),
        "flag": np.array([True, False]),
        "half": np.array([[1.5]], np.float16),
        "transposed": np.arange(6.0, dtype=np.float32).reshape(2, 3).T,
    }
    path = pack_model(replace(model, parameters=odd), tmp_path / "odd.wtal")
    equal(read_model(path), replace(model, parameters=odd))


def test_members_keep_their_order_and_weights(run, tmp_path):
    head = model_of(run)
    record = head.record.model_copy(
        update={"by": "detections", "weights": (0.25, 0.75), "scales": (2.0, 3.0), "feature_dims": {}}
    )
    joint = Model(record, head.recipe, members=(head, replace(head, record=head.record.model_copy(update={"seed": 9}))))
    opened = read_model(pack_model(joint, tmp_path / "joint.wtal"))
    equal(opened, joint)
    assert [member.record.seed for member in opened.members] == [0, 9]
    assert len(list(opened.heads())) == 2


def refused(path):
    """Message about a file: one line that names it."""
    with pytest.raises(FormatError) as error:
        read_model(path)
    line = str(error.value)
    assert str(path) in line
    assert "\n" not in line
    return line


def entries(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewritten(path, contents, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return path


def edited(packed, path, change):
    """Model with another model.json."""
    contents = entries(packed)
    description = json.loads(contents["model.json"])
    change(description)
    return rewritten(path, {**contents, "model.json": json.dumps(description)})


def test_a_newer_file_says_so(packed, tmp_path):
    path = edited(packed, tmp_path / "m.wtal", lambda d: d.update(version=2, wtal="9.0", later="something"))
    line = refused(path)
    assert "a packed model of format 2, by wtal 9.0" in line
    assert "upgrade wtal" in line
    assert call("detect", path, path, code=1).stderr.strip() == f"wtal: {line}"
    assert call("show", path, code=1).stderr.strip() == f"wtal: {line}"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.update(format="other"), "of another kind"),
        (lambda d: d.update(version=0), "its format is 0"),
        (lambda d: d.update(later=1), "unknown key 'later'"),
        (lambda d: d["model"]["record"].pop("classes"), "classes"),
        (lambda d: d["model"]["record"].update(weights=[1.0]), "do not match"),
        (lambda d: d["model"]["record"].update(by="activations"), "do not match"),
        (lambda d: d["model"]["record"]["recipe"].update(extra=1), "unknown key 'extra'"),
        (lambda d: d["model"]["parameters"].update(more="9999.npy"), "'9999.npy' is missing"),
        (lambda d: d["model"]["parameters"].update({"\ud800": "0000.npy"}), r"an unpaired surrogate \ud800"),
        (lambda d: d["entries"].pop("0000.npy"), "0000.npy is listed but missing"),
        (lambda d: d["entries"].update({"0000.npy": "0" * 64}), "0000.npy has changed since it was packed"),
        (lambda d: d["entries"].update({"../../x.npy": "0" * 64}), "x.npy is listed but missing"),
    ],
)
def test_descriptions_that_do_not_fit_are_refused(packed, tmp_path, change, said):
    assert said in refused(edited(packed, tmp_path / "m.wtal", change))


def test_other_archives_are_refused(packed, tmp_path):
    import torch

    contents = entries(packed)
    torch.save({"a": torch.zeros(2)}, tmp_path / "torch.wtal")
    assert "without model.json" in refused(tmp_path / "torch.wtal")
    assert "is compressed" in refused(rewritten(tmp_path / "z.wtal", contents, zipfile.ZIP_DEFLATED))
    assert "x.npy is listed but missing" in refused(rewritten(tmp_path / "m.wtal", {**contents, "x.npy": b""}))
    for name, content in (("text", b"no archive"), ("empty", b"")):
        (tmp_path / f"{name}.wtal").write_bytes(content)
        refused(tmp_path / f"{name}.wtal")
    archive = zipfile.ZipFile(rewritten(tmp_path / "twice.wtal", contents), "a")
    with archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("0000.npy", b"")
    assert "twice" in refused(tmp_path / "twice.wtal")


def npy(header):
    text = header.encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    "content",
    [
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 1000000), }"),
        npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }") + b"cos\nsystem\n.",
        npy("{'descr': '<f4', 'fortran_order': True, 'shape': (1,), }") + bytes(4),
        npy("__import__('os').abort()"),
        b"\x93NUMPY\x03\x00",
        b"",
    ],
    ids=["absurd size", "pickle", "fortran", "code", "version", "empty"],
)
def test_arrays_are_not_trusted(packed, tmp_path, content):
    import hashlib

    contents = {**entries(packed), "0000.npy": content}
    description = json.loads(contents["model.json"])
    description["entries"]["0000.npy"] = hashlib.sha256(content).hexdigest()
    refused(rewritten(tmp_path / "m.wtal", {**contents, "model.json": json.dumps(description)}))


def test_any_changed_byte_is_refused_or_changes_nothing(packed, tmp_path):
    content, whole = packed.read_bytes(), read_model(packed).digest
    path = tmp_path / "m.wtal"
    rng = np.random.default_rng(0)
    tail = len(content) - 1500
    places = {*rng.integers(0, len(content), 150).tolist(), *rng.integers(tail, len(content), 150).tolist()}
    refusals = []
    for place in sorted(places):
        damaged = bytearray(content)
        damaged[place] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            assert read_model(path).digest == whole, place
        except FormatError as error:
            refusals.append(str(error))
    assert len(refusals) > 100
    assert [line for line in refusals if "\n" in line or str(path) not in line] == []


def test_a_cut_file_is_refused(packed, tmp_path):
    content = packed.read_bytes()
    for length in (0, 1, 100, len(content) // 2, len(content) - 1):
        (tmp_path / "m.wtal").write_bytes(content[:length])
        refused(tmp_path / "m.wtal")


def test_nothing_of_a_pickle_is_inside(packed):
    for name, content in entries(packed).items():
        if name.endswith(".npy"):
            assert np.load(io.BytesIO(content), allow_pickle=False).dtype.kind in "biuf"
        else:
            assert json.loads(content)["format"] == "wtal model"


def test_names_and_states_that_cannot_be_packed(run, tmp_path):
    with pytest.raises(UsageError, match=r"must end in \.wtal"):
        pack_model(model_of(run), tmp_path / "model.zip")
    assert "is not a run" in call("pack", tmp_path, tmp_path / "m.wtal", code=2).stderr


def test_features_of_nowhere_are_refused_when_videos_come(packed, tmp_path):
    (tmp_path / "v.mp4").touch()
    line = call("detect", packed, tmp_path / "v.mp4", "--workspace", tmp_path, code=2).stderr.strip()
    assert line.startswith("wtal: the model's features (planted) were not extracted by wtal from videos")


def test_a_record_knows_its_defaults():
    record = ModelRecord.parse(
        {
            "classes": ["a"], "recipe": Recipe().plain(), "seed": 0, "features": {}, "feature_dims": {"rgb": 2},
            "sources": {}, "tuned_with_segments": False,
        }
    )  # fmt: skip
    assert (record.by, record.label_check, record.weights) == (None, None, ())
