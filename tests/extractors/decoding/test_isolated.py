"""Reader process: the same frames as in process; a hang, a crash or a dead parent costs one video at most."""

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import CancelledError
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.support.reference import REPOSITORY, SHARED, needs_shared
from tests.support.videos import constant, number_in, write_video
from wtal.errors import UsageError, VideoError
from wtal.extractors.decoding import reader_process
from wtal.extractors.decoding.frame_size import FrameSize, scale, scaled_size
from wtal.extractors.decoding.isolated import ReaderPool, ReaderProcess
from wtal.extractors.decoding.probe import probe
from wtal.extractors.decoding.resample import Sampler
from wtal.extractors.readers import READERS, read

SIZE = FrameSize(96, enlarge=True)
RATE = Fraction(25)
needs_decord = pytest.mark.skipif(bool(READERS.load("decord").why_not()), reason="decord is not installed")


@pytest.fixture(scope="module")
def process():
    with ReaderProcess() as process:
        yield process


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("isolate") / "x.mp4", constant(30, 90))


@pytest.fixture(scope="module")
def long_video(tmp_path_factory):
    path = tmp_path_factory.mktemp("isolate") / "long.mp4"
    return write_video(path, constant(25, 200), size=(640, 480), options={"preset": "ultrafast"})


def pid_of(process: ReaderProcess) -> int:
    return process._child.pid


def test_frames_are_those_of_the_reader(process, video):
    info = probe(video)
    target = scaled_size(info.width, info.height, SIZE)
    wanted = np.stack([scale(image, target) for image in Sampler(read(info, "pyav"), info, RATE)])
    with process.open(video, RATE, SIZE, "pyav") as opened:
        chunks = list(opened)
    assert all(len(chunk) <= 32 for chunk in chunks)
    assert np.array_equal(np.concatenate(chunks), wanted)
    assert chunks[0].flags.writeable
    assert opened.info == info
    assert (opened.summary.frames, opened.summary.decoded, opened.summary.reader) == (75, 90, "pyav")


def test_process_is_used_again_and_replaced_after_an_early_close(process, video):
    with process.open(video, RATE, SIZE) as opened:
        numbers = [number_in(image) for chunk in opened for image in chunk]
    assert numbers == [j * 30 // 25 for j in range(75)]
    first = pid_of(process)
    with pytest.raises(VideoError, match="does not exist"):
        process.open(video.with_name("absent.mp4"), RATE, SIZE)
    with pytest.raises(UsageError, match="no reader 'nonsense'"):
        process.open(video, RATE, SIZE, "nonsense")
    with process.open(video, RATE, SIZE) as opened:
        assert next(iter(opened)).shape == (32, 96, 128, 3)
        with pytest.raises(ValueError, match="after the last chunk"):
            _ = opened.summary
        assert pid_of(process) == first
    with process.open(video, RATE, SIZE) as opened:
        assert sum(map(len, opened)) == 75
        assert pid_of(process) != first


def test_hanging_reader_is_killed_in_time(process, long_video, video):
    with process.open(long_video, RATE, FrameSize(480, enlarge=False), "pyav", time_limit=3.0) as opened:
        chunks = iter(opened)
        next(chunks)
        stopped = pid_of(process)
        os.kill(stopped, signal.SIGSTOP)
        with pytest.raises(VideoError, match="reader pyav gave no frame for 3 s"):
            list(chunks)
        assert not _runs(stopped)
    with process.open(video, RATE, SIZE) as opened:
        assert sum(map(len, opened)) == 75


def test_transport_streams_are_read(process, tmp_path):
    path = write_video(tmp_path / "x.ts", constant(25, 200))
    with process.open(path, RATE, SIZE) as opened:
        assert [number_in(image) for chunk in opened for image in chunk] == list(range(200))
    assert opened.summary.reader == "pyav"


def test_signs_of_life_between_chunks(video, monkeypatch):
    monkeypatch.setattr(reader_process, "_BEAT_SECONDS", -1.0)
    sent = []
    reader_process._serve(reader_process.Request(video, Fraction(1), SIZE, "pyav"), sent.append)
    kinds = [type(message).__name__ for message in sent]
    assert kinds == ["Opened", *["Beat"] * 90, "Worked", "ndarray", "VideoSummary"]


@pytest.mark.parametrize(("number", "name"), [(signal.SIGSEGV, "SIGSEGV"), (signal.SIGKILL, "SIGKILL .out of memory")])
def test_crash_names_the_signal(process, long_video, number, name):
    with process.open(long_video, RATE, FrameSize(480, enlarge=False), "pyav") as opened:
        chunks = iter(opened)
        next(chunks)
        os.kill(pid_of(process), number)
        with pytest.raises(VideoError, match=f"reader pyav was killed by {name}"):
            list(chunks)


def test_bug_in_the_process_is_named(process, video, monkeypatch):
    process.close()
    monkeypatch.setattr("wtal.extractors.decoding.isolated._PROGRAM", "raise RuntimeError('some bug')")
    with pytest.raises(VideoError, match="reader process ended with exit code 1: RuntimeError: some bug"):
        process.open(video, RATE, SIZE)


def test_decoding_waits_for_the_consumer(process, long_video):
    with process.open(long_video, RATE, FrameSize(480, enlarge=False), "pyav") as opened:
        chunks = iter(opened)
        first = len(next(chunks))
        stat = Path(f"/proc/{pid_of(process)}/stat")
        if not stat.exists():
            pytest.skip("needs /proc")

        def used():
            return int(stat.read_text().split()[13])

        before, at_rest = -1, used()
        while at_rest > before:
            time.sleep(0.3)
            before, at_rest = at_rest, used()
        assert first + sum(map(len, chunks)) == 200
        assert used() > at_rest


def test_no_torch_and_no_main_guard(tmp_path, video):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(f"""
        import os, sys
        from fractions import Fraction
        from pathlib import Path
        from wtal.extractors.decoding.isolated import ReaderPool, ReaderProcess
        from wtal.extractors.decoding.frame_size import FrameSize
        path, size = Path({str(video)!r}), FrameSize(96, False)
        with ReaderProcess() as process, process.open(path, Fraction(25), size) as opened:
            print(sum(len(chunk) for chunk in opened), "torch" in sys.modules)
        """)
    )
    root = REPOSITORY
    result = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(root)}
    )
    assert result.stdout.split() == ["75", "False"], result.stderr


def test_process_dies_with_its_parent(tmp_path, long_video):
    script = textwrap.dedent(f"""
        import os, sys, time
        from fractions import Fraction
        from pathlib import Path
        from wtal.extractors.decoding.isolated import ReaderPool, ReaderProcess
        from wtal.extractors.decoding.frame_size import FrameSize
        process = ReaderProcess()
        opened = process.open(Path({str(long_video)!r}), Fraction(25), FrameSize(480, False), "pyav")
        next(iter(opened))
        print(process._child.pid, flush=True)
        time.sleep(60)
        """)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=REPOSITORY) as parent:
        child = int(parent.stdout.readline())
        parent.kill()
    for _ in range(600):
        if not _runs(child):
            return
        time.sleep(0.05)
    pytest.fail("the reader process outlived its parent")


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().split()[2]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_requests_and_summaries_travel(process, video):
    with process.open(video, RATE, SIZE) as opened:
        list(opened)
    assert pickle.loads(pickle.dumps(opened.summary)) == opened.summary
    assert opened.summary.to_json()["reader"] == "pyav"


@needs_shared
def test_damaged_real_file_through_the_process(process):
    with process.open(SHARED / "data" / "odd" / "corrupted.mp4", RATE, SIZE, "pyav") as opened:
        assert sum(map(len, opened)) == 125
    assert opened.summary.decoded == 49
    assert opened.summary.notes == ("1 of 50 packets could not be decoded: Invalid data found when processing input",)


@pytest.mark.parametrize("error", [VideoError("dead"), OSError("gone"), ValueError("closed"), RuntimeError("stopped")])
def test_failures_after_the_pool_was_closed_are_cancellations(error):
    pool = ReaderPool()

    def fail():
        with pool.borrow():
            if closing:
                pool.close()
            raise error

    closing = False
    with pytest.raises(type(error), match=str(error)):
        fail()
    closing = True
    with pytest.raises(CancelledError):
        fail()
    with pytest.raises(CancelledError), pool.borrow():
        raise AssertionError("a closed pool lends nothing")


def test_a_pool_that_is_closed_while_a_video_is_opened_cancels_it(video):
    """Let another thread's `close` remove the child after its look-up."""

    class Killed:
        def send(self, request):
            raise ValueError("write to closed file")

        def kill(self):
            pass

    class ClosedOnceLookedUp(ReaderProcess):
        held = Killed()

        @property
        def _child(self):
            child, self.held = self.held, None
            if child is not None:
                pool.close()
            return child

        @_child.setter
        def _child(self, child):
            pass

    pool = ReaderPool()
    pool._processes.append(ClosedOnceLookedUp())
    pool._idle.put(pool._processes[0])
    with pytest.raises(CancelledError), pool.borrow() as process:
        process.open(video, RATE, SIZE)
