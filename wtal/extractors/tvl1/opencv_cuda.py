"""TV-L1 optical flow by OpenCV on CUDA, `cv2.cuda.OpticalFlowDual_TVL1`: near the others, not equal to them.

It has no median filter, and runs outer times inner iterations per warp with a stopping rule of its own.

OpenCV keeps the number of pyramid levels of a small picture for all later ones. Here the levels are set again for each
size, so that earlier pictures of an engine never affect a result.
"""

from typing import Any

import cv2
import numpy as np

from wtal.extractors.optical_flow import CUDA, FlowFields, Grays, extend_edges
from wtal.extractors.tvl1.parameters import MIN_SIDE, Parameters, pyramid


class Engine:
    """TV-L1 engine for one card, and one thread at a time."""

    def __init__(self, parameters: Parameters, device: str = CUDA) -> None:
        self._card = _card(device)
        cv2.cuda.setDevice(self._card)
        algorithm = cv2.cuda.OpticalFlowDual_TVL1_create()  # type: ignore[attr-defined]
        algorithm.setTau(parameters.tau)
        algorithm.setLambda(parameters.lambda_)
        algorithm.setTheta(parameters.theta)
        algorithm.setNumWarps(parameters.warps)
        algorithm.setEpsilon(parameters.epsilon)
        algorithm.setScaleStep(parameters.scale_step)
        algorithm.setGamma(0.0)
        algorithm.setNumIterations(parameters.outer_iterations * parameters.inner_iterations)
        self._algorithm, self._parameters = algorithm, parameters
        self._first, self._second = cv2.cuda.GpuMat(), cv2.cuda.GpuMat()

    def __call__(self, first: Grays, second: Grays) -> FlowFields:
        """Map (N, H, W), (N, H, W) uint8 -> (N, H, W, 2) float32 pixels."""
        # The card is selected per thread, and engines work in threads other than the one that creates them.
        cv2.cuda.setDevice(self._card)
        count, height, width = first.shape
        flows = np.empty((count, height, width, 2), np.float32)
        first, second = extend_edges(first, MIN_SIDE), extend_edges(second, MIN_SIDE)
        self._algorithm.setNumScales(len(pyramid(first.shape[1], first.shape[2], self._parameters)))
        for flow, previous, following in zip(flows, first, second, strict=True):
            self._first.upload(previous)
            self._second.upload(following)
            flow[:] = self._algorithm.calc(self._first, self._second, None).download()[:height, :width]
        return flows


def why_not(device: str) -> str | None:
    """Return None if this OpenCV has TV-L1 on CUDA and finds the card; for the CPU the first card is used."""
    if getattr(cv2.cuda, "OpticalFlowDual_TVL1_create", None) is None:
        return "this OpenCV build has no CUDA optical flow"
    if not (cards := cv2.cuda.getCudaEnabledDeviceCount()):
        return "OpenCV finds no CUDA device"
    return None if _card(device) < cards else f"OpenCV finds {cards} CUDA devices, but not {device}"


def _card(device: str) -> int:
    """Return the number in "cuda:1"; 0 if there is none."""
    return int(device.partition(":")[2] or 0)


def version() -> dict[str, Any]:
    """Return the version of the library for a store's identity."""
    return {"opencv": cv2.__version__}
