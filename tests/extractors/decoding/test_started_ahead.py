"""Reader process that is started before it is needed, and never outlives its block."""

import os
import signal
from fractions import Fraction

import pytest

from tests.support.videos import constant, write_video
from wtal.errors import VideoError
from wtal.extractors.decoding import isolated
from wtal.extractors.decoding.frame_size import FrameSize
from wtal.extractors.decoding.isolated import ReaderProcess, started_ahead
from wtal.pipeline.extraction.spread import reading_ahead

SIZE, RATE = FrameSize(48, enlarge=False), Fraction(25)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("ahead") / "x.mp4", constant(25, 10))


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_next_to_read_takes_it_and_ends_it(video):
    with started_ahead():
        ahead = isolated._AHEAD[0].pid
        with ReaderProcess() as process, ReaderProcess() as other:
            for reader in (process, other):
                with reader.open(video, RATE, SIZE) as opened:
                    assert sum(map(len, opened)) == 10
            assert process._child.pid == ahead != other._child.pid
        assert not is_alive(ahead)
    assert isolated._AHEAD == []


def test_it_ends_with_the_block_where_nobody_reads():
    with started_ahead():
        ahead = isolated._AHEAD[0].pid
        assert is_alive(ahead)
    assert not is_alive(ahead)
    assert isolated._AHEAD == []


def test_one_that_died_meanwhile_is_told_as_any_other(video):
    with started_ahead(), ReaderProcess() as process:
        os.kill(isolated._AHEAD[0].pid, signal.SIGKILL)
        with pytest.raises(VideoError, match="reader process was killed by SIGKILL"):
            process.open(video, RATE, SIZE)
        with process.open(video, RATE, SIZE) as opened:
            assert sum(map(len, opened)) == 10


@pytest.mark.parametrize(("jobs", "engine", "started"), [(1, "loky", 1), (2, "loky", 0), (1, "dask", 0)])
def test_none_is_started_where_other_processes_read(jobs, engine, started):
    with reading_ahead(jobs, engine):
        assert len(isolated._AHEAD) == started
