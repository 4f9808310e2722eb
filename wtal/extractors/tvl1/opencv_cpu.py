"""TV-L1 optical flow by OpenCV on the CPU, `cv2.optflow.DualTVL1OpticalFlow`: the reference for the others.

The result does not depend on OpenCV's thread count.

OpenCV keeps the number of pyramid levels of a small picture for all later ones. Here the levels are set again for each
size, so that earlier pictures of an engine never affect a result.
"""

from typing import Any

import cv2
import numpy as np

from wtal.extractors.optical_flow import CPU, FlowFields, Grays, extend_edges
from wtal.extractors.tvl1.parameters import MIN_SIDE, Parameters, pyramid


class Engine:
    """TV-L1 engine for a single thread."""

    def __init__(self, parameters: Parameters, device: str = CPU) -> None:
        algorithm = cv2.optflow.DualTVL1OpticalFlow_create()  # type: ignore[attr-defined]
        algorithm.setTau(parameters.tau)
        algorithm.setLambda(parameters.lambda_)
        algorithm.setTheta(parameters.theta)
        algorithm.setWarpingsNumber(parameters.warps)
        algorithm.setEpsilon(parameters.epsilon)
        algorithm.setScaleStep(parameters.scale_step)
        algorithm.setGamma(0.0)
        algorithm.setInnerIterations(parameters.inner_iterations)
        algorithm.setOuterIterations(parameters.outer_iterations)
        algorithm.setMedianFiltering(parameters.median)
        self._algorithm, self._parameters = algorithm, parameters

    def __call__(self, first: Grays, second: Grays) -> FlowFields:
        """Map (N, H, W), (N, H, W) uint8 -> (N, H, W, 2) float32 pixels."""
        count, height, width = first.shape
        flows = np.empty((count, height, width, 2), np.float32)
        first, second = extend_edges(first, MIN_SIDE), extend_edges(second, MIN_SIDE)
        self._algorithm.setScalesNumber(len(pyramid(first.shape[1], first.shape[2], self._parameters)))
        for flow, previous, following in zip(flows, first, second, strict=True):
            flow[:] = self._algorithm.calc(previous, following, None)[:height, :width]
        return flows


def why_not(device: str) -> str | None:
    """Return None if this OpenCV has TV-L1 on the CPU; the device does not matter."""
    if getattr(getattr(cv2, "optflow", None), "DualTVL1OpticalFlow_create", None) is None:
        return "cv2 has no optflow; install opencv-contrib-python-headless, and uninstall any other OpenCV"
    return None


def version() -> dict[str, Any]:
    """Return the version of the library for a store's identity."""
    return {"opencv": cv2.__version__}
