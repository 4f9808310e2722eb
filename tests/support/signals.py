"""Signals over time as input of localization."""

import numpy as np

from wtal.models.localization.proposals import SignalColumns


def columns_of(signal):
    """Columns of a single signal (T,)."""
    return SignalColumns.of([np.asarray(signal)[:, None]])
