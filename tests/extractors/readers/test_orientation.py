"""Eight orientations of stored pictures by the display matrix: each reader shows the picture of a player."""

import struct
from pathlib import Path

import numpy as np
import pytest

from tests.support.reference import SHARED, needs_shared
from tests.support.videos import constant, number_in, write_video
from wtal.errors import VideoError
from wtal.extractors.decoding.probe import probe
from wtal.extractors.readers import READERS, read

# (a, b, c, d): where the stored picture's right (a, b) and down (c, d) point, as (right, down); then what is shown.
ORIENTATIONS = {
    "as stored": ((1, 0, 0, 1), lambda image: image),
    "hflip": ((-1, 0, 0, 1), lambda image: image[:, ::-1]),
    "vflip": ((1, 0, 0, -1), lambda image: image[::-1]),
    "rot180": ((-1, 0, 0, -1), lambda image: image[::-1, ::-1]),
    "transpose": ((0, 1, 1, 0), lambda image: image.transpose(1, 0, 2)),
    "antitranspose": ((0, -1, -1, 0), lambda image: image[::-1, ::-1].transpose(1, 0, 2)),
    "clockwise": ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),
    "counter-clockwise": ((0, -1, 1, 0), lambda image: np.rot90(image)),
}


def oriented(path: Path, matrix: tuple[int, int, int, int], turn: int = 1 << 16) -> Path:
    """Write a video whose track has a display matrix."""
    write_video(path, constant(25, 3), first_number=5)
    a, b, c, d = (value * turn for value in matrix)
    plain = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    data = path.read_bytes()
    header = data.index(b"tkhd")
    place = data.index(plain, header)
    path.write_bytes(data[:place] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + data[place + 36 :])
    return path


@pytest.mark.parametrize("name", ORIENTATIONS)
@pytest.mark.parametrize("reader", READERS.names())
def test_each_orientation_is_shown_as_it_stands(tmp_path, name, reader):
    if reason := READERS.load(reader).why_not():
        pytest.skip(f"{reader}: {reason}")
    matrix, shown = ORIENTATIONS[name]
    stored = [frame.image for frame in read(probe(oriented(tmp_path / "stored.mp4", (1, 0, 0, 1))), "pyav")]
    info = probe(oriented(tmp_path / "x.mp4", matrix))
    if (reader == "decord" and name != "as stored") or (reader == "torchcodec" and info.mirrored):
        with pytest.raises(VideoError, match=r"supports neither rotated|does not mirror"):
            list(read(info, reader))
        return
    frames = [frame.image for frame in read(info, reader)]
    assert len(frames) == len(stored)
    for image, other in zip(frames, stored, strict=True):
        assert np.array_equal(image, shown(other))
        assert image.flags.c_contiguous


def test_a_matrix_that_also_scales(tmp_path):
    info = probe(oriented(tmp_path / "x.mp4", (-1, 0, 0, 1), turn=1 << 15))
    assert (info.rotation, info.mirrored) == (0, True)
    assert number_in(next(read(info, "pyav")).image[:, ::-1]) == 5


@needs_shared
@pytest.mark.parametrize(
    ("name", "rotation", "mirrored"), [("hflip", 0, True), ("antitranspose", 270, True), ("rot90", 270, False)]
)
def test_cases_of_orientation(name, rotation, mirrored):
    info = probe(SHARED / "cases" / "07_mirrored" / f"{name}.mp4")
    assert (info.rotation, info.mirrored) == (rotation, mirrored)
