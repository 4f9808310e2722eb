"""Pictures with deferred conversion of colours."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from tests.support.videos import constant, number_in, write_video
from wtal.extractors.decoding.probe import probe
from wtal.extractors.decoding.reader import DeferredImage, image_of, upright, upright_shape
from wtal.extractors.decoding.resample import Sampler
from wtal.extractors.readers import pyav, read


@pytest.fixture
def converted(monkeypatch):
    """Numbers of the frames whose colours were converted."""
    numbers, convert = [], pyav._image

    def counted(*arguments):
        image = convert(*arguments)
        numbers.append(number_in(image))
        return image

    monkeypatch.setattr(pyav, "_image", counted)
    return numbers


def test_frames_that_are_dropped_are_not_converted(tmp_path, converted):
    info = probe(write_video(tmp_path / "fast.mp4", constant(50, 100)))
    sampler = Sampler(read(info, "pyav"), info, Fraction(10))
    assert [number_in(image) for image in sampler] == list(range(0, 100, 5))
    assert converted == list(range(0, 100, 5))
    assert sampler.summary("pyav").decoded == 100


def test_frames_that_are_repeated_are_converted_once(tmp_path, converted):
    info = probe(write_video(tmp_path / "slow.mp4", constant(5, 10)))
    images = list(Sampler(read(info, "pyav"), info, Fraction(25)))
    assert len(images) > 45
    assert [number_in(image) for image in images] == [j // 5 for j in range(len(images))]
    assert images[0] is images[4]
    assert converted == list(range(10))


def test_pictures_know_their_size_before_they_have_colours(tmp_path, converted):
    info = probe(write_video(tmp_path / "turned.mp4", constant(25, 5), rotation=90))
    pictures = list(Sampler(read(info, "pyav"), info, Fraction(25)).pictures())
    assert len(converted) == 1, "the first one alone, to see that it can be done"
    assert [(picture.shape, picture.nbytes) for picture in pictures] == [((64, 48, 3), 3 * 64 * 48)] * 5
    assert [image_of(picture).shape for picture in pictures] == [(64, 48, 3)] * 5


def test_a_deferred_image_is_converted_once():
    calls = []
    picture = DeferredImage((1, 2, 3), lambda: calls.append(1) or np.zeros((1, 2, 3), np.uint8))
    assert not calls
    assert picture.image is picture.image is image_of(picture)
    assert calls == [1]


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_upright_is_a_mirror_image_turned_counter_clockwise(tmp_path, rotation, mirrored):
    info = replace(probe(write_video(tmp_path / "x.mp4", constant(25, 1))), rotation=rotation, mirrored=mirrored)
    stored = np.arange(2 * 5 * 3, dtype=np.uint8).reshape(2, 5, 3)
    shown = upright(stored, info)
    wanted = np.rot90(stored[:, ::-1] if mirrored else stored, rotation // 90)
    assert np.array_equal(shown, wanted)
    assert shown.shape == upright_shape(5, 2, info)
    assert shown.flags.c_contiguous
