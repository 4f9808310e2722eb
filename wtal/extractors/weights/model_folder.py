"""The folder of a transformers model: found or fetched, and read without running any code in it."""

import contextlib
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wtal.data.parsing.json_keys import load_json
from wtal.data.regular import require_regular
from wtal.errors import WeightsError, require
from wtal.extractors.torchvision_guard import EXTRA
from wtal.extractors.weights.checkpoint import State, read_checkpoint

CONFIG = "config.json"
_SETTINGS = {
    "video": ("video_preprocessor_config.json", "preprocessor_config.json"),
    "image": ("preprocessor_config.json",),
}
"""Files that describe how a video or image model takes pictures, later layouts of transformers first."""
_NESTED_SETTINGS = "processor_config.json"
_TENSORS, _SHARDS = "model.safetensors", "model.safetensors.index.json"
_SETTINGS_FILES = (_NESTED_SETTINGS, *_SETTINGS["video"])
_FILES = [CONFIG, *_SETTINGS_FILES]
_HUB_NAME = re.compile(r"\w[\w.-]*(/[\w.-]+)?")
_DESCRIPTIONS = (
    "architectures",
    "dtype",
    "id2label",
    "label2id",
    "torch_dtype",
    "transformers_version",
    "problem_type",
)
"""Entries of a configuration that affect no feature, besides those that begin with an underscore."""


@dataclass(frozen=True)
class ModelFolder:
    """Folder of a model's `config.json`, preprocessor file and safetensors."""

    path: Path

    @classmethod
    def find(cls, backbone: str, name: str, with_tensors: bool) -> "ModelFolder":
        """Return `name` itself, or the hub's cache of it, into which missing files are downloaded.

        On the command line it is `backbone:name`.

        Raises:
            WeightsError: when the folder does not exist and the files cannot be downloaded.
        """
        if (path := Path(name).expanduser()).is_dir():
            return cls(path)
        if not _HUB_NAME.fullmatch(name):
            raise WeightsError(f"{backbone}:{name} is neither a folder nor the name of a model on huggingface.co")
        hub: Any = require("huggingface_hub", EXTRA)
        files = [*_FILES, "model*.safetensors", _SHARDS] if with_tensors else _FILES
        with contextlib.suppress(OSError, ValueError):
            cached = cls(Path(hub.snapshot_download(name, allow_patterns=files, local_files_only=True)))
            if cached.has_settings and (not with_tensors or cached.has_tensors):
                return cached
        try:
            return cls(Path(hub.snapshot_download(name, allow_patterns=files)))
        except Exception as error:
            raise WeightsError(
                f"{backbone}:{name} is not a folder, not in the cache {hub.constants.HF_HUB_CACHE} and cannot be "
                f"downloaded ({first_line(error)}); take {CONFIG}, the preprocessor's json and {_TENSORS} (or its "
                f"shards and their index) from https://huggingface.co/{name}/tree/main, put them into one folder and "
                f"pass {backbone}:FOLDER"
            ) from error

    @property
    def has_settings(self) -> bool:
        """True if there is a configuration, and a possible preprocessor file."""
        return (self.path / CONFIG).exists() and any((self.path / n).exists() for n in _SETTINGS_FILES)

    @property
    def has_tensors(self) -> bool:
        """True if the safetensors are present, whole or in all their shards."""
        if (self.path / _TENSORS).exists():
            return True
        return (self.path / _SHARDS).exists() and all((self.path / name).exists() for name in self._shards())

    def config_digest(self) -> str:
        """Return the hex SHA-256 of everything in the configuration that affects features."""
        config = _read_json(self.path / CONFIG)
        entries = {key: value for key, value in config.items() if key not in _DESCRIPTIONS and not key.startswith("_")}
        return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()

    def preprocessor(self, noun: str) -> tuple[Path, dict[str, Any]]:
        """Return the preprocessor's file and its content, for a model of `noun`s ("video" or "image").

        Raises:
            WeightsError: when the file is missing or cannot be read.
        """
        nested = self.path / _NESTED_SETTINGS
        if nested.exists() and isinstance(settings := _read_json(nested).get(f"{noun}_processor"), dict):
            return nested, settings
        for name in _SETTINGS[noun]:
            if (path := self.path / name).exists():
                return path, _read_json(path)
        raise WeightsError(
            f"{self.path} has neither {' nor '.join(_SETTINGS[noun])}, wanted the size and values that the model was "
            "trained with"
        )

    def tensors(self) -> State:
        """Return the tensors of the safetensors.

        Raises:
            WeightsError: when there are none, or a shard is missing.
        """
        if (self.path / _TENSORS).exists():
            return read_checkpoint(self.path / _TENSORS)
        if not (self.path / _SHARDS).exists():
            raise WeightsError(
                f"{self.path} has no {_TENSORS}; pass another file as weights by its path: only its tensors are read, "
                "and files that would run code are refused"
            )
        state: State = {}
        for name in self._shards():
            state.update(read_checkpoint(self.path / name))
        return state

    def _shards(self) -> list[str]:
        """Return the names of the files listed in the index."""
        shards = _read_json(self.path / _SHARDS).get("weight_map")
        if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
            raise WeightsError(f"{self.path / _SHARDS} has no weight_map from keys to files")
        return sorted(set(shards.values()))


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its type if it has none."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _read_json(path: Path) -> dict[str, Any]:
    require_regular(path, WeightsError)
    try:
        content = load_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read: {first_line(error)}") from None
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds a {type(content).__name__}, wanted a mapping")
    return content
