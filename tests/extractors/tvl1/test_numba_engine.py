"""TV-L1 by numba: its parts against OpenCV and numpy, the whole against OpenCV and known motion."""

import os
import subprocess
import sys

import av
import cv2
import numpy as np
import pytest
from numba import njit

from tests.support.reference import REPOSITORY, SHARED
from wtal.extractors import create_backbone
from wtal.extractors.flow import create_flow
from wtal.extractors.tvl1 import numba_engine, numba_simd
from wtal.extractors.tvl1.numba_median import medians
from wtal.extractors.tvl1.numba_simd import (
    LANES,
    fill,
    flush_denormals,
    fold,
    kernel,
    lane,
    least,
    load,
    most,
    restore,
    root,
    store,
)
from wtal.extractors.tvl1.parameters import Parameters, pyramid


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@njit
def of_all(a, b, made):
    x, y = load(a, 1), load(b, 2)
    store(made, 0, x + y)
    store(made, 16, x - y)
    store(made, 32, x * y)
    store(made, 48, x / y)
    store(made, 64, least(x, y))
    store(made, 80, most(x, y))
    store(made, 96, root(x * x))
    store(made, 112, fold(x, 4))
    store(made, 128, fill(a[3]))
    return lane(fold(x, 1), 0)


def test_sixteen_numbers_at_once_are_sixteen_numbers():
    a, b, made = noise(20), noise(20, seed=1), np.zeros(160, np.float32)
    total = of_all(a, b, made)
    x, y = a[1:17], b[2:18]
    expected = [x + y, x - y, x * y, x / y, np.minimum(x, y), np.maximum(x, y), np.sqrt(x * x)]
    np.testing.assert_array_equal(made[:112].reshape(7, LANES), expected)
    np.testing.assert_allclose(made[112:128], np.tile(x.reshape(4, 4).sum(axis=0), 4), rtol=1e-5)
    np.testing.assert_array_equal(made[128:144], a[3])
    assert total == pytest.approx(x.sum(), rel=1e-5)


@pytest.mark.skipif(not numba_simd.FLUSHES, reason="not an x86 processor")
def test_denormals_are_flushed_between_the_two_calls():
    @njit
    def halves(values, flush):
        before = flush_denormals()
        if not flush:
            restore(before)
        for i in range(len(values)):
            values[i] *= np.float32(0.5)
        restore(before)

    tiny = np.full(3, np.finfo(np.float32).tiny)
    halves(tiny, False)
    assert (tiny > 0).all()
    halves(tiny, True)
    assert (tiny == 0).all()


def test_a_kernel_is_compiled_where_nothing_can_be_written(monkeypatch):
    def refuse(**options):
        if options.get("cache"):
            raise RuntimeError("cannot cache function")
        return njit(**options)

    monkeypatch.setattr(numba_simd, "njit", refuse)

    @kernel
    def double(value):
        return value + value

    assert double(2) == 4


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize(("height", "width"), [(2, 3), (16, 16), (17, 30), (40, 65)])
def test_the_median_filter_is_opencvs(height, width, size):
    flow = noise(2, height, width)
    state = np.zeros(numba_engine._length(height, width), np.float32)
    numba_engine._put(flow, height, width, state)
    before = state.reshape(-1).copy()
    numba_engine._median(state, height, width, size)
    found = np.empty_like(flow)
    numba_engine._get(state, height, width, found)
    np.testing.assert_array_equal(found, [cv2.medianBlur(plane, size) for plane in flow])
    numba_engine._put(flow, height, width, state)
    np.testing.assert_array_equal(state, before, err_msg="the zeros around the flow are gone")


def test_medians_of_equal_values_and_of_every_order():
    rows = np.zeros((5, 64), np.float32)
    target = np.zeros(32, np.float32)
    for seed in range(200):
        rows[:] = np.random.default_rng(seed).integers(0, 4 + seed, rows.shape)
        medians(rows.reshape(-1), 2 * 64 + 16, 64, 5, 16, np.empty(5 * 64, np.float32), target, 0)
        expected = [np.median(rows[:, 14 + x : 19 + x]) for x in range(16)]
        np.testing.assert_array_equal(target[:16], expected)


@pytest.mark.parametrize(("height", "width", "step"), [(60, 83, 0.8), (41, 64, 0.5), (50, 50, 0.7)])
def test_levels_of_the_pyramid_are_opencvs(height, width, step):
    picture = np.random.default_rng(0).integers(0, 256, (height, width)).astype(np.uint8)
    parameters = Parameters(scales=3, scale_step=step)
    sizes = np.array(pyramid(height, width, parameters))
    levels = numba_engine._pyramid(picture, sizes, 1 / step)
    expected = picture.astype(np.float32)
    for level, (h, w) in zip(levels, sizes, strict=True):
        assert expected.shape == (h, w)
        np.testing.assert_allclose(level[:h, :w], expected, atol=2e-4)
        expected = cv2.resize(expected, None, fx=step, fy=step, interpolation=cv2.INTER_LINEAR)


def test_a_picture_is_warped_as_opencv_does_it():
    height, width = 45, 70
    first, second = (100 * noise(height, width, seed=seed) for seed in (1, 2))
    flow = 8 * noise(2, height, width)
    flow[:, :3, :3] = 1e6
    flow[:, -3:, -3:] = -1e6
    state = np.zeros(numba_engine._length(height, width), np.float32)
    image = np.empty((height + 8) * (width + 8) * 4, np.float32)
    numba_engine._put(flow, height, width, state)
    numba_engine._with_gradients(second, height, width, image)
    numba_engine._warp(first, image, height, width, numba_engine._cubic_weights(), state)
    found = fields(state, height, width)

    around = np.pad(second, 1, mode="edge")
    along_x = (around[1:-1, 2:] - around[1:-1, :-2]) / 2
    along_y = (around[2:, 1:-1] - around[:-2, 1:-1]) / 2
    places = np.mgrid[:height, :width].astype(np.float32)
    warped, ix, iy = (
        cv2.remap(each, places[1] + flow[0], places[0] + flow[1], cv2.INTER_CUBIC)
        for each in (second, along_x, along_y)
    )
    near = np.abs(flow).max(axis=0) < 1e5
    np.testing.assert_allclose(found[6], ix, atol=1e-3)
    np.testing.assert_allclose(found[7], iy, atol=1e-3)
    np.testing.assert_allclose(found[8][near], (warped - ix * flow[0] - iy * flow[1] - first)[near], atol=1e-2)
    np.testing.assert_allclose(found[9], 1 / np.maximum(ix**2 + iy**2, np.finfo(np.float32).eps), rtol=1e-2)


def fields(state, height, width):
    """Fields (10, H, W) of a state."""
    pitch = numba_engine._pitch(width)
    rows = state[: (height + 1) * 10 * pitch].reshape(height + 1, 10, pitch)
    return rows[1:, :, LANES : LANES + width].transpose(1, 0, 2)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 33), (30, 16), (25, 40)])
def test_an_iteration_is_the_papers(height, width):
    """Compute an iteration in numpy and float64: threshold, divergence, then the dual step on forward differences."""
    state = np.zeros(numba_engine._length(height, width), np.float32)
    start = noise(10, height, width)
    start[2, :, -1] = start[4, :, -1] = start[3, -1] = start[5, -1] = 0
    start[9] = 1 / (start[6] ** 2 + start[7] ** 2)
    fields(state, height, width)[:] = start
    numbers = numba_engine.Engine(Parameters())._numbers
    mask = np.zeros(numba_engine._pitch(width), np.float32)
    mask[: width - 1] = 1
    change = numba_engine._iterate(state, height, width, mask, numbers)

    u, v, p11, p12, p21, p22, ix, iy, rho, inverse = start.astype(np.float64)
    tau, theta, limit = 0.25, 0.3, 0.15 * 0.3
    step = np.clip(-(rho + ix * u + iy * v) * inverse, -limit, limit)

    def divergence(x, y):
        return x - np.pad(x, ((0, 0), (1, 0)))[:, :-1] + y - np.pad(y, ((1, 0), (0, 0)))[:-1]

    new = [u + step * ix + divergence(p11, p12), v + step * iy + divergence(p21, p22)]
    expected = [*new]
    for w, x, y in ((new[0], p11, p12), (new[1], p21, p22)):
        wx, wy = np.diff(w, axis=1, append=w[:, -1:]), np.diff(w, axis=0, append=w[-1:])
        norm = 1 + tau / theta * np.hypot(wx, wy)
        expected += [(x + tau * wx) / norm, (y + tau * wy) / norm]
    np.testing.assert_allclose(fields(state, height, width)[:6], expected, atol=1e-5)
    assert change == pytest.approx(((new[0] - u) ** 2 + (new[1] - v) ** 2).sum(), rel=1e-4)


def test_what_stands_still_has_no_denormals():
    picture = np.full((64, 80), 90, np.uint8)
    first, second = picture.copy(), picture.copy()
    first[20:30, 20:30], second[20:30, 21:31] = 200, 200
    flow = create_flow("tvl1:numba").new()(first[None], second[None])
    assert not ((flow != 0) & (np.abs(flow) < np.finfo(np.float32).tiny)).any()


@pytest.mark.slow
@pytest.mark.skipif(not numba_simd.FLUSHES, reason="not an x86 processor")
def test_same_bits_with_narrow_registers(tmp_path):
    """Compile for the oldest x86 processors, four pixels at once; the bits are the same as for this one."""
    code = """
import hashlib
from tests.support.pictures import pictures
from wtal.extractors.flow import create_flow
first, second = pictures(80, 96, ((-7, 3), (2, 1)))
print(hashlib.sha256(create_flow("tvl1:numba").new()(first, second).tobytes()).hexdigest())
"""
    least_of_all = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "+sse2", "NUMBA_CACHE_DIR": str(tmp_path)}
    found = [
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | more,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for more in ({}, least_of_all)
    ]
    assert found[0] == found[1]


def real_frames(count, width, height):
    """Grey pictures (count, height, width) of a real video, one after the other."""
    path = SHARED / "data" / "activitynet" / "v_GGSY1Qvo990.mp4"
    if not path.is_file():
        pytest.skip("the real videos are not here")
    with av.open(str(path)) as container:
        frames = [frame for frame, _ in zip(container.decode(video=0), range(60 + count), strict=False)][60:]
        grays = [cv2.cvtColor(frame.to_ndarray(format="rgb24"), cv2.COLOR_RGB2GRAY) for frame in frames]
    return np.stack([cv2.resize(gray, (width, height), interpolation=cv2.INTER_AREA) for gray in grays])


@pytest.mark.slow
@pytest.mark.shared
def test_flow_and_features_of_real_frames_are_those_of_opencvs_flow():
    frames = real_frames(25, 160, 120)
    ours, opencv = (create_flow(f"tvl1:{name}").new()(frames[:-1], frames[1:]) for name in ("numba", "opencv-contrib"))
    assert np.linalg.norm(ours - opencv, axis=-1).mean() < 0.05
    backbone = create_backbone("motion", "flow")
    a, b = (backbone.extract(flow[None, : backbone.span])[0] for flow in (ours, opencv))
    assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.99
