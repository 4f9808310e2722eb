"""One call of extraction on a cluster of dask or ray."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress

import psutil
import pytest
from click.testing import CliRunner

from tests.support.spreading import content, killed_by_one, wtal
from wtal.cli import main
from wtal.data.store import FeatureStore
from wtal.pipeline.extraction import engines, worker

CLUSTER = """
import sys
from distributed import LocalCluster
if __name__ == "__main__":
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "host": "127.0.0.1"}
    with LocalCluster(**options, scheduler_port=int(sys.argv[1])) as cluster:
        print(cluster.scheduler_address, flush=True)
        print(*(worker.pid for worker in cluster.workers.values()), flush=True)
        sys.stdin.read()
"""
RAY = """
import sys
import ray
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
print(ray.get_runtime_context().gcs_address, end="\\n\\n", flush=True)
sys.stdin.read()
"""


@contextmanager
def started(cluster, port=0):
    """Start a cluster for the block; yield its process, its address and its workers."""
    with subprocess.Popen(
        [sys.executable, "-c", cluster, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as it:
        address = it.stdout.readline().strip()
        yield it, address, [int(pid) for pid in it.stdout.readline().split()]
        it.stdin.close()


def interrupted(workspace, kill, *arguments):
    """Run a call, and `kill` something once a video is in; return the call's exit code, stdout and stderr."""
    call = [sys.executable, "-m", "wtal", *map(str, arguments), "--workspace", str(workspace)]
    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        deadline = time.monotonic() + 240
        while not list(workspace.glob("features/*/parts/*.part")):
            assert running.poll() is None, running.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        kill()
        out, err = running.communicate(timeout=240)
    return running.returncode, out, err


@pytest.mark.slow
def test_dask_makes_the_same_store_also_if_a_worker_is_killed(videos, plain, tmp_path):
    with started(CLUSTER) as (_, address, pids):
        options = ("--engine", "dask", "--cluster", address)
        done = wtal("extract", videos, "--workspace", "ws", *options, cwd=tmp_path)
        assert done.returncode == 3, done.stderr
        assert content(tmp_path / done.stdout.strip()) == content(plain[0])
        code, out, err = interrupted(tmp_path / "killed", psutil.Process(pids[0]).kill, "extract", videos, *options)
    assert code == 3, err
    assert content(out.strip()) == content(plain[0])


@pytest.mark.slow
def test_after_a_dask_scheduler_is_gone_the_same_call_goes_on(videos, plain, tmp_path):
    call = ["extract", videos, "--engine", "dask", "--cluster"]
    with started(CLUSTER) as (cluster, address, _):
        code, out, err = interrupted(tmp_path, cluster.kill, *call, address)
    assert (code, out) == (1, "")
    assert err.splitlines()[-1] == f"wtal: {engines.GONE.format(address)}"
    assert "Traceback" not in err
    with started(CLUSTER, address.rpartition(":")[2]):
        done = wtal(*call, address, "--workspace", tmp_path)
    assert done.returncode == 3, done.stderr
    assert "videos are already in" in done.stderr
    assert content(done.stdout.strip()) == content(plain[0])


@pytest.mark.slow
def test_a_dask_scheduler_that_goes_with_a_result_on_its_way_is_not_awaited(videos, tmp_path, monkeypatch, capfd):
    distributed = pytest.importorskip("distributed")
    with started(CLUSTER) as (cluster, address, _):

        async def gather(*_):
            os.kill(cluster.pid, signal.SIGKILL)
            raise distributed.comm.CommClosedError("connection reset by peer")

        monkeypatch.setattr(distributed.Client, "_gather_remote", gather)
        options = ["--workspace", str(tmp_path), "--engine", "dask", "--cluster", address]
        done = CliRunner().invoke(main, ["extract", str(videos / "v0.mp4"), *options])
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == f"wtal: {engines.GONE.format(address)}"
    assert "Traceback" not in done.stderr + capfd.readouterr().err


@pytest.mark.slow
def test_a_video_that_kills_its_dask_workers_is_a_failure(videos, tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "extract_in_worker", killed_by_one)
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "0")
    with started(CLUSTER) as (_, address, _):
        options = ["--workspace", str(tmp_path), "--engine", "dask", "--cluster", address]
        done = CliRunner().invoke(main, ["extract", *(str(videos / f"v{n}.mp4") for n in range(3)), *options])
    assert done.exit_code == 3, done.stderr
    assert done.stderr.count("failed: v2: its process was killed (out of memory?)") == 1
    assert FeatureStore.open(done.stdout.strip()).ids == ("v0", "v1")


def killed_once(stores, specs, home, video):
    """Replacement for the work of a process, which is killed in the middle of it, the first time."""
    if video.id == "v2":
        with suppress(FileExistsError):
            (stores[0].parent / "killed").touch(exist_ok=False)
            os.kill(os.getpid(), signal.SIGKILL)
    return worker.extract_in_worker(stores, specs, home, video)


@pytest.mark.slow
def test_ray_makes_the_same_store_also_if_a_worker_is_killed_or_the_cluster_goes(videos, plain, tmp_path, monkeypatch):
    """A video that kills its worker again is a failure; a call whose cluster is gone goes on without one."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    few = [str(videos / f"v{number}.mp4") for number in range(3)]
    with started(RAY) as (cluster, address, _):
        options = ["--engine", "ray", "--cluster", address]
        monkeypatch.setattr(worker, "extract_in_worker", killed_once)
        once = CliRunner().invoke(main, ["extract", str(videos), "--workspace", str(tmp_path / "once"), *options])
        monkeypatch.setattr(worker, "extract_in_worker", killed_by_one)
        again = CliRunner().invoke(main, ["extract", *few, "--workspace", str(tmp_path / "again"), *options])
        family = psutil.Process(cluster.pid).children()
        scheduler = next(process for process in family if process.name() == "gcs_server")

        def kill():
            """Kill the scheduler; the workers stand still before, or they would finish the videos without it."""
            everyone = psutil.Process(cluster.pid).children(recursive=True)
            workers = [process for process in everyone if process.name().startswith("ray::")]
            for process in workers:
                process.suspend()
            scheduler.kill()
            assert workers

        gone = interrupted(tmp_path / "gone", kill, "extract", videos, *options)
        for process in psutil.Process(cluster.pid).children(recursive=True):
            process.kill()
        cluster.kill()
    assert once.exit_code == 3, once.stderr
    assert list(tmp_path.glob("once/features/killed"))
    assert content(once.stdout.strip()) == content(plain[0])
    assert again.exit_code == 3, again.stderr
    assert again.stderr.count("failed: v2: its process was killed (out of memory?)") == 1
    assert FeatureStore.open(again.stdout.strip()).ids == ("v0", "v1")
    assert gone[:2] == (1, "")
    assert f"wtal: {engines.GONE.format(address)}" in gone[2].splitlines()
    assert "Traceback" not in gone[2]
    done = wtal("extract", videos, "--workspace", tmp_path / "gone")
    assert "videos are already in" in done.stderr
    assert content(done.stdout.strip()) == content(plain[0])


@pytest.mark.slow
def test_a_scheduler_that_does_not_answer_is_named(videos, tmp_path):
    done = wtal("extract", videos, "--workspace", tmp_path, "--engine", "dask", "--cluster", "tcp://127.0.0.1:9")
    assert done.returncode == 1
    assert "no dask scheduler answers at tcp://127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9", "127.0.0.1:port"])
def test_a_ray_cluster_that_does_not_answer_is_named(videos, tmp_path, monkeypatch, address):
    """Refuse before ray tries for minutes."""
    ray = pytest.importorskip("ray")

    def refuse(**options):
        raise AssertionError("ray was asked")

    monkeypatch.setattr(ray, "init", refuse)
    call = ["extract", str(videos), "--workspace", str(tmp_path), "--engine", "ray", "--cluster", address]
    done = CliRunner().invoke(main, call)
    assert done.exit_code == 1
    assert f"wtal: no ray cluster answers at {address}: " in done.stderr


def test_a_listener_is_let_through_and_words_are_left_to_ray():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}", "auto", "local"):
            engines._require_listener(address)
    with pytest.raises(OSError, match="refused"):
        engines._require_listener(f"127.0.0.1:{port}")
