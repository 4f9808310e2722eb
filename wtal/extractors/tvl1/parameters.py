"""TV-L1 optical flow: its parameters and its pyramid, the same for every implementation.

Zach, Pock and Bischof, "A Duality Based Approach for Realtime TV-L1 Optical Flow" (DAGM 2007), in the scheme of
Sanchez Perez, Meinhardt-Llopis and Facciolo, "TV-L1 Optical Flow Estimation" (IPOL 2013), as implemented by OpenCV.
"""

from dataclasses import asdict, dataclass

MIN_SIDE = 40
"""Minimum side in pixels: smaller pictures are extended, so that all five levels of OpenCV's pyramid have 16."""
_LEAST_LEVEL = 16


@dataclass(frozen=True)
class Parameters:
    """Parameters of the energy and of its minimization; defaults are OpenCV's, and so are names where it has any."""

    tau: float = 0.25
    """Step of the dual variables."""
    lambda_: float = 0.15
    """Weight of the data term."""
    theta: float = 0.3
    """Tightness of the coupling between flow and its auxiliary."""
    scales: int = 5
    """Levels of the pyramid, including the picture itself."""
    scale_step: float = 0.8
    """Ratio of a level's side to that of the next finer level."""
    warps: int = 5
    """Linearizations per level."""
    epsilon: float = 0.01
    """Threshold in pixels: iterations of a warp end when the mean squared change of the flow falls below its square."""
    outer_iterations: int = 10
    """Rounds per warp, each preceded by a median filter."""
    inner_iterations: int = 30
    """Iterations per round."""
    median: int = 5
    """Side of the median filter in pixels; 1 for no filter."""

    @property
    def identity(self) -> dict[str, float]:
        """Return the parameters as JSON."""
        return asdict(self)


def pyramid(height: int, width: int, parameters: Parameters) -> list[tuple[int, int]]:
    """Return (H, W) of each level, the picture itself first; a level with a side under 16 pixels is omitted."""
    sizes = [(height, width)]
    for _ in range(1, parameters.scales):
        size = tuple(round(side * parameters.scale_step) for side in sizes[-1])
        if min(size) < _LEAST_LEVEL:
            break
        sizes.append((size[0], size[1]))
    return sizes
