"""Inspect a store, a run or a file; this machine; leaves and weights."""
