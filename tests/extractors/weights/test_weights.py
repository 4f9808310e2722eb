"""Weights: downloaded or found, checked, read without running code, fitted strictly."""

import contextlib
import hashlib
import json
import pickle
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from wtal.errors import UsageError, WeightsError
from wtal.extractors.weights import (
    Weights,
    fetch,
    load_strict,
    load_weights,
    pin_of,
    published_as,
    random_seed,
    randomise,
    verify,
    weights_folder,
)
from wtal.extractors.weights.checkpoint import _SAFETENSORS_TYPES, read_checkpoint
from wtal.extractors.weights.published import state_digest

STATE = {"conv.weight": torch.arange(24.0).reshape(2, 3, 4), "conv.bias": torch.tensor([0.5, -1.0])}


def published(url, **changes):
    values = {
        "stream": "rgb",
        "url": url,
        "licence": "MIT",
        "source": "a test",
        "trained_on": "nothing",
        "layout": "ours",
    }
    return Weights(**{**values, "unchecked": "the test gives no hash", **changes})


def saved(path, value=STATE, **options):
    torch.save(value, path, **options)
    return path


def refusal(source, available=None, stream="rgb", folder=None):
    with pytest.raises(WeightsError) as caught:
        load_weights(source, available or {}, stream, folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def same(state):
    return list(state) == list(STATE) and all(torch.equal(state[key], STATE[key]) for key in STATE)


# How a checkpoint may be given.


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
    with pytest.raises(WeightsError, match="truncated, damaged, or no checkpoint"):
        read_checkpoint(path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(WeightsError, match="truncated, damaged, or no checkpoint"):
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
    assert "holds 'conv.weight' of type F4x, which is not known here" in refusal(path)


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


# What is refused, each in one line.


def file_of(path, layout):
    """A small file in one of the layouts that are read."""
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
        with pytest.raises(WeightsError, match=r"is truncated, damaged, or no checkpoint; fetch it again$"):
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
            assert "truncated, damaged, or no checkpoint" in refusal(path)


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
    """Which of them is meant, the last step's or their average, no file says."""
    found = {"model_state": STATE, rival: {prefix + key: value + 1 for key, value in STATE.items()}}
    message = refusal(found)
    assert "holds weights under" in message
    assert rival in message
    assert "model_state" in message
    beside = {"model_state": STATE, "optimizer": {"state": {0: STATE}}, "best": torch.zeros(1), "other": {"x": 1}}
    assert same(load_weights(beside, {}, "rgb")[0])


def test_what_is_no_checkpoint_is_named(tmp_path):
    assert "there are no weights at" in refusal(tmp_path / "absent.pt")
    assert "is not a file" in refusal(tmp_path)
    path = tmp_path / "a.pt"
    for content, words in (
        (b"", "is empty"),
        (b"\n<!DOCTYPE html><html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
    ):
        path.write_bytes(content)
        assert words in refusal(path)


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
    assert "holds exec beside tensors" in message
    assert "torch.save(state_dict, ..)" in message
    old = saved(tmp_path / "old.pt", {**STATE, "x": Code()}, _use_new_zipfile_serialization=False)
    assert "holds exec beside tensors" in refusal(old)
    (tmp_path / "bare.bin").write_bytes(pickle.dumps(Code(), protocol=2))
    assert "holds exec beside tensors" in refusal(tmp_path / "bare.bin")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_plain_pickle_is_refused_with_the_way_to_convert_it(tmp_path, protocol):
    path = tmp_path / "model.pkl"
    for found in ({"a": np.zeros((300, 300))}, {"a": 1}):
        path.write_bytes(pickle.dumps(found, protocol))
        with pytest.raises(WeightsError, match=r"alone with pickle\.load\(..\) and torch\.save"):
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
    assert "are for stream rgb, stream flow was wanted; " in refusal("small_rgb", available, "flow")
    assert "no published weights for stream rgb" in refusal(None, {})
    assert "there are no weights at nowhere.pt" in refusal("nowhere.pt", available)


def test_weights_without_a_hash_say_why():
    with pytest.raises(ValueError, match="need sha256, git_blob, or the reason"):
        published("x/a.pt", unchecked="")


def test_the_folder_follows_the_workspace(monkeypatch, tmp_path):
    monkeypatch.setenv("WTAL_WORKSPACE", str(tmp_path))
    assert weights_folder() == tmp_path / "weights"
    monkeypatch.delenv("WTAL_WORKSPACE")
    assert str(weights_folder()) == "workspace/weights"


# Fitting into a model.


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


# Downloads.


class Server(ThreadingHTTPServer):
    """Serves one file; `cuts` are the numbers of bytes after which the next transfers break off."""

    def __init__(self, data):
        super().__init__(("127.0.0.1", 0), Handler)
        self.data, self.ranges, self.type, self.cuts = data, True, "application/octet-stream", []
        self.asked, self.conditions = [], []
        self.tag, self.length, self.shift, self.slow = None, None, 0, 0.0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/weights/small.pt"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        wanted = self.headers.get("Range")
        server.asked.append(wanted)
        if self.path != "/weights/small.pt":
            self.send_error(404)
            return
        condition = self.headers.get("If-Range")
        server.conditions.append(condition)
        ranges = server.ranges and condition in (None, server.tag)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and ranges else 0
        time.sleep(server.slow)
        if start >= len(server.data):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.data)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = server.data[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", server.type)
        if server.length != "none":
            self.send_header("Content-Length", server.length or str(len(body)))
        if start:
            first, last = start + server.shift, len(server.data) - 1
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(server.data)}")
        if server.tag:
            self.send_header("ETag", server.tag)
        self.end_headers()
        self.wfile.write(body[: server.cuts.pop(0)] if server.cuts else body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    server = Server(saved(tmp_path / "origin.pt").read_bytes())
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def hashes(data):
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    return (
        {"sha256": hashlib.sha256(data).hexdigest()},
        {"sha256": hashlib.sha256(data).hexdigest()[:8]},
        {"git_blob": blob},
    )


def test_a_file_is_downloaded_once_and_checked(server, tmp_path):
    for index, changes in enumerate(hashes(server.data)):
        available = {"small": published(server.url, unchecked="", **changes)}
        folder = tmp_path / f"new{index}" / "weights"
        for _ in range(2):
            assert same(load_weights("small", available, "rgb", folder)[0])
        assert [path.name for path in folder.iterdir()] == ["small.pt"]
    assert server.asked == [None] * 3


@pytest.mark.parametrize("ranges", [True, False])
def test_a_transfer_that_breaks_off_is_resumed(server, tmp_path, ranges):
    server.ranges, server.cuts = ranges, [500, 700]
    available = {"small": published(server.url, **hashes(server.data)[0])}
    assert same(load_weights("small", available, "rgb", tmp_path / "w")[0])
    assert server.asked == [None, "bytes=500-", "bytes=1200-" if ranges else "bytes=700-"]


def test_a_part_that_was_left_is_continued_by_the_next_call(server, tmp_path):
    server.cuts = [100, 0]
    available = {"small": published(server.url, **hashes(server.data)[0])}
    message = refusal("small", available, folder=tmp_path)
    assert "broke off; the part that came is kept, run again to resume" in message
    assert (tmp_path / "small.pt.part").read_bytes() == server.data[:100]
    assert same(load_weights("small", available, "rgb", tmp_path)[0])
    assert server.asked[-1] == "bytes=100-"


@pytest.mark.parametrize("surplus", [b"", b"more"])
def test_a_part_that_is_whole_or_too_long_is_settled(server, tmp_path, surplus):
    (tmp_path / "small.pt.part").write_bytes(server.data + surplus)
    assert same(load_weights("small", {"small": published(server.url)}, "rgb", tmp_path)[0])


@pytest.mark.parametrize("changes", [{"sha256": "0" * 64}, {"git_blob": "1" * 40}])
def test_a_wrong_hash_is_refused_and_nothing_kept(server, tmp_path, changes):
    available = {"small": published(server.url, **changes)}
    folder = tmp_path / "w"
    message = refusal("small", available, folder=folder)
    assert f"wanted {next(iter(changes.values()))}; nothing was kept" in message
    assert list(folder.iterdir()) == []


def test_a_wrong_file_in_the_folder_is_refused_and_left(tmp_path):
    path = saved(tmp_path / "small.pt")
    message = refusal("small", {"small": published("http://x/small.pt", sha256="0" * 64)}, folder=tmp_path)
    assert "delete it, and it is downloaded anew" in message
    assert path.exists()


def test_without_a_server_the_place_for_the_file_is_said(server, tmp_path):
    missing = server.url.replace("weights", "nowhere")
    server.type = "text/html"
    for url, reason in (
        (missing, "HTTP 404 Not Found"),
        (server.url, "a web page came instead of the file"),
        ("http://127.0.0.1:1/small.pt", "refused"),
    ):
        message = refusal("small", {"small": published(url)}, folder=tmp_path / "w")
        assert message.startswith(f"cannot download {url} (")
        assert reason in message
        assert message.endswith(f"put the file at {tmp_path / 'w' / 'small.pt'}")
        assert not (tmp_path / "w" / "small.pt").exists()


def test_two_at_once_transfer_the_file_once(server, tmp_path):
    available = {"small": published(server.url, **hashes(server.data)[0])}
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(load_weights("small", available, "rgb", tmp_path / "w")))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert all(same(state) for state, _ in results)
    assert server.asked == [None]


def test_a_folder_that_cannot_be_written_is_named(server, tmp_path):
    (tmp_path / "w").write_text("a file")
    assert "cannot write" in refusal("small", {"small": published(server.url)}, folder=tmp_path / "w")


def test_a_file_that_changed_between_two_transfers_begins_anew(server, tmp_path):
    old, server.tag, server.cuts = server.data, '"one"', [100, 0]
    available = {"small": published(server.url)}
    assert "run again to resume" in refusal("small", available, folder=tmp_path)
    server.data, server.tag = old[:-1] + b"x", '"two"'
    assert same(load_weights("small", available, "rgb", tmp_path)[0])
    assert server.conditions[-1] == '"one"'
    assert (tmp_path / "small.pt").read_bytes() == server.data
    assert sorted(path.name for path in tmp_path.iterdir()) == ["origin.pt", "small.pt", "small.pt.sha256"]


def test_the_same_file_is_resumed_by_its_tag(server, tmp_path):
    server.tag, server.cuts = '"one"', [100]
    assert same(load_weights("small", {"small": published(server.url)}, "rgb", tmp_path)[0])
    assert (server.asked, server.conditions) == ([None, "bytes=100-"], [None, '"one"'])


def test_a_rest_that_begins_elsewhere_is_not_taken(server, tmp_path):
    server.shift, server.cuts = 7, [100]
    assert same(load_weights("small", {"small": published(server.url)}, "rgb", tmp_path)[0])
    assert server.asked == [None, "bytes=100-", None]


def test_a_length_that_is_no_number_is_none(server, tmp_path):
    server.length = "abc"
    assert same(load_weights("small", {"small": published(server.url)}, "rgb", tmp_path)[0])


@pytest.mark.parametrize("case", ["half", "page", "other part"])
def test_without_a_hash_only_a_checkpoint_is_kept(server, tmp_path, case):
    folder, whole = tmp_path / "w", server.data
    folder.mkdir()
    server.length = "none"
    if case == "half":
        server.data = whole[: len(whole) // 2]
    elif case == "page":
        server.data = b"<!DOCTYPE html><html>log in, please</html>"
    else:
        (folder / "small.pt.part").write_bytes(b"other bytes" * 20)
    message = refusal("small", {"small": published(server.url)}, folder=folder)
    assert f"what came from {server.url} is of no use, nothing was kept" in message
    assert list(folder.iterdir()) == []
    server.data = whole
    assert same(load_weights("small", {"small": published(server.url)}, "rgb", folder)[0])
    assert pin_of(folder / "small.pt").exists()


def test_a_page_that_was_put_by_hand_is_not_pinned(tmp_path):
    path, weights = tmp_path / "small.pt", published("https://x/view", file="small.pt", by_hand=True)
    path.write_bytes(b"<html>log in</html>")
    message = refusal("small", {"small": weights}, folder=tmp_path)
    assert "is a web page" in message
    assert message.endswith(f"delete {path} (and small.pt.sha256 beside it, if it is there)")
    assert not pin_of(path).exists()
    saved(path)
    assert same(load_weights("small", {"small": weights}, "rgb", tmp_path)[0])


def test_a_damaged_file_is_found_whatever_was_pinned(tmp_path):
    path, weights = saved(tmp_path / "small.pt"), published("http://x/small.pt")
    assert verify(weights, path) == path
    assert not pin_of(path).exists()
    path.write_bytes(path.read_bytes()[:-50])
    pin_of(path).write_text(hashlib.sha256(path.read_bytes()).hexdigest())
    for found in (lambda: verify(weights, path), lambda: fetch(weights, tmp_path)):
        with pytest.raises(
            WeightsError, match=r"damaged, or no checkpoint; fetch it again: delete .*small\.pt\.sha256"
        ):
            found()


def test_a_file_is_known_by_its_published_hash(tmp_path):
    path = saved(tmp_path / "another name.pt")
    for changes in hashes(path.read_bytes()):
        available = {
            "other": published("http://x/a.pt", sha256="0" * 8),
            "small": published("http://x/b.pt", **changes),
        }
        assert published_as(path, available, "rgb") is available["small"]
        assert published_as("small", available, "rgb") is available["small"]
    assert published_as(path, {"unhashed": published("http://x/a.pt")}, "rgb") is None
    assert published_as(STATE, {}, "rgb") is None


def test_each_of_several_hears_of_the_wrong_hash(server, tmp_path):
    server.slow = 0.2
    available = {"small": published(server.url, sha256="0" * 64)}
    messages = []
    threads = [
        threading.Thread(target=lambda: messages.append(refusal("small", available, folder=tmp_path / "w")))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(messages) == 3
    assert all(f"wanted {'0' * 64}; nothing was kept" in message for message in messages)
    assert list((tmp_path / "w").iterdir()) == []
