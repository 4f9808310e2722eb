"""Triton engine in the interpreter, in a separate process: `python -m tests.support.interpreted_tvl1 OUT.npz`.

Triton chooses its interpreter or its compiler at import, for the whole process. OUT contains flow and iterations of
every one of `CASES`, for the batch and for its last pair alone.
"""

import os
import sys
from dataclasses import replace

import numpy as np

from tests.support.pictures import pictures
from wtal.extractors.tvl1.parameters import Parameters

SHORT = Parameters(scales=2, warps=1, outer_iterations=2, inner_iterations=6, epsilon=0.1)
CASES = {
    "one tile, chunks of three": (SHORT, 64),
    "many tiles, chunks of two": (replace(SHORT, scales=1, inner_iterations=4, median=3, warps=2), 32),
    "chunks of one, no filter": (replace(SHORT, scales=1, inner_iterations=5, median=1), 64),
}
"""Parameters and side of a tile, by name."""


def main() -> None:
    os.environ["TRITON_INTERPRET"] = "1"
    import torch

    from wtal.extractors.tvl1 import triton_engine
    from wtal.extractors.tvl1.triton_engine import Tile, tvl1

    triton_engine._BLOCK = 1024
    arrays = {}
    for name, (parameters, side) in CASES.items():
        first, second = (torch.from_numpy(stack) for stack in pictures())
        tile = Tile(side, side, warps=1)
        for part, which in (("batch", slice(None)), ("alone", slice(-1, None))):
            flow, spent = tvl1(first[which], second[which], parameters, tile)
            arrays[f"{name} {part}"], arrays[f"{name} {part} iterations"] = flow.numpy(), spent.numpy()
    np.savez(sys.argv[1], **arrays)


if __name__ == "__main__":
    main()
