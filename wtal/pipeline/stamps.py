"""Statements that every output of a run includes: what its features were made with, and how far to trust it."""

from collections.abc import Mapping
from typing import Any

TUNED = "tuned with segments: some annotated times were used to choose the step or the settings"
"""Printed with every figure that depends on annotated times."""


def stamps_of(features: Mapping[str, Any], tuned: bool, check: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return statements for outputs: the weights of the features, any choice made with segments, verdicts per class."""
    checked = {} if check is None else check["classes"]
    verdicts = {"label_check": {label: figures["verdict"] for label, figures in checked.items()}} if checked else {}
    return {"weights": weights_of(features), "tuned_with_segments": tuned, **verdicts}


def weights_of(identity: Mapping[str, Any]) -> dict[str, str]:
    """Return stream -> the weights behind a store's features: `random SEED`, `sha256 DIGEST` or `none`."""
    weights = {stream: entry.get("weights") or {} for stream, entry in identity.get("weights", {}).items()}
    return {stream: " ".join(f"{k} {v}" for k, v in entry.items()) or "none" for stream, entry in weights.items()}
