"""TV-L1 optical flow, raw displacements in pixels.

Zach, Pock and Bischof, "A Duality Based Approach for Realtime TV-L1 Optical Flow" (DAGM 2007), as OpenCV implements
it, with OpenCV's default parameters; they are written out here, so that a change of the defaults changes no number.
Implementations, the best first:

- `opencv-cuda`: `cv2.cuda.OpticalFlowDual_TVL1`, in builds with CUDA and on machines with a CUDA device. It has no
  median filter and stops by its own rule, so its numbers are near those on the CPU, not equal to them.
- `opencv-contrib`: `cv2.optflow.DualTVL1OpticalFlow` on the CPU. The result does not depend on OpenCV's thread count.

Both drop the pyramid levels on which a side is shorter than 16 pixels, and OpenCV keeps the smaller number of levels
for all pictures to come. A picture with a side under 40 pixels, where the fifth level at scale step 0.8 has 17, is
therefore extended to 40 by repeating its last row and column, and the flow is cut back to the picture. So every size
down to 1 x 1 works, and what an engine saw before never changes a number.
"""

from functools import partial
from typing import Any

import cv2
import numpy as np

from wtal.extractors.optical_flow import FlowField, FlowMethod, Gray, Implementation, extend_edges, resolve_flow

MIN_SIDE = 40
"""Pixels: the shortest side on which all five levels of the pyramid are used."""

_SHARED = {
    "tau": 0.25,
    "lambda": 0.15,
    "theta": 0.3,
    "nscales": 5,
    "warps": 5,
    "epsilon": 0.01,
    "scale_step": 0.8,
    "gamma": 0.0,
}
_CONTRIB = _SHARED | {"inner_iterations": 30, "outer_iterations": 10, "median_filtering": 5}
_CUDA = _SHARED | {"iterations": 300}


def create(implementation: str | None = None) -> FlowMethod:
    """TV-L1 by `implementation` ("opencv-cuda" | "opencv-contrib"); None takes the first that this machine can run.

    Raises:
        UsageError: when there is no such implementation.
        WtalError: when it cannot run here; the message says why.
    """
    return resolve_flow("tvl1", implementation, IMPLEMENTATIONS)


class _ContribEngine:
    def __init__(self) -> None:
        algorithm = cv2.optflow.DualTVL1OpticalFlow_create()  # type: ignore[attr-defined]
        algorithm.setTau(_CONTRIB["tau"])
        algorithm.setLambda(_CONTRIB["lambda"])
        algorithm.setTheta(_CONTRIB["theta"])
        algorithm.setScalesNumber(int(_CONTRIB["nscales"]))
        algorithm.setWarpingsNumber(int(_CONTRIB["warps"]))
        algorithm.setEpsilon(_CONTRIB["epsilon"])
        algorithm.setScaleStep(_CONTRIB["scale_step"])
        algorithm.setGamma(_CONTRIB["gamma"])
        algorithm.setInnerIterations(int(_CONTRIB["inner_iterations"]))
        algorithm.setOuterIterations(int(_CONTRIB["outer_iterations"]))
        algorithm.setMedianFiltering(int(_CONTRIB["median_filtering"]))
        self._algorithm = algorithm

    def __call__(self, first: Gray, second: Gray) -> FlowField:
        """(H, W), (H, W) uint8 -> (H, W, 2) float32 pixels."""
        height, width = first.shape
        flow = self._algorithm.calc(extend_edges(first, MIN_SIDE), extend_edges(second, MIN_SIDE), None)
        return np.ascontiguousarray(flow[:height, :width], dtype=np.float32)


class _CudaEngine:
    def __init__(self) -> None:
        algorithm = cv2.cuda.OpticalFlowDual_TVL1_create()  # type: ignore[attr-defined]
        algorithm.setTau(_CUDA["tau"])
        algorithm.setLambda(_CUDA["lambda"])
        algorithm.setTheta(_CUDA["theta"])
        algorithm.setNumScales(int(_CUDA["nscales"]))
        algorithm.setNumWarps(int(_CUDA["warps"]))
        algorithm.setEpsilon(_CUDA["epsilon"])
        algorithm.setScaleStep(_CUDA["scale_step"])
        algorithm.setGamma(_CUDA["gamma"])
        algorithm.setNumIterations(int(_CUDA["iterations"]))
        self._algorithm = algorithm
        self._first, self._second = cv2.cuda.GpuMat(), cv2.cuda.GpuMat()

    def __call__(self, first: Gray, second: Gray) -> FlowField:
        """(H, W), (H, W) uint8 -> (H, W, 2) float32 pixels."""
        height, width = first.shape
        self._first.upload(extend_edges(first, MIN_SIDE))
        self._second.upload(extend_edges(second, MIN_SIDE))
        flow = self._algorithm.calc(self._first, self._second, None).download()
        return np.ascontiguousarray(flow[:height, :width], dtype=np.float32)


def _why_not_cuda() -> str | None:
    if getattr(cv2.cuda, "OpticalFlowDual_TVL1_create", None) is None:
        return "this OpenCV build has no CUDA optical flow"
    return None if cv2.cuda.getCudaEnabledDeviceCount() else "OpenCV sees no CUDA device"


def _why_not_contrib() -> str | None:
    if getattr(getattr(cv2, "optflow", None), "DualTVL1OpticalFlow_create", None) is None:
        return "cv2 has no optflow; install opencv-contrib-python-headless, and no other OpenCV beside it"
    return None


def _identity(parameters: dict[str, float]) -> dict[str, Any]:
    return {"opencv": cv2.__version__, "min_side": MIN_SIDE, "parameters": parameters}


IMPLEMENTATIONS = {
    "opencv-cuda": Implementation(_why_not_cuda, partial(_identity, _CUDA), _CudaEngine),
    "opencv-contrib": Implementation(_why_not_contrib, partial(_identity, _CONTRIB), _ContribEngine),
}
