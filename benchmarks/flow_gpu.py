"""TV-L1 on a CUDA device: pairs of frames per second by batch, and how far that is from what the card could do.

`on the card` begins and ends with tensors on the device; `engine` takes and gives numpy arrays, as extraction does.
The pairs are those of the benchmark `flow`, in turn. The two bounds follow from the iterations that these pairs took:
`memory` moves the bytes that the kernels have to read and write at the rate at which this card copies a large tensor;
`arithmetic` issues the instructions of the iterations at the rate at which it issues the multiply-adds of a product of
float32 matrices. Neither counts what a chunk does in vain, nor the rims of tiles. Without a CUDA device it says so.
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks._motions import sample
from benchmarks._report import arguments, report
from benchmarks._turns import rates, rows, short, take_turns
from wtal.extractors.tvl1.parameters import Parameters, pyramid
from wtal.extractors.tvl1.triton_engine import Engine, chunk, tvl1, why_not

SIZES = ("340x256",)
BATCHES = (1, 16, 256)
_DEVICE = "cuda"
_MEASURE = "pairs_per_s"
_INSTRUCTIONS = 102
"""Of a pixel in an iteration, as counted in the code for sm_90: 408 for the 4 pixels of a thread."""

Pair = tuple[np.ndarray, np.ndarray]


def main(argv: Sequence[str] | None = None) -> None:
    """Every batch of every size, in turns."""
    parser = arguments(__doc__)
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="WIDTHxHEIGHT", help="of the pictures")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES, help="pairs at once")
    parser.add_argument("--repeat", type=int, default=5, help="repetitions")
    options = parser.parse_args(argv)
    if (reason := why_not(_DEVICE)) is not None:
        sys.exit(f"flow_gpu needs a CUDA device and Triton: {reason}")
    found, ratios = [], {}
    for size in options.sizes:
        width, height = map(int, size.split("x"))
        for batch in options.batches:
            first, second = pictures(width, height, batch)
            times = take_turns(tasks(first, second), options.repeat)
            limits = bounds(first, second)
            name = f"{size}, batch {batch}"
            found += rows(name, times, batch, _MEASURE)
            for task, speed in rates(times, batch).items():
                ratios |= {f"{task} / bound of {what}, {name}": short(speed / most) for what, most in limits.items()}
    report("flow_gpu", found, ratios, options.out)


def pictures(width: int, height: int, count: int) -> Pair:
    """(count, H, W) first and second pictures: the motions of the benchmark `flow`, again and again."""
    found = list(sample(width, height))
    which = np.arange(count) % len(found)
    return np.stack([one.first for one in found])[which], np.stack([one.second for one in found])[which]


def tasks(first: np.ndarray, second: np.ndarray) -> dict[str, Callable[[], object]]:
    """What is timed, by name."""
    on_card = [torch.from_numpy(stack).to(_DEVICE) for stack in (first, second)]
    return {
        "on the card": partial(_awaited, partial(tvl1, *on_card, Parameters())),
        "engine": partial(Engine(Parameters(), _DEVICE), first, second),
    }


def bounds(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """Pairs a second that these pairs could make at most."""
    parameters = Parameters()
    _, iterations = tvl1(torch.from_numpy(first).to(_DEVICE), torch.from_numpy(second).to(_DEVICE), parameters)
    moved, issued = work(iterations.cpu(), pyramid(first.shape[1], first.shape[2], parameters), parameters)
    return {"memory": len(first) * copied() / moved, "arithmetic": len(first) * multiplied() / issued}


def work(iterations: Tensor, sizes: Sequence[tuple[int, int]], parameters: Parameters) -> tuple[float, float]:
    """Iterations (levels, N) -> bytes to move, and instructions to issue, of all pairs together.

    Numbers of a pixel: a chunk of iterations reads 2 of flow, 4 dual variables and 3 of the linearized pictures, and
    writes flow and dual variables; a warp reads both pictures and the flow and writes 3, and has a round at least,
    whose median filter reads and writes the flow.
    """
    moved = issued = 0.0
    for level, (height, width) in zip(iterations, sizes, strict=True):
        here = float(level.sum()) * height * width
        warps = parameters.warps * len(level) * height * width
        moved += 4 * (here / chunk(parameters.inner_iterations) * (9 + 6) + warps * (4 + 3 + 4))
        issued += here * _INSTRUCTIONS
    return moved, issued


def copied() -> float:
    """Bytes a second, read and written, of the copy of a large tensor."""
    source = torch.empty(2**28, device=_DEVICE)
    result = torch.empty_like(source)
    times = take_turns({"copy": partial(_awaited, partial(result.copy_, source))}, 9)
    return rates(times, 2 * source.numel() * source.element_size())["copy"]


def multiplied() -> float:
    """Multiply-adds a second of a product of float32 matrices, without tensor cores."""
    side = 8192
    matrix = torch.rand(side, side, device=_DEVICE)
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        times = take_turns({"product": partial(_awaited, partial(torch.matmul, matrix, matrix))}, 9)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    return rates(times, side**3)["product"]


def _awaited(task: Callable[[], Any]) -> Any:
    result = task()
    torch.cuda.synchronize()
    return result


if __name__ == "__main__":
    main(sys.argv[1:])
