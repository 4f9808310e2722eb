"""Arrays of objects in .npy files: read without running code, refused if damaged."""

import pickle

import numpy as np
import pytest

from wtal.data.parsing.object_arrays import read_array
from wtal.errors import FormatError


def features(seed, rows, dim, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal((rows, dim)).astype(dtype)


def test_damaged_object_arrays_are_refused_and_crash_nothing(tmp_path):
    """Refuse a pickle that would crash the process through numpy's own classes."""
    rows = np.empty(3, dtype=object)
    rows[0], rows[1], rows[2] = features(0, 2, 4), [1, b"two", 3.5], np.float16(4)
    path = tmp_path / "objects.npy"
    np.save(path, rows, allow_pickle=True)
    whole, random = path.read_bytes(), np.random.default_rng(0)
    found = read_array(path)
    assert found[0].tobytes() == rows[0].tobytes()
    assert found[1:].tolist() == [[1, b"two", 3.5], 4.0]
    refused = 0
    for _ in range(1500):
        broken = bytearray(whole)
        for place in random.integers(80, len(whole), 2):
            broken[place] = random.integers(256)
        path.write_bytes(broken)
        try:
            read_array(path)
        except FormatError:
            refused += 1
    assert refused > 500


@pytest.mark.parametrize(
    ("shape", "dtype", "content"),
    [
        ((1,), "O8", b"12345678"),
        ((2,), "O8", [1]),
        ((2,), "f4", b"1234"),
        ((10**12,), "f4", b""),
        ((-1,), "f4", b"1234"),
        ((1,), "V8", b"12345678"),
        ((1,), "f4,f4", b"12345678"),
        ((1,), "f4", [1.0]),
    ],
)
def test_arrays_that_are_not_what_they_say_are_refused(shape, dtype, content, tmp_path):
    class Forged:
        def __reduce__(self):
            make, arguments, _ = np.zeros(1).__reduce__()
            return make, arguments, (1, shape, Type(), False, content)

    class Type:
        def __reduce__(self):
            return np.dtype, (dtype, False, True), (3, "|", None, None, None, -1, -1, 0)

    with (tmp_path / "forged.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": (1,)})
        pickle.dump(Forged(), file)
    with pytest.raises(FormatError, match=r"forged\.npy is not a readable \.npy file: "):
        read_array(tmp_path / "forged.npy")
