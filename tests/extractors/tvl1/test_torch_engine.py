"""TV-L1 in torch and in Triton: against OpenCV, against each other, and single pairs against a batch."""

import os
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from tests.support.interpreted_tvl1 import CASES
from tests.support.pictures import pictures, texture
from tests.support.reference import REPOSITORY
from wtal.extractors.flow import create_flow
from wtal.extractors.tvl1 import opencv_cpu, torch_engine, triton_engine
from wtal.extractors.tvl1.parameters import Parameters, pyramid


def lengths(left, right):
    """Lengths of the differences of two flows, in pixels; the last axis has the components."""
    return np.linalg.norm(np.asarray(left) - np.asarray(right), axis=-1)


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory):
    """Results of the Triton engine in the interpreter."""
    pytest.importorskip("triton", minversion="3.3")
    path = tmp_path_factory.mktemp("triton") / "found.npz"
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.support.interpreted_tvl1", str(path)]
    subprocess.run(command, check=True, env=environment, cwd=REPOSITORY)
    return np.load(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_kernels_compute_what_torch_computes(name, interpreted):
    """Compare to 1e-4 pixels, except for rare positions that rounding puts into the next 1/32 pixel."""
    first, second = (torch.from_numpy(stack) for stack in pictures())
    expected = torch_engine.tvl1(first, second, CASES[name][0])
    apart = np.abs(interpreted[f"{name} batch"] - expected.numpy())
    assert np.quantile(apart, 0.999) < 1e-4
    assert apart.max() < 1 / 32


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_pair_in_a_batch_is_that_pair_alone(name, interpreted):
    assert interpreted[f"{name} batch"][-1:].tobytes() == interpreted[f"{name} alone"].tobytes()
    iterations = interpreted[f"{name} batch iterations"]
    assert (iterations[:, -1:] == interpreted[f"{name} alone iterations"]).all()


@pytest.mark.slow
def test_pairs_end_by_their_own_rule_and_within_chunks(interpreted):
    iterations = np.concatenate([interpreted[f"{name} batch iterations"] for name in CASES])
    assert (iterations[:, 1] < iterations[:, 0]).all()
    chunks = {name: triton_engine.chunk(parameters.inner_iterations) for name, (parameters, _) in CASES.items()}
    assert list(chunks.values()) == [3, 2, 1]
    assert any((interpreted[f"{name} batch iterations"] % chunk).any() for name, chunk in chunks.items() if chunk > 1)


@pytest.mark.parametrize("kept", [{}, {"median": 3, "inner_iterations": 10}, {"scales": 3}])
def test_a_warp_is_that_of_opencv(kept):
    """Compare up to rounding, which positions in steps of 1/32 pixel can amplify from the second warp on."""
    parameters = replace(Parameters(scales=1, warps=1, outer_iterations=2), **kept)
    first, second = pictures(motions=((1, 0), (0, -1)))
    ours = torch_engine.Engine(parameters)(first, second)
    assert lengths(ours, opencv_cpu.Engine(parameters)(first, second)).max() < 1e-4


@pytest.mark.slow
def test_the_whole_is_as_near_to_the_truth_as_opencv():
    motions = ((3, -1), (-1, 2), (2, 2))
    first, second = pictures(96, 128, motions)
    truth = np.float32(motions)[:, None, None]
    ours, theirs = (engine(Parameters())(first, second) for engine in (torch_engine.Engine, opencv_cpu.Engine))
    assert lengths(ours, truth).mean() < 1.05 * lengths(theirs, truth).mean()
    assert lengths(ours, theirs).mean() < 0.02


def test_torch_flow_depends_on_the_pair_alone():
    first, second = pictures(50, 61)
    engine = torch_engine.Engine(Parameters(warps=1, outer_iterations=2))
    threads = torch.get_num_threads()
    try:
        together = engine(first, second)
        torch.set_num_threads(1 if threads > 1 else 2)
        for number in range(len(first)):
            alone = engine(first[number : number + 1], second[number : number + 1])
            assert alone[0].tobytes() == together[number].tobytes()
    finally:
        torch.set_num_threads(threads)


def test_pictures_are_made_smaller_and_larger_as_opencv_does_it():
    picture = texture(97, 131).astype(np.float32)
    sizes = pyramid(97, 131, Parameters())
    smaller = torch_engine.shrink(torch.from_numpy(picture)[None], sizes, 0.8)
    expected = picture
    for level in smaller[1:]:
        expected = cv2.resize(expected, None, fx=0.8, fy=0.8)
        np.testing.assert_allclose(level[0].numpy(), expected, atol=1e-3)
    larger = torch_engine.enlarge(smaller[1][:, None], (97, 131))[0, 0]
    np.testing.assert_allclose(larger.numpy(), cv2.resize(smaller[1][0].numpy(), (131, 97)), atol=1e-2)


@pytest.mark.parametrize("side", [1, 3, 5])
def test_the_median_is_that_of_opencv(side):
    flow = torch.randn(2, 2, 23, 31, generator=torch.Generator().manual_seed(0))
    found = torch_engine.median(flow, side)
    for pair, expected in zip(found.flatten(0, 1), flow.flatten(0, 1), strict=True):
        assert (pair.numpy() == cv2.medianBlur(expected.numpy(), side)).all()


def test_warping_is_that_of_opencv():
    """Include positions halfway between two steps of 1/32."""
    picture = texture(40, 50).astype(np.float32)
    flow = (256 * torch.randn(2, 40, 50, generator=torch.Generator().manual_seed(0))).round() / 64
    columns, rows = (
        places.astype(np.float32) + by.numpy()
        for places, by in zip(np.meshgrid(np.arange(50), np.arange(40)), flow, strict=True)
    )
    expected = cv2.remap(picture, columns, rows, cv2.INTER_CUBIC)
    found = torch_engine.warp(torch.from_numpy(picture)[None, None], flow[None])[0, 0]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-3)


def test_flow_far_outside_the_picture_is_harmless():
    pictures_, flow = torch.ones(1, 1, 8, 9), torch.full((1, 2, 8, 9), 1e12)
    assert not torch_engine.warp(pictures_, flow).any()


def test_triton_says_where_it_cannot_run(monkeypatch):
    assert triton_engine.why_not("cpu") == "Triton runs on CUDA devices, not on cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(triton_engine.metadata, "version", lambda name: "3.2.0")
    monkeypatch.setenv("CC", "cc")
    assert triton_engine.why_not("cuda:1") == "Triton 3.2.0 is older than 3.3"
    monkeypatch.setattr(triton_engine.metadata, "version", lambda name: "3.10.1+git")
    assert triton_engine.why_not("cuda") is None
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", "/nowhere")
    assert triton_engine.why_not("cuda") == "Triton needs a C compiler (gcc or clang, or the one in CC)"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (6, 1))
    assert triton_engine.why_not("cuda:0") == "Triton needs compute capability 7.0, but cuda:0 has 6.1"


def test_torch_can_be_chosen_by_name():
    method = create_flow("tvl1:torch")
    assert (method.implementation, method.identity["torch"]) == ("torch", torch.__version__)
    assert method.identity["scheme"] >= 1
    flow = method.new()(*pictures(10, 12, ((0, 0),)))
    assert (flow.shape, flow.dtype, flow.any()) == ((1, 10, 12, 2), np.float32, False)
    assert method.new()(*(np.empty((0, 10, 12), np.uint8),) * 2).shape == (0, 10, 12, 2)


class Hopper:
    """Substitute for Triton's driver that compiles kernels for an absent card."""

    def get_current_target(self):
        return pytest.importorskip("triton.backends.compiler").GPUTarget("cuda", 90, 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0

    def get_active_torch_device(self):
        return torch.device("cpu")


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="on a card the kernels do not only compile, they run")
def test_kernels_are_compiled_once_for_all_sizes_and_fit_a_card(monkeypatch, tmp_path):
    triton = pytest.importorskip("triton", minversion="3.3")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    compiled = {}

    def compile_only(kernel, grid):
        def launch(*values, **options):
            binary = kernel.warmup(*values, grid=grid, **options)
            compiled.setdefault(kernel.fn.__name__, {})[binary.hash] = binary

        return launch

    monkeypatch.setattr(triton.runtime.driver, "_active", Hopper())
    monkeypatch.setattr(triton.runtime.JITFunction, "__getitem__", compile_only)
    for count, height, width in ((1, 50, 70), (3, 64, 320)):
        stack = torch.zeros(count, height, width, dtype=torch.uint8)
        triton_engine.tvl1(stack, stack, Parameters(scales=2, warps=1, outer_iterations=1))
    assert {name: len(variants) for name, variants in compiled.items()} == dict.fromkeys(
        ("interpolate", "linearize", "median", "iterate", "decide"), 1
    )
    (iterate,) = compiled["iterate"].values()
    assert iterate.asm["ptx"].count("bar.sync") < 20
    assert iterate.metadata.shared <= 32 * 64 * 4


@pytest.mark.gpu
@pytest.mark.parametrize("kept", [{"warps": 1, "scales": 1}, {}])
def test_the_card_agrees_with_the_cpu(cuda, kept):
    """Compare to 1e-3 pixels for one warp, where rounding is not amplified; else to the effect of other roundings."""
    parameters = Parameters(**kept)
    first, second = pictures(130, 170, ((3, -1), (0, 0), (1, 2), (-4, 2)))
    on_card, on_cpu = triton_engine.Engine(parameters, cuda), torch_engine.Engine(parameters)
    apart = lengths(on_card(first, second), on_cpu(first, second))
    assert apart.mean() < 0.02
    assert not kept or apart.max() < 1e-3


@pytest.mark.gpu
def test_torch_on_the_card_agrees_with_the_cpu(cuda):
    parameters = Parameters(warps=1, scales=1)
    first, second = pictures(130, 170)
    on_card, on_cpu = (torch_engine.Engine(parameters, device)(first, second) for device in (cuda, "cpu"))
    assert lengths(on_card, on_cpu).max() < 1e-3


@pytest.mark.gpu
def test_on_the_card_flow_depends_on_the_pair_alone(cuda):
    first, second = pictures(70, 90, ((3, -1), (0, 0), (1, 2), (-4, 2)) * 8)
    engine = create_flow("tvl1:triton", cuda).new()
    together = engine(first, second)
    assert together.tobytes() == engine(first, second).tobytes()
    for number in range(4):
        alone = engine(first[number : number + 1], second[number : number + 1])
        assert alone[0].tobytes() == together[number].tobytes()


@pytest.mark.gpu
def test_triton_is_the_choice_for_a_card(cuda):
    assert create_flow("tvl1", cuda).implementation == "triton"


@pytest.mark.gpu
def test_on_the_card_flow_is_numbas(cuda):
    """Compare with OpenCV's parameters; further warps amplify differences in rounding."""
    first, second = pictures(130, 170, ((3, -1), (0, 0), (1, 2), (-4, 2)))
    on_card, compiled = (
        create_flow(f"tvl1:{name}", device).new()(first, second)
        for name, device in (("triton", cuda), ("numba", "cpu"))
    )
    assert lengths(on_card, compiled).mean() < 0.02
