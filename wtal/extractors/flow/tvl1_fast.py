"""TV-L1 optical flow with parameters for speed, raw displacements in pixels: as exact as `tvl1`, four times as fast.

The pyramid halves a picture where OpenCV's takes a fifth away, so it reaches further down in as many levels and finds
larger motions; two warps a level and one round of iterations in each do the rest. They were chosen from a measured
table, by `benchmarks/flow.py`: the endpoint error on known motion is at most 1.05 of that of OpenCV's defaults, over
all motions and over the small ones alone (docs/flow.md). Where OpenCV's defaults miss a large motion, the two differ.
The method and the implementations are those of `tvl1`.
"""

from wtal.extractors.optical_flow import CPU, FlowMethod, resolve_flow
from wtal.extractors.tvl1 import Parameters
from wtal.extractors.tvl1_methods import implementations

PARAMETERS = Parameters(scales=5, scale_step=0.5, warps=2, outer_iterations=1, inner_iterations=30)
IMPLEMENTATIONS = implementations(PARAMETERS)


def create(implementation: str | None = None, device: str = CPU) -> FlowMethod:
    """Quick TV-L1 by `implementation`; None takes the first for the device that this machine can run.

    Raises:
        UsageError: when there is no such implementation.
        WtalError: when it cannot run here; the message says why.
    """
    return resolve_flow("tvl1-fast", implementation, IMPLEMENTATIONS, device)
