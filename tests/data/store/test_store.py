"""Feature store: bit-exact, whole or not at all, the same bytes after any interruption."""

import json
import os
import pickle
import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.stores import IDENTITY, VIDEOS, add, content, extract, features, grid_of
from wtal.config import digest
from wtal.data.grid import SnippetGrid
from wtal.data.store import FeatureStore, describe
from wtal.data.store.part import key_of
from wtal.data.store.writer import StoreWriter, file_fingerprint
from wtal.errors import DiskFullError, StoreError


@pytest.fixture
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Switch off fsync: it only guards against a loss of power, and is slow on a busy disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


dtypes = st.sampled_from([np.float16, np.float32])
ids = st.text(st.characters(), min_size=1, max_size=30)  # any code point, lone surrogates and NUL included


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(ids, st.integers(0, 4), min_size=1, max_size=5), dtypes, st.integers(0, 2**32 - 1))
@pytest.mark.usefixtures("unsynced")
def test_what_is_read_is_what_was_written(lengths: dict[str, int], dtype: type, seed: int) -> None:
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        writer = StoreWriter.open(folder, IDENTITY, shard_bytes=40)
        written = {}
        for video, length in lengths.items():
            grid = grid_of(length) if length else SnippetGrid(Fraction(25), 3, Fraction(16), 16, "drop")
            bits = rng.integers(0, 256, (length, 3 * np.dtype(dtype).itemsize), dtype=np.uint8)  # NaN and all
            written[video] = (grid, bits.view(dtype))
            writer.write(video, grid, {"s": bits.view(dtype)}, {"id": video})
        store = writer.publish()
        assert store.ids == tuple(sorted(lengths))
        for video, (grid, values) in written.items():
            read = store[video]
            assert (read.id, read.grid, read.info) == (video, grid, {"id": video})
            assert read.streams["s"].dtype == dtype
            assert read.streams["s"].shape == values.shape
            assert read.streams["s"].tobytes() == values.tobytes()


def test_reading(tmp_path: Path) -> None:
    store = extract(tmp_path / "s", VIDEOS)
    assert store.identity == IDENTITY
    assert store.dims == {"flow": 3, "rgb": 5}
    assert store.dtypes == {"flow": "float16", "rgb": "float32"}
    assert len(store) == len(VIDEOS)
    assert list(store) == sorted(VIDEOS)
    assert "zebra" in store
    assert "nobody" not in store
    assert store.failures == {}
    assert store.fingerprint("zebra") == "of zebra"
    assert store.grid("zebra") == store["zebra"].grid == features("zebra")[0]
    assert store.info("zebra")["reader"] == "pyav"
    values = store["zebra"].streams["rgb"]
    assert isinstance(values.base, np.ndarray)
    assert isinstance(values.base.base, np.memmap)
    assert not values.flags.writeable
    with pytest.raises(StoreError, match=r"no video 'zebr'.*did you mean 'zebra'"):
        store["zebr"]


def test_a_pickled_store_is_small_and_opens_anew(tmp_path: Path) -> None:
    store = extract(tmp_path / "s", VIDEOS)
    np.testing.assert_array_equal(store["zebra"].streams["rgb"], features("zebra")[1]["rgb"])
    pickled = pickle.dumps(store)
    assert len(pickled) < 1000
    np.testing.assert_array_equal(pickle.loads(pickled)["zebra"].streams["rgb"], features("zebra")[1]["rgb"])


def test_a_shard_ends_before_its_limit_and_a_large_video_stands_alone(tmp_path: Path) -> None:
    writer = StoreWriter.open(tmp_path, IDENTITY, shard_bytes=26 * 10)  # a snippet takes 5 * 4 + 3 * 2 bytes
    for video, length in {"a": 4, "b": 6, "c": 1, "d": 20, "e": 0, "f": 1}.items():
        grid = grid_of(length) if length else SnippetGrid(Fraction(25), 3, Fraction(16), 16, "drop")
        writer.write(video, grid, features(video, length)[1], {})
    store = writer.publish()
    rows = [np.load(path).shape[0] for path in sorted(tmp_path.glob("rgb-*.npy"))]
    assert rows == [10, 1, 20, 1]
    for video in store:
        np.testing.assert_array_equal(
            store[video].streams["rgb"], features(video, store.grid(video).num_snippets)[1]["rgb"]
        )


def test_a_store_of_videos_without_snippets(tmp_path: Path) -> None:
    writer = StoreWriter.open(tmp_path, IDENTITY)
    writer.write("tiny", SnippetGrid(Fraction(25), 3, Fraction(16), 16, "drop"), features("tiny", 0)[1], {})
    assert writer.publish()["tiny"].streams["rgb"].shape == (0, 5)


def test_a_store_is_empty_until_it_is_published(tmp_path: Path) -> None:
    writer = StoreWriter.open(tmp_path, IDENTITY)
    assert writer.state("zebra") == "new"
    add(writer, "zebra")
    assert writer.state("zebra") == "written"
    assert writer.fingerprint("zebra") == "of zebra"
    assert len(FeatureStore.open(tmp_path)) == 0
    writer.publish()
    assert writer.state("zebra") == "published"
    assert writer.fingerprint("zebra") == "of zebra"
    assert writer.fingerprint("nobody") is None
    assert FeatureStore.open(tmp_path).ids == ("zebra",)


def test_more_videos_leave_old_shards_and_open_readers_alone(tmp_path: Path) -> None:
    old = extract(tmp_path, ["m", "n"])
    before = content(tmp_path)
    new = extract(tmp_path, ["m", "n", "a", "z"])
    after = content(tmp_path)
    assert {name for name in before if after[name] != before[name]} == {"index.json"}
    assert new.ids == ("a", "m", "n", "z")
    assert old.ids == ("m", "n")
    for video in new:
        np.testing.assert_array_equal(new[video].streams["flow"], features(video)[1]["flow"])
    np.testing.assert_array_equal(old["n"].streams["rgb"], features("n")[1]["rgb"])


def test_failures_of_all_processes_are_kept_until_the_video_succeeds(tmp_path: Path) -> None:
    here, there = StoreWriter.open(tmp_path, IDENTITY), StoreWriter.open(tmp_path, IDENTITY)
    here.fail("b", "no video stream")
    there.fail("a", "empty file")
    here.fail("b", "moov atom not found")
    assert here.state("a") == "failed"
    store = here.publish()
    assert (tmp_path / "failures.json").read_text() == '{\n"a": "empty file",\n"b": "moov atom not found"\n}\n'
    add(there, "a")
    there.publish()
    assert store.failures == {"b": "moov atom not found"}
    assert there.state("a") == "published"


def test_a_store_of_another_identity_is_refused(tmp_path: Path) -> None:
    StoreWriter.open(tmp_path, IDENTITY)
    StoreWriter.open(tmp_path, dict(reversed(IDENTITY.items())))
    with pytest.raises(StoreError, match=r"another extractor .warps is 5 there, 1 here"):
        StoreWriter.open(tmp_path, {**IDENTITY, "flow": {"name": "tvl1", "warps": 1}})
    with pytest.raises(StoreError, match="JSON"):
        StoreWriter.open(tmp_path, {"stride": float("nan")})


def test_a_place_that_cannot_be_a_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    for path in (file, file / "below", Path("/proc/nothing/store")):
        with pytest.raises(StoreError, match="cannot write the feature store") as caught:
            StoreWriter.open(path, IDENTITY)
        assert "\n" not in str(caught.value)
    with pytest.raises(StoreError, match=r"has other files \(file\)"):
        StoreWriter.open(tmp_path, IDENTITY)
    assert content(tmp_path) == {"file": b"mine"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes into read-only folders")
def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="Permission denied"):
        StoreWriter.open(tmp_path / "store", IDENTITY)


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = StoreWriter.open(tmp_path, IDENTITY)
    add(writer, "a")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(DiskFullError, match="No space left on device; it takes"):
            add(writer, "b")
        with pytest.raises(DiskFullError, match="No space left on device; it takes"):
            writer.publish()
    assert writer.state("a") == "written"
    add(writer, "b")
    assert writer.publish().ids == ("a", "b")


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    writer = StoreWriter.open(tmp_path, IDENTITY)
    add(writer, "a")
    grid, streams = features("b", 3)
    rgb, flow = streams["rgb"], streams["flow"]
    for wrong, message in [
        ({}, "no stream"),
        ({"rgb": rgb[:2], "flow": flow}, r"rgb of video 'b' is \(2, 5\), wanted \(3, D\) by its grid"),
        ({"rgb": rgb, "flow": flow[:, 0]}, r"flow of video 'b' is \(3,\)"),
        ({"rgb": rgb.astype(np.float64), "flow": flow}, "float64"),
        ({"../rgb": rgb}, "a stream's name may contain only"),
        ({"rgb": rgb}, "video 'b' has rgb 5 x float32; the store has flow 3 x float16, rgb 5 x float32"),
        ({"rgb": rgb[:, :4], "flow": flow}, "video 'b' has flow 3 x float16, rgb 4 x float32; the store has"),
    ]:
        for opened in (writer, StoreWriter.open(tmp_path, IDENTITY)):
            with pytest.raises(StoreError, match=message):
                opened.write("b", grid, wrong, {})
    with pytest.raises(StoreError, match="JSON"):
        writer.write("b", grid, streams, {"loudness": float("nan")})
    assert writer.publish().ids == ("a",)
    with pytest.raises(StoreError, match="the store has"):
        StoreWriter.open(tmp_path, IDENTITY).write("b", grid, {"rgb": rgb}, {})


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("index.json", Path.unlink, r"no feature store at .* \(no index.json\)"),
        ("index.json", truncate, None),
        ("index.json", lambda path: path.write_bytes(path.read_bytes()[:-30]), "index.json is damaged"),
        ("index.json", lambda path: path.write_text("{}"), "not a feature store"),
        (
            "index.json",
            lambda path: replace(path, '"version": 1', '"version": 2'),
            "format 2, this version reads format 1",
        ),
        ("index.json", lambda path: replace(path, '"offset": 0', '"offset": 99'), "exceed their shard"),
        ("index.json", lambda path: replace(path, '"shard": 0', '"shard": 9'), "index.json is damaged"),
        ("index.json", lambda path: replace(path, '"rows"', '"lines"'), "index.json is damaged"),
        ("rgb-00000.npy", Path.unlink, "rgb-00000.npy is missing"),
        ("rgb-00000.npy", truncate, "rgb-00000.npy has .* bytes"),
        ("flow-00001.npy", lambda path: path.write_bytes(b""), "flow-00001.npy is damaged"),
        ("flow-00001.npy", lambda path: np.save(path, np.zeros((1, 1))), "flow-00001.npy holds"),
    ],
)
def test_damage_is_named(tmp_path: Path, name: str, damage: Callable[[Path], object], message: str | None) -> None:
    extract(tmp_path, VIDEOS)
    damage(tmp_path / name)
    if message is None:  # the file is whole except for its final newline
        assert len(FeatureStore.open(tmp_path)) == len(VIDEOS)
        return
    with pytest.raises(StoreError, match=message) as caught:
        FeatureStore.open(tmp_path)
    assert "\n" not in str(caught.value)


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_damaged_part_is_named_and_nothing_else_is_lost(tmp_path: Path) -> None:
    writer = StoreWriter.open(tmp_path, IDENTITY)
    add(writer, "a")
    add(writer, "b")
    part = tmp_path / "parts" / f"{key_of('b')}.part"
    whole = part.read_bytes()
    for damaged in (b"", b"{}\n", whole[:-20]):
        part.write_bytes(damaged)
        with pytest.raises(StoreError, match=f"{part.name} is damaged.*delete it"):
            writer.publish()
        assert len(FeatureStore.open(tmp_path)) == 0
    part.unlink()
    assert writer.publish().ids == ("a",)


def test_describe(tmp_path: Path) -> None:
    store = extract(tmp_path, ["zebra", "short"])
    StoreWriter.open(tmp_path, IDENTITY).fail("bad", "empty file")
    said = describe(store)
    assert json.loads(json.dumps(said)) == said
    snippets = sum(store.grid(video).num_snippets for video in store)
    assert (said["num_videos"], said["snippets"], said["bytes"]) == (2, snippets, snippets * 26)
    assert said["seconds"] == pytest.approx(snippets * 16 * 1001 / 30000)
    assert said["identity"] == IDENTITY
    assert said["streams"]["rgb"] == {"dim": 5, "dtype": "float32"}
    assert said["readers"] == {"pyav": 2}
    assert said["failures"] == {"bad": "empty file"}
    assert said["videos"]["zebra"]["shortfall"] == 0.5
    assert said["videos"]["zebra"]["notes"] == ["odd"]
    assert said["videos"]["zebra"]["frames"] == store.grid("zebra").frames


def test_names_and_fingerprints(tmp_path: Path) -> None:
    assert digest(IDENTITY) == digest(dict(reversed(IDENTITY.items())))
    assert digest(IDENTITY) != digest({**IDENTITY, "stride": 8})
    file = tmp_path / "video"
    file.write_bytes(b"0123456789" * 10)
    first = file_fingerprint(file, ends=8)
    assert first.startswith("100-")
    for changed in (b"x" + file.read_bytes()[1:], file.read_bytes()[:-1] + b"x", file.read_bytes() + b"0"):
        file.write_bytes(changed)
        assert file_fingerprint(file, ends=8) != first
