"""Area averages by the quicker way: OpenCV's values, on pictures of all kinds and sizes."""

import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wtal.extractors.decoding import area
from wtal.extractors.decoding.area import area_average, is_averaged
from wtal.extractors.decoding.frame_size import FrameScaler, scale

SIZES = {
    "720p": ((1280, 720), (455, 256)),
    "1080p": ((1920, 1080), (455, 256)),
    "4K": ((3840, 2160), (455, 256)),
    "upright phone": ((1080, 1920), (256, 455)),
    "odd": ((1001, 777), (330, 256)),
    "whole number of rows": ((900, 512), (450, 255)),
    "little smaller": ((853, 480), (800, 450)),
}


def noise(size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)


def stripes(size):
    """Pixels of 0 and 255 next to each other, with averages halfway between two whole numbers."""
    picture = np.zeros((size[1], size[0], 3), np.uint8)
    picture[::2, ::2] = picture[1::2, 1::2] = 255
    return picture


def by_opencv(image, target):
    return cv2.resize(image, target, interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize("name", SIZES)
def test_values_are_those_of_opencv(name):
    size, target = SIZES[name]
    smooth = cv2.GaussianBlur(noise(size, 1), (0, 0), 3)
    for image in (noise(size), smooth, stripes(size), np.full((size[1], size[0], 3), 255, np.uint8)):
        assert np.array_equal(area_average(image, target), by_opencv(image, target))


@given(st.data())
def test_values_are_those_of_opencv_at_any_size(data):
    size = data.draw(st.tuples(st.integers(2, 120), st.integers(2, 120)))
    target = data.draw(st.tuples(st.integers(1, size[0]), st.integers(1, size[1])))
    image = noise(size, data.draw(st.integers(0, 1000)))
    if is_averaged(size, target):
        assert np.array_equal(area_average(image, target), by_opencv(image, target))
    else:
        with pytest.raises(ValueError, match="not a weighted average of pixels"):
            area_average(image, target)


def test_values_near_a_border_need_opencvs_order(monkeypatch):
    """Without the bound, values of this picture differ."""
    size, target = (1280, 720), (455, 256)
    image = cv2.GaussianBlur(noise(size), (0, 0), 5)
    monkeypatch.setattr(area, "_bound", lambda rows, columns: -1.0)
    different = area_average(image, target) != by_opencv(image, target)
    assert 0 < different.sum() < different.size // 1000


@pytest.mark.parametrize("size", [(640, 480), (1024, 1024), (200, 100)])
def test_scaler_gives_the_same_before_and_after_it_goes_over(size):
    target = (256 * size[0] // min(size), 256 * size[1] // min(size))
    for patience in (0.0, 1000.0):
        scaler = FrameScaler(patience)
        for image in (noise(size), stripes(size), noise(size, 1)):
            assert np.array_equal(scaler(image, target), scale(image, target))


@pytest.fixture
def quick(monkeypatch):
    """Collect the orders that went the quicker way; a picture takes a tenth of a second."""
    orders, ticks = [], itertools.count()
    monkeypatch.setattr(area, "area_average", lambda *order: orders.append(order) or by_opencv(*order))
    monkeypatch.setattr("wtal.extractors.decoding.frame_size.time.thread_time", lambda: next(ticks) / 10)
    return orders


def pictures_by_opencv(scaler, quick):
    """Number of pictures, of a hundred, scaled by OpenCV before the scaler switches."""
    image = noise((1280, 720))
    for number in range(100):
        scaler(image, (455, 256))
        if quick:
            return number
    return 100


def test_scaler_goes_over_once_pictures_have_taken_long(quick):
    assert pictures_by_opencv(FrameScaler(patience=0.95), quick) == 10


def test_scaler_goes_over_at_once_where_pictures_will_take_long(quick):
    scaler = FrameScaler(patience=0.95)
    scaler.expect(10)
    assert pictures_by_opencv(scaler, quick) == 1


def test_scaler_never_goes_over_for_small_pictures(quick):
    scaler = FrameScaler(patience=0.0)
    for _ in range(3):
        scaler(noise((320, 240)), (341, 256))
    assert not quick


def test_scaler_stays_with_an_opencv_that_rounds_otherwise(monkeypatch):
    image, target, orders = noise((1280, 720)), (455, 256), []
    monkeypatch.setattr(area, "area_average", lambda *order: orders.append(order) or by_opencv(*order) ^ 1)
    scaler = FrameScaler(patience=0.0)
    for _ in range(3):
        assert np.array_equal(scaler(image, target), by_opencv(image, target))
    assert len(orders) == 1, "it was asked, and never again"
