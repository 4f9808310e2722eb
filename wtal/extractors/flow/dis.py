"""DIS optical flow (OpenCV), raw displacements in pixels: 20 to 100 times as fast as TV-L1 on a CPU, less exact.

Kroeger, Timofte, Dai and Van Gool, "Fast Optical Flow using Dense Inverse Search" (ECCV 2016), as
`cv2.DISOpticalFlow` implements it. The implementations are OpenCV's presets: `medium` (the default), `fast`,
`ultrafast`.

The result does not depend on OpenCV's thread count: its patch search runs in a fixed number of stripes, its other steps
are independent of order, as the tests verify.

OpenCV starts the search on a pyramid level that depends on the longer side. If the picture is too small for that level
to be as coarse as the preset's finest, it silently uses other parameters, derived from the width alone, keeps them for
all later pictures, and on wide, low pictures exceeds its buffers. A picture with a side too short for the preset is
therefore extended by repeating its last row and column, and the flow is cropped to the picture. So every size down to 1
x 1 works, and earlier pictures of an engine never affect a result.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import cv2
import numpy as np

from wtal.extractors.optical_flow import CPU, FlowFields, FlowMethod, Grays, Implementation, extend_edges, resolve_flow

_PRESETS = {
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
}


def create(implementation: str | None = None, device: str = CPU) -> FlowMethod:
    """Create DIS flow with the preset `implementation` ("medium" | "fast" | "ultrafast"); None is medium.

    It is computed on the CPU, whatever the device.

    Raises:
        UsageError: when the preset is unknown.
    """
    return resolve_flow("dis", implementation, IMPLEMENTATIONS, device)


class _DisEngine:
    def __init__(self, preset: int, device: str = CPU) -> None:
        self._algorithm = cv2.DISOpticalFlow.create(preset)
        self._min_side = _min_side(self._algorithm)

    def __call__(self, first: Grays, second: Grays) -> FlowFields:
        """Map (N, H, W), (N, H, W) uint8 -> (N, H, W, 2) float32 pixels."""
        count, height, width = first.shape
        flows = np.empty((count, height, width, 2), np.float32)
        pairs = zip(extend_edges(first, self._min_side), extend_edges(second, self._min_side), strict=True)
        for flow, pair in zip(flows, pairs, strict=True):
            flow[:] = self._algorithm.calc(*pair, None)[:height, :width]  # type: ignore[call-overload]
        return flows


def _min_side(algorithm: cv2.DISOpticalFlow) -> int:
    """Return the shortest side in pixels of a picture that has the preset's finest level.

    OpenCV's coarsest level is log2(longer side / (4 * patch size)), rounded, and never one whose shorter side is below
    the patch size.
    """
    return math.ceil(4 * algorithm.getPatchSize() * 2 ** (algorithm.getFinestScale() - 0.5))


def _identity(preset: int) -> dict[str, Any]:
    algorithm = cv2.DISOpticalFlow.create(preset)
    getters: dict[str, Callable[[], float]] = {
        "finest_scale": algorithm.getFinestScale,
        "patch_size": algorithm.getPatchSize,
        "patch_stride": algorithm.getPatchStride,
        "gradient_descent_iterations": algorithm.getGradientDescentIterations,
        "variational_refinement_iterations": algorithm.getVariationalRefinementIterations,
        "variational_refinement_alpha": algorithm.getVariationalRefinementAlpha,
        "variational_refinement_delta": algorithm.getVariationalRefinementDelta,
        "variational_refinement_gamma": algorithm.getVariationalRefinementGamma,
        "mean_normalization": algorithm.getUseMeanNormalization,
        "spatial_propagation": algorithm.getUseSpatialPropagation,
    }
    parameters = {name: get() for name, get in getters.items()}
    return {"opencv": cv2.__version__, "min_side": _min_side(algorithm), "parameters": parameters}


def _always(device: str) -> None:
    return None


IMPLEMENTATIONS = {
    name: Implementation(_always, partial(_identity, preset), partial(_DisEngine, preset))
    for name, preset in _PRESETS.items()
}
