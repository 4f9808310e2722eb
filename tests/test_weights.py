"""Weights: downloaded or found, checked, read without running code, fitted strictly."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from torch import nn

from wtal.errors import UsageError, WeightsError
from wtal.extractors.weights import (
    Weights,
    load_strict,
    load_weights,
    random_seed,
    randomise,
    read_checkpoint,
    state_digest,
    weights_folder,
)

STATE = {"conv.weight": torch.arange(24.0).reshape(2, 3, 4), "conv.bias": torch.tensor([0.5, -1.0])}


def published(url, **changes):
    values = {"stream": "rgb", "url": url, "licence": "MIT", "source": "a test", "trained_on": "nothing"}
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


def test_safetensors_are_read(tmp_path):
    tensors = {**STATE, "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16), "count": torch.tensor(7)}
    types = {torch.float32: "F32", torch.bfloat16: "BF16", torch.int64: "I64"}
    header, values = {"__metadata__": {"format": "pt"}}, b""
    for key, tensor in tensors.items():
        data = tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
        ends = [len(values), len(values) + len(data)]
        header[key] = {"dtype": types[tensor.dtype], "shape": list(tensor.shape), "data_offsets": ends}
        values += data
    text = json.dumps(header).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + values)
    state = read_checkpoint(path)
    assert all(torch.equal(state[key], tensors[key]) and state[key].dtype == tensors[key].dtype for key in tensors)
    path.write_bytes(path.read_bytes()[:-3])
    assert "truncated" in refusal(path)


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


def test_damaged_files_are_refused(tmp_path):
    for options in ({}, {"_use_new_zipfile_serialization": False}):
        whole = saved(tmp_path / "whole.pt", **options).read_bytes()
        for length in (1, 10, 100, len(whole) // 2, len(whole) - 10):
            part = tmp_path / "part.pt"
            part.write_bytes(whole[:length])
            assert refusal(part).endswith("part.pt is truncated, damaged, or no checkpoint; fetch it again")
    for content in (b"hello world", b"\0" * 1000, bytes(range(256)) * 4):
        part.write_bytes(content)
        assert "truncated, damaged, or no checkpoint" in refusal(part)


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


def test_names_are_looked_up(tmp_path):
    available = {"small_rgb": published("http://127.0.0.1:9/small.pt"), "small_flow": published("x/y", stream="flow")}
    saved(tmp_path / "small.pt")
    for source in ("small_rgb", None):
        assert same(load_weights(source, available, "rgb", tmp_path)[0])
    assert "did you mean 'small_rgb'" in refusal("smal_rgb", available)
    assert "are for stream rgb, stream flow was wanted; " in refusal("small_rgb", available, "flow")
    assert "no published weights for stream rgb" in refusal(None, {})
    assert "there are no weights at nowhere.pt" in refusal("nowhere.pt", available)


def test_published_keys_are_converted(tmp_path):
    weights = published("x/a.pt", convert=lambda state: {f"new.{key}": value for key, value in state.items()})
    saved(tmp_path / "a.pt")
    assert list(load_weights("a", {"a": weights}, "rgb", tmp_path)[0]) == ["new.conv.weight", "new.conv.bias"]


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
        self.asked = []

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
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and server.ranges else 0
        if start >= len(server.data):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.data)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = server.data[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", server.type)
        self.send_header("Content-Length", str(len(body)))
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
