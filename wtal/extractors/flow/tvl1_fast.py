"""TV-L1 optical flow with fast parameters, raw displacements in pixels: nearly as exact as `tvl1`, twice as fast.

With OpenCV's median filter, they are the cheapest of a measured table (`benchmarks/flow.py`, docs/flow.md) whose
endpoint error on known motion is at most 1.05 times that of OpenCV's defaults, over all motions, and over the small
ones with each of five textures. Each level of the pyramid is shorter by three tenths instead of OpenCV's fifth, which
costs less and reaches larger motions; a third warp of thirty iterations is needed for small motions. Pyramids that
halve the picture are faster still, but lose small motions on some textures. Where OpenCV's defaults miss a large
motion, the two differ. The method and the implementations are those of `tvl1`.
"""

from wtal.extractors.optical_flow import CPU, FlowMethod, resolve_flow
from wtal.extractors.tvl1.implementations import implementations
from wtal.extractors.tvl1.parameters import Parameters

PARAMETERS = Parameters(scales=5, scale_step=0.7, warps=3, outer_iterations=1, inner_iterations=30)
IMPLEMENTATIONS = implementations(PARAMETERS)


def create(implementation: str | None = None, device: str = CPU) -> FlowMethod:
    """Create fast TV-L1 by `implementation`; None takes the first for the device that is available on this machine.

    Raises:
        UsageError: when the implementation is unknown.
        WtalError: when it cannot run here, with the reason.
    """
    return resolve_flow("tvl1-fast", implementation, IMPLEMENTATIONS, device)
