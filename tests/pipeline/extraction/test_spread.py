"""One call of extraction in several processes, planned before and timed after."""

import json
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from tests.support.memory import peak_mb
from tests.support.spreading import COUNT, content, killed_by_one, wtal
from tests.support.videos import constant, write_video
from wtal.cli import main
from wtal.data.store import FeatureStore
from wtal.data.store.index import read_failures
from wtal.extractors.execution.config import ExtractConfig
from wtal.extractors.execution.extractor import Extractor, ExtractorSpec
from wtal.pipeline.extraction import worker
from wtal.pipeline.extraction.machine import Machine


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
    assert plan["seconds"] == pytest.approx(sum(30 + 12 * n for n in range(COUNT)) / 25)
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
    """Peak memory of the process and of its readers, for 1 and for 3 minutes."""
    peaks = {}
    for minutes in (1, 3):
        video = write_video(tmp_path / f"{minutes}.mp4", constant(25, 1500 * minutes))
        call = [sys.executable, "-m", "wtal", "extract", str(video), "--workspace", str(tmp_path), "--flow", "dis"]
        peaks[minutes] = peak_mb(call)
    assert (peaks[3] - peaks[1]) / 2 < 10, peaks  # MB per minute; frames alone would be 86


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


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, which only Linux has")
def test_the_process_that_removes_semaphores_gives_no_warning():
    script = (
        "import sys\nfrom pathlib import Path\nfrom wtal.pipeline.extraction.engines import start_pool\n"
        "from wtal.pipeline.extraction.machine import Machine\n"
        "from joblib.externals.loky.backend.resource_tracker import _resource_tracker as tracker\n"
        "with start_pool(Machine(jobs=2), 2):\n"
        "    call = Path(f'/proc/{tracker._pid}/cmdline')\n"
        "    while not call.read_text(): pass\n"
        "    print(call.read_text().split(chr(0)))\n"
        "print(sys.warnoptions)\n"
    )
    call = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    assert "'-Werror', '-Wignore'" in done.stdout.splitlines()[0]
    assert done.stdout.splitlines()[1] == "['error']"
