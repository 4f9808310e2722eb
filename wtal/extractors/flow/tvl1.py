"""TV-L1 optical flow with OpenCV's default parameters, raw displacements in pixels.

Zach, Pock and Bischof, "A Duality Based Approach for Realtime TV-L1 Optical Flow" (DAGM 2007), as implemented by
OpenCV; the parameters are written out (`wtal.extractors.tvl1.parameters`), so that changes in OpenCV change no number.
Implementations: `numba`, ours and the default on the CPU; `triton`, ours and the default on CUDA; `torch`, ours for
reading, on any device; `opencv-contrib`, OpenCV on the CPU; `opencv-cuda`, in builds of OpenCV with CUDA. All are
listed in `wtal.extractors.tvl1.implementations`.

The pyramid omits levels with a side shorter than 16 pixels. A picture with a side under 40 pixels, where the fifth
level at scale step 0.8 has 17, is extended to 40 by repeating its last row and column, and the flow is cropped to the
picture. So every size down to 1 x 1 works.
"""

from wtal.extractors.optical_flow import CPU, FlowMethod, resolve_flow
from wtal.extractors.tvl1.implementations import implementations
from wtal.extractors.tvl1.parameters import Parameters

IMPLEMENTATIONS = implementations(Parameters())


def create(implementation: str | None = None, device: str = CPU) -> FlowMethod:
    """Create TV-L1 by `implementation`; None takes the first for the device that is available on this machine.

    Raises:
        UsageError: when the implementation is unknown.
        WtalError: when it cannot run here, with the reason.
    """
    return resolve_flow("tvl1", implementation, IMPLEMENTATIONS, device)
