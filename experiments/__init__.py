"""Experiments whose tables stand in the docs; they need the reference data and are no part of the tests."""
