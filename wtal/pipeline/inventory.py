"""What there is to choose from, read off the registries: name -> one line."""

from collections.abc import Callable
from types import ModuleType

from wtal.config import read_toml
from wtal.models.presets import preset_names, preset_path
from wtal.pipeline.ablation import ablation_names, load_ablation
from wtal.pipeline.recipe import RECIPES, recipe_names
from wtal.pipeline.weights import place, published_weights
from wtal.registry import BACKBONES, CHALLENGES, DATASETS, FLOWS, HEADS, LAYOUTS, READERS, Registry

_REGISTRIES: dict[str, Registry] = {
    "heads": HEADS,
    "backbones": BACKBONES,
    "readers": READERS,
    "flows": FLOWS,
    "datasets": DATASETS,
    "layouts": LAYOUTS,
    "challenges": CHALLENGES,
}
KINDS = (*_REGISTRIES, "recipes", "presets", "ablations", "weights")


def inventory(kind: str) -> dict[str, str]:
    """Name -> one line, of a kind in `KINDS`."""
    if kind == "recipes":
        return {name: read_toml(RECIPES / f"{name}.toml").get("title", "") for name in recipe_names()}
    if kind == "presets":
        return {name: read_toml(preset_path(name)).get("title", "") for name in preset_names()}
    if kind == "ablations":
        return {name: load_ablation(name).title for name in ablation_names()}
    if kind == "weights":
        return _weights()
    if kind == "backbones":
        return _backbones()
    registry = _REGISTRIES[kind]
    return {name: _line(registry.load(name)) for name in registry.names()}


def _line(module: ModuleType) -> str:
    """The first sentence of a leaf's docstring, and why it cannot be used here where it says so."""
    line = (module.__doc__ or "").strip().partition("\n")[0]
    why_not: Callable[[], str | None] | None = getattr(module, "why_not", None)
    reason = why_not() if why_not else None
    return f"{line} (not usable here: {reason})" if reason else line


def _weights() -> dict[str, str]:
    return {
        name: f"{'present' if place(one).is_file() else 'absent '}  {one.trained_on}; {one.licence}; {one.url}"
        for name, one in published_weights().items()
    }


def _backbones() -> dict[str, str]:
    found = {}
    for name in BACKBONES.names():
        module = BACKBONES.load(name)
        here = sum(place(one).is_file() for one in module.WEIGHTS.values())
        parts = [_line(module), f"streams {', '.join(module.STREAMS)}", getattr(module, "INPUT", "")]
        if variants := getattr(module, "VARIANTS", ()):
            parts.append(f"variants {', '.join(variants)}")
        parts.append(f"{here} of {len(module.WEIGHTS)} weights present" if module.WEIGHTS else "")
        found[name] = "; ".join(filter(None, parts))
    return found
