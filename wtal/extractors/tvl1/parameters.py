"""TV-L1 optical flow: its parameters and its pyramid, the same for every implementation.

Zach, Pock and Bischof, "A Duality Based Approach for Realtime TV-L1 Optical Flow" (DAGM 2007), in the scheme of
Sanchez Perez, Meinhardt-Llopis and Facciolo, "TV-L1 Optical Flow Estimation" (IPOL 2013), as OpenCV implements it.
"""

from dataclasses import asdict, dataclass

MIN_SIDE = 40
"""Pixels: pictures are extended to it, so that all five levels of OpenCV's pyramid have 16 pixels a side."""
_LEAST_LEVEL = 16


@dataclass(frozen=True)
class Parameters:
    """Parameters of the energy and of its minimization; the defaults are OpenCV's, in its words where it has some."""

    tau: float = 0.25
    """Step of the dual variables."""
    lambda_: float = 0.15
    """Weight of the data term."""
    theta: float = 0.3
    """Tightness of the coupling between flow and its auxiliary."""
    scales: int = 5
    """Levels of the pyramid, the picture itself among them."""
    scale_step: float = 0.8
    """A level's side over that of the level below it."""
    warps: int = 5
    """Linearizations a level."""
    epsilon: float = 0.01
    """Iterations of a warp end where the mean squared change of the flow, in pixels, falls below its square."""
    outer_iterations: int = 10
    """Rounds of a warp, each with a median filter before it."""
    inner_iterations: int = 30
    """Iterations of a round."""
    median: int = 5
    """Pixels: side of the median filter; 1 filters nothing."""

    @property
    def identity(self) -> dict[str, float]:
        """JSON."""
        return asdict(self)


def pyramid(height: int, width: int, parameters: Parameters) -> list[tuple[int, int]]:
    """(H, W) of each level, the picture itself first; a level with a side under 16 pixels ends it."""
    sizes = [(height, width)]
    for _ in range(1, parameters.scales):
        size = tuple(round(side * parameters.scale_step) for side in sizes[-1])
        if min(size) < _LEAST_LEVEL:
            break
        sizes.append((size[0], size[1]))
    return sizes
