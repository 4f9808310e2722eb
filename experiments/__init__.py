"""Experiments whose tables stand in the docs; they need the reference data and are no part of the tests."""

import os

# Before torch is loaded, as `wtal` does.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
