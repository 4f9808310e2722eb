"""One table per video, the common form of action scores of CUHK's network: `v_<id>.csv`, a header, a row per snippet.

The form read by BSN, BMN and G-TAD (`csv_mean_100`) has 400 columns `f0` to `f399`, 200 of rgb and 200 of flow, and 100
rows spread evenly over the video, whatever its length: converting them to seconds needs the durations of the
annotations. BSN itself spreads them over whole snippets of 16 frames, which end less than 0.7 s before the video. The
raw form is in `spatial/csv_action/` and `temporal/csv_action/`, a row every 16 frames at the video's own rate, to be
given with `--fps` and `--stride`. Numbers are written with nine digits, which distinguish any two of single precision.
Source: https://github.com/wzmsltw/BSN-boundary-sensitive-network, https://github.com/yjxiong/anet2016-cuhk.
"""

import io
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from wtal.data.files import read_text, write_atomic
from wtal.data.layout import ExportedVideo, Item, as_rows, find, halves, joined, named, per_video
from wtal.data.store import Features
from wtal.errors import FormatError

FPS, STRIDE = "", ""
BACKBONE = "tsn"

_JOINED = 400


def sniff(path: Path) -> bool:
    """Return True for a folder with `.csv` files in or below it, or one such file."""
    return bool(find(path, ".csv"))


def read(path: Path, annotations: Path | None, dims: Mapping[str, int]) -> list[Item]:
    """List the videos, sorted by their paths.

    Raises:
        FormatError: when there is no `.csv` file.
    """
    return per_video(path, ".csv", _rows, partial(_widths, dims), dims)


def write(folder: Path, videos: Sequence[ExportedVideo]) -> None:
    """Write `NAME.csv` for each video, with all streams in its columns."""
    for video in videos:
        rows, text = joined(video.load()), io.StringIO()
        header = ",".join(f"f{i}" for i in range(rows.shape[1]))
        np.savetxt(text, rows, fmt="%.9g", delimiter=",", header=header, comments="")
        write_atomic(folder / f"{video.name}.csv", text.getvalue().encode())


def _widths(dims: Mapping[str, int], width: int, where: str) -> Mapping[str, int]:
    return halves(width, where) if width == _JOINED and not dims else named(dims, width, where)


def _rows(path: Path) -> Features:
    """Read (T, D) numbers below an optional header."""
    lines = read_text(path).splitlines()
    cells = lines[0].split(",") if lines else []
    body = lines if all(map(_is_number, cells)) else lines[1:]
    if not any(line.strip() for line in body):
        return np.empty((0, max(1, len(cells))), dtype=np.float32)
    try:
        return as_rows(np.loadtxt(body, delimiter=",", ndmin=2, comments=None), str(path))
    except ValueError as error:
        raise FormatError(f"{path} is not a table of numbers: {error}") from None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
