"""Choices offered by the registries: name -> one line, for backbones also their input."""

from collections.abc import Iterator
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from wtal.data.files import read_toml
from wtal.data.formats import DATASETS
from wtal.data.layouts import LAYOUTS
from wtal.eval.challenges import CHALLENGES
from wtal.eval.protocols import PROTOCOLS
from wtal.extractors.backbones import BACKBONES, HasVariants, TakesOthers, described
from wtal.extractors.flow import FLOWS
from wtal.extractors.readers import READERS, ReaderLeaf, find_reader, reader_names
from wtal.models.heads import HEADS
from wtal.models.localization.presets import preset_names, preset_path
from wtal.models.rescorers import RESCORERS
from wtal.models.students import STUDENTS
from wtal.pipeline.comparison.ablation import ablation_names, load_ablation
from wtal.pipeline.recipe import RECIPES, recipe_names
from wtal.registry import Registry
from wtal.report.exports import EXPORTS
from wtal.report.imports import IMPORTS

if TYPE_CHECKING:  # and late below: of the kinds, shells complete the names, which must not wait for torch
    from wtal.extractors.weights import Weights

_REGISTRIES: dict[str, Registry[object]] = {
    "heads": HEADS,
    "rescorers": RESCORERS,
    "students": STUDENTS,
    "backbones": BACKBONES,
    "readers": READERS,
    "flows": FLOWS,
    "datasets": DATASETS,
    "layouts": LAYOUTS,
    "challenges": CHALLENGES,
    "exports": EXPORTS,
    "imports": IMPORTS,
}
KINDS = (*_REGISTRIES, "protocols", "recipes", "presets", "ablations", "weights")


def inventory(kind: str) -> dict[str, str]:
    """Return name -> one line, for a kind in `KINDS`; backbones have further lines on their input."""
    if kind == "recipes":
        return {name: read_toml(RECIPES / f"{name}.toml").get("title", "") for name in recipe_names()}
    if kind == "presets":
        return {name: read_toml(preset_path(name)).get("title", "") for name in preset_names()}
    if kind == "ablations":
        return {name: load_ablation(name).title for name in ablation_names()}
    if kind == "protocols":
        return {name: protocol.title for name, protocol in PROTOCOLS.items()}
    if kind == "weights":
        return _weights()
    if kind == "backbones":
        return _backbones()
    if kind == "readers":
        return {name: _reader_line(find_reader(name)) for name in reader_names()}
    registry = _REGISTRIES[kind]
    return {name: _line(registry.load(name)) for name in registry.names()}


def details(kind: str) -> dict[str, Any]:
    """Return name -> the content of `inventory`, as JSON types.

    Backbones have {"about": that line, "sees": variant and stream -> its description}. Weights have all metadata of a
    checkpoint, and the actual or expected path of its file.
    """
    from wtal.pipeline.inspection.weights import published_weights

    if kind == "weights":
        return {name: _checkpoint(weights) for name, weights in published_weights().items()}
    if kind != "backbones":
        return dict(inventory(kind))
    return {
        name: {
            "about": line.partition("\n")[0],
            "sees": {which: about.to_json() for which, about in described(name).items()},
        }
        for name, line in inventory(kind).items()
    }


def _line(module: object) -> str:
    """Return the first line of a leaf's docstring."""
    return (module.__doc__ or "").strip().partition("\n")[0].rstrip(".")


def _reader_line(module: ReaderLeaf) -> str:
    """Return the first line of a reader's docstring, and the reason if it is unusable here."""
    reason = module.why_not()
    return f"{_line(module)} (not usable here: {reason})" if reason else _line(module)


def _weights() -> dict[str, str]:
    from wtal.pipeline.inspection.weights import published_weights

    return {
        name: f"{_presence(weights)}  {weights.trained_on}; {weights.licence}; {weights.url}"
        for name, weights in published_weights().items()
    }


def _presence(weights: "Weights") -> str:
    from wtal.pipeline.inspection.weights import weights_file

    return "present" if weights_file(weights).is_file() else "absent "


def _checkpoint(weights: "Weights") -> dict[str, Any]:
    from wtal.pipeline.inspection.weights import weights_file

    known = {
        field.name: getattr(weights, field.name) for field in fields(weights) if field.name not in ("pixels", "file")
    }
    path = weights_file(weights)
    return {**known, "accuracy": dict(weights.accuracy), "path": str(path), "present": path.is_file()}


def _backbones() -> dict[str, str]:
    from wtal.pipeline.inspection.weights import weights_file

    texts = {}
    for name in BACKBONES.names():
        module = BACKBONES.load(name)
        present = sum(weights_file(weights).is_file() for weights in module.WEIGHTS.values())
        parts = [_line(module), f"streams {', '.join(module.STREAMS)}"]
        if isinstance(module, HasVariants) and module.VARIANTS:
            others = f", or {module.OTHERS}" if isinstance(module, TakesOthers) else ""
            parts.append(f"variants {', '.join(module.VARIANTS)}{others}")
        parts.append(f"{present} of {len(module.WEIGHTS)} weights present" if module.WEIGHTS else "")
        texts[name] = "\n".join(["; ".join(filter(None, parts)), *_inputs(name)])
    return texts


def _inputs(name: str) -> Iterator[str]:
    """Yield a description of a backbone's input: one line for all variants and streams with the same input."""
    alike: dict[str, list[str]] = {}
    for which, about in described(name).items():
        alike.setdefault(str(about), []).append(which)
    for line, whiches in alike.items():
        yield f"    {', '.join(whiches)}: {line}"
