"""TV-L1 on a CUDA device: pairs of frames per second by batch size, next to the limits of the card.

`on the card` begins and ends with tensors on the device; `engine` takes and returns numpy arrays, as in extraction.
The pairs are those of the benchmark `flow`, in turn. The two bounds follow from the iterations that these pairs took:
`memory` moves the bytes that the kernels read and write at the rate of a copy of a large tensor; `arithmetic` issues
the instructions of the iterations at the rate of the multiply-adds of a product of float32 matrices. Neither includes
superfluous iterations of a chunk or the borders of tiles. The benchmark needs a CUDA device.
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
"""Instructions per pixel and iteration, counted in the code for sm_90: 408 for the 4 pixels of a thread."""

Pair = tuple[np.ndarray, np.ndarray]


def main(argv: Sequence[str] | None = None) -> None:
    """Time every batch of every size, in turns."""
    parser = arguments(__doc__)
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="WIDTHxHEIGHT", help="sizes of the pictures")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES, help="pairs per call")
    parser.add_argument("--repeat", type=int, default=5, help="repetitions")
    options = parser.parse_args(argv)
    if (reason := why_not(_DEVICE)) is not None:
        sys.exit(f"flow_gpu needs a CUDA device and Triton: {reason}")
    table, ratios = [], {}
    for size in options.sizes:
        width, height = map(int, size.split("x"))
        for batch in options.batches:
            first, second = pictures(width, height, batch)
            times = take_turns(tasks(first, second), options.repeat)
            limits = bounds(first, second)
            name = f"{size}, batch {batch}"
            table += rows(name, times, batch, _MEASURE)
            for task, speed in rates(times, batch).items():
                ratios |= {
                    f"{task} / bound of {limit}, {name}": short(speed / bound) for limit, bound in limits.items()
                }
    report("flow_gpu", table, ratios, options.out)


def pictures(width: int, height: int, count: int) -> Pair:
    """First and second pictures (count, H, W): the motions of the benchmark `flow`, repeated."""
    examples = list(sample(width, height))
    numbers = np.arange(count) % len(examples)
    return np.stack([example.first for example in examples])[numbers], np.stack(
        [example.second for example in examples]
    )[numbers]


def tasks(first: np.ndarray, second: np.ndarray) -> dict[str, Callable[[], object]]:
    """Tasks to time, by name."""
    on_card = [torch.from_numpy(stack).to(_DEVICE) for stack in (first, second)]
    return {
        "on the card": partial(_awaited, partial(tvl1, *on_card, Parameters())),
        "engine": partial(Engine(Parameters(), _DEVICE), first, second),
    }


def bounds(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """Upper bounds of the pairs per second."""
    parameters = Parameters()
    _, iterations = tvl1(torch.from_numpy(first).to(_DEVICE), torch.from_numpy(second).to(_DEVICE), parameters)
    moved, issued = work(iterations.cpu(), pyramid(first.shape[1], first.shape[2], parameters), parameters)
    return {"memory": len(first) * copied() / moved, "arithmetic": len(first) * multiplied() / issued}


def work(iterations: Tensor, sizes: Sequence[tuple[int, int]], parameters: Parameters) -> tuple[float, float]:
    """Bytes to move and instructions to issue for all pairs together, from iterations (levels, N).

    Per pixel, a chunk of iterations reads 2 values of flow, 4 dual variables and 3 values of the linearized pictures,
    and writes flow and dual variables; a warp reads both pictures and the flow, writes 3 values and has at least one
    round, whose median filter reads and writes the flow.
    """
    moved = issued = 0.0
    for level, (height, width) in zip(iterations, sizes, strict=True):
        updates = float(level.sum()) * height * width
        warps = parameters.warps * len(level) * height * width
        moved += 4 * (updates / chunk(parameters.inner_iterations) * (9 + 6) + warps * (4 + 3 + 4))
        issued += updates * _INSTRUCTIONS
    return moved, issued


def copied() -> float:
    """Bytes per second, read and written, of the copy of a large tensor."""
    source = torch.empty(2**28, device=_DEVICE)
    result = torch.empty_like(source)
    times = take_turns({"copy": partial(_awaited, partial(result.copy_, source))}, 9)
    return rates(times, 2 * source.numel() * source.element_size())["copy"]


def multiplied() -> float:
    """Multiply-adds per second of a product of float32 matrices, without tensor cores."""
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
