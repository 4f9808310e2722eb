"""Weights: downloaded or found, checked, read without running code, fitted strictly."""

import contextlib
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.checkpoints import STATE, published, refusal, same, saved
from wtal.errors import UsageError, WeightsError
from wtal.extractors.backbones.i3d import WEIGHTS
from wtal.extractors.weights import (
    load_strict,
    load_weights,
    published_as,
    random_seed,
    randomise,
    weights_folder,
)
from wtal.extractors.weights.checkpoint import _SAFETENSORS_TYPES, read_checkpoint
from wtal.extractors.weights.published import state_digest


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module.backbone."])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model_state"])
def test_paths_and_mappings_with_any_wrapper_are_the_same(tmp_path, prefix, wrapper):
    value = {prefix + key: tensor for key, tensor in STATE.items()}
    value = {wrapper: value, "epoch": 3} if wrapper else value
    identity = {"sha256": state_digest(STATE)}
    path = saved(tmp_path / "a.pt", value)
    for source in (path, str(path), value):
        state, found = load_weights(source, {}, "rgb")
        assert same(state)
        assert found == identity


def test_old_file_formats_are_read(tmp_path):
    assert same(read_checkpoint(saved(tmp_path / "old.pt", _use_new_zipfile_serialization=False)))


def test_arrays_of_numpy_are_read_and_objects_are_not(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, **{"Attention/dense/kernel": np.arange(6.0, dtype=np.float32).reshape(2, 3)})
    state = read_checkpoint(path)
    assert torch.equal(state["Attention/dense/kernel"], torch.arange(6.0).reshape(2, 3))
    np.savez(path, a=np.array([{}], dtype=object))
    with pytest.raises(WeightsError, match="truncated, damaged, or not a checkpoint"):
        read_checkpoint(path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(WeightsError, match="truncated, damaged, or not a checkpoint"):
        read_checkpoint(path)


def write_safetensors(path, tensors):
    types = {kind: name for name, kind in _SAFETENSORS_TYPES.items()}
    header, values = {"__metadata__": {"format": "pt"}}, b""
    for key, tensor in tensors.items():
        data = tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
        ends = [len(values), len(values) + len(data)]
        header[key] = {"dtype": types[tensor.dtype], "shape": list(tensor.shape), "data_offsets": ends}
        values += data
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + values)
    return path


@pytest.mark.parametrize("kind", _SAFETENSORS_TYPES.values(), ids=str)
def test_safetensors_are_read(tmp_path, kind):
    tensors = {**STATE, "other": torch.tensor([[0], [1]]).to(kind), "count": torch.tensor(7)}
    state = read_checkpoint(write_safetensors(tmp_path / "a.safetensors", tensors))
    for key, tensor in tensors.items():
        assert state[key].dtype == tensor.dtype
        assert state[key].shape == tensor.shape
        assert torch.equal(*(found.reshape(-1).view(torch.uint8) for found in (state[key], tensor)))
    assert len(load_weights(state, {}, "rgb")[1]["sha256"]) == 64


def test_safetensors_of_a_type_to_come_are_named(tmp_path):
    path = write_safetensors(tmp_path / "a.safetensors", STATE)
    path.write_bytes(path.read_bytes().replace(b'"F32"', b'"F4x"', 1))
    assert "holds 'conv.weight' of type F4x, which is not supported" in refusal(path)


def test_safetensors_with_more_than_they_say_are_refused(tmp_path):
    path = write_safetensors(tmp_path / "a.safetensors", STATE)
    path.write_bytes(path.read_bytes() + b"\0\0\0\0")
    assert "damaged" in refusal(path)


def test_the_digest_depends_on_names_shapes_types_and_values():
    variants = [
        STATE,
        {**STATE, "conv.bias": torch.tensor([0.5, -1.5])},
        {**STATE, "conv.bias": torch.tensor([[0.5], [-1.0]])},
        {**STATE, "conv.bias": torch.tensor([0.5, -1.0], dtype=torch.float64)},
        {"conv.weight": STATE["conv.weight"], "bias": STATE["conv.bias"]},
    ]
    assert len({state_digest(state) for state in variants}) == len(variants)
    assert state_digest(dict(reversed(STATE.items()))) == state_digest(STATE)
    assert state_digest({"a": STATE["conv.weight"].mT}) == state_digest({"a": STATE["conv.weight"].mT.contiguous()})


def file_of(path, layout):
    """Small file in one of the supported layouts."""
    if layout == "safetensors":
        return write_safetensors(path.with_suffix(".safetensors"), STATE)
    if layout == "npz":
        np.savez(path.with_suffix(".npz"), **{key: value.numpy() for key, value in STATE.items()})
        return path.with_suffix(".npz")
    return saved(path.with_suffix(".pt"), _use_new_zipfile_serialization=layout == "zip")


@pytest.mark.parametrize("layout", ["zip", "legacy", "npz", "safetensors"])
def test_files_that_were_cut_short_anywhere_are_refused(tmp_path, layout):
    path = file_of(tmp_path / "a", layout)
    whole = path.read_bytes()
    assert same(read_checkpoint(path))
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsError, match=r"is truncated, damaged, or not a checkpoint; fetch it again$"):
            read_checkpoint(path)


@pytest.mark.parametrize("layout", ["zip", "legacy", "npz", "safetensors"])
def test_files_with_a_changed_byte_are_read_or_refused(tmp_path, layout):
    path = file_of(tmp_path / "a", layout)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= int(rng.integers(1, 256))
        path.write_bytes(changed)
        with contextlib.suppress(WeightsError):
            read_checkpoint(path)


def test_what_is_no_file_of_any_layout_is_refused(tmp_path):
    for content in (b"hello world", b"\0" * 1000, bytes(range(256)) * 4):
        for suffix in (".pt", ".npz", ".safetensors"):
            path = tmp_path / f"a{suffix}"
            path.write_bytes(content)
            assert "truncated, damaged, or not a checkpoint" in refusal(path)


def test_names_that_no_file_can_have_are_refused():
    for name in ("x" * 300, f"{'x' * 300}.pt", "a\0b.pt"):
        refusal(name)
        refusal(Path(name))
    assert published_as("x" * 300 + ".pt", {}, "rgb") is None


def test_tensors_that_are_not_plain_are_named(tmp_path):
    others = (torch.eye(2).to_sparse(), torch.empty(2, device="meta"))
    for other in others:
        assert "tensor under 'odd', wanted plain ones" in refusal({**STATE, "odd": other})
    assert "tensor under 'odd'" in refusal(saved(tmp_path / "a.pt", {**STATE, "odd": others[0]}))
    wave = torch.tensor([1 + 2j])
    assert state_digest({"a": wave.conj()}) == state_digest({"a": wave.conj().resolve_conj()})


@pytest.mark.parametrize("rival", ["model_ema_state", "state_dict", "ema"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_beside_weights_are_refused(rival, prefix):
    """Refuse a file with two sets of weights, the last step's and their average."""
    found = {"model_state": STATE, rival: {prefix + key: value + 1 for key, value in STATE.items()}}
    message = refusal(found)
    assert "holds weights under" in message
    assert rival in message
    assert "model_state" in message
    beside = {"model_state": STATE, "optimizer": {"state": {0: STATE}}, "best": torch.zeros(1), "other": {"x": 1}}
    assert same(load_weights(beside, {}, "rgb")[0])


def test_what_is_no_checkpoint_is_named(tmp_path):
    assert "does not exist; pass a checkpoint" in refusal(tmp_path / "absent.pt")
    assert refusal(tmp_path) == f"{tmp_path}: wanted a checkpoint, got an empty folder"
    path = tmp_path / "a.pt"
    for content, words in (
        (b"", "is empty"),
        (b"\n<!DOCTYPE html><html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
    ):
        path.write_bytes(content)
        assert words in refusal(path)


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("truth.json", b'{"database": {}}', "annotations"),
        ("found.json", b'{"results": {}}', "detections"),
        ("labels.csv", b"video,label\na,run\n", "a table of labels"),
        ("own.toml", b"[train]\n", "a recipe"),
        ("clip.mp4", b"\0\0\0\x20ftyp", "a video"),
        ("one.wtal", b"PK\3\4\0", "a packed model"),
        ("array.npy", b"\x93NUMPY\1\0", "a numpy array"),
    ],
)
def test_a_file_of_another_kind_is_no_damaged_checkpoint(name, content, kind, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=f"{name}: wanted a checkpoint, got {kind}$"):
        load_weights(tmp_path / name, {}, "rgb")


@pytest.mark.parametrize(
    ("source", "near"),
    [("rgb_imagenett", "rgb_imagenet"), ("randm:1", "random:SEED"), ("flow_imagenet", "rgb_imagenet")],
)
def test_a_misspelt_name_is_a_wrong_call(source, near):
    with pytest.raises(UsageError, match=f"did you mean '{near}'"):
        load_weights(source, WEIGHTS, "rgb")


def test_other_things_than_tensors_are_refused(tmp_path):
    assert "holds a list" in refusal(saved(tmp_path / "a.pt", [1, 2]))
    assert "holds a Tensor, wanted a mapping" in refusal(saved(tmp_path / "a.pt", torch.zeros(2)))
    assert "holds a int under 'epoch'" in refusal(saved(tmp_path / "a.pt", {**STATE, "epoch": 3}))
    assert "holds no tensors" in refusal(saved(tmp_path / "a.pt", {}))
    assert "'a' twice" in refusal({"a": torch.zeros(1), "module.a": torch.zeros(1)})


class Code:
    def __reduce__(self):
        return exec, ("raise SystemExit('code of a checkpoint was run')",)


def test_code_in_a_file_is_not_run(tmp_path):
    message = refusal(saved(tmp_path / "a.pt", {**STATE, "x": Code()}))
    assert "holds exec besides tensors" in message
    assert "torch.save(state_dict, ..)" in message
    old = saved(tmp_path / "old.pt", {**STATE, "x": Code()}, _use_new_zipfile_serialization=False)
    assert "holds exec besides tensors" in refusal(old)
    (tmp_path / "bare.bin").write_bytes(pickle.dumps(Code(), protocol=2))
    assert "holds exec besides tensors" in refusal(tmp_path / "bare.bin")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_plain_pickle_is_refused_with_the_way_to_convert_it(tmp_path, protocol):
    path = tmp_path / "model.pkl"
    for found in ({"a": np.zeros((300, 300))}, {"a": 1}):
        path.write_bytes(pickle.dumps(found, protocol))
        with pytest.raises(WeightsError, match=r"only its tensors with pickle\.load\(..\) and torch\.save"):
            read_checkpoint(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_later_pickle_protocol_is_refused_with_the_way_to_convert_it(tmp_path, zipped):
    path = saved(tmp_path / "a.pt", STATE, pickle_protocol=4, _use_new_zipfile_serialization=zipped)
    assert "later pickle protocol" in refusal(path)
    assert "torch.load(.., weights_only=False)" in refusal(path)


def test_names_are_looked_up(tmp_path):
    available = {"small_rgb": published("http://127.0.0.1:9/small.pt"), "small_flow": published("x/y", stream="flow")}
    saved(tmp_path / "small.pt")
    for source in ("small_rgb", None):
        assert same(load_weights(source, available, "rgb", tmp_path)[0])
    assert "did you mean 'small_rgb'" in refusal("smal_rgb", available)
    assert "are for stream rgb, wanted stream flow; " in refusal("small_rgb", available, "flow")
    assert "no published weights for stream rgb" in refusal(None, {})
    assert "nowhere.pt does not exist" in refusal("nowhere.pt", available)


def test_weights_without_a_hash_say_why():
    with pytest.raises(ValueError, match="need sha256, git_blob, or the reason"):
        published("x/a.pt", unchecked="")


def test_the_folder_follows_the_workspace(monkeypatch, tmp_path):
    monkeypatch.setenv("WTAL_WORKSPACE", str(tmp_path))
    assert weights_folder() == tmp_path / "weights"
    monkeypatch.delenv("WTAL_WORKSPACE")
    assert str(weights_folder()) == "workspace/weights"


def model():
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def test_every_key_is_used():
    state = {key: torch.rand_like(value) for key, value in model().state_dict().items() if value.ndim}
    fitted = model()
    load_strict(fitted, state, "test")
    assert all(torch.equal(fitted.state_dict()[key], value) for key, value in state.items())


def test_keys_that_do_not_fit_are_named():
    state = {**model().state_dict(), "0.bias": torch.zeros(4), **{f"more.{i}": torch.zeros(1) for i in range(7)}}
    del state["0.weight"]
    with pytest.raises(WeightsError) as caught:
        load_strict(model(), state, "test")
    assert str(caught.value) == (
        "test: the keys do not fit: 1 missing (0.weight); "
        "7 unknown (more.0, more.1, more.2, more.3, more.4 and 2 more); "
        "1 other shape (0.bias [4], wanted [3])"
    )


def test_random_weights_depend_on_the_seed_alone():
    first, second, third = model(), model(), model()
    assert randomise(first, 3) == randomise(second, 3) == {"random": 3}
    randomise(third, 4)
    assert all(torch.equal(value, second.state_dict()[key]) for key, value in first.state_dict().items())
    assert not torch.equal(first[0].weight, third[0].weight)


def test_random_sources_are_parsed():
    assert random_seed("random:12") == 12
    assert [random_seed(source) for source in (None, "random.pt", {"a": 1})] == [None] * 3
    for source in ("random:", "random:x", "random:-1", "random:1.5", "random:9223372036854775808"):
        with pytest.raises(UsageError, match="random:SEED"):
            random_seed(source)


@pytest.mark.parametrize("name", ["a.pt", "a.npz"])
def test_a_flipped_bit_is_told_or_changes_no_tensor(tmp_path, name):
    path, told = tmp_path / name, 0
    values = {key: tensor.numpy() for key, tensor in STATE.items()}
    np.savez(path, **values) if name.endswith("npz") else saved(path, STATE)
    whole = path.read_bytes()
    for place in range(0, len(whole), 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        try:
            state = read_checkpoint(path)
        except WeightsError:
            told += 1
        else:
            assert all(torch.equal(state[key], STATE[key]) for key in state.keys() & STATE.keys()), place
    assert told > 20


def test_an_archive_written_without_checksums_is_read(tmp_path):
    before = torch.serialization.get_crc32_options()
    try:
        torch.serialization.set_crc32_options(False)
        path = saved(tmp_path / "a.pt", STATE)
    finally:
        torch.serialization.set_crc32_options(before)
    assert same(read_checkpoint(path))
