"""Experiments behind the tables of the docs; they need the reference data and are not part of the tests."""

import os

# Set before torch is loaded, as in `wtal`.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
