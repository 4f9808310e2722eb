import importlib
import json
import subprocess
import sys
from functools import cache, partial
from pathlib import Path
from timeit import timeit

import cv2
import numpy as np
import pytest
import torch

import benchmarks
from benchmarks import _naive, extraction, flow, flow_gpu, heads, judge, make_table
from benchmarks import store as benchmark
from benchmarks.__main__ import ALONE, QUICK, QUICK_ON_CUDA
from benchmarks._memory import followed
from benchmarks._motions import MOTIONS, NOISES, SMALL, TEXTURES, endpoint_error, pair, pairs, sample
from benchmarks._process import growth
from benchmarks._turns import rates, take_turns
from benchmarks.decode import check
from wtal import models
from wtal.errors import FormatError, VideoError
from wtal.extractors.flow import create_flow
from wtal.extractors.tvl1.parameters import Parameters
from wtal.models.heads import HEADS

FOLDER = Path(benchmarks.__file__).parent
MEASURED = {
    "store": "ms_per_read",
    "decode": "frames_per_s",
    "backbones": "snippets_per_s",
    "extraction": "s",
    "whole": "command",
    "weightless": "frames_per_s",
    "flow": "pairs_per_s",
    "flow_quality": "motion_mean",
    "flow_limits": "us_per_iteration",
    "heads": "videos_per_s",
    "networks": "snippets_per_s",
    "judge": "detections_per_s",
    "diagnosis": "detections_per_s",
    "random_walk": "walks_per_s",
    "localization": "videos_per_s",
    "submission": "detections_per_s",
}
TINY = {
    "store": ["--videos", "3", "--dim", "8", "--reads", "5", "--repeat", "1"],
    "decode": ["--sizes", "64x48", "96x64", "--frames", "6", "--repeat", "1"],
    "backbones": ["--sizes", "64x48", "--snippets", "2", "--batches", "1", "2", "--i3d-size", "40x32", "--repeat", "1"],
    "extraction": ["--rendered", "1", "--seconds", "0.5", "--repeat", "1"],
    "whole": ["--cases", "64x48,h264,30", "--features", "motion-pyramid", "--seconds", "1", "--repeat", "1"],
    "weightless": ["--sizes", "64x48", "--frames", "10", "--repeat", "1"],
    "flow": ["--sizes", "32x24", "--textures", "fine", "--settings", "4x0.5 w1 1x10 m3", "--repeat", "1"],
    "flow_quality": ["--size", "48x40", "--clips", "1", "--settings", "2x0.5 w1 1x5 m3"],
    "flow_limits": ["--sizes", "64x48", "--iterations", "2", "--repeat", "1"],
    "heads": ["--heads", "basnet", "--videos", "3", "--lengths", "5", "9", "--widths", "128", "--repeat", "1"],
    "networks": ["--networks", "i3d", "--ways", "eager", "channels last", "--size", "40x32", "--repeat", "1"],
    "judge": ["--detections", "60", "200", "--whole", "60", "--sample", "30", "--repeat", "1"],
    "diagnosis": ["--detections", "60", "200", "--whole", "60", "--sample", "30", "--repeat", "1"],
    "random_walk": ["--lengths", "5", "9", "--width", "6", "--means", "3", "--repeat", "1"],
    "localization": ["--videos", "3", "--snippets", "60", "--classes", "2", "--loop-videos", "2", "--repeat", "1"],
    "submission": ["--videos", "3", "--detections", "30", "--repeat", "1"],
}


def single_round(tasks, repeat):
    """Stand-in for `take_turns` that leaves out the first round, which is not counted."""
    return {name: [timeit(task, number=1) for _ in range(repeat)] for name, task in tasks.items()}


QUICKER = {
    "extraction": {"take_turns": single_round, "render": partial(extraction.render, size=(64, 48))},
    "flow": {"take_turns": single_round},
    "judge": {"_AT_LEAST": 200},
    "networks": {"take_turns": single_round},
}
"""Parts of long benchmarks that are replaced."""

SHORT = {"diagnosis", "localization", "random_walk", "store", "submission"}
"""Benchmarks that take less than two seconds at tiny sizes."""


@pytest.fixture(scope="module")
def result_of(tmp_path_factory):
    """Function from the name of a benchmark to the JSON file written by its command."""
    folder = tmp_path_factory.mktemp("results")

    @cache
    def run(name):
        with pytest.MonkeyPatch.context() as patch:
            for target, value in QUICKER.get(name, {}).items():
                patch.setattr(f"benchmarks.{name}.{target}", value)
            importlib.import_module(f"benchmarks.{name}").main([*TINY[name], "--out", str(folder / f"{name}.json")])
        return folder / f"{name}.json"

    return run


def test_every_benchmark_is_run_by_the_command():
    found = {path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_")} - {"make_table"}
    assert found == set(QUICK) | set(QUICK_ON_CUDA) | set(ALONE)
    assert not set(ALONE) & set(QUICK)
    assert set(QUICK) == set(TINY)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in SHORT else [pytest.mark.slow]) for n in TINY])
def test_result(result_of, name):
    result = json.loads(result_of(name).read_text())
    assert set(result) == {"what", "machine", "rows", "ratios"}
    assert result["what"] == name
    assert {"cpus", "system", "python", "libraries"} <= set(result["machine"])
    assert len({tuple(row) for row in result["rows"]}) == 1
    assert all(row[MEASURED[name]] > 0 for row in result["rows"])
    assert result["ratios"]
    assert all(" / " in pair and ratio > 0 for pair, ratio in result["ratios"].items())


@pytest.mark.slow
def test_decode_has_every_reader_at_every_size(result_of):
    rows = json.loads(result_of("decode").read_text())["rows"]
    tasks = [{row["task"] for row in rows if row["size"] == size} for size in ("64x48", "96x64")]
    assert tasks[0] == tasks[1] >= {"pyav", "opencv", "pyav isolated", "opencv isolated", "pyav alone", "opencv alone"}


def test_the_judge_refuses_a_peer_that_disagrees():
    judge.check({"wtal": {"run": [0.5], "jump": [1.0]}, "sampled": {"run": [0.5]}})
    with pytest.raises(ValueError, match="other and wtal differ by 5"):
        judge.check({"wtal": {"run": [0.5]}, "other": {"run": [1.0]}})


def test_decode_refuses_a_way_that_loses_frames():
    check("whole", lambda: 6, 6)
    with pytest.raises(VideoError, match="torn gave 5 frames of a file that has 6"):
        check("torn", lambda: 5, 6)


def test_turns_run_every_task_once_a_repetition_after_one_round_more():
    calls = []
    times = take_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2)
    assert calls == ["b", "a", "a", "b", "b", "a"]
    assert [len(values) for values in times.values()] == [2, 2]
    assert rates({"a": [2.0, 4.0, 100.0]}, 8) == {"a": 2.0}


def test_naive_peers_are_descriptors():
    right = np.zeros((2, 6, 20, 30, 2), np.float32)
    right[..., 0] = 3
    found = _naive.hof_and_mbh(right)
    assert found.shape == (2, 625)
    hof = (found[0, :225] ** 2).reshape(25, 9)
    assert hof.sum() == pytest.approx(1)
    np.testing.assert_allclose(hof[:, 4], 1 / 25, rtol=1e-5)
    assert not found[:, 225:].any()
    assert not _naive.hog(np.zeros((1, 6, 20, 30, 3), np.uint8)).any()


@pytest.mark.slow
def test_page(result_of):
    text = make_table.page([make_table.load(result_of(name)) for name in TINY])
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings == ["# Benchmarks", *(f"## {name}" for name in TINY)]
    assert "| ratio | 64x48 | 96x64 |" in text
    assert "CPU cores" in text
    assert "Milliseconds to read a random video" in text
    for block in text.split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") for line in block.splitlines()}) == 1


def test_page_refuses_what_does_not_fit(result_of, tmp_path):
    first, second = make_table.load(result_of("store")), make_table.load(result_of("decode"))
    second["machine"] = second["machine"] | {"cpus": 1000}
    with pytest.raises(FormatError, match="not from one machine"):
        make_table.page([first, second])
    other = tmp_path / "other.json"
    for content in ("[]", "{}", "no json"):
        other.write_text(content)
        with pytest.raises(FormatError, match=r"other\.json is not the result of a benchmark"):
            make_table.load(other)
    with pytest.raises(SystemExit, match="is not the result of a benchmark"):
        make_table.main([str(tmp_path / "missing.json")])


@pytest.mark.parametrize("name", HEADS.names())
@pytest.mark.parametrize("way", ["loop", "loop of our layers"])
def test_every_way_to_train_a_head_does_the_same_work(monkeypatch, name, way):
    """`heads` times equal steps: the loops have the gradients of the batch, even if the loss couples videos."""
    made, found = [], []

    def create_head(*arguments, **settings):
        made.append(models.create_head(*arguments, **settings))
        return made[-1]

    monkeypatch.setattr(heads, "create_head", create_head)
    for one in ("batch", way):
        step = heads.tasks(name, "128", [5, 9, 7], "cpu", 1)[f"{name} {one}"]
        made[-1].eval()
        step()
        found.append({key: parameter.grad for key, parameter in made[-1].named_parameters()})
    for key, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][key], rtol=1e-4, atol=1e-6)


def test_memory_of_a_command_is_that_of_its_children_too():
    child = "import time; block = b'x' * (200 << 20); time.sleep(1)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    assert 200 < max(used for _, used in followed([sys.executable, "-c", code])) < 400
    with pytest.raises(subprocess.CalledProcessError) as caught:
        followed([sys.executable, "-c", "raise SystemExit('no')"])
    assert caught.value.stderr == "no\n"


def test_another_version_is_run_from_its_own_checkout(tmp_path, monkeypatch):
    """Run `--older` from its checkout, whichever checkout the benchmark is called from."""
    monkeypatch.chdir(FOLDER.parent)
    (tmp_path / "wtal").mkdir()
    (tmp_path / "wtal" / "__main__.py").write_text("raise SystemExit(7)\n")
    with pytest.raises(subprocess.CalledProcessError) as caught:
        extraction.command(tmp_path / "videos", tmp_path, [], tmp_path)
    assert caught.value.returncode == 7


def test_flow_gpu_says_that_it_needs_a_card(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="flow_gpu needs a CUDA device and Triton: torch finds no CUDA device"):
        flow_gpu.main([])


def test_flow_gpu_counts_bytes_and_instructions():
    iterations = torch.tensor([[3, 6], [30, 30]])
    parameters = Parameters(warps=1)
    moved, issued = flow_gpu.work(iterations, [(10, 20), (5, 10)], parameters)
    assert issued == 102 * (9 * 200 + 60 * 50)
    assert moved == 4 * ((3 * 200 + 20 * 50) * 15 + 2 * (200 + 50) * 11)


@pytest.mark.gpu
def test_flow_gpu_measures_a_card(cuda, tmp_path):
    flow_gpu.main([*QUICK_ON_CUDA["flow_gpu"], "--out", str(tmp_path / "flow_gpu.json")])
    result = json.loads((tmp_path / "flow_gpu.json").read_text())
    assert all(row["pairs_per_s"] > 0 for row in result["rows"])
    assert all(ratio > 0 for ratio in result["ratios"].values())


def test_a_library_that_one_result_names_and_another_does_not_keeps_them_together(result_of):
    one, other = (json.loads(result_of(name).read_text()) for name in ("store", "random_walk"))
    other["machine"]["libraries"]["extra"] = "1.0"
    assert "extra 1.0" in make_table.page([one, other])
    other["machine"]["libraries"]["numpy"] = "0.1"
    with pytest.raises(FormatError, match="not from one machine"):
        make_table.page([one, other])


def test_the_benchmark_reports_rows_ratios_and_the_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "below" / "store.json"
    benchmark.main(["--videos", "3", "--dim", "4", "--reads", "5", "--repeat", "1", "--out", str(out)])
    result = json.loads(out.read_text())
    assert json.loads(capsys.readouterr().out) == result
    assert result["what"] == "store"
    assert [row["layout"] for row in result["rows"]] == ["store", "npy", "npz"]
    assert set(result["ratios"]) == {"npy / store", "npz / store"}
    assert result["machine"]["libraries"]["numpy"] == np.__version__


@pytest.mark.slow
def test_tvl1_errs_as_opencvs_does():
    """Mean endpoint error on known motion within 5 % of OpenCV's, with a small difference between the two flows."""
    ours, opencv = (create_flow(f"tvl1:{name}").new() for name in ("numba", "opencv-contrib"))
    for one in sample(128, 96):
        found, other = (engine(one.first[None], one.second[None])[0] for engine in (ours, opencv))
        assert endpoint_error(found, one.truth) < 1.05 * endpoint_error(other, one.truth) + 0.005, one.motion
        assert endpoint_error(found, other) < 0.1, one.motion


@pytest.mark.slow
def test_tvl1_fast_errs_no_more_than_opencvs_defaults():
    """Errors at the size of its choice: on small motions without noise, the worst case, and on all motions."""
    names = {"fast": "tvl1-fast:numba", flow.OPENCV[0]: "tvl1:opencv-contrib"}
    tasks = {key: partial(flow.flows_of, create_flow(name).engines(2)) for key, name in names.items()}
    small = [(number, motion) for number, motion in enumerate(MOTIONS) if motion.endswith(SMALL)]
    found = [pair(motion, texture, 0, 340, 256, number) for number, motion in small for texture in TEXTURES]
    errors = flow.errors_of(tasks, found)
    assert errors["fast"]["small_error"] < 1.05 * errors[flow.OPENCV[0]]["small_error"]
    assert errors["fast"]["by_texture"] < 1.05
    every = list(sample(340, 256))
    flows = {key: task(*flow.stacked(every)) for key, task in tasks.items()}
    means = {key: np.mean([*map(endpoint_error, made, [one.truth for one in every])]) for key, made in flows.items()}
    assert means["fast"] < 1.05 * means[flow.OPENCV[0]]


def test_errors_are_told_by_texture():
    """Compare a method that finds half of the motion with one that also finds no motion on one texture."""
    found = [one for one in pairs(64, 48) if one.motion == "translation, small"]
    half = np.stack([one.truth / 2 for one in found])
    still = np.stack([one.truth * (one.texture != "fine") / 2 for one in found])
    errors = flow.errors_of({flow.OPENCV[0]: lambda *_: half, "still": lambda *_: still}, found)
    assert errors[flow.OPENCV[0]] == errors[flow.OPENCV[1]]
    assert errors[flow.OPENCV[0]]["by_texture"] == errors[flow.OPENCV[0]]["worst_texture"] == 1
    assert errors["still"]["by_texture"] == pytest.approx(6 / 5)
    assert errors["still"]["worst_texture"] == 2
    assert errors["still"]["small_error"] == pytest.approx(np.hypot(0.7, 0.4) * 3 / 5, abs=1e-4)


def test_known_motions_come_with_every_texture_and_noise():
    found, few = list(pairs(32, 24)), list(sample(32, 24))
    assert len({(one.motion, one.texture, one.noise) for one in found}) == len(MOTIONS) * len(TEXTURES) * len(NOISES)
    assert [one.motion for one in few] == [*MOTIONS]
    assert {one.texture for one in few} == {*TEXTURES}
    assert {one.noise for one in few} == {*NOISES}
    whole = {one[:3]: one for one in found}
    assert all(np.array_equal(one.first, whole[one[:3]].first) for one in few)
    assert not np.array_equal(found[0].first, next(pairs(32, 24, seed=1)).first)


def test_the_truth_of_a_known_motion():
    first, second, truth = pair("translation, medium", "mixed", 2, 96, 64, seed=0)[3:]
    assert first.shape == second.shape == truth.shape[:2] == (64, 96)
    np.testing.assert_allclose(truth, np.broadcast_to(np.float32((3.3, -1.6)), truth.shape), atol=1e-6)
    places = np.mgrid[:64, :96].astype(np.float32)
    back = cv2.remap(second, places[1] + truth[..., 0], places[0] + truth[..., 1], cv2.INTER_CUBIC)
    inside = (slice(4, -4), slice(4, -8))
    assert np.abs(back[inside].astype(float) - first[inside]).mean() < 3
    assert np.abs(second[inside].astype(float) - first[inside]).mean() > 8


@pytest.mark.slow
def test_an_experiment_of_any_size_is_measured_step_by_step(tmp_path):
    """A collection of 8 videos."""
    importlib.import_module("benchmarks.hacs_size").main(
        [
            *("--shares", "0.0002", "--dim", "8", "--heads", "basnet", "--detecting", "basnet"),
            *("--steps", "5", "--folder", str(tmp_path / "there"), "--out", str(tmp_path / "result.json")),
        ]
    )
    result = json.loads((tmp_path / "result.json").read_text())
    tasks = ["open", "plan", "train basnet", "detect basnet", "evaluate basnet", "submit basnet"]
    assert [row["task"] for row in result["rows"]] == tasks
    assert all(row["processor_s"] > 0 < row["MiB"] for row in result["rows"])
    assert {row["steps"] for row in result["rows"] if row["task"].startswith("train")} == {5}
    assert all(0 < row["waited_percent"] < 100 for row in result["rows"] if row["task"].startswith("train"))
    assert not result["ratios"]
    assert not list((tmp_path / "there").iterdir())


def test_growth_is_that_of_each_task_from_the_first_size_to_the_last():
    rows = [
        {"task": task, "size": size, "processor_s": count * base, "MiB": 100 + count}
        for size, count in (("8 videos", 8), ("12 videos", 12), ("16 videos", 16))
        for task, base in (("open", 0.5), ("plan", 2))
    ]
    assert growth(rows) == {
        "processor seconds of all / of the first, open": 2,
        "processor seconds of all / of the first, plan": 2,
        "memory of all / of the first, open": 1.07,
        "memory of all / of the first, plan": 1.07,
    }
    assert growth(rows[:2]) == {}


@pytest.mark.slow
def test_a_folder_of_many_files_is_measured(tmp_path):
    out = tmp_path / "result.json"
    importlib.import_module("benchmarks.many_files").main(["--videos", "6", "--new", "3", "--out", str(out)])
    result = json.loads(out.read_text())
    rows = result["rows"]
    assert [row["task"] for row in rows] == ["list", "resume", "resume, files known", "plan", "plan new"]
    assert [row["videos"] for row in rows] == [6, 6, 6, 6, 3]
    assert all(row["processor_s"] > 0 for row in rows)
    assert result["ratios"] == {}  # of one size
