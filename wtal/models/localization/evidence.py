"""Evidence that a video shows a class: one number per class, as the localization sees the video. No torch."""

import numpy as np
from numpy.typing import NDArray

from wtal.models.localization.config import LocalizeConfig
from wtal.models.localization.signals import Activations


def video_evidence(activations: Activations, config: LocalizeConfig) -> NDArray[np.float64]:
    """Activations of one video -> (C,) evidence in [0, 1] for each class."""
    return activations.video_scores.astype(np.float64)
