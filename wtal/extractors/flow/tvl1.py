"""TV-L1 optical flow with OpenCV's default parameters, raw displacements in pixels.

Zach, Pock and Bischof, "A Duality Based Approach for Realtime TV-L1 Optical Flow" (DAGM 2007), as OpenCV implements
it; the parameters are written out (`wtal.extractors.tvl1.parameters`), so that a change of OpenCV's changes no number.
Implementations: `numba`, ours for the CPU and the default there; `triton`, ours for CUDA and the default there;
`torch`, ours to be read, on any device; `opencv-contrib`, OpenCV on the CPU; `opencv-cuda`, in builds of OpenCV with
CUDA. `wtal.extractors.tvl1.implementations` has them all.

The pyramid leaves out levels on which a side is shorter than 16 pixels. A picture with a side under 40 pixels, where
the fifth level at scale step 0.8 has 17, is extended to 40 by repeating its last row and column, and the flow is cut
back to the picture. So every size down to 1 x 1 works.
"""

from wtal.extractors.optical_flow import CPU, FlowMethod, resolve_flow
from wtal.extractors.tvl1.implementations import implementations
from wtal.extractors.tvl1.parameters import Parameters

IMPLEMENTATIONS = implementations(Parameters())


def create(implementation: str | None = None, device: str = CPU) -> FlowMethod:
    """TV-L1 by `implementation`; None takes the first for the device that this machine can run.

    Raises:
        UsageError: when there is no such implementation.
        WtalError: when it cannot run here; the message says why.
    """
    return resolve_flow("tvl1", implementation, IMPLEMENTATIONS, device)
