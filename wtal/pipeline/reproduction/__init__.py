"""Reproduce every method of a dataset on given features, next to the papers' rows; and forecast the cost."""
