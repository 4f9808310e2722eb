"""Files that an extractor's weights came from, kept in the store's folder: an identity has only their digest.

`sources.json` affects no number and no digest. It records where to look for weights when new videos need the same
features.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wtal.data.files import write_json
from wtal.data.regular import is_pipe
from wtal.extractors.backbones import BACKBONES, takes_any

if TYPE_CHECKING:
    from wtal.extractors.execution.extractor import ExtractorSpec

_SOURCES = "sources.json"


@dataclass(frozen=True)
class Sources:
    """The backbone as given, with the path of its folder, and stream -> name, path or random:SEED of its weights.

    Empty if unknown. A stream without an entry uses the backbone's default weights.
    """

    backbone: str = ""
    weights: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, values: object) -> "Sources":
        """Parse the output of `to_json`; empty for anything else."""
        if not isinstance(values, dict) or not isinstance(values.get("weights"), dict):
            return cls()
        weights = {str(stream): str(source) for stream, source in values["weights"].items()}
        return cls(str(values.get("backbone", "")), weights)

    def to_json(self) -> dict[str, Any]:
        """Return the sources as JSON types."""
        return {"backbone": self.backbone, "weights": dict(self.weights)}

    def for_others(self) -> "Sources":
        """Return the same without local folders."""
        leaf, colon, variant = self.backbone.partition(":")
        backbone = f"{leaf}{colon}{_file_name(variant)}"
        return Sources(backbone, {stream: _file_name(source) for stream, source in self.weights.items()})


def write_sources(store: Path, spec: "ExtractorSpec") -> None:
    """Write the sources of a store's extractor into its folder, unless they exist."""
    path = store / _SOURCES
    if not path.exists():
        plain = from_anywhere(spec)
        write_json(path, Sources(plain.config.backbone, dict(plain.weights)).to_json())


def read_sources(store: Path) -> Sources:
    """Read the sources of a store's extractor; empty if missing or unreadable, since they are only a hint."""
    if is_pipe(store / _SOURCES):
        return Sources()
    try:
        return Sources.parse(json.loads((store / _SOURCES).read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError):
        return Sources()


def _file_name(source: str) -> str:
    kind, colon, path = source.rpartition(":")
    return f"{kind}{colon}{Path(path).name}" if Path(path).is_absolute() else source


def from_anywhere(spec: "ExtractorSpec") -> "ExtractorSpec":
    """Return the same spec with absolute paths, so that its files are found from any working directory."""
    name = spec.config.backbone
    module = BACKBONES.load(name)
    leaf, colon, variant = name.partition(":")
    if takes_any(name):
        variant = _absolute(variant)
    config = spec.config.model_copy(update={"backbone": f"{leaf}{colon}{variant}"})
    weights = tuple(
        (stream, source if source in module.WEIGHTS else _absolute(source)) for stream, source in spec.weights
    )
    return replace(spec, config=config, weights=weights)


def _absolute(name: str) -> str:
    return str(Path(name).absolute()) if name and Path(name).exists() else name
