"""Checksums of a store: no flipped bit is ever a wrong number, in any of its files."""

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from tests.support.stores import IDENTITY, VIDEOS, add, content, extract, features
from wtal.data.store import FeatureStore, describe
from wtal.data.store.part import key_of
from wtal.data.store.verify import damaged, drop
from wtal.data.store.writer import StoreWriter
from wtal.errors import StoreError

SOME = VIDEOS[:3]
CHECKSUMS = ("rows_crc32", "entry_crc32")


@pytest.fixture
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Switch off fsync: it only guards against a loss of power, and is slow on a busy disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def flip(path: Path, place: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(data)


def numbers(store: FeatureStore) -> dict[str, object]:
    """Everything that is computed with: the values, the clock and the origin of each video."""
    return {
        video: (read.grid, read.info, store.fingerprint(video), {k: v.tobytes() for k, v in read.streams.items()})
        for video in store
        if (read := store[video])
    }


def without_checksums(path: Path) -> bytes:
    """Rewrite an index as earlier versions did."""
    index = json.loads((path / "index.json").read_text())
    head = {key: value for key, value in index.items() if key != "videos"}
    for entry in index["videos"].values():
        for key in CHECKSUMS:
            entry.pop(key, None)
    lines = ",\n".join(f"{json.dumps(video)}: {json.dumps(entry)}" for video, entry in index["videos"].items())
    text = f'{json.dumps(head)[:-1]}, "videos": {{\n{lines}\n}}}}\n'
    (path / "index.json").write_text(text)
    return text.encode()


@pytest.mark.parametrize("name", ["index.json", "rgb-00000.npy", "flow-00000.npy", "rgb-00001.npy", "failures.json"])
def test_a_flipped_bit_is_an_error_or_changes_nothing(tmp_path: Path, name: str) -> None:
    whole = numbers(extract(tmp_path, SOME))
    StoreWriter.open(tmp_path, IDENTITY).fail("nobody", "the file is empty (0 bytes)")
    path = tmp_path / name
    kept, refused = path.read_bytes(), 0
    identity = kept.find(b'"shards"') if name == "index.json" else 0  # compared with runs and extractors, not here
    for place in range(identity, len(kept), 3):
        flip(path, place, place % 8)
        said = ""
        try:
            store = FeatureStore.open(tmp_path)
            assert numbers(store) == whole
            assert describe(store)["num_videos"] == len(SOME)
        except StoreError as error:
            said = str(error)
        assert not said or name in said or (name == "index.json" and str(tmp_path) in said)
        assert "\n" not in said
        refused += bool(said)
        path.write_bytes(kept)
    header = 128 if name.endswith(".npy") else 0
    assert refused > 0.1 * (len(kept) - header)
    assert numbers(FeatureStore.open(tmp_path)) == whole


def test_every_bit_of_a_number_counts(tmp_path: Path) -> None:
    """The message names the shard, the video, and what to do."""
    extract(tmp_path, ["m"])
    (path,) = tmp_path.glob("rgb-*.npy")
    kept = path.read_bytes()
    for place, bit in [*((place, place % 8) for place in range(128, len(kept))), *((130, bit) for bit in range(8))]:
        flip(path, place, bit)
        with pytest.raises(StoreError, match=r"rgb-00000.npy is damaged \(m: its rows differ .* --drop` and repeat"):
            FeatureStore.open(tmp_path)["m"]
        path.write_bytes(kept)


def test_an_open_store_compares_a_video_once(tmp_path: Path) -> None:
    """Damage after the first reading is not noticed by the process that has read it, but by the next one."""
    store = extract(tmp_path, ["m", "n"])
    assert store["m"].streams["rgb"].size
    flip(tmp_path / "rgb-00000.npy", 128)
    assert store["m"].streams["rgb"].size
    with pytest.raises(StoreError, match="differ from their checksum"):
        FeatureStore.open(tmp_path)["m"]


def test_rows_of_another_video_are_damage(tmp_path: Path) -> None:
    """An offset that is another sound number points at other rows."""
    writer = StoreWriter.open(tmp_path, IDENTITY)
    for video in ("a", "b"):
        grid, streams = features(video, 3)
        writer.write(video, grid, streams, {})
    writer.publish()
    text = (tmp_path / "index.json").read_text()
    (tmp_path / "index.json").write_text(text.replace('"offset": 3', '"offset": 0'))
    assert FeatureStore.open(tmp_path)["a"].streams["rgb"].size
    with pytest.raises(StoreError, match="b: its rows differ"):
        FeatureStore.open(tmp_path)["b"]


@pytest.mark.usefixtures("unsynced")
def test_a_flipped_bit_of_a_part_is_an_error_or_changes_nothing(tmp_path: Path) -> None:
    whole = content(extract(tmp_path / "whole", ["m"]).path)
    writer = StoreWriter.open(tmp_path / "store", IDENTITY, shard_bytes=150)
    add(writer, "m")
    part = tmp_path / "store" / "parts" / f"{key_of('m')}.part"
    kept, refused = part.read_bytes(), 0
    shutil.copytree(tmp_path / "store", tmp_path / "before")
    for place in range(0, len(kept), 2):
        flip(part, place, place // 2 % 8)
        said = ""
        try:
            StoreWriter.open(tmp_path / "store", IDENTITY, shard_bytes=150).publish()
            assert content(tmp_path / "store") == whole
            shutil.rmtree(tmp_path / "store")
            shutil.copytree(tmp_path / "before", tmp_path / "store")
        except StoreError as error:
            said = str(error)
        assert not said or part.name in said
        refused += bool(said)
        part.write_bytes(kept)
    assert refused > 0.25 * len(kept)
    part.unlink()  # the way out
    add(StoreWriter.open(tmp_path / "store", IDENTITY), "m")
    StoreWriter.open(tmp_path / "store", IDENTITY, shard_bytes=150).publish()
    assert content(tmp_path / "store") == whole


def test_an_older_store_works_and_its_lines_stay_as_they_are(tmp_path: Path) -> None:
    whole = numbers(extract(tmp_path, SOME))
    older = without_checksums(tmp_path)
    store = FeatureStore.open(tmp_path)
    assert store.unchecked == len(SOME)
    assert describe(store)["unchecked"] == len(SOME)
    assert store.checksums(SOME[0]) == {}
    assert numbers(store) == whole
    assert damaged(store) == {}
    extract(tmp_path, SOME)
    assert (tmp_path / "index.json").read_bytes() == older
    extract(tmp_path, [*SOME, "new"])
    lines = (tmp_path / "index.json").read_text().splitlines()
    unchanged = [line.rstrip(",") for line in lines if not any(key in line for key in CHECKSUMS)]
    assert unchanged[1:-1] == [line.rstrip(",") for line in older.decode().splitlines()[1:-1]]
    assert FeatureStore.open(tmp_path).unchecked == len(SOME)
    flip(tmp_path / "rgb-00000.npy", 128)
    assert damaged(FeatureStore.open(tmp_path)) == {}


def test_a_part_of_an_earlier_version_is_published(tmp_path: Path) -> None:
    writer = StoreWriter.open(tmp_path, IDENTITY)
    add(writer, "m")
    part = tmp_path / "parts" / f"{key_of('m')}.part"
    line, _, arrays = part.read_bytes().partition(b"\n")
    head = {key: value for key, value in json.loads(line).items() if key not in CHECKSUMS}
    part.write_bytes(json.dumps(head).encode() + b"\n" + arrays)
    add(writer, "n")
    store = writer.publish()
    assert store.unchecked == 1
    np.testing.assert_array_equal(store["m"].streams["rgb"], features("m")[1]["rgb"])


def test_dropped_videos_are_new_again_and_the_others_unchanged(tmp_path: Path) -> None:
    whole = numbers(extract(tmp_path, VIDEOS))
    entry = json.loads((tmp_path / "index.json").read_text())["videos"]["zebra"]
    flip(tmp_path / f"rgb-{entry['shard']:05d}.npy", 128 + 20 * entry["offset"], 3)
    shards = {name: data for name, data in content(tmp_path).items() if name.endswith(".npy")}
    store = FeatureStore.open(tmp_path)
    read: list[str] = []
    assert set(damaged(store, read.append)) == {"zebra"}
    assert read == sorted(VIDEOS)
    assert drop(tmp_path, VIDEOS, "why") == ["zebra"]  # the sound ones stay
    rest = FeatureStore.open(tmp_path)
    assert set(rest.ids) == set(VIDEOS) - {"zebra"}
    assert rest.failures == {"zebra": "why"}
    assert StoreWriter.open(tmp_path, IDENTITY).state("zebra") == "failed"
    again: list[str] = []
    mended = extract(tmp_path, VIDEOS, again.append)
    assert again == ["zebra"]
    assert numbers(mended) == whole
    assert mended.failures == {}
    assert damaged(mended) == {}
    assert {name: data for name, data in content(tmp_path).items() if name in shards} == shards


def start(work: Callable[[], object]) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        with suppress(BaseException):
            work()
            code = 0
        os._exit(code)
    return child


@pytest.mark.usefixtures("unsynced")
def test_videos_are_dropped_while_another_process_adds_some(tmp_path: Path) -> None:
    extract(tmp_path, VIDEOS[:1])
    flip(tmp_path / "rgb-00000.npy", 128)
    early = FeatureStore.open(tmp_path)
    child = start(lambda: [extract(tmp_path, VIDEOS[1 : count + 1]) for count in range(1, len(VIDEOS))])
    assert drop(tmp_path, [VIDEOS[0]], "why") == [VIDEOS[0]]
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with pytest.raises(StoreError, match="differ from their checksum"):
        early[VIDEOS[0]]
    store = FeatureStore.open(tmp_path)
    assert set(store.ids) == set(VIDEOS[1:])
    assert damaged(store) == {}
    extract(tmp_path, VIDEOS)
    assert damaged(FeatureStore.open(tmp_path)) == {}
    assert set(FeatureStore.open(tmp_path).ids) == set(VIDEOS)
