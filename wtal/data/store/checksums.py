"""CRC-32 of a stored video: of the rows of each stream, and of everything else that is known of it.

Disks and copies damage bytes without an error; without a checksum a flipped bit would be a wrong number.
"""

import json
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def rows_crc32(values: NDArray[Any]) -> int:
    """(T, D) -> CRC-32 of the rows' bytes, row after row."""
    return zlib.crc32(np.ascontiguousarray(values).data)


def entry_crc32(
    video: str, grid: Mapping[str, Any], info: Mapping[str, Any], fingerprint: str, rows: Mapping[str, int]
) -> int:
    """Return the CRC-32 of a video's id, clock, origin, fingerprint and checksums of rows, as one line of JSON."""
    content = [video, dict(grid), dict(info), fingerprint, dict(rows)]
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())
