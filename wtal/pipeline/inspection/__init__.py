"""Inspection of a store, a run or a file; of this machine; of leaves and weights."""
