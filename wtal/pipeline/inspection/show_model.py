"""Describe a packed model: its classes, features and heads, and the result of its label check."""

from pathlib import Path
from typing import Any

from wtal.eval.label_check import LabelCheck
from wtal.pipeline.exchange.packed_model import read_model
from wtal.pipeline.new_videos.model import Model


def describe_packed(path: Path) -> dict[str, Any]:
    """Describe a packed model as JSON types.

    Raises:
        FormatError: when the model is damaged or newer.
    """
    model = read_model(path)
    return {
        "kind": "packed model",
        "path": str(path),
        "bytes": path.stat().st_size,
        "name": model.name,
        "digest": model.digest,
        "model": _described(model),
    }


def _described(model: Model) -> dict[str, Any]:
    record = model.record.plain()
    parameters = {"parameters": sum(array.size for array in model.parameters.values())} if not model.members else {}
    return {**record, **parameters, "members": [_described(member) for member in model.members]}


def packed_text(described: dict[str, Any]) -> str:
    """Format a description as text."""
    model = described["model"]
    heads = _heads(model)
    lines = [
        f"model      {described['path']} ({described['name']}, {described['bytes'] / 2**20:.1f} MiB)",
        f"classes    {len(model['classes'])}: {', '.join(model['classes'])}",
        *(f"ensemble   {line}" for line in _members(model)),
        *(f"head       {line}" for line in dict.fromkeys(map(_head, heads))),
        *(f"features   {line}" for line in dict.fromkeys(map(_features, heads))),
        *(f"check      {line}" for line in _check(model["label_check"])),
    ]
    return "\n".join([*lines, "tuned with segments"] if model["tuned_with_segments"] else lines)


def _heads(model: dict[str, Any]) -> list[dict[str, Any]]:
    return [head for member in model["members"] for head in _heads(member)] or [model]


def _members(model: dict[str, Any]) -> list[str]:
    if not model["members"]:
        return []
    shares = [
        f"{weight:.3f} of {member['recipe']['head']['name']}, seed {member['seed']}"
        for weight, member in zip(model["weights"], model["members"], strict=True)
    ]
    return [f"of {len(shares)}, by {model['by']}", *(f"  {share}" for share in shares)]


def _head(head: dict[str, Any]) -> str:
    return f"{head['recipe']['head']['name']}, {head['parameters']:,} parameters"


def _features(head: dict[str, Any]) -> str:
    identity = head["features"]
    flow = identity.get("flow")
    streams = ", ".join(f"{name} {dim}-d" for name, dim in sorted(head["feature_dims"].items()))
    method = f"; flow {flow['name']}:{flow['implementation']}" if flow else ""
    clock = (
        f"; a snippet every {identity['stride']} frames at {identity['fps']} per second" if "fps" in identity else ""
    )
    return f"{identity.get('backbone', 'unknown')}: {streams}{method}{clock}{_weights(head)}"


def _weights(head: dict[str, Any]) -> str:
    named = head["sources"].get("weights") or {}
    weights = {stream: entry.get("weights") for stream, entry in head["features"].get("weights", {}).items()}
    entries = [
        f"{stream} {named.get(stream, '')} {' '.join(f'{kind} {str(value)[:12]}' for kind, value in entry.items())}"
        for stream, entry in sorted(weights.items())
        if entry
    ]
    return f"; weights {', '.join(' '.join(text.split()) for text in entries)}" if entries else ""


def _check(check: dict[str, Any] | None) -> list[str]:
    """Return a line for each class: whether held-out videos show that it was learned."""
    if check is None:
        return ["the labels were not checked"]
    return LabelCheck.from_json(check).sentences()
