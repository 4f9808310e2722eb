"""The feature store: bit-exact, whole or not at all, the same bytes whatever interrupted it."""

import json
import os
import pickle
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks import store as benchmark
from wtal.data.grid import SnippetGrid
from wtal.data.store import FeatureStore, describe, store_name
from wtal.data.store.part import key_of
from wtal.data.store.writer import StoreWriter, file_fingerprint
from wtal.errors import StoreError

IDENTITY = {"backbone": "i3d", "stride": 16, "flow": {"name": "tvl1", "warps": 5}}
VIDEOS = ["zebra", "a/b c", "-dash", "Übung", "x" * 400, "short"]


def grid_of(snippets: int, tail: str = "pad") -> SnippetGrid:
    return SnippetGrid(Fraction(30000, 1001), max(1, snippets * 16), Fraction(16), 16, tail)


def features(video: str, snippets: int | None = None) -> tuple[SnippetGrid, dict[str, np.ndarray]]:
    """Features that depend on the id alone, as an extractor's depend on the file."""
    rng = np.random.default_rng(list(os.fsencode(video)))
    snippets = snippets if snippets is not None else int(rng.integers(1, 6))
    streams = {
        "rgb": rng.standard_normal((snippets, 5)).astype(np.float32),
        "flow": rng.standard_normal((snippets, 3)).astype(np.float16),
    }
    return grid_of(snippets), streams


def add(writer: StoreWriter, video: str) -> None:
    grid, streams = features(video)
    writer.write(
        video, grid, streams, {"reader": "pyav", "shortfall": 0.5, "notes": ["odd"]}, fingerprint=f"of {video}"
    )


def extract(path: Path, videos: list[str], after: Callable[[str], object] = lambda video: None) -> FeatureStore:
    """What an extraction does: claim, work, write; wait for the others; publish."""
    writer = StoreWriter.open(path, IDENTITY, shard_bytes=150)
    for patient in (False, True):
        for video in videos:
            with writer.claim(video, wait=patient) as mine:
                if mine:
                    add(writer, video)
                    after(video)
    return writer.publish()


def content(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def start(work: Callable[[], object]) -> int:
    """Fork a child that does `work` and exits with 0, or with 1 when that raised; its process id."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def wait(child: int) -> int:
    """Exit code of a child; minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The bytes of a store that nothing interrupted."""
    path = tmp_path_factory.mktemp("whole") / "store"
    extract(path, VIDEOS)
    return content(path)


@pytest.fixture
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without fsync: it guards against a loss of power, which no test makes, and is slow on a busy disk."""
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


def test_nothing_but_the_published_files_is_left(whole: dict[str, bytes]) -> None:
    shards = {name for name in whole if name.endswith(".npy")}
    assert len(shards) > 2
    assert set(whole) == shards | {"index.json", "failures.json", ".lock"}
    assert whole[".lock"] == b""
    assert json.loads(whole["failures.json"]) == {}


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


def test_resume_goes_on_and_ends_with_the_same_bytes(tmp_path: Path, whole: dict[str, bytes]) -> None:
    first = StoreWriter.open(tmp_path, IDENTITY)
    add(first, "zebra")
    add(first, "short")
    again: list[str] = []
    extract(tmp_path, VIDEOS, again.append)
    assert sorted(again) == sorted(set(VIDEOS) - {"zebra", "short"})
    assert content(tmp_path) == whole
    extract(tmp_path, VIDEOS, again.append)
    assert len(again) == len(VIDEOS) - 2
    assert content(tmp_path) == whole


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


@pytest.mark.usefixtures("unsynced")
def test_killed_at_every_step_the_store_ends_with_the_same_bytes(tmp_path: Path) -> None:
    events = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "fcntl.flock"}
    videos = VIDEOS[:3]
    extract(tmp_path / "whole", videos)
    whole = content(tmp_path / "whole")
    assert "rgb-00001.npy" in whole

    def extract_until(path: Path, step: int) -> None:
        left = step

        def hook(event: str, _: object) -> None:
            nonlocal left
            if event in events:
                left -= 1
                if left < 0:
                    die()

        sys.addaudithook(hook)
        extract(path, videos)

    for step in range(1000):
        path = tmp_path / str(step)
        code = wait(start(lambda path=path, step=step: extract_until(path, step)))
        if (path / "index.json").exists():
            reader = FeatureStore.open(path)  # whatever moment it died at
            assert len(reader) in (0, len(videos))
        extract(path, videos)
        assert content(path) == whole
        assert not (path / "parts").exists()
        if code != -signal.SIGKILL:
            break
    assert code == 0
    assert step > 60


def extract_slowly(path: Path, log: Path) -> None:
    def after(video: str) -> None:
        with log.open("a") as file:
            file.write(f"{video!a}\n")
        time.sleep(0.003)

    extract(path, VIDEOS, after)


@pytest.mark.usefixtures("unsynced")
def test_killed_at_random_moments_the_store_ends_with_the_same_bytes(tmp_path: Path, whole: dict[str, bytes]) -> None:
    rng = random.Random(0)
    for round_ in range(4):
        store, log = tmp_path / f"store-{round_}", tmp_path / f"log-{round_}"
        for _ in range(5):
            children = [start(lambda store=store, log=log: extract_slowly(store, log)) for _ in range(2)]
            time.sleep(rng.uniform(0, 0.03))
            for child in children:
                os.kill(child, signal.SIGKILL)
                assert wait(child) in (0, -signal.SIGKILL)
        extract_slowly(store, log)
        assert content(store) == whole
        logged = log.read_text().splitlines()
        assert len(logged) == len(set(logged))


@pytest.mark.usefixtures("unsynced")
def test_processes_at_once_lose_nothing_and_repeat_nothing(tmp_path: Path, whole: dict[str, bytes]) -> None:
    for round_ in range(5):
        store, log = tmp_path / f"store-{round_}", tmp_path / f"log-{round_}"
        children = [start(lambda store=store, log=log: extract_slowly(store, log)) for _ in range(3)]
        assert [wait(child) for child in children] == [0, 0, 0]
        assert content(store) == whole
        assert not (store / "parts").exists()
        assert sorted(log.read_text().splitlines()) == sorted(ascii(video) for video in VIDEOS)


def test_a_claim_shuts_others_out_until_its_holder_is_done_or_dead(tmp_path: Path) -> None:
    here, there = StoreWriter.open(tmp_path, IDENTITY), StoreWriter.open(tmp_path, IDENTITY)
    with here.claim("zebra") as mine, there.claim("zebra") as theirs, there.claim("short") as other:
        assert (mine, theirs, other) == (True, False, True)
        with pytest.raises(StoreError, match="another process works on it"):
            add(there, "zebra")
        add(here, "zebra")
    with there.claim("zebra", wait=True) as mine:
        assert not mine

    def die_at_work() -> None:
        with here.claim("a"):
            die()

    assert wait(start(die_at_work)) == -signal.SIGKILL
    with there.claim("a", wait=True) as mine:
        assert mine
    with pytest.raises(StoreError, match=r"is in .* already"):
        add(here, "zebra")


def test_publishing_spares_the_files_of_the_living_and_sweeps_those_of_the_dead(tmp_path: Path) -> None:
    writer = StoreWriter.open(tmp_path, IDENTITY)
    add(writer, "done")

    def die_at_work() -> None:
        with writer.claim("dead"):
            die()

    assert wait(start(die_at_work)) == -signal.SIGKILL
    with writer.claim("living") as mine:
        assert mine
        (lock,) = (p for p in (tmp_path / "parts").glob("*.lock") if p.stem == key_of("living"))
        growing = tmp_path / "parts" / f".{lock.stem}.part.1-0.tmp"
        growing.touch()
        for name in (f"parts/.{key_of('dead')}.part.1-0.tmp", "rgb-00007.npy", ".index.json.1-0.tmp"):
            (tmp_path / name).touch()
        StoreWriter.open(tmp_path, IDENTITY).publish()
        assert set(content(tmp_path / "parts")) == {lock.name, growing.name}
        growing.unlink()
        add(writer, "living")
    assert writer.publish().ids == ("done", "living")
    assert not (tmp_path / "parts").exists()
    assert "rgb-00007.npy" not in content(tmp_path)
    assert ".index.json.1-0.tmp" not in content(tmp_path)


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


def test_many_processes_fail_at_once(tmp_path: Path) -> None:
    StoreWriter.open(tmp_path, IDENTITY)

    def fail(number: int) -> None:
        StoreWriter.open(tmp_path, IDENTITY).fail(f"video {number}", "why")

    children = [start(lambda number=number: fail(number)) for number in range(8)]
    assert [wait(child) for child in children] == [0] * 8
    assert FeatureStore.open(tmp_path).failures == {f"video {number}": "why" for number in range(8)}


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
    with pytest.raises(StoreError, match=r"holds other files \(file\)"):
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
        with pytest.raises(StoreError, match="No space left on device"):
            add(writer, "b")
        with pytest.raises(StoreError, match="No space left on device"):
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
        ({"rgb": rgb[:2], "flow": flow}, r"rgb of video 'b' is \(2, 5\), its grid wants \(3, D\)"),
        ({"rgb": rgb, "flow": flow[:, 0]}, r"flow of video 'b' is \(3,\)"),
        ({"rgb": rgb.astype(np.float64), "flow": flow}, "float64"),
        ({"../rgb": rgb}, "a stream is named"),
        ({"rgb": rgb}, "video 'b' has rgb 5 x float32; the store keeps flow 3 x float16, rgb 5 x float32"),
        ({"rgb": rgb[:, :4], "flow": flow}, "video 'b' has flow 3 x float16, rgb 4 x float32; the store keeps"),
    ]:
        for opened in (writer, StoreWriter.open(tmp_path, IDENTITY)):
            with pytest.raises(StoreError, match=message):
                opened.write("b", grid, wrong, {})
    with pytest.raises(StoreError, match="JSON"):
        writer.write("b", grid, streams, {"loudness": float("nan")})
    assert writer.publish().ids == ("a",)
    with pytest.raises(StoreError, match="the store keeps"):
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
            "format 2, this wtal reads format 1",
        ),
        ("index.json", lambda path: replace(path, '"offset": 0', '"offset": 99'), "leave their shard"),
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
    if message is None:  # but for its final newline the file is whole
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
    assert store_name("i3d-16x16@25", IDENTITY) == store_name("i3d-16x16@25", dict(reversed(IDENTITY.items())))
    assert store_name("i3d", IDENTITY) != store_name("i3d", {**IDENTITY, "stride": 8})
    file = tmp_path / "video"
    file.write_bytes(b"0123456789" * 10)
    first = file_fingerprint(file, ends=8)
    assert first.startswith("100-")
    for changed in (b"x" + file.read_bytes()[1:], file.read_bytes()[:-1] + b"x", file.read_bytes() + b"0"):
        file.write_bytes(changed)
        assert file_fingerprint(file, ends=8) != first


def test_the_benchmark_reports_rows_ratios_and_the_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "below" / "store.json"
    benchmark.main(["--videos", "3", "--dim", "4", "--reads", "5", "--repeat", "1", "--out", str(out)])
    result = json.loads(out.read_text())
    assert json.loads(capsys.readouterr().out) == result
    assert result["what"] == "store"
    assert [row["layout"] for row in result["rows"]] == ["store", "npy", "npz"]
    assert set(result["ratios"]) == {"npy / store", "npz / store"}
    assert result["machine"]["libraries"]["numpy"] == np.__version__
