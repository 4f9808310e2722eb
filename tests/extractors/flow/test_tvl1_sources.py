"""Sources of TV-L1's numba kernels: a change is noticed by this test and by numba's cache."""

import hashlib
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from wtal.extractors.tvl1 import numba_engine, numba_simd

NOTED = (1, "712b9516378a3e9d563355693d73b1f9e71f35b8ed85d1c03eb199f621aca1d5")
"""The scheme, and the digest of the sources that compute it."""

MEDIANS = """
import numpy as np
from kernels.numba_median import medians
source = np.random.default_rng(0).standard_normal((7, 128)).astype(np.float32)
medians_of_a_row = np.zeros(16, np.float32)
medians(source.reshape(-1), 3 * 128 + 32, 128, 3, 16, np.zeros(5 * 80, np.float32), medians_of_a_row, 0)
print(medians_of_a_row.tolist())
"""


def test_a_change_of_the_sources_is_noted_and_raises_the_scheme_where_a_number_changes():
    now = (numba_engine._SCHEME, numba_simd.SOURCES_DIGEST)
    names = ", ".join(path.name for path in numba_simd.SOURCES)
    assert now == NOTED, (
        f"{names} have changed. If a number of the flow changed (see test_numba_engine.py, test_torch_engine.py, and a "
        f"flow before and after), raise _SCHEME in {numba_engine.__file__}, so that stores with the old numbers have "
        f"another name. In either case update NOTED here: NOTED = {now[0]}, {now[1]!r}"
    )


def test_the_digest_is_that_of_all_files_of_kernels():
    folder = numba_simd.SOURCES[0].parent
    assert sorted(numba_simd.SOURCES) == sorted(folder.glob("numba_*.py"))
    whole = b"".join(path.read_bytes() for path in sorted(numba_simd.SOURCES))
    assert hashlib.sha256(whole).hexdigest() == numba_simd.SOURCES_DIGEST


@pytest.mark.slow
def test_numba_compiles_kernels_anew_after_a_change_in_another_file(tmp_path):
    """Change only `numba_simd.py`; the medians, whose kernel is in `numba_median.py`, must change with it."""
    package = tmp_path / "kernels"
    package.mkdir()
    for path in numba_simd.SOURCES:
        (package / path.name).write_text(path.read_text().replace("wtal.extractors.tvl1.numba", "kernels.numba"))

    def run():
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-c", MEDIANS]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        return [float(number) for number in re.findall(r"[-\d.e]+", done.stdout)]

    source = np.random.default_rng(0).standard_normal((7, 128)).astype(np.float32)
    wanted = [np.median(source[2:5, 31 + i : 34 + i]) for i in range(16)]
    assert run() == wanted
    files = set((tmp_path / "cache").rglob("*.nbi"))
    assert run() == wanted
    assert set((tmp_path / "cache").rglob("*.nbi")) == files
    simd = package / "numba_simd.py"
    before = simd.read_text()
    simd.write_text(before.replace('builder.fcmp_ordered(">", a, b), a, b)', 'builder.fcmp_ordered(">", a, b), b, a)'))
    assert simd.read_text() != before
    assert run() != wanted
