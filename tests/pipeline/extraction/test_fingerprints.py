"""Fingerprints of files that are as they were: nothing of them is read, and whatever changed is."""

import os

import pytest

from tests.support.videos import constant, write_video
from wtal.extractors.execution.config import ExtractConfig
from wtal.pipeline.extraction import fingerprints
from wtal.pipeline.extraction.extract import extract
from wtal.pipeline.extraction.fingerprints import Fingerprints, status_of
from wtal.pipeline.workspace import Workspace


@pytest.fixture
def read(monkeypatch):
    """Names of the files that were read, in order; files count as settled at once."""
    names = []

    def fingerprint(path):
        names.append(path.name)
        return path.read_text(errors="replace")

    monkeypatch.setattr(fingerprints, "file_fingerprint", fingerprint)
    monkeypatch.setattr(fingerprints, "_SETTLED_NANOSECONDS", 0)
    return names


def test_a_file_is_read_once_and_again_when_it_changed(tmp_path, read):
    file, kept = tmp_path / "a", tmp_path / "seen-files.json"
    file.write_text("one")
    for _ in range(2):
        remembered = Fingerprints(kept)
        with remembered.saved():
            assert remembered.fingerprint(file) == "one"
    assert read == ["a"]
    times = file.stat()
    file.write_text("two")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert Fingerprints(kept).fingerprint(file) == "two"
    other = tmp_path / "b"
    other.write_text("six")
    other.replace(file)
    assert Fingerprints(kept).fingerprint(file) == "six"


def test_a_file_that_has_just_changed_or_changes_meanwhile_is_not_kept(tmp_path, read, monkeypatch):
    file = tmp_path / "a"
    file.write_text("one")
    status = status_of(file)
    file.write_text("more")
    remembered = Fingerprints()
    remembered.learn(file, status, "one")
    assert remembered.fingerprint(file) == "more"
    monkeypatch.setattr(fingerprints, "_SETTLED_NANOSECONDS", 10**12)
    assert status_of(file) is None
    remembered = Fingerprints()
    assert [remembered.fingerprint(file), remembered.fingerprint(file)] == ["more", "more"]
    assert read == ["a"] * 3


@pytest.mark.parametrize("content", ["", "[]", '{"files": {"a": [1, 2]}}', '{"files": {}, "more": 1}'])
def test_a_damaged_file_is_none(tmp_path, read, content):
    file, kept = tmp_path / "a", tmp_path / "seen-files.json"
    file.write_text("one")
    kept.write_text(content)
    remembered = Fingerprints(kept)
    with remembered.saved():
        assert remembered.fingerprint(file) == "one"
    assert Fingerprints(kept).fingerprint(file) == "one"
    assert read == ["a"]


def test_a_file_that_cannot_be_read_says_so(tmp_path):
    with pytest.raises(FileNotFoundError):
        Fingerprints().fingerprint(tmp_path / "missing")


def test_a_second_call_reads_no_finished_video_and_notices_another_one(tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprints, "_SETTLED_NANOSECONDS", 0)
    videos, workspace, config = tmp_path / "videos", Workspace(tmp_path / "ws"), ExtractConfig(streams=("rgb",))
    videos.mkdir()
    for number in range(2):
        write_video(videos / f"v{number}.mp4", constant(25, 20))
    extract([videos], config, workspace)
    read, fingerprint = [], fingerprints.file_fingerprint
    monkeypatch.setattr(fingerprints, "file_fingerprint", lambda path: read.append(path.name) or fingerprint(path))
    again = extract([videos], config, workspace)
    assert (read, again.failures) == ([], {})
    content = bytearray((videos / "v1.mp4").read_bytes())
    content[-1] ^= 1
    (videos / "v1.mp4").write_bytes(content)
    third = extract([videos], config, workspace)
    assert read == ["v1.mp4"]
    assert set(third.failures) == {"v1"}
    assert "another file" in third.failures["v1"]


def test_a_store_elsewhere_leaves_nothing_in_the_workspace(tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprints, "_SETTLED_NANOSECONDS", 0)
    write_video(tmp_path / "v.mp4", constant(25, 20))
    for _ in range(2):
        extract(
            [tmp_path / "v.mp4"], ExtractConfig(streams=("rgb",)), Workspace(tmp_path / "ws"), out=tmp_path / "store"
        )
    assert not (tmp_path / "ws").exists()
