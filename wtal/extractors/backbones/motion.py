"""Motion: a weight-free descriptor, HOG for stream `rgb`, HOF, MBH and speeds for stream `flow`.

The histograms are those of the dense-trajectory literature (Wang, Klaeser, Schmid, Liu: "Action Recognition by Dense
Trajectories", CVPR 2011; "Dense trajectories and motion boundary descriptors", IJCV 2013; camera motion removed as in
Wang and Schmid, "Action Recognition with Improved Trajectories", ICCV 2013; RootSIFT normalisation as in Arandjelovic
and Zisserman, CVPR 2012). What differs is where they are taken: not along tracked points but in one grid of 5 x 5
cells that sits on whatever moves, travels with it, and (in `flow`) grows with it. So the descriptor says how a body
moves, and not where in the picture it does so.

A clip of L frames becomes a vector in these steps.

1. Shots. A pair of frames whose motion is an isolated spike is a cut. Only the frames of the shot that holds the
   middle of the clip count: a snippet never mixes two shots.
2. Camera (`flow`). Per pair, an affine motion is fitted by medians of differences over a coarse grid of points
   (Theil and Sen) and taken away.
3. Body. The motion energy (`flow`: the speed above a noise floor; `rgb`: the change of brightness above one) of the
   shot gives a centre that moves along a line, and its mean absolute spread across and down.
4. Cells. 5 x 5 cells with linear overlap are laid around that centre.
5. Histograms in every cell, interpolated linearly between bins and summed over space and time:
   HOF (8 directions, by magnitude), MBHx and MBHy (8 directions each, of the gradients of the two flow components),
   speed (9 bins from standing still, the zero bin of HOF, to fast); HOG (8 undirected orientations, by magnitude),
   over all pixels and over the moving ones.
6. Mirror. With m the histograms of the mirrored clip, what is kept of h is (h + m) / 2 and |h - m| / 2, each without
   its duplicates: an action to the left and the same to the right are one, a one-sided action and a two-sided one not.
7. RootSIFT: every block of either kind is divided by its sum and its square roots are taken.

Layout. `flow` has D = 825: speed 225, HOF 200, MBHx 200, MBHy 200. `rgb` has D = 400: HOG 200, HOG of what moves 200.
In each block the even part stands before the odd part.

Units. Flow counts in points, 1/120 of the picture's shorter side, so that the size of the frames does not matter.
Frames are reduced by a whole factor to about 120 (`rgb`) or 60 (`flow`) on the shorter side.

Exactness. Before every sum the terms are rounded to binary fractions so coarse that float64 adds them without error,
and only elementary operations are used. So the bits of a feature depend on its clip alone: not on the batch it came
in, nor on the number of threads.
"""

import math
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from wtal.errors import WeightsError
from wtal.extractors.backbone import Backbone, FrameSize, WeightsSource

STREAMS = ("rgb", "flow")
FLOW = "dis"
STRIDE = 4
WEIGHTS: dict[str, Any] = {}

SPAN = 24
"""Frames of a clip: about one second, a step or a stroke and a half."""
CELLS = 5
"""Cells across and down."""
POINTS = 120
"""Points on the shorter side of a picture; flow counts in points per frame."""
FLOW_FLOOR = 0.4
"""Points per frame up to which flow is taken for noise: standing still."""
FLOW_CEILING = 4.0
"""Points per frame above the floor from which a pixel's say in the body's place grows no more."""
SPEEDS = (0.0, 0.5, 1.0, 1.5, 2.2, 3.2, 4.7, 7.0, 11.0)
"""Middles of the speed bins, in points per frame; about geometric."""
FLOW_CUT = (0.9, 3.5, 0.05)
"""A pair is a cut when its mean speed is above the first and above second * (neighbours + third), in points."""
GRAY_FLOOR = 12.0
"""Grey levels (of 255) between a frame's two neighbours up to which a change is taken for noise."""
GRAY_CEILING = 60.0
"""Grey levels above the floor from which a pixel's say in the body's place grows no more."""
GRAY_CUT = (1.5, 3.0, 0.3)
"""As `FLOW_CUT`, on the change of the brightness of blocks, in grey levels."""
NEIGHBOURS = 3
"""Pairs on either side that a cut must exceed: more than one, as slow sources repeat frames."""
FLOW_SPREADS = 1.1
"""Distance of cell middles in `flow`, in mean absolute spreads of the motion."""
FLOW_CELL = (5.0, 28.0)
"""Least and largest distance of cell middles in `flow`, in points."""
GRAY_CELL = 16.0
"""Distance of cell middles in `rgb`, in points."""
SMALLEST_SUM = {"flow": 1.0, "rgb": 10.0}
"""Added to a block's sum before it is divided by it, per frame: what nearly stands still stays near zero."""

_FLOW_SIDE = 60
_CLIPS_AT_ONCE = 4


class Motion(Backbone):
    """Common to both streams: cells on the body, mirror, normalisation.

    `feature_map` has one column of histograms a frame (zero outside the shot), before they are summed and normalised.
    """

    span = SPAN
    size = FrameSize(256, enlarge=False)
    blocks: tuple[int, ...]

    def __init__(self) -> None:
        super().__init__()
        self.dim = CELLS * CELLS * sum(self.blocks)
        self.identity = {
            "backbone": "motion",
            "version": 1,
            "stream": self.stream,
            "span": SPAN,
            "cells": CELLS,
            "points": POINTS,
            "neighbours": NEIGHBOURS,
            "smallest_sum": SMALLEST_SUM[self.stream],
            "size": [self.size.short_side, self.size.enlarge],
            **self.parameters_of_stream(),
        }

    def parameters_of_stream(self) -> dict[str, Any]:
        """What the stream adds to the identity."""
        raise NotImplementedError

    def cells(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, L, h, w) -> histograms (N, L, bins, rows, columns) float64; (N, L) which frames are in the shot."""
        raise NotImplementedError

    def feature_map(self, clips: Tensor) -> Tensor:
        """(N, C, L, h, w) preprocessed -> (N, D, L) histograms of each frame, folded but not normalised."""
        parts = [self.cells(part)[0] for part in torch.split(clips, _CLIPS_AT_ONCE)]
        return self._fold(torch.cat(parts)).transpose(1, 2).float()

    def forward(self, clips: Tensor) -> Tensor:
        """(N, C, L, h, w) preprocessed -> (N, D) in [0, 1]; zero for a clip in which nothing moves."""
        features = []
        for part in torch.split(clips, _CLIPS_AT_ONCE):
            histograms, shot = self.cells(part)
            folded = self._fold(histograms.sum(1, keepdim=True))[:, 0]
            features.append(self._normalise(folded, shot.sum(1, keepdim=True)))
        return torch.cat(features).float()

    def _fold(self, histograms: Tensor) -> Tensor:
        """(N, L, bins, rows, columns) -> (N, L, D): block by block, even part, then odd part."""
        parts = []
        for block, mirror in zip(torch.split(histograms, self.blocks, dim=2), self._mirrors(), strict=True):
            mirrored = block[:, :, mirror].flip(4)
            even, odd = _representatives(mirror)
            parts += [(block + mirrored).flatten(2)[:, :, even] / 2, (block - mirrored).abs().flatten(2)[:, :, odd] / 2]
        return torch.cat(parts, dim=2)

    def _normalise(self, folded: Tensor, frames: Tensor) -> Tensor:
        """(N, D) sums over (N, 1) frames -> (N, D) RootSIFT, part by part."""
        least = (frames * SMALLEST_SUM[self.stream]).clamp(min=1.0)
        parts = torch.split(folded, self._part_sizes(), dim=1)
        return torch.cat([(part / (part.sum(1, keepdim=True) + least)).sqrt() for part in parts], dim=1)

    def _part_sizes(self) -> list[int]:
        return [len(part) for mirror in self._mirrors() for part in _representatives(mirror)]

    def _mirrors(self) -> list[list[int]]:
        """For each block, the bin that each bin becomes in a mirror."""
        raise NotImplementedError


class FlowMotion(Motion):
    """Stream `flow`: speed, HOF, MBHx, MBHy."""

    stream = "flow"
    blocks = (len(SPEEDS), 8, 8, 8)

    def parameters_of_stream(self) -> dict[str, Any]:
        """What the stream adds to the identity."""
        return {
            "floor": FLOW_FLOOR,
            "ceiling": FLOW_CEILING,
            "speeds": list(SPEEDS),
            "cut": list(FLOW_CUT),
            "spreads": FLOW_SPREADS,
            "cell": list(FLOW_CELL),
            "side": _FLOW_SIDE,
        }

    def preprocess(self, frames: NDArray[Any]) -> Tensor:
        """(N, L, H, W, 2) float32 flow in pixels -> (N, 2, L, h, w) float32 in points, h or w about 60."""
        clips, length, height, width, _ = frames.shape
        side = min(height, width)
        flow = torch.from_numpy(np.ascontiguousarray(np.moveaxis(frames, 4, 1))).float()
        exact = _grid(flow.clamp(-side, side), 64)
        points, factor = _reduce(exact.flatten(0, 2), _FLOW_SIDE, side)
        scaled = _grid(points * (POINTS / side / factor**2), 64)
        return scaled.reshape(clips, 2, length, *points.shape[1:])

    def cells(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 2, L, h, w) -> histograms (N, L, 33, rows, columns) float64, and (N, L) which pairs are in the shot."""
        flow = _without_camera(clips.transpose(1, 2).contiguous())
        speed = _grid((flow[:, :, 0] * flow[:, :, 0] + flow[:, :, 1] * flow[:, :, 1]).sqrt(), 64)
        shot = _pairs_of_the_shot(speed.double().mean((2, 3)), FLOW_CUT)
        energy = (speed - FLOW_FLOOR).clamp(0, FLOW_CEILING) * shot[:, :, None, None]
        column, row, across, down = _body(_grid(energy, 64).double())
        scale = POINTS / min(POINTS, _FLOW_SIDE)
        least, largest = (limit / scale for limit in FLOW_CELL)
        rows = _tents(row, (down * FLOW_SPREADS).clamp(least, largest), clips.shape[3])
        columns = _tents(column, (across * FLOW_SPREADS).clamp(least, largest)[:, None], clips.shape[4])
        return _pool(self._maps(flow, speed), rows[:, None], columns, shot), shot

    def _maps(self, flow: Tensor, speed: Tensor) -> Tensor:
        """(N, L, 2, h, w), (N, L, h, w) -> (N, L, 33, h, w): what each pixel adds to each bin."""
        moving = flow * (speed > FLOW_FLOOR)[:, :, None]
        parts = [_speed_bins(speed), _directions(moving[:, :, 0], moving[:, :, 1])]
        for component in (0, 1):
            down, across = _gradient(flow[:, :, component])
            parts.append(_directions(across / 2, down / 2))
        return _grid(torch.cat(parts, dim=2), 64)

    def _mirrors(self) -> list[list[int]]:
        # Of MBHx the component itself changes its sign too: a gradient (x, y) of u becomes (x, -y).
        direction = [(4 - k) % 8 for k in range(8)]
        return [list(range(len(SPEEDS))), direction, [-k % 8 for k in range(8)], direction]


class GrayMotion(Motion):
    """Stream `rgb`: HOG of all pixels, and of those that move."""

    stream = "rgb"
    blocks = (8, 8)

    def parameters_of_stream(self) -> dict[str, Any]:
        """What the stream adds to the identity."""
        return {"floor": GRAY_FLOOR, "ceiling": GRAY_CEILING, "cut": list(GRAY_CUT), "cell": GRAY_CELL}

    def preprocess(self, frames: NDArray[Any]) -> Tensor:
        """(N, L, H, W, 3) uint8 RGB -> (N, 1, L, h, w) float32 grey levels 0..255, h or w about 120."""
        clips, length, height, width, _ = frames.shape
        gray = cv2.cvtColor(np.ascontiguousarray(frames).reshape(-1, width, 3), cv2.COLOR_RGB2GRAY)
        levels = torch.from_numpy(gray.reshape(clips * length, height, width)).float()
        reduced, factor = _reduce(levels, POINTS, min(height, width))
        return _grid(reduced / factor**2, 64).reshape(clips, 1, length, *reduced.shape[1:])

    def cells(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 1, L, h, w) -> histograms (N, L, 16, rows, columns) float64, and (N, L) which frames are in the shot."""
        gray = clips[:, 0]
        halved = _halve(gray)
        shot = _frames_of_the_shot(_block_change(halved))
        energy = _change(halved, shot)
        column, row, _, _ = _body(energy.double())
        distance = torch.full_like(row, GRAY_CELL / 2)
        rows, columns = _tents(row, distance, halved.shape[2]), _tents(column, distance[:, None], halved.shape[3])
        return _pool(self._maps(gray, energy), rows[:, None], columns, shot), shot

    def _maps(self, gray: Tensor, energy: Tensor) -> Tensor:
        """(N, L, h, w), (N, L, h/2, w/2) -> (N, L, 16, h/2, w/2): what each pixel adds to each bin."""
        down, across = _gradient(gray)
        oriented = _grid(_halve(_orientations(across, down).flatten(0, 1)), 64).reshape(
            *gray.shape[:2], 8, *energy.shape[2:]
        )
        moving = functional.max_pool2d((energy / 20).clamp(max=1.0), 5, stride=1, padding=2)
        return torch.cat([oriented, oriented * _grid(moving, 16)[:, :, None]], dim=2)

    def _mirrors(self) -> list[list[int]]:
        return [[-k % 8 for k in range(8)]] * 2


def create(stream: str, weights: WeightsSource) -> Backbone:
    """The descriptor of one stream.

    Raises:
        WeightsError: when weights are given: there are none to load.
    """
    if weights is not None:
        raise WeightsError(f"backbone motion has no weights to load, got {weights!r}; leave --weights out")
    return FlowMotion() if stream == "flow" else GrayMotion()


def _grid(values: Tensor, steps: int) -> Tensor:
    """Rounded to multiples of 1 / steps, so that sums of them are exact."""
    return (values * steps).round() / steps


def _reduce(frames: Tensor, side: int, shorter: int) -> tuple[Tensor, int]:
    """(M, H, W) -> (M, h, w) sums over squares of a whole factor that brings the shorter side near `side`, and it."""
    factor = max(1, round(shorter / side))
    return functional.avg_pool2d(frames[:, None], factor, divisor_override=1)[:, 0], factor


def _halve(frames: Tensor) -> Tensor:
    """(N, L, h, w) -> (N, L, ceil(h / 2), ceil(w / 2)): means of squares, the border filled with zeros."""
    return functional.avg_pool2d(frames, 2, ceil_mode=True, divisor_override=4)


def _gradient(frames: Tensor) -> tuple[Tensor, Tensor]:
    """(..., h, w) -> differences of the two neighbours, down and across; zero on the border."""
    down, across = torch.zeros_like(frames), torch.zeros_like(frames)
    down[..., 1:-1, :] = frames[..., 2:, :] - frames[..., :-2, :]
    across[..., 1:-1] = frames[..., 2:] - frames[..., :-2]
    return down, across


def _wedge(x: Tensor, y: Tensor, angle: float, bins: int, turn: float) -> tuple[Tensor, Tensor]:
    """Cross products of (x, y) with the directions one bin before and one bin behind `angle`, scaled to 1 at it."""
    width = turn / bins
    before, behind, scale = angle - width, angle + width, 1 / math.sin(width)
    first = x * (math.sin(behind) * scale) - y * (math.cos(behind) * scale)
    second = y * (math.cos(before) * scale) - x * (math.sin(before) * scale)
    return first, second


def _directions(x: Tensor, y: Tensor) -> Tensor:
    """(N, L, h, w) vectors -> (N, L, 8, h, w): each as a sum of the two of 8 directions (x right, y down) around it."""
    bins = []
    for k in range(8):
        first, second = _wedge(x, y, k * math.pi / 4, 8, 2 * math.pi)
        bins.append(torch.minimum(first, second).clamp(min=0))
    return torch.stack(bins, dim=2)


def _orientations(x: Tensor, y: Tensor) -> Tensor:
    """(N, L, h, w) vectors -> (N, L, 8, h, w): as `_directions`, a vector and its opposite being one."""
    bins = []
    for k in range(8):
        first, second = _wedge(x, y, k * math.pi / 8, 8, math.pi)
        bins.append(torch.minimum(first, second).clamp(min=0) + (-torch.maximum(first, second)).clamp(min=0))
    return torch.stack(bins, dim=2)


def _speed_bins(speed: Tensor) -> Tensor:
    """(N, L, h, w) points -> (N, L, 9, h, w) linear shares of the bins around `SPEEDS`; they sum to one."""
    bins = []
    for k, middle in enumerate(SPEEDS):
        share = torch.ones_like(speed)
        if k > 0:
            share = torch.minimum(share, (speed - SPEEDS[k - 1]) / (middle - SPEEDS[k - 1]))
        if k + 1 < len(SPEEDS):
            share = torch.minimum(share, (SPEEDS[k + 1] - speed) / (SPEEDS[k + 1] - middle))
        bins.append(share.clamp(min=0))
    return torch.stack(bins, dim=2)


def _without_camera(flow: Tensor) -> Tensor:
    """(N, L, 2, h, w) -> the same without the affine motion of most of a coarse grid of points."""
    height, width = flow.shape[3:]
    ys = torch.arange(height // 16, height, max(1, height // 8), device=flow.device)
    xs = torch.arange(width // 16, width, max(1, width // 8), device=flow.device)
    points = flow[:, :, :, ys][..., xs]
    slope_x = _median_slope(points, xs)[..., None, None]
    slope_y = _median_slope(points.transpose(3, 4), ys)[..., None, None]
    offset = (points - slope_x * xs - slope_y * ys[:, None]).flatten(3).median(3).values[..., None, None]
    row = torch.arange(height, device=flow.device)[:, None]
    column = torch.arange(width, device=flow.device)
    return _grid(flow - slope_x * column - slope_y * row - offset, 64)


def _median_slope(points: Tensor, places: Tensor) -> Tensor:
    """(N, L, 2, rows, n) flow at n places -> (N, L, 2): median slope over pairs of places half the range apart."""
    count = len(places)
    half = count // 2
    if half == 0:
        return points.new_zeros(points.shape[:3])
    apart = places[half:] - places[: count - half]
    slopes = (points[..., half:] - points[..., : count - half]) / apart
    return slopes.flatten(3).median(3).values


def _cuts(change: Tensor, limits: tuple[float, float, float]) -> Tensor:
    """(N, L) change from frame to frame -> (N, L) True where it is an isolated spike."""
    least, ratio, noise = limits
    padded = functional.pad(change, (NEIGHBOURS, NEIGHBOURS))
    around = padded.unfold(1, 2 * NEIGHBOURS + 1, 1).clone()
    around[:, :, NEIGHBOURS] = 0
    return (change > least) & (change > ratio * (around.amax(2) + noise))


def _pairs_of_the_shot(change: Tensor, limits: tuple[float, float, float]) -> Tensor:
    """(N, L) change of each pair -> (N, L) True for the pairs inside the shot that shows frame L // 2."""
    cut = _cuts(change, limits)
    shot = cut.long().cumsum(1)
    middle = change.shape[1] // 2
    # A pair that is a cut already counts for the shot behind it.
    return ~cut & (shot == (shot[:, middle] - cut[:, middle].long())[:, None])


def _frames_of_the_shot(change: Tensor) -> Tensor:
    """(N, L - 1) change from each frame to the next -> (N, L) True in the shot that shows frame L // 2."""
    shot = functional.pad(_cuts(change, GRAY_CUT).long().cumsum(1), (1, 0))
    return shot == shot[:, (change.shape[1] + 1) // 2][:, None]


def _block_change(frames: Tensor) -> Tensor:
    """(N, L, h, w) -> (N, L - 1) mean absolute change of the brightness of 5 x 5 blocks, from frame to frame."""
    blocks = functional.avg_pool2d(frames, 5, ceil_mode=True, divisor_override=25)
    return _grid((blocks[:, 1:] - blocks[:, :-1]).abs(), 64).double().mean((2, 3))


def _change(frames: Tensor, shot: Tensor) -> Tensor:
    """(N, L, h, w), (N, L) -> (N, L, h, w): change between a frame's neighbours in the shot, above the noise floor.

    The first and the last frame of the shot take that of the frame beside them.
    """
    change = torch.zeros_like(frames)
    if frames.shape[1] < 3:
        return change
    inner = ((frames[:, 2:] - frames[:, :-2]).abs() - GRAY_FLOOR).clamp(0, GRAY_CEILING)
    change[:, 1:-1] = _grid(inner, 64) * (shot[:, 2:] & shot[:, :-2])[:, :, None, None]
    first = shot & ~functional.pad(shot, (1, 0))[:, :-1]
    last = shot & ~functional.pad(shot, (0, 1))[:, 1:]
    before, behind = (
        functional.pad(change, (0, 0, 0, 0, 1, 0))[:, :-1],
        functional.pad(change, (0, 0, 0, 0, 0, 1))[:, 1:],
    )
    return change + behind * first[:, :, None, None] + before * last[:, :, None, None]


def _body(energy: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(N, L, h, w) -> centre column (N, L), which moves along a line, row (N,), mean absolute spread across and down.

    The line is the energy-weighted least-squares fit, its slope shrunk as if the time's variance were 2 frames larger.
    Where nothing moves the centre is the picture's.
    """
    _, length, height, width = energy.shape
    time, xs, ys = (torch.arange(n, dtype=energy.dtype, device=energy.device) for n in (length, width, height))
    by_column, by_row = energy.sum(2), energy.sum(3)
    mass, place = by_column.sum(2), (by_column * xs).sum(2)
    total = mass.sum(1)
    safe = total.clamp(min=1 / 64)
    mean_time, mean_x = (mass * time).sum(1) / safe, place.sum(1) / safe
    variance = (mass * time * time).sum(1) / safe - mean_time * mean_time
    covariance = (place * time).sum(1) / safe - mean_time * mean_x
    slope = covariance / (variance + 2)
    line = mean_x[:, None] + slope[:, None] * (time - mean_time[:, None])
    row = (by_row * ys).sum((1, 2)) / safe
    still = total == 0
    column = _grid(torch.where(still[:, None], torch.full_like(line, (width - 1) / 2), line), 16)
    row = _grid(torch.where(still, torch.full_like(row, (height - 1) / 2), row), 16)
    across = (by_column * (xs - column[:, :, None]).abs()).sum((1, 2)) / safe
    down = (by_row * (ys - row[:, None, None]).abs()).sum((1, 2)) / safe
    return column, row, across, down


def _tents(middle: Tensor, distance: Tensor, size: int) -> Tensor:
    """(...), (...) pixels -> (..., cells, size) linear weights of pixels in cells `distance` apart around `middle`."""
    offsets = torch.arange(CELLS, dtype=middle.dtype, device=middle.device) - (CELLS - 1) / 2
    places = torch.arange(size, dtype=middle.dtype, device=middle.device)
    centres = middle[..., None] + offsets * distance[..., None]
    weights = 1 - (places - centres[..., None]).abs() / distance[..., None, None]
    return _grid(weights.clamp(min=0), 256)


def _pool(maps: Tensor, rows: Tensor, columns: Tensor, shot: Tensor) -> Tensor:
    """(N, L, bins, h, w), (N, 1, rows, h), (N, L, columns, w), (N, L) -> (N, L, bins, rows, columns) float64 sums."""
    clips, length, bins, height, _ = maps.shape
    across = torch.matmul(maps.double().flatten(2, 3), columns.transpose(2, 3))
    across = across.reshape(clips, length, bins, height, CELLS).transpose(2, 3).flatten(3)
    cells = torch.matmul(rows, across).reshape(clips, length, CELLS, bins, CELLS).transpose(2, 3)
    return cells * shot[:, :, None, None, None]


def _representatives(mirror: list[int]) -> tuple[list[int], list[int]]:
    """Positions (bin, row, column), flattened, of one of each mirror pair: those of the even part, of the odd part."""
    even, odd = [], []
    for position in range(len(mirror) * CELLS * CELLS):
        place, column = divmod(position, CELLS)
        bin_, row = divmod(place, CELLS)
        twin = (mirror[bin_] * CELLS + row) * CELLS + CELLS - 1 - column
        even += [position] if position <= twin else []
        odd += [position] if position < twin else []
    return even, odd
