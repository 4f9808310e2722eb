"""Localization as each paper has it: TOML files with a `[localize]` section, by name or by path."""

from pathlib import Path
from typing import Any

from wtal.config import read_toml
from wtal.errors import ConfigError
from wtal.registry import suggest

PRESETS = Path(__file__).parents[2] / "presets"
"""Names are paths below it: `basnet`, and `authors:basnet` for what the authors' code does besides."""


def preset_names() -> list[str]:
    """Presets that come with the package."""
    paths = (path.relative_to(PRESETS) for path in PRESETS.rglob("*.toml"))
    return sorted(path.as_posix().removesuffix(".toml").replace("/", ":") for path in paths)


def preset_path(name: str) -> Path:
    """The file of a preset that is named by its path, or by its name among those that come with the package.

    Raises:
        ConfigError: when there is no such file, or the package has no such preset.
    """
    if name.endswith(".toml"):
        if not Path(name).is_file():
            raise ConfigError(f"there is no localization preset at {name}")
        return Path(name)
    names = preset_names()
    if name not in names:
        raise ConfigError(f"there is no localization preset {name!r}; {suggest(name, names)}")
    return PRESETS / f"{name.replace(':', '/')}.toml"


def read_preset(name: str, above: tuple[str, ...] = ()) -> dict[str, Any]:
    """The values of a preset, laid over those of the preset that it names itself.

    Raises:
        ConfigError: when there is no such preset, or its file has no `[localize]` section.
    """
    if name in above:
        raise ConfigError(f"presets stand on one another in a circle: {', '.join((*above, name))}")
    values = read_toml(preset_path(name)).get("localize")
    if not isinstance(values, dict):
        raise ConfigError(f"{preset_path(name)} is no preset: it has no [localize] section")
    below = values.pop("preset", "")
    return {**read_preset(below, (*above, name)), **values} if below else values
