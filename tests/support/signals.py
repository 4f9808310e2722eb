"""Signals over time as localization takes them."""

import numpy as np

from wtal.models.localization.proposals import SignalColumns


def columns_of(signal):
    """One signal (T,), laid out alone."""
    return SignalColumns.of([np.asarray(signal)[:, None]])
