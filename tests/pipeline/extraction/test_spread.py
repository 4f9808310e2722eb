"""One call of extraction on a cluster, in stages that overlap, planned before and timed after."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from click.testing import CliRunner

from tests.support.memory import peak_mb
from tests.support.videos import constant, write_video
from wtal.cli import main
from wtal.data.store import FeatureStore
from wtal.data.store.index import read_failures
from wtal.extractors.execution.config import ExtractConfig
from wtal.extractors.execution.extractor import Extractor, ExtractorSpec
from wtal.pipeline.extraction import engines, worker
from wtal.pipeline.extraction.machine import Machine

COUNT = 8
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


def interrupted(workspace, pid, *arguments):
    """Run a call, and kill a process once a video is in; return the call's exit code, stdout and stderr."""
    call = [sys.executable, "-m", "wtal", *map(str, arguments), "--workspace", str(workspace)]
    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        deadline = time.monotonic() + 240
        while not list(workspace.glob("features/*/parts/*.part")):
            assert running.poll() is None, running.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(pid, signal.SIGKILL)
        out, err = running.communicate(timeout=240)
    return running.returncode, out, err


def wtal(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "wtal", *map(str, arguments)], capture_output=True, text=True, timeout=300, **options
    )


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for number in range(COUNT):
        write_video(folder / f"v{number}.mp4", constant(25, 30 + 25 * number))
    (folder / "empty.mp4").touch()
    return folder


@pytest.fixture(scope="module")
def plain(videos, tmp_path_factory):
    """Store and stderr of one call in one process."""
    done = wtal("extract", videos, "--workspace", tmp_path_factory.mktemp("plain"))
    assert done.returncode == 3, done.stderr
    return Path(done.stdout.strip()), done.stderr


def content(store):
    """Bytes of all published files, by name."""
    return {path.name: path.read_bytes() for path in Path(store).iterdir() if path.is_file() and path.name != ".lock"}


@pytest.mark.slow
def test_threads_processes_and_decoders_make_the_same_store(videos, plain, tmp_path):
    for number, options in enumerate((["--decoders", "1"], ["--decoders", "5"], ["--jobs", "2"])):
        done = wtal("extract", videos, "--workspace", tmp_path / str(number), *options)
        assert done.returncode == 3, done.stderr
        assert content(done.stdout.strip()) == content(plain[0])


@pytest.mark.slow
def test_two_processes_make_a_networks_features_to_the_last_digits(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for number in range(2):
        write_video(folder / f"v{number}.mp4", constant(25, 16))
    options = ("--backbone", "i3d", "--streams", "rgb", "--weights", "random:0", "--runtime", "torch")
    found = []
    for jobs in ("1", "2"):
        done = wtal("extract", folder, *options, "--jobs", jobs, "--workspace", tmp_path / jobs)
        assert done.returncode == 0, done.stderr
        found.append(FeatureStore.open(done.stdout.strip()))
    for video in ("v0", "v1"):
        one, two = (store[video].streams["rgb"] for store in found)
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-5 * np.abs(one).max())


def killed_by_one(stores, specs, home, video):
    """Replacement for the work of a process, which one video kills."""
    if video.id == "v2":
        os.kill(os.getpid(), signal.SIGKILL)
    return worker.extract_in_worker(stores, specs, home, video)


@pytest.mark.slow
def test_a_video_that_kills_its_process_is_a_failure_and_the_others_are_in(videos, tmp_path, monkeypatch):
    """The same holds in a later call without other work."""
    files = [str(videos / f"{name}.mp4") for name in ("v0", "v1", "v2")]
    call = ["extract", *files, "--workspace", str(tmp_path), "--jobs", "2"]
    monkeypatch.setattr(worker, "extract_in_worker", killed_by_one)
    done = CliRunner().invoke(main, call)
    assert done.exit_code == 3, done.stderr
    assert done.stderr.count("failed: v2: its process was killed (out of memory?)") == 1
    store = FeatureStore.open(done.stdout.strip())
    assert store.ids == ("v0", "v1")
    assert set(read_failures(store.path)) == {"v2"}
    assert CliRunner().invoke(main, call).exit_code == 3


@pytest.mark.slow
def test_dask_makes_the_same_store_also_if_a_worker_is_killed(videos, plain, tmp_path):
    with started(CLUSTER) as (_, address, pids):
        options = ("--engine", "dask", "--cluster", address)
        done = wtal("extract", videos, "--workspace", "ws", *options, cwd=tmp_path)
        assert done.returncode == 3, done.stderr
        assert content(tmp_path / done.stdout.strip()) == content(plain[0])
        code, out, err = interrupted(tmp_path / "killed", pids[0], "extract", videos, *options)
    assert code == 3, err
    assert content(out.strip()) == content(plain[0])


@pytest.mark.slow
def test_after_a_dask_scheduler_is_gone_the_same_call_goes_on(videos, plain, tmp_path):
    call = ["extract", videos, "--engine", "dask", "--cluster"]
    with started(CLUSTER) as (cluster, address, _):
        code, out, err = interrupted(tmp_path, cluster.pid, *call, address)
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
        gone = interrupted(tmp_path / "gone", scheduler.pid, "extract", videos, *options)
        for process in family:
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


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--engine", "dask"], 2, "--cluster"),
        (["--engine", "ray"], 2, "--cluster"),
        (["--cluster", "tcp://127.0.0.1:1", "--jobs", "2"], 2, "--engine dask or --engine ray"),
        (["--cluster", "tcp://127.0.0.1:1"], 2, "--engine dask or --engine ray"),
        (["--engine", "dask", "--cluster", "tcp://127.0.0.1:1", "--jobs", "2"], 2, "leave out --jobs"),
        (["--jobs", "2", "--decoders", "3"], 2, "--decoders is for a single process"),
        (["--profile", "p.json", "--dry-run"], 2, "no effect with --dry-run"),
        (["--profile", "/nowhere/p.json"], 2, "--profile /nowhere/p.json: "),
    ],
)
def test_engines_that_cannot_run_are_refused_in_a_line_and_planned_no_more_than_run(videos, options, code, said):
    for way in (["--dry-run"], []):
        result = CliRunner().invoke(main, ["extract", str(videos), *options, *way])
        assert result.exit_code == code
        assert said in result.stderr
        assert result.stderr.count("wtal:") == 1


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


def test_the_time_table_counts_what_was_done(videos, tmp_path):
    done = wtal("extract", videos, "--workspace", tmp_path / "ws", "--profile", tmp_path / "p.json")
    profile = json.loads((tmp_path / "p.json").read_text())
    store = FeatureStore.open(done.stdout.strip())
    grids = [store[name].grid for name in store.ids]
    stages = profile["stages"]
    assert profile["videos"] == COUNT + 1
    assert stages["decode and size"]["units"] == sum(grid.frames for grid in grids)
    assert stages["flow"]["units"] == sum(grid.frames - 1 for grid in grids)
    for stream in ("rgb", "flow"):
        assert stages[f"motion-pyramid {stream}"]["units"] == sum(grid.num_snippets for grid in grids)
    assert stages["store"]["units"] == COUNT
    assert all(stage["seconds"] > 0 for stage in stages.values())
    assert profile["busy"] == pytest.approx(sum(stage["seconds"] for stage in stages.values()))
    assert "\ntotal " in done.stderr


@pytest.mark.slow
def test_a_plan_says_what_extraction_then_does_and_writes_nothing(videos, plain, tmp_path):
    done = wtal("extract", videos, "--workspace", tmp_path / "ws", "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "ws").exists()
    plan = json.loads(done.stdout)
    store = FeatureStore.open(plain[0])
    snippets = sum(store[name].grid.num_snippets for name in store.ids)
    assert plan["stores"] == [
        {
            "path": str(tmp_path / "ws" / "features" / plain[0].name),
            "videos": COUNT,
            "snippets": snippets,
            "bytes": sum(array.nbytes for name in store.ids for array in store[name].streams.values()),
        }
    ]
    assert [video["id"] for video in plan["videos"]] == ["empty", *(f"v{n}" for n in range(COUNT))]
    assert plan["videos"][0]["problem"] == "the file is empty (0 bytes)"
    assert plan["seconds"] == pytest.approx(sum(30 + 25 * n for n in range(COUNT)) / 25)
    assert plan["rate"] > 0
    assert plan["needed_seconds"] == pytest.approx(plan["seconds"] / plan["rate"])
    assert not plan["cluster"]


def test_a_plan_leaves_out_what_is_done(videos, plain):
    done = wtal("extract", videos, "--workspace", plain[0].parents[1], "--dry-run")
    assert f"videos    {COUNT + 1}, {COUNT} of them already extracted" in done.stdout
    assert "empty: the file is empty" in done.stdout
    assert "nothing to extract" in done.stdout


@pytest.mark.slow
def test_memory_does_not_grow_with_a_video(tmp_path):
    """Peak memory of the process and of its readers, for 2 and for 10 minutes."""
    peaks = {}
    for minutes in (2, 10):
        video = write_video(tmp_path / f"{minutes}.mp4", constant(25, 1500 * minutes))
        call = [sys.executable, "-m", "wtal", "extract", str(video), "--workspace", str(tmp_path), "--flow", "dis"]
        peaks[minutes] = peak_mb(call)
    assert (peaks[10] - peaks[2]) / 8 < 10, peaks  # MB per minute; frames alone would be 86


def test_as_many_processes_as_the_cores_and_the_videos_are_worth(monkeypatch, tmp_path):
    monkeypatch.setattr("joblib.cpu_count", lambda: 8)
    monkeypatch.setattr("wtal.pipeline.extraction.machine._MEMORY", tmp_path / "none")

    def jobs(videos, networks=False, **settings):
        return Machine(**{"jobs": 0, **settings}).settled(videos, networks).jobs

    assert [jobs(videos) for videos in (0, 1, 7, 8, 12, 1000)] == [1, 1, 1, 2, 3, 4]
    assert jobs(1000, networks=True) == jobs(1000, device="cuda") == jobs(1000, decoders=2) == 1
    assert jobs(1000, engine="ray", cluster="auto") == 1
    assert jobs(1, networks=True, jobs=3) == 3
    monkeypatch.setattr("joblib.cpu_count", lambda: 2)
    assert jobs(1000) == 1


def test_as_many_processes_as_the_memory_bears(monkeypatch, tmp_path):
    monkeypatch.setattr("joblib.cpu_count", lambda: 64)

    def jobs(text):
        (tmp_path / "meminfo").write_text(text)
        monkeypatch.setattr("wtal.pipeline.extraction.machine._MEMORY", tmp_path / "meminfo")
        return Machine(jobs=0).settled(1000, networks=False).jobs

    assert jobs("MemTotal: 99999999 kB\nMemAvailable:    5242880 kB\n") == 5
    assert jobs("MemAvailable:    1000 kB\n") == 1
    assert jobs("MemAvailable: 999999999 kB\n") == jobs("") == 32
    (tmp_path / "meminfo").unlink()
    assert Machine(jobs=0).settled(1000, networks=False).jobs == 32


def test_a_network_gets_the_cores_that_a_container_leaves(monkeypatch):
    """Use joblib's count, which includes limits of a container, unlike the list of processors."""
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    assert Extractor(ExtractorSpec(ExtractConfig())).threads == 1
    assert Machine(device="cuda").in_flight == 2
