"""Localization presets of the papers: TOML files with a `[localize]` section, by name or by path."""

from pathlib import Path
from typing import Any

from wtal.data.files import read_toml
from wtal.data.regular import require_regular
from wtal.errors import ConfigError
from wtal.registry import suggest

PRESETS = Path(__file__).parents[2] / "presets"
"""Folder of the presets. Names are paths below it: `basnet`, and `authors:basnet` for the authors' code."""


def preset_names() -> list[str]:
    """List the presets of the package."""
    paths = (path.relative_to(PRESETS) for path in PRESETS.rglob("*.toml"))
    return sorted(path.as_posix().removesuffix(".toml").replace("/", ":") for path in paths)


def preset_path(name: str) -> Path:
    """Return the file of a preset, given by its path or by its name in the package.

    Raises:
        ConfigError: when there is no such file, or the package has no such preset.
    """
    if name.endswith(".toml"):
        require_regular(Path(name))
        if not Path(name).is_file():
            raise ConfigError(f"there is no localization preset at {name}")
        return Path(name)
    names = preset_names()
    if name not in names:
        raise ConfigError(f"there is no localization preset {name!r}; {suggest(name, names)}")
    return PRESETS / f"{name.replace(':', '/')}.toml"


def read_preset(name: str, above: tuple[str, ...] = ()) -> dict[str, Any]:
    """Read the values of a preset, merged over those of the preset that it extends.

    Raises:
        ConfigError: when there is no such preset, or its file has no `[localize]` section.
    """
    if name in above:
        raise ConfigError(f"presets extend one another in a circle: {', '.join((*above, name))}")
    values = read_toml(preset_path(name)).get("localize")
    if not isinstance(values, dict):
        raise ConfigError(f"{preset_path(name)} is not a preset: it has no [localize] section")
    below = values.pop("preset", "")
    return {**read_preset(below, (*above, name)), **values} if below else values
