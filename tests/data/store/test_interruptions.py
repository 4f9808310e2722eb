"""Feature store, killed at every step and written by many processes: the same bytes, nothing lost."""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.support.stores import IDENTITY, VIDEOS, add, content, extract, features
from wtal.data.store import FeatureStore
from wtal.data.store.part import key_of
from wtal.data.store.writer import StoreWriter
from wtal.errors import StoreError


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
    """Bytes of an uninterrupted store."""
    path = tmp_path_factory.mktemp("whole") / "store"
    extract(path, VIDEOS)
    return content(path)


@pytest.fixture
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Switch off fsync: it only guards against a loss of power, and is slow on a busy disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def test_nothing_but_the_published_files_is_left(whole: dict[str, bytes]) -> None:
    shards = {name for name in whole if name.endswith(".npy")}
    assert len(shards) > 2
    assert set(whole) == shards | {"index.json", "failures.json", ".lock"}
    assert whole[".lock"] == b""
    assert json.loads(whole["failures.json"]) == {}


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


@pytest.mark.slow
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
            reader = FeatureStore.open(path)  # at any moment of its death
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


@pytest.mark.slow
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


@pytest.mark.usefixtures("unsynced")
def test_a_store_is_read_whole_while_another_process_adds_to_it(tmp_path: Path) -> None:
    """Whenever it is opened it has the videos of some publication, all readable, and never fewer than before."""
    extract(tmp_path, VIDEOS[:1])
    child = start(lambda: [extract(tmp_path, VIDEOS[: count + 1]) for count in range(1, len(VIDEOS))])
    seen = [1]
    first = FeatureStore.open(tmp_path)
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        store = FeatureStore.open(tmp_path)
        assert store.ids == tuple(sorted(VIDEOS[: len(store)]))
        for video in store:
            for stream, values in features(video)[1].items():
                np.testing.assert_array_equal(store[video].streams[stream], values)
        seen.append(len(store))
    assert ended[1] == 0
    assert seen == sorted(seen)
    assert first.ids == (VIDEOS[0],)
    assert len(FeatureStore.open(tmp_path)) == len(VIDEOS)


def test_a_claim_shuts_others_out_until_its_holder_is_done_or_dead(tmp_path: Path) -> None:
    here, there = StoreWriter.open(tmp_path, IDENTITY), StoreWriter.open(tmp_path, IDENTITY)
    with here.claim("zebra") as mine, there.claim("zebra") as theirs, there.claim("short") as other:
        assert (mine, theirs, other) == (True, False, True)
        with pytest.raises(StoreError, match="another process is working on it"):
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
    with pytest.raises(StoreError, match=r"is already in .*"):
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


def test_many_processes_fail_at_once(tmp_path: Path) -> None:
    StoreWriter.open(tmp_path, IDENTITY)

    def fail(number: int) -> None:
        StoreWriter.open(tmp_path, IDENTITY).fail(f"video {number}", "why")

    children = [start(lambda number=number: fail(number)) for number in range(8)]
    assert [wait(child) for child in children] == [0] * 8
    assert FeatureStore.open(tmp_path).failures == {f"video {number}": "why" for number in range(8)}
