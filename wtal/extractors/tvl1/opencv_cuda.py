"""TV-L1 optical flow by OpenCV on CUDA, `cv2.cuda.OpticalFlowDual_TVL1`: near the others, not equal to them.

It has no median filter, and takes outer times inner iterations of a warp with a stopping rule of its own.

OpenCV keeps the number of pyramid levels that a small picture had for all pictures to come. Here it is told the levels
anew for each size, so that what an engine saw before never changes a number.
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
        """(N, H, W), (N, H, W) uint8 -> (N, H, W, 2) float32 pixels."""
        # The card is chosen for each thread, and engines work in others than they are made in.
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
    """None where this OpenCV has TV-L1 on CUDA, and sees the card; for the CPU it takes the first one."""
    if getattr(cv2.cuda, "OpticalFlowDual_TVL1_create", None) is None:
        return "this OpenCV build has no CUDA optical flow"
    if not (cards := cv2.cuda.getCudaEnabledDeviceCount()):
        return "OpenCV sees no CUDA device"
    return None if _card(device) < cards else f"OpenCV sees {cards} CUDA devices, and no {device}"


def _card(device: str) -> int:
    """The number of "cuda:1"; 0 where none is named."""
    return int(device.partition(":")[2] or 0)


def version() -> dict[str, Any]:
    """Return what of the library belongs in a store's identity."""
    return {"opencv": cv2.__version__}
