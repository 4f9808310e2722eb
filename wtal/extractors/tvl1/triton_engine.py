"""TV-L1 optical flow in Triton kernels, on a batch of pairs: the algorithm of `torch_engine`, at the card's speed.

An iteration needs little arithmetic but much data, so `iterate` runs a chunk of several on a tile that stays in
registers, and pictures, flow and dual variables pass through the card's memory once per chunk. If the stopping rule
ends a pair in mid-chunk, the chunk is repeated up to the iteration determined by it (`decide`): every pair makes
exactly the iterations that it would make alone. The rule is applied on the card; once per round, the host checks
whether any pair still runs.

The kernels are in `triton_kernels`, which is imported when an engine is created: Triton is installed with CUDA builds
of torch. In Triton's interpreter they also run on the CPU, for tests.
"""

import os
import shutil
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wtal.extractors.optical_flow import CUDA, FlowFields, Grays, extend_edges
from wtal.extractors.tvl1.parameters import MIN_SIDE, Parameters, pyramid
from wtal.extractors.tvl1.torch_engine import CUBIC, PLACES, AxisTaps

_SCHEME = 1
"""Version to be raised with every change, here or in the kernels, that changes a number."""
_LONGEST_CHUNK = 3
"""Maximum iterations per chunk: longer ones save memory traffic, but waste more at tiles' rims and when pairs end."""
_MOST_PIXELS = 256 * 340 * 256
"""Maximum total pixels of the pairs on the card at once, one picture each; a pixel takes about 100 bytes there."""
_BLOCK = 256
"""Pixels of a program without a tile."""
_OLDEST = (3, 3)
"""Minimum version of Triton: older ones lack `gather` and tuples."""
_LEAST_CAPABILITY = (7, 0)
"""Minimum compute capability supported by Triton."""
_COMPILERS = ("gcc", "clang")
"""Compilers that Triton looks for, to compile the launchers of its kernels."""
_OPTIONS = {"enable_fp_fusion": True}
"""Options of the compiler, explicit because the default is about to change."""


class Engine:
    """TV-L1 engine for a CUDA device; stateless between calls, it processes only as many pairs as fit in a few GB."""

    def __init__(self, parameters: Parameters, device: str = CUDA) -> None:
        self._parameters, self._device = parameters, torch.device(device)

    def __call__(self, first: Grays, second: Grays) -> FlowFields:
        """Map (N, H, W), (N, H, W) uint8 -> (N, H, W, 2) float32 pixels."""
        count, height, width = first.shape
        flows = np.empty((count, height, width, 2), np.float32)
        first, second = extend_edges(first, MIN_SIDE), extend_edges(second, MIN_SIDE)
        most = max(1, _MOST_PIXELS // (first.shape[1] * first.shape[2]))
        for start in range(0, count, most):
            pictures = [torch.from_numpy(stack[start : start + most]).to(self._device) for stack in (first, second)]
            flow, _ = tvl1(pictures[0], pictures[1], self._parameters)
            pixels = flow[:, :, :height, :width].permute(0, 2, 3, 1)
            flows[start : start + most] = pixels.contiguous().cpu().numpy()
        return flows


def why_not(device: str) -> str | None:
    """Return None if there is a CUDA device supported by Triton, Triton itself, and a C compiler for it."""
    if torch.device(device).type != CUDA:
        return f"Triton runs on CUDA devices, not on {device}"
    if not torch.cuda.is_available():
        return "torch finds no CUDA device"
    if (capability := torch.cuda.get_device_capability(device)) < _LEAST_CAPABILITY:
        return f"Triton needs compute capability {_dotted(_LEAST_CAPABILITY)}, but {device} has {_dotted(capability)}"
    if not os.environ.get("CC") and not any(map(shutil.which, _COMPILERS)):
        return f"Triton needs a C compiler ({' or '.join(_COMPILERS)}, or the one in CC)"
    try:
        installed = metadata.version("triton")
    except metadata.PackageNotFoundError:
        return "Triton is not installed"
    if tuple(map(int, installed.split(".")[:2])) < _OLDEST:
        return f"Triton {installed} is older than {_dotted(_OLDEST)}"
    return None


def _dotted(numbers: tuple[int, int]) -> str:
    return f"{numbers[0]}.{numbers[1]}"


def version() -> dict[str, Any]:
    """Return the versions of libraries and code for a store's identity."""
    return {"torch": torch.__version__, "triton": metadata.version("triton"), "scheme": _SCHEME}


@dataclass(frozen=True)
class Tile:
    """Tile of `iterate`: its sides in pixels, powers of 2; warps that share it; registers per thread.

    With these defaults two tiles fit on a multiprocessor, and a thread has 4 pixels.
    """

    height: int = 32
    width: int = 64
    warps: int = 16
    registers: int = 64

    def grid(self, height: int, width: int, chunk: int) -> tuple[int, int]:
        """Return rows and columns of tiles that cover a picture; a tile's rim of `chunk` pixels overlaps the next."""
        return -(-height // (self.height - 2 * chunk)), -(-width // (self.width - 2 * chunk))


_TILE = Tile()


def tvl1(first: Tensor, second: Tensor, parameters: Parameters, tile: Tile = _TILE) -> tuple[Tensor, Tensor]:
    """Map (N, H, W), (N, H, W) grey values to 255 -> (N, 2, H, W) pixels, and (levels, N) iterations, coarsest last."""
    with torch.inference_mode(), _on(first.device):
        sizes = pyramid(first.shape[1], first.shape[2], parameters)
        firsts, seconds = (_shrink(pictures.float(), sizes, parameters.scale_step) for pictures in (first, second))
        flow = firsts[-1].new_zeros(len(first), 2, *sizes[-1])
        spent: list[Tensor] = []
        for level in reversed(range(len(sizes))):
            if level < len(sizes) - 1:
                flow = _enlarge(flow, sizes[level], 1 / parameters.scale_step)
            state = _Level(firsts[level], seconds[level], flow, parameters, tile)
            flow = state.refine()
            spent.insert(0, state.spent)
        return flow, torch.stack(spent)


def chunk(inner_iterations: int) -> int:
    """Return the iterations per launch: the largest divisor of a round within the limit."""
    return max(length for length in range(1, _LONGEST_CHUNK + 1) if inner_iterations % length == 0)


class _Level:
    """A level of the pyramid: its pictures (N, H, W), and the state of each pair.

    `flow`, (2 sides, N, 2, H, W), and `dual`, (2, N, 4, H, W), are read on one side while the other is written; `steps`
    is the number of iterations of a pair in the next launch: a chunk, fewer to end a pair, 0 for a finished one.
    """

    def __init__(self, first: Tensor, second: Tensor, flow: Tensor, parameters: Parameters, tile: Tile) -> None:
        from wtal.extractors.tvl1 import triton_kernels

        self._kernels, self._parameters, self._tile = triton_kernels, parameters, tile
        self._first, self._second = first, second
        self._pairs, self._height, self._width = first.shape
        self._chunk = chunk(parameters.inner_iterations)
        self._rows, self._columns = tile.grid(self._height, self._width, self._chunk)
        self._flow = torch.stack((flow, torch.empty_like(flow)))
        self._dual = first.new_zeros(2, self._pairs, 4, self._height, self._width)
        self._data = first.new_empty(self._pairs, 3, self._height, self._width)
        self._errors = first.new_empty(self._pairs, self._chunk, self._rows * self._columns)
        states = [torch.zeros(self._pairs, dtype=torch.int32, device=first.device) for _ in range(4)]
        self._steps, self._flow_side, self._dual_side, self.spent = states

    def refine(self) -> Tensor:
        """Return the flow (N, 2, H, W) after every warp."""
        for _ in range(self._parameters.warps):
            self._linearize()
            self._steps.fill_(self._chunk)
            for _ in range(self._parameters.outer_iterations):
                self._round()
                if not self._steps.any():
                    break
        return self._flow[self._flow_side.long(), torch.arange(self._pairs, device=self._flow.device)]

    def _linearize(self) -> None:
        self._kernels.linearize[self._blocks(self._pairs)](
            self._first, self._second, self._flow, self._flow_side, self._data, *self._sizes,
            CUBIC, PLACES, _BLOCK, **_OPTIONS,
        )  # fmt: skip

    def _round(self) -> None:
        """Apply a median filter and all inner iterations, until no pair remains that must end within a chunk."""
        if self._parameters.median > 1:
            self._median()
        for _ in range(self._parameters.inner_iterations // self._chunk):
            self._iterate(most=self._chunk)
        if self._chunk > 1:
            self._iterate(most=self._chunk - 1)

    def _median(self) -> None:
        self._kernels.median[self._blocks(2 * self._pairs)](
            self._flow, self._flow_side, self._steps, *self._sizes, self._parameters.median, self._chunk, _BLOCK,
            **_OPTIONS,
        )  # fmt: skip
        self._flow_side ^= self._steps == self._chunk

    def _iterate(self, most: int) -> None:
        """Launch the pairs with at most `most` iterations left, and apply the stopping rule."""
        parameters, tile, tiles = self._parameters, self._tile, self._rows * self._columns
        where = self._steps, self._flow_side, self._dual_side
        bound, step = parameters.lambda_ * parameters.theta, parameters.tau / parameters.theta
        self._kernels.iterate[(tiles, self._pairs)](
            self._flow, self._dual, self._data, *where, self._errors, *self._sizes, self._columns, most,
            bound, parameters.theta, step, self._chunk, tile.height, tile.width,
            num_warps=tile.warps, maxnreg=tile.registers, **_OPTIONS,
        )  # fmt: skip
        limit = parameters.epsilon**2 * self._height * self._width
        self._kernels.decide[(self._pairs,)](
            *where, self.spent, self._errors, tiles, most, limit, self._chunk, _power_of_2(self._chunk), 128, **_OPTIONS
        )

    @property
    def _sizes(self) -> tuple[int, int, int]:
        return self._pairs, self._height, self._width

    def _blocks(self, pictures: int) -> tuple[int, int]:
        return -(-self._height * self._width // _BLOCK), pictures


def _shrink(pictures: Tensor, sizes: list[tuple[int, int]], step: float) -> list[Tensor]:
    """Shrink (N, H, W) -> (N, *size) for every one of `sizes`, each from the previous one."""
    levels = [pictures]
    for height, width in sizes[1:]:
        rows, columns = (
            AxisTaps.of(*pair, 1 / step) for pair in zip(levels[-1].shape[1:], (height, width), strict=True)
        )
        levels.append(_interpolate(levels[-1], rows, columns, 1.0))
    return levels


def _enlarge(flow: Tensor, size: tuple[int, int], factor: float) -> Tensor:
    """Enlarge (N, 2, h, w) -> (N, 2, H, W), times `factor`."""
    rows, columns = (AxisTaps.of(*pair, pair[0] / pair[1]) for pair in zip(flow.shape[2:], size, strict=True))
    return _interpolate(flow.flatten(0, 1), rows, columns, factor).view(len(flow), 2, *size)


def _interpolate(pictures: Tensor, rows: AxisTaps, columns: AxisTaps, factor: float) -> Tensor:
    """Interpolate (M, h, w) -> (M, H, W)."""
    from wtal.extractors.tvl1 import triton_kernels

    height, width = len(rows.weight), len(columns.weight)
    result = pictures.new_empty(len(pictures), height, width)
    rows, columns = rows.to(pictures.device), columns.to(pictures.device)
    triton_kernels.interpolate[(-(-height * width // _BLOCK), len(pictures))](
        pictures, result, *rows, *columns, *pictures.shape[1:], height, width, factor, _BLOCK, **_OPTIONS
    )
    return result


def _on(device: torch.device) -> AbstractContextManager[Any]:
    """Select the device for launching kernels."""
    return torch.cuda.device(device) if device.type == CUDA else nullcontext()


def _power_of_2(number: int) -> int:
    return 1 << (number - 1).bit_length()
