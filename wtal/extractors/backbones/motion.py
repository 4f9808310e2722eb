"""Motion: a weight-free descriptor, HOG for stream `rgb`, HOF, MBH and speeds for stream `flow`.

The histograms are those of the dense-trajectory literature (Wang, Klaeser, Schmid, Liu: "Action Recognition by Dense
Trajectories", CVPR 2011; "Dense trajectories and motion boundary descriptors", IJCV 2013; camera motion removed as in
Wang and Schmid, "Action Recognition with Improved Trajectories", ICCV 2013; RootSIFT normalization as in Arandjelovic
and Zisserman, CVPR 2012). The difference is where they are computed: not along tracked points but in one grid of 5 x 5
cells that is centred on whatever moves, follows it, and (in `flow`) grows with it. The descriptor therefore captures
how a body moves, but not where in the picture.

A clip of L frames is converted to a vector in these steps.

1. Shots. A pair of frames whose motion is an isolated spike is a cut. Only the frames of the shot containing the
   middle of the clip count: a snippet never mixes two shots.
2. Camera (`flow`). Per pair, an affine motion is fitted by medians of differences over a coarse grid of points
   (Theil and Sen) and subtracted.
3. Body. The motion energy (`flow`: the speed above a noise floor; `rgb`: the change of brightness above one) of the
   shot gives a centre that moves along a line, and its mean absolute spread across and down.
4. Cells. 5 x 5 cells with linear overlap are laid around that centre.
5. Histograms in every cell, interpolated linearly between bins and summed over space and time:
   HOF (8 directions, by magnitude), MBHx and MBHy (8 directions each, of the gradients of the two flow components),
   speed (10 bins from standing still, the zero bin of HOF, to fast); HOG (8 undirected orientations, by magnitude),
   over all pixels and over the moving ones.
6. Mirror. With m the histograms of the mirrored clip, h is replaced by (h + m) / 2 and |h - m| / 2, each without
   its duplicates: an action to the left equals the same one to the right, but one-sided and two-sided actions differ.
7. RootSIFT: every block of either kind is divided by its sum, and square roots are taken.

Layout. `flow` has D = 850: speed 250, HOF 200, MBHx 200, MBHy 200. `rgb` has D = 400: HOG 200, HOG of moving pixels
200. In each block the even part precedes the odd part.

Units. Flow is measured in points, 1/120 of the picture's shorter side, so that the size of the frames does not matter.
Frames and flow are reduced by a whole factor to about 60 pixels on the shorter side.

Exactness. Before every sum the terms are rounded to binary fractions so coarse that float64 adds them without error,
and all operations are elementary: the bits of a feature depend only on its clip, not on its batch or on threads.
"""

import math
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from wtal.errors import AbsentError
from wtal.extractors.backbone import Backbone, Description, WeightsSource
from wtal.extractors.decoding.frame_size import FrameSize

STREAMS = ("rgb", "flow")
FLOW = "dis"
STRIDE = 8
WEIGHTS: dict[str, Any] = {}

SPAN = 24
"""Frames per clip: about one second, a step or one and a half strokes."""
STEP = 2
"""Step between the frames with histograms: every second frame of the clip."""
CELLS = 5
"""Cells across and down."""
POINTS = 120
"""Points along the shorter side of a picture; flow is measured in points per frame."""
SIDE = 60
"""Approximate shorter side of the reduced frames, in pixels."""
FLOW_FLOOR = 0.4
"""Points per frame up to which flow is considered noise: standing still."""
FLOW_CEILING = 4.0
"""Points per frame above the floor at which a pixel's weight in locating the body saturates."""
SPEEDS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)
"""Centres of the speed bins, in points per frame; spaced by powers of two, so that shares are exact."""
FLOW_CUT = (0.9, 3.5, 0.05)
"""A pair is a cut if its mean speed is above the first and above second * (neighbours + third), in points."""
GRAY_FLOOR = 12.0
"""Grey levels (of 255) between a frame's two neighbours up to which a change is considered noise."""
GRAY_CEILING = 60.0
"""Grey levels above the floor at which a pixel's weight in locating the body saturates."""
GRAY_CUT = (1.5, 3.0, 0.3)
"""Like `FLOW_CUT`, on the change of the brightness of blocks of 5 x 5 pixels, in grey levels."""
NEIGHBOURS = 3
"""Pairs on either side that a cut must exceed: more than one, as slow sources repeat frames."""
FLOW_SPREADS = 1.1
"""Distance of cell centres in `flow`, in mean absolute spreads of the motion."""
FLOW_CELL = (5.0, 28.0)
"""Smallest and largest distance of cell centres in `flow`, in points."""
GRAY_CELL = 16.0
"""Distance of cell centres in `rgb`, in points."""
SMALLEST_SUM = {"flow": 1.0, "rgb": 10.0}
"""Value added to a part's sum before division, per frame: keeps nearly motionless parts near zero."""


class Motion(Backbone):
    """Base of both streams: cells on the body, mirror, normalization."""

    span = SPAN
    size = FrameSize(256, enlarge=False)
    side_by_side = True
    about: Description
    mirrors: tuple[list[int], ...]
    """For each block of bins, the mirror image of each bin."""

    def __init__(self, **constants: Any) -> None:
        super().__init__()
        self._folds = [_representatives(mirror) for mirror in self.mirrors]
        self._sizes = [len(part) for fold in self._folds for part in fold]
        self.dim = sum(self._sizes)
        self.about = Description(
            dim=self.dim,
            span=SPAN,
            frames=SPAN,
            step=1,
            size=self.size,
            crop=0,
            side=0,
            pixels=None,
            tap="square roots of normalised histograms",
            colours="grey" if self.stream == "rgb" else "flow across and down",
            note=f"reduced to about {SIDE} px",
        )
        source = {"backbone": "motion", "version": 1, "stream": self.stream, **asdict(self.size)}
        common = {"span": SPAN, "step": STEP, "cells": CELLS, "points": POINTS, "side": SIDE, "neighbours": NEIGHBOURS}
        self.identity = {**source, "smallest_sum": SMALLEST_SUM[self.stream], **common, **constants}

    def cells(self, clip: Tensor) -> tuple[Tensor, Tensor]:
        """Map (C, L, h, w) -> (L', bins, rows, columns) float64 sums of every STEP-th frame, and (L',) which count."""
        raise NotImplementedError

    def feature_map(self, clips: Tensor) -> Tensor:
        """Map (N, C, L, h, w) clips -> (N, D, L') histograms, not yet normalized, zero outside the middle's shot."""
        return torch.stack([self._fold(self.cells(clip)[0]).T for clip in clips]).float()

    def forward(self, clips: Tensor) -> Tensor:
        """Map (N, C, L, h, w) preprocessed clips -> (N, D) in [0, 1]."""
        return torch.stack([self._describe(*self.cells(clip)) for clip in clips]).float()

    def _describe(self, histograms: Tensor, shot: Tensor) -> Tensor:
        """Map (L', bins, rows, columns), (L',) -> (D,) RootSIFT of the sums over time, part by part."""
        folded = self._fold(histograms.sum(0, keepdim=True))[0]
        least = shot.sum().clamp(min=1) * SMALLEST_SUM[self.stream]
        return torch.cat([(part / (part.sum() + least)).sqrt() for part in torch.split(folded, self._sizes)])

    def _fold(self, histograms: Tensor) -> Tensor:
        """Map (L', bins, rows, columns) -> (L', D): block by block, even part, then odd part."""
        parts = []
        blocks = torch.split(histograms, [len(mirror) for mirror in self.mirrors], dim=1)
        for block, mirror, (even, odd) in zip(blocks, self.mirrors, self._folds, strict=True):
            mirrored = block[:, mirror].flip(3)
            parts += [(block + mirrored).flatten(1)[:, even] / 2, (block - mirrored).abs().flatten(1)[:, odd] / 2]
        return torch.cat(parts, dim=1)


class FlowMotion(Motion):
    """Stream `flow`: speed, HOF, MBHx, MBHy."""

    stream = "flow"
    # Mirroring maps (x, y) to (-x, y); the gradient of x, which also changes its own sign, to (x, -y).
    mirrors = (list(range(len(SPEEDS))), *([(turn - k) % 8 for k in range(8)] for turn in (4, 0, 4)))

    def preprocess(self, frames: NDArray[Any]) -> Tensor:
        """Convert (N, L, H, W, 2) float32 flow in pixels -> (N, 2, L, h, w) float32 in points, h or w about 60."""
        clips, length, height, width, _ = frames.shape
        side = min(height, width)
        flow = torch.from_numpy(np.ascontiguousarray(np.moveaxis(frames, 4, 1), np.float32)).reshape(-1, height, width)
        steps, factor = _reduce((flow * 64).round_().clamp_(-64 * side, 64 * side))
        points = _grid(steps * (POINTS / side / factor**2 / 64), 64)
        return points.reshape(clips, 2, length, *points.shape[1:])

    def cells(self, clip: Tensor) -> tuple[Tensor, Tensor]:
        """Map (2, L, h, w) -> (L', 34, rows, columns) float64 sums of every STEP-th pair, and (L',) which count."""
        flow = _without_camera(clip)
        speed = _grid((flow[0] * flow[0] + flow[1] * flow[1]).sqrt(), 64)
        shot = _pairs_of_the_shot(speed.double().mean((1, 2)))[::STEP]
        flow, speed = flow[:, ::STEP], speed[::STEP]
        energy = _grid((speed - FLOW_FLOOR).clamp(0, FLOW_CEILING), 64) * shot[:, None, None]
        column, row, across, down = _body(energy.double())
        scale = min(clip.shape[2:]) / POINTS
        least, largest = (limit * scale for limit in FLOW_CELL)
        rows = _tents(row, (down * FLOW_SPREADS).clamp(least, largest), clip.shape[2])
        columns = _tents(column, (across * FLOW_SPREADS).clamp(least, largest), clip.shape[3])
        moving = flow * (speed > FLOW_FLOOR)
        maps = [_speed_bins(speed), _directions(moving[0], moving[1])]
        maps += [_directions(across / 2, down / 2) for down, across in map(_gradient, flow)]
        return _pool(maps, rows, columns, shot), shot


class GrayMotion(Motion):
    """Stream `rgb`: HOG of all pixels, and of the moving ones."""

    stream = "rgb"
    mirrors = ([-k % 8 for k in range(8)],) * 2

    def preprocess(self, frames: NDArray[Any]) -> Tensor:
        """Convert (N, L, H, W, 3) uint8 RGB -> (N, 1, L, h, w) float32 grey levels 0..255, h or w about 60."""
        clips, length, height, width, _ = frames.shape
        gray = cv2.cvtColor(np.ascontiguousarray(frames).reshape(-1, width, 3), cv2.COLOR_RGB2GRAY)
        levels, factor = _reduce(torch.from_numpy(gray.reshape(clips * length, height, width)).float())
        return _grid(levels / factor**2, 16).reshape(clips, 1, length, *levels.shape[1:])

    def cells(self, clip: Tensor) -> tuple[Tensor, Tensor]:
        """Map (1, L, h, w) -> (L', 16, rows, columns) float64 sums of every STEP-th frame, and (L',) which count."""
        gray = clip[0]
        shot = _frames_of_the_shot(gray)
        energy = _change(gray, shot)[::STEP]
        gray, shot = gray[::STEP], shot[::STEP]
        column, row, _, _ = _body(energy.double())
        distance = torch.full_like(row, GRAY_CELL * min(clip.shape[2:]) / POINTS)
        rows, columns = _tents(row, distance, clip.shape[2]), _tents(column, distance, clip.shape[3])
        down, across = _gradient(gray)
        oriented = _orientations(across, down)
        moving = functional.max_pool2d((energy / 20).clamp(max=1), 5, stride=1, padding=2)
        return _pool([oriented, oriented * _grid(moving, 16)[:, None]], rows, columns, shot), shot


def create(stream: str, weights: WeightsSource = None, variant: str = "") -> Motion:
    """Create the descriptor of one stream.

    Raises:
        WeightsError: when weights are given, as there are none to load.
    """
    if weights is not None:
        raise AbsentError("backbone motion has no weights to load; leave out --weights")
    if stream == "rgb":
        return GrayMotion(floor=GRAY_FLOOR, ceiling=GRAY_CEILING, cut=list(GRAY_CUT), cell=GRAY_CELL)
    return FlowMotion(
        floor=FLOW_FLOOR,
        ceiling=FLOW_CEILING,
        speeds=list(SPEEDS),
        cut=list(FLOW_CUT),
        spreads=FLOW_SPREADS,
        cell=list(FLOW_CELL),
    )


def describe(stream: str, variant: str = "") -> Description:
    """Describe the input of the descriptor for `stream`."""
    return create(stream).about


def _grid(values: Tensor, steps: int) -> Tensor:
    """Round to multiples of 1 / steps, so that sums are exact."""
    return (values * steps).round_().div_(steps)


def _reduce(frames: Tensor) -> tuple[Tensor, int]:
    """Reduce (M, H, W) -> (M, h, w) sums over squares of an integer factor, shorter side near `SIDE`; and factor."""
    factor = max(1, round(min(frames.shape[1:]) / SIDE))
    return functional.avg_pool2d(frames[:, None], factor, divisor_override=1)[:, 0], factor


def _gradient(frames: Tensor) -> tuple[Tensor, Tensor]:
    """Return (L, h, w) differences of the two neighbours, down and across; zero on the border."""
    down, across = torch.zeros_like(frames), torch.zeros_like(frames)
    down[:, 1:-1] = frames[:, 2:] - frames[:, :-2]
    across[:, :, 1:-1] = frames[:, :, 2:] - frames[:, :, :-2]
    return down, across


def _wedges(x: Tensor, y: Tensor, width: float, count: int) -> Tensor:
    """Map (L, h, w) vectors -> (L, 2 * count, h, w) cross products with directions `width` apart, 1 one step away."""
    # Coefficients are binary fractions, so that the products are exact.
    turns = [k * width for k in range(count)]
    sines, cosines = ([round(128 * f(turn) / math.sin(width)) / 128 for turn in turns] for f in (math.sin, math.cos))
    half = torch.stack([x * sine - y * cosine for sine, cosine in zip(sines, cosines, strict=True)], dim=1)
    return torch.cat([half, -half], dim=1)


def _directions(x: Tensor, y: Tensor) -> Tensor:
    """Split (L, h, w) vectors -> (L, 8, h, w): shares of the two enclosing ones of 8 directions (x right, y down)."""
    wedges = _wedges(x, y, math.pi / 4, 4)
    # A vector lies before direction k + 1 and after direction k - 1, whose opposite is k + 3.
    return torch.minimum(wedges.roll(-1, 1), wedges.roll(-3, 1)).clamp_(min=0)


def _orientations(x: Tensor, y: Tensor) -> Tensor:
    """Split (L, h, w) vectors -> (L, 8, h, w): like `_directions` over half a turn, with opposite vectors equal."""
    wedges = _wedges(x, y, math.pi / 8, 8)
    bins = torch.minimum(wedges.roll(-1, 1), wedges.roll(-7, 1)).clamp_(min=0)
    return bins[:, :8] + bins[:, 8:]


def _speed_bins(speed: Tensor) -> Tensor:
    """Split (L, h, w) points -> (L, 10, h, w) linear shares of the bins around `SPEEDS`; they sum to one."""
    reached = [((speed - low) / (high - low)).clamp_(0, 1) for low, high in pairwise(SPEEDS)]
    steps = pairwise([torch.ones_like(speed), *reached, torch.zeros_like(speed)])
    return torch.stack([here - further for here, further in steps], dim=1)


def _without_camera(flow: Tensor) -> Tensor:
    """Subtract from (2, L, h, w) the affine motion of most points of a coarse grid."""
    height, width = flow.shape[2:]
    ys = torch.arange(height // 16, height, max(1, height // 8), device=flow.device)
    xs = torch.arange(width // 16, width, max(1, width // 8), device=flow.device)
    points = flow[:, :, ys][..., xs]
    slope_x = _median_slope(points, xs)[..., None, None]
    slope_y = _median_slope(points.transpose(2, 3), ys)[..., None, None]
    offset = (points - slope_x * xs - slope_y * ys[:, None]).flatten(2).median(2).values[..., None, None]
    row, column = torch.arange(height, device=flow.device)[:, None], torch.arange(width, device=flow.device)
    return _grid(flow - slope_x * column - (slope_y * row + offset), 64)


def _median_slope(points: Tensor, places: Tensor) -> Tensor:
    """Map (2, L, rows, n) flow at n places -> (2, L): median slope over pairs of places half the range apart."""
    count, half = len(places), len(places) // 2
    if half == 0:
        return points.new_zeros(points.shape[:2])
    apart = places[half:] - places[: count - half]
    return ((points[..., half:] - points[..., : count - half]) / apart).flatten(2).median(2).values


def _cuts(change: Tensor, least: float, ratio: float, noise: float) -> Tensor:
    """Map (L,) change from frame to frame -> (L,) True at isolated spikes."""
    if len(change) == 0:
        return change > least
    around = functional.pad(change, (NEIGHBOURS, NEIGHBOURS)).unfold(0, 2 * NEIGHBOURS + 1, 1).clone()
    around[:, NEIGHBOURS] = 0
    return (change > least) & (change > ratio * (around.amax(1) + noise))


def _pairs_of_the_shot(change: Tensor) -> Tensor:
    """Map (L,) mean speed of each pair -> (L,) True for the pairs inside the shot containing frame L // 2."""
    cut = _cuts(change, *FLOW_CUT)
    shot = cut.long().cumsum(0)
    middle = len(change) // 2
    # A pair that is a cut already belongs to the shot after it.
    return ~cut & (shot == shot[middle] - cut[middle].long())


def _frames_of_the_shot(gray: Tensor) -> Tensor:
    """Map (L, h, w) -> (L,) True for the frames of the shot containing frame L // 2."""
    blocks = functional.avg_pool2d(gray, 5, ceil_mode=True, divisor_override=25)
    change = _grid((blocks[1:] - blocks[:-1]).abs(), 64).double().mean((1, 2))
    shot = functional.pad(_cuts(change, *GRAY_CUT).long().cumsum(0), (1, 0))
    return shot == shot[len(gray) // 2]


def _change(gray: Tensor, shot: Tensor) -> Tensor:
    """Map (L, h, w), (L,) -> (L, h, w): change between a frame's neighbours in the shot, above the noise floor.

    The first and the last frame of the shot use that of the adjacent frame.
    """
    inside = shot.nonzero().flatten().tolist()
    change = torch.zeros_like(gray)
    if len(inside) < 3:
        return change
    first, last = inside[0], inside[-1]
    change[first + 1 : last] = (gray[first + 2 : last + 1] - gray[first : last - 1]).abs_()
    change = (change - GRAY_FLOOR).clamp_(0, GRAY_CEILING)
    change[first], change[last] = change[first + 1], change[last - 1]
    return change


def _body(energy: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Locate (L, h, w) -> centre column (L,), moving along a line, row (), mean absolute spreads across and down ().

    The line is the energy-weighted least-squares fit, its slope shrunk as if the time's variance were 0.5 larger. If
    nothing moves, the centre is the picture's.
    """
    time, ys, xs = (torch.arange(n, dtype=energy.dtype, device=energy.device) for n in energy.shape)
    by_column, by_row = energy.sum(1), energy.sum((0, 2))
    mass, moment = by_column.sum(1), (by_column * xs).sum(1)
    total = mass.sum()
    if total == 0:
        middle = ((energy.new_tensor(energy.shape) - 1) / 2)[1:]
        return middle[1].expand(len(time)), middle[0], total, total
    mean_time, mean_x = (mass * time).sum() / total, moment.sum() / total
    variance = (mass * time * time).sum() / total - mean_time * mean_time
    covariance = (moment * time).sum() / total - mean_time * mean_x
    column = _grid(mean_x + covariance / (variance + 0.5) * (time - mean_time), 16)
    row = _grid((by_row * ys).sum() / total, 16)
    across = (by_column * (xs - column[:, None]).abs()).sum() / total
    down = (by_row * (ys - row).abs()).sum() / total
    return column, row, across, down


def _tents(middle: Tensor, distance: Tensor, size: int) -> Tensor:
    """Map (...) pixels -> (..., cells, size) linear weights of pixels in cells `distance` apart around `middle`."""
    offsets = torch.arange(CELLS, dtype=middle.dtype, device=middle.device) - (CELLS - 1) / 2
    places = torch.arange(size, dtype=middle.dtype, device=middle.device)
    centres = middle[..., None] + offsets * distance
    return _grid((1 - (places - centres[..., None]).abs() / distance).clamp(min=0), 256)


def _pool(maps: list[Tensor], rows: Tensor, columns: Tensor, shot: Tensor) -> Tensor:
    """Sum maps (L, bins, h, w), (rows, h), (L, columns, w), (L,) -> (L, all bins, rows, columns) float64."""
    pooled = []
    for part in maps:
        length, bins, height, _ = part.shape
        across = torch.bmm(part.double().flatten(1, 2), columns.transpose(1, 2)).reshape(length, bins, height, CELLS)
        pooled.append(torch.matmul(rows, across))
    return torch.cat(pooled, dim=1) * shot[:, None, None, None]


def _representatives(mirror: list[int]) -> tuple[list[int], list[int]]:
    """Return flattened positions (bin, row, column), one per mirror pair: of the even part, of the odd part."""
    positions = np.arange(len(mirror) * CELLS * CELLS).reshape(len(mirror), CELLS, CELLS)
    twins = positions[mirror, :, ::-1]
    return positions[positions <= twins].tolist(), positions[positions < twins].tolist()
