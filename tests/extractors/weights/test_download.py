"""Downloads of weights: checked, resumed, shared by concurrent processes; and files placed by hand."""

import errno
import hashlib
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.support.checkpoints import STATE, published, refusal, same, saved
from tests.support.disks import Disk
from wtal.errors import DiskFullError, WeightsError
from wtal.extractors.weights import (
    download,
    fetch,
    load_weights,
    pin_of,
    published_as,
    verify,
)


class Server(ThreadingHTTPServer):
    """Server of one file; `cuts` are the numbers of bytes after which the next transfers break off."""

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
    assert "was interrupted; the received part is kept, run again to resume" in message
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
    assert "delete it to download it again" in message
    assert path.exists()


def test_without_a_server_the_place_for_the_file_is_said(server, tmp_path):
    missing = server.url.replace("weights", "nowhere")
    server.type = "text/html"
    for url, reason in (
        (missing, "HTTP 404 Not Found"),
        (server.url, "got a web page instead of the file"),
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


@pytest.mark.parametrize("after", [0, 500])
def test_a_full_disk_is_one_line_and_the_next_call_goes_on(server, tmp_path, monkeypatch, after):
    available = {"small": published(server.url, **hashes(server.data)[0])}
    disk = Disk(monkeypatch, download)
    disk.fill(after)
    with pytest.raises(DiskFullError, match=rf"small\.pt\.part: No space .* it takes {len(server.data):,} bytes"):
        load_weights("small", available, "rgb", tmp_path)
    disk.fill(None)
    assert same(load_weights("small", available, "rgb", tmp_path)[0])
    assert server.asked == [None, f"bytes={after}-" if after else None]


def test_a_disk_that_is_full_when_all_has_come_is_one_line(server, tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError, match=r"small\.pt\.part: No space left on device; [\d,]+ are free"):
        load_weights("small", {"small": published(server.url)}, "rgb", tmp_path)


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
    assert f"the file from {server.url} is unusable, nothing was kept" in message
    assert list(folder.iterdir()) == []
    server.data = whole
    assert same(load_weights("small", {"small": published(server.url)}, "rgb", folder)[0])
    assert pin_of(folder / "small.pt").exists()


def test_a_page_that_was_put_by_hand_is_not_pinned(tmp_path):
    path, weights = tmp_path / "small.pt", published("https://x/view", file="small.pt", by_hand=True)
    path.write_bytes(b"<html>log in</html>")
    message = refusal("small", {"small": weights}, folder=tmp_path)
    assert "is a web page" in message
    assert message.endswith(f"delete {path} (and small.pt.sha256 next to it, if present)")
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
            WeightsError, match=r"damaged, or not a checkpoint; fetch it again: delete .*small\.pt\.sha256"
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
