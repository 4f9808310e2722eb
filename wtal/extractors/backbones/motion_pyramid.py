"""Motion pyramid: `motion` for several bodies, none, or part of one, in a third of its time; weight-free too.

The histograms are those of `motion` (Wang, Klaeser, Schmid, Liu: "Dense trajectories and motion boundary descriptors",
IJCV 2013; camera motion removed as in Wang and Schmid, ICCV 2013; RootSIFT normalization as in Arandjelovic and
Zisserman, CVPR 2012): HOG for stream `rgb`; HOF, MBH and speeds for stream `flow`. `motion` takes them in one grid that
is centred on whatever moves: right for one body, but between two it lies on neither. This adds grids over the whole
picture (Lazebnik, Schmid, Ponce: "Beyond bags of features: spatial pyramid matching", CVPR 2006; Laptev et al.:
"Learning realistic human actions from movies", CVPR 2008), which cover everything that moves at once, and a spectrum of
the motion over two and a half seconds, which shows what repeats and how fast (Cutler and Davis: "Robust real-time
periodic motion detection, analysis, and applications", PAMI 2000).

A clip of L = 64 frames is converted to a vector in these steps.

1. Size. Frames have 60 pixels on the shorter side, and flow is computed at that size: this saves most of the time.
2. Cells. Each second frame is described once for all clips that contain it, by histograms in cells of a twentieth of
   the shorter side, for `flow` without the camera's affine motion; see `wtal.extractors.dense_histograms`.
3. Shot. A pair of frames whose change is an isolated spike is a cut; only frames of the shot containing the middle of
   the clip count. Frames that repeat the border of the video, where a clip extends beyond it, do not count either.
4. Body. From the middle 24 frames: a grid of 5 x 5 with linear overlap around the centre of the motion energy, which
   moves along a line; in `flow` it grows with the motion's spread, in `rgb` its size is fixed.
5. Picture. A grid with linear overlap over the whole picture: in `flow` 3 x 3, from the middle 48 frames; in `rgb`
   4 x 4, from the middle 24.
6. Rhythm (`flow`). The energy in 3 x 3 fields around the body, and the motion of the whole picture in each of eight
   directions, as series over the clip: minus their means, under Hann's window, the amplitudes at 1 to 16 periods.
7. Mirror. With m the histograms of the mirrored clip, h is replaced by (h + m) / 2 and |h - m| / 2, each without its
   duplicates. For series, the amplitudes of both are added.
8. RootSIFT: every block of either kind is divided by its sum, and square roots are taken.

Layout. `flow` has D = 1332: body 850, picture 306 (each speed, HOF, MBHx, MBHy), rhythm 176 (energy 96, directions 80).
`rgb` has D = 656: body 400, picture 256 (each HOG, HOG of moving pixels). In each block the even part precedes the odd
part.

Units. Flow is measured in points, 1/120 of the picture's shorter side, so that frame size hardly matters.

Exactness. Histograms are integers, weights binary fractions, and float64 adds their products without error: the bits of
a feature depend only on its clip, not on its batch or on threads.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from wtal.errors import AbsentError
from wtal.extractors import dense_histograms as dense
from wtal.extractors.decoding.frame_size import FrameSize
from wtal.extractors.dense_histograms import DIRECTIONS, SPEEDS, UNIT, Cells, flow_cells, gray_cells
from wtal.extractors.descriptor import Description, Descriptor, WeightsSource
from wtal.extractors.histogram_grids import body_of, folded, on_grid, over_picture, pooled, root_shares, tents

STREAMS = ("rgb", "flow")
FLOW = "dis"
STRIDE = 8
WEIGHTS: dict[str, Any] = {}

SPAN = 64
"""Frames per clip: two and a half seconds, or two periods of most exercises."""
BODY_SPAN = 24
"""Frames in the middle for the body's grid, in `rgb` also for the picture's: a step or one and a half strokes."""
PICTURE_SPAN = 48
"""Frames in the middle for the picture's grid in `flow`."""
STEP = 2
"""Step between the described frames: every second one."""
SIDE = 60
"""Maximum shorter side of the frames, in pixels."""
POINTS = 120
"""Points along the shorter side of a picture; flow is measured in points per frame."""
BODY = 5
"""Fields across and down of the body's grid."""
PICTURE = {"flow": 3, "rgb": 4}
"""Fields across and down of the picture's grid."""
RHYTHM = 3
"""Fields across and down of the series of energy."""
PERIODS = 16
"""Largest number of periods per clip whose amplitude is kept, from 1: up to 6 per second."""
FLOW_SPREADS = 1.1
"""Distance of the centres of the 5 x 5 fields in `flow`, in mean absolute spreads of the motion."""
FLOW_FIELD = (6.0, 28.0)
"""Smallest and largest such distance, in points."""
GRAY_FIELD = 16.0
"""The same distance in `rgb`, in points."""
FLOW_CUT = (0.9, 3.5, 0.05)
"""A pair is a cut if its mean speed is above the first and above second * (neighbours + third), in points."""
GRAY_CUT = (1.5, 3.0, 0.3)
"""Like `FLOW_CUT`, on the change of the brightness of square blocks of pixels, in grey levels."""
BLOCK = 5
"""Side of those blocks in pixels; at the right and lower border they are filled up with black."""
NEIGHBOURS = 3
"""Pairs on either side that a cut must exceed: more than one, as slow sources repeat frames."""
SMALLEST_SUM = {"flow": 16.0, "rgb": 10.0 * UNIT}
"""Value added to a block's sum before division, per frame: keeps nearly motionless blocks near zero."""
SMALLEST_RHYTHM = 32.0
"""The same for amplitudes, per clip."""

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

# Mirroring maps (x, y) to (-x, y); the gradient of x, which also changes its own sign, to (x, -y).
_LEFT_FOR_RIGHT, _UP_FOR_DOWN = (tuple((turn - k) % DIRECTIONS for k in range(DIRECTIONS)) for turn in (4, 0))
MIRRORS = {
    "flow": (tuple(range(len(SPEEDS))), _LEFT_FOR_RIGHT, _UP_FOR_DOWN, _LEFT_FOR_RIGHT),
    "rgb": (_UP_FOR_DOWN, _UP_FOR_DOWN),
}
"""For each block of bins, the mirror image of each bin."""


class Series(NamedTuple):
    """Cells of counted frames: (n, rows, columns, bins), (n, rows, columns); `at` (n,) are indices in the clip."""

    histograms: NDArray[np.int32]
    energy: NDArray[np.int32]
    at: NDArray[np.int64]

    def around(self, middle: int, span: int) -> "Series":
        """Return the part within `span` frames around `middle`."""
        inside = (self.at >= middle - span // 2) & (self.at < middle + (span + 1) // 2)
        return Series(self.histograms[inside], self.energy[inside], self.at[inside])


class MotionPyramid(Descriptor):
    """Base of both streams: shots, grids, mirror, normalization."""

    span = SPAN
    size = FrameSize(SIDE, enlarge=False)
    side_by_side = True
    about: Description

    def __init__(self, **constants: Any) -> None:
        self.about = Description(
            dim=self.dim,
            span=SPAN,
            frames=SPAN if self.stream == "flow" else BODY_SPAN,
            step=1,
            size=self.size,
            crop=0,
            side=0,
            pixels=None,
            tap="square roots of normalised histograms",
            colours="grey" if self.stream == "rgb" else "flow across and down",
            note="of the body, of the picture" + (", of the rhythm" if self.stream == "flow" else ""),
        )
        self.identity = {
            "backbone": "motion-pyramid",
            "version": 1,
            "stream": self.stream,
            "preprocessing": self.about.to_json(),
            "spans": [SPAN, BODY_SPAN, PICTURE_SPAN, STEP],
            "fields": [dense.ACROSS, BODY, PICTURE[self.stream], RHYTHM, PERIODS],
            "points": POINTS,
            "neighbours": NEIGHBOURS,
            "smallest_sum": [SMALLEST_SUM[self.stream], SMALLEST_RHYTHM],
            **constants,
        }

    def cells(self, clip: NDArray[np.float32]) -> Series:
        """Map (C, L, h, w) -> cells of every STEP-th frame of the middle's shot; at least one frame."""
        raise NotImplementedError

    def blocks(self, cells: Series, length: int) -> list[Floats]:
        """Map cells of a clip of `length` frames -> normalized blocks of the feature."""
        raise NotImplementedError

    def preprocess(self, frames: NDArray[Any]) -> NDArray[np.float32]:
        """Convert (N, L, H, W, 2) float32 or (N, L, H, W, 3) uint8 -> (N, C, L', H, W)."""
        raise NotImplementedError

    def features(self, clips: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map (N, C, L, h, w) preprocessed clips -> (N, D) in [0, 1]."""
        rows = [np.concatenate(self.blocks(self.cells(clip), clip.shape[1])) for clip in clips]
        return np.stack(rows).astype(np.float32)

    def shares(self, histograms: Floats, frames: int) -> list[Floats]:
        """Map (bins, rows, columns) sums over `frames` frames -> square roots of shares: even, odd part, by block."""
        mirrors = MIRRORS[self.stream]
        blocks = np.split(histograms, np.cumsum([len(mirror) for mirror in mirrors])[:-1])
        least = frames * SMALLEST_SUM[self.stream]
        parts = [folded(block, mirror) for block, mirror in zip(blocks, mirrors, strict=True)]
        return [root_shares(part, least) for pair in parts for part in pair]


class FlowPyramid(MotionPyramid):
    """Stream `flow`: speed, HOF, MBHx, MBHy, and the rhythm of moving parts."""

    stream = "flow"
    dim = 1332

    def preprocess(self, frames: NDArray[Any]) -> NDArray[np.float32]:
        """Transpose (N, L, H, W, 2) float32 flow in pixels -> (N, 2, L, H, W), a view where possible."""
        return np.moveaxis(frames.astype(np.float32, copy=False), 4, 1)

    def cells(self, clip: NDArray[np.float32]) -> Series:
        """Map (2, L, h, w) -> cells of every STEP-th pair of the middle's shot; at least one."""
        scale = POINTS / min(clip.shape[2:])
        shot = _pairs_of_the_shot(clip, scale) & _not_repeated(clip)
        return _series(shot, lambda i: flow_cells(clip[:, i], scale))

    def blocks(self, cells: Series, length: int) -> list[Floats]:
        """Map cells of a clip of `length` frames -> body, picture, rhythm."""
        near = cells.around(length // 2, BODY_SPAN)
        height, width = cells.energy.shape[1:]
        column, row, across, down = body_of(near.energy)
        rows, columns = (_field(spread) for spread in (down, across))
        body = pooled(near.histograms, tents(row, rows, height, BODY), tents(column, columns, width, BODY))
        far = cells.around(length // 2, PICTURE_SPAN)
        picture = over_picture(far.histograms, PICTURE["flow"])
        return [*self.shares(body, len(near.at)), *self.shares(picture, len(far.at)), *_rhythm(cells, length)]


class GrayPyramid(MotionPyramid):
    """Stream `rgb`: HOG of all pixels, and of the moving ones."""

    stream = "rgb"
    dim = 656

    def preprocess(self, frames: NDArray[Any]) -> NDArray[np.float32]:
        """Convert (N, L, H, W, 3) uint8 RGB -> (N, 1, L', H, W) float32 grey levels 0..255, L' the middle BODY_SPAN."""
        start = max(0, frames.shape[1] // 2 - BODY_SPAN // 2)
        frames = frames[:, start : start + BODY_SPAN]
        clips, length, height, width, _ = frames.shape
        gray = cv2.cvtColor(np.ascontiguousarray(frames).reshape(-1, width, 3), cv2.COLOR_RGB2GRAY)
        return gray.reshape(clips, 1, length, height, width).astype(np.float32)

    def cells(self, clip: NDArray[np.float32]) -> Series:
        """Map (1, L, h, w) -> cells of every STEP-th frame of the middle's shot; at least one."""
        shot = _frames_of_the_shot(clip[0]) & _not_repeated(clip)
        gray = clip[0].astype(np.uint8)

        def describe(i: int) -> Cells:
            before, after = (j if 0 <= j < len(shot) and shot[j] else i for j in (i - 1, i + 1))
            return gray_cells(gray[before], gray[i], gray[after])

        return _series(shot, describe)

    def blocks(self, cells: Series, length: int) -> list[Floats]:
        """Map cells of a clip of `length` frames -> body, picture."""
        height, width = cells.energy.shape[1:]
        column, row, _, _ = body_of(cells.energy)
        distance = GRAY_FIELD * dense.ACROSS / POINTS
        body = pooled(cells.histograms, tents(row, distance, height, BODY), tents(column, distance, width, BODY))
        picture = over_picture(cells.histograms, PICTURE["rgb"])
        return [*self.shares(body, len(cells.at)), *self.shares(picture, len(cells.at))]


def create(stream: str, weights: WeightsSource = None, variant: str = "") -> MotionPyramid:
    """Create the descriptor of one stream.

    Raises:
        WeightsError: when weights are given, as there are none to load.
    """
    if weights is not None:
        raise AbsentError("backbone motion-pyramid has no weights to load; leave out --weights")
    if stream == "rgb":
        levels = [dense.GRAY_FLOOR, dense.GRAY_CEILING, dense.GRAY_MOVING]
        return GrayPyramid(limits=levels, cut=list(GRAY_CUT), field=GRAY_FIELD)
    limits = [dense.FLOW_FLOOR, dense.FLOW_CEILING, dense.FLOW_LARGEST]
    field = [FLOW_SPREADS, *FLOW_FIELD]
    return FlowPyramid(limits=limits, speeds=list(SPEEDS), cut=list(FLOW_CUT), field=field)


def describe(stream: str, variant: str = "") -> Description:
    """Describe the input of the descriptor for `stream`."""
    return create(stream).about


def _series(counts: Flags, describe: Callable[[int], Cells]) -> Series:
    """Map (L,) counted frames -> cells of every STEP-th of them, or of the middle one if none is left."""
    at = np.flatnonzero(counts[::STEP]) * STEP
    at = at if len(at) else np.array([len(counts) // 2])
    histograms, energy = zip(*(describe(int(i)) for i in at), strict=True)
    return Series(np.stack(histograms), np.stack(energy), at)


def _not_repeated(clip: NDArray[np.float32]) -> Flags:
    """Map (C, L, h, w) -> (L,) False for repetitions beyond the first or the last frame."""
    first, last = 0, clip.shape[1] - 1
    middle = clip.shape[1] // 2
    while first < middle and np.array_equal(clip[:, first], clip[:, first + 1]):
        first += 1
    while last > middle and np.array_equal(clip[:, last], clip[:, last - 1]):
        last -= 1
    at = np.arange(clip.shape[1])
    return np.asarray((at >= first) & (at <= last))


def _cuts(change: Floats, least: float, ratio: float, noise: float) -> Flags:
    """Map (n,) change from frame to frame -> (n,) True at isolated spikes."""
    if len(change) == 0:
        return np.zeros(0, bool)
    around = np.lib.stride_tricks.sliding_window_view(np.pad(change, NEIGHBOURS), 2 * NEIGHBOURS + 1).copy()
    around[:, NEIGHBOURS] = 0
    return np.asarray((change > least) & (change > ratio * (around.max(1) + noise)))


def _pairs_of_the_shot(flow: NDArray[np.float32], scale: float) -> Flags:
    """Map (2, L, h, w) pixels, points per pixel -> (L,) True for the pairs inside the shot containing frame L // 2."""
    apart = max(1, min(flow.shape[2:]) // 8)
    points = flow[:, :, ::apart, ::apart].reshape(2, flow.shape[1], -1) * np.float32(scale)
    moved = on_grid(points - np.median(points, axis=2, keepdims=True), UNIT)
    cut = _cuts(on_grid(np.sqrt(moved[0] ** 2 + moved[1] ** 2), UNIT).mean(1), *FLOW_CUT)
    shot = np.cumsum(cut)
    middle = len(cut) // 2
    # A pair that is a cut already belongs to the shot after it.
    return np.asarray(~cut & (shot == shot[middle] - cut[middle]))


def _frames_of_the_shot(gray: NDArray[np.float32]) -> Flags:
    """Map (L, h, w) -> (L,) True for the frames of the shot containing frame L // 2."""
    _, height, width = gray.shape
    bands = np.add.reduceat(gray, np.arange(0, height, BLOCK), axis=1)
    blocks = np.add.reduceat(bands, np.arange(0, width, BLOCK), axis=2) / np.float32(BLOCK**2)
    change = on_grid(np.abs(blocks[1:] - blocks[:-1]), UNIT).mean((1, 2))
    shot = np.pad(np.cumsum(_cuts(change, *GRAY_CUT)), (1, 0))
    return np.asarray(shot == shot[len(gray) // 2])


def _field(spread: float) -> float:
    """Map the spread of the motion in cells -> distance of the fields' centres, in cells."""
    least, largest = (limit * dense.ACROSS / POINTS for limit in FLOW_FIELD)
    return min(max(spread * FLOW_SPREADS, least), largest)


def _rhythm(cells: Series, length: int) -> list[Floats]:
    """Map cells of a clip of `length` frames -> square roots of shares of amplitudes: of energy, of directions."""
    column, row, across, down = body_of(cells.energy)
    height, width = cells.energy.shape[1:]
    rows = tents(row, _field(down) * BODY / RHYTHM, height, RHYTHM)
    columns = tents(column, _field(across) * BODY / RHYTHM, width, RHYTHM)
    fields = (rows @ cells.energy @ columns.transpose(0, 2, 1)).reshape(len(cells.at), RHYTHM, RHYTHM)
    motions = cells.histograms[..., len(SPEEDS) : len(SPEEDS) + DIRECTIONS].sum((1, 2), dtype=np.int64)
    energy = _amplitudes(fields.reshape(len(fields), -1), cells.at, length).reshape(-1, RHYTHM, RHYTHM)
    directions = _amplitudes(motions.astype(np.float64), cells.at, length)
    half = (RHYTHM + 1) // 2
    halves = [k for k, twin in enumerate(_LEFT_FOR_RIGHT) if k <= twin]
    both = [
        (energy + energy[:, :, ::-1])[:, :, :half],
        (directions + directions[:, list(_LEFT_FOR_RIGHT)])[:, halves],
    ]
    return [root_shares(part.ravel(), SMALLEST_RHYTHM) for part in both]


def _amplitudes(series: Floats, at: NDArray[np.int64], length: int) -> Floats:
    """Map (n, F) values of the frames `at` of `length` -> (PERIODS, F) amplitudes of their deviations from the mean."""
    rest = on_grid(series - series.mean(0), 16)
    waves = _waves(length)[:, :, at // STEP] @ rest
    amplitudes: Floats = np.sqrt(waves[0] ** 2 + waves[1] ** 2)
    return amplitudes


@lru_cache(8)
def _waves(length: int) -> Floats:
    """Return (2, PERIODS, count) cosines and sines of 1 to PERIODS periods, under Hann's window, per STEP frames."""
    count = -(-length // STEP)
    phase = 2 * np.pi * (np.arange(count) + 0.5) / count
    angles = np.arange(1, PERIODS + 1)[:, None] * phase
    return on_grid(np.stack([np.cos(angles), np.sin(angles)]) * (1 - np.cos(phase)) / 2, 1024)
