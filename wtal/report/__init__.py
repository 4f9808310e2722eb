"""Exports and pictures."""
