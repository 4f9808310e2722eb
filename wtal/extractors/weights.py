"""Published weights: found or downloaded, checked, read without running any code of theirs, fitted strictly."""

import hashlib
import json
import os
import pickle
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor, nn

from wtal.data.files import write_atomic
from wtal.errors import UsageError, WeightsError
from wtal.extractors.backbone import WeightsSource
from wtal.extractors.download import download
from wtal.registry import suggest

State = dict[str, Tensor]

_WRAPPERS = ("state_dict", "model_state", "model_state_dict")
_PREFIXES = ("module.", "backbone.")
_SUFFIXES = (".pt", ".pth", ".pyth", ".ckpt", ".bin", ".tar", ".safetensors", ".npz")
_SAFETENSORS_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
}
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Weights:
    """One published checkpoint of one stream ("rgb" | "flow"), of one variant of its backbone.

    `url` and `source` (the page that publishes it), `licence`, `trained_on`, and `accuracy` in percent as published.
    `sha256` is the hex digest of the file, or the first digits where no more is published; `git_blob` its object name
    in a git repository (SHA-1 of "blob", size and bytes), which checks the file where `sha256` is None. Where
    both are None, `unchecked` says why. `by_hand` says that the url is a page that a person must take the file from,
    and `file` what it is called there. `convert` turns the published keys and tensors into ours; it must use every
    key, and what it leaves is refused by `load_strict`.

    Raises:
        ValueError: when there is neither a hash nor a reason.
    """

    stream: str
    url: str
    licence: str
    source: str
    trained_on: str
    accuracy: Mapping[str, float] = field(default_factory=dict)
    sha256: str | None = None
    git_blob: str | None = None
    unchecked: str = ""
    convert: Callable[[State], State] | None = None
    variant: str = ""
    file: str = ""
    by_hand: bool = False

    def __post_init__(self) -> None:
        if not (self.sha256 or self.git_blob or self.unchecked):
            raise ValueError(f"weights from {self.url} need sha256, git_blob, or the reason why there is none")

    @property
    def filename(self) -> str:
        """The last part of the url: the name under which the file lies in the weights folder."""
        return self.file or Path(urlparse(self.url).path).name


def weights_folder() -> Path:
    """Where downloaded weights lie: `weights` in $WTAL_WORKSPACE, or in ./workspace."""
    return Path(os.environ.get("WTAL_WORKSPACE") or "workspace") / "weights"


def load_weights(
    source: WeightsSource,
    available: Mapping[str, Weights],
    stream: str,
    folder: Path | None = None,
    variant: str = "",
) -> tuple[State, dict[str, Any]]:
    """The tensors that `source` names, and their identity {"sha256": of keys, shapes, types and values}.

    `source` is a path, a mapping of tensors, a name from `available`, or None for the first of `available` that is
    for `stream` and `variant`. Named weights are looked for in `folder` (default `weights_folder()`) and downloaded if
    missing. Wrappers as {"state_dict": ..} are opened and `module.` and `backbone.` are taken off the keys, so the
    identity is the same for the same numbers, however they came.

    Raises:
        WeightsError: when the weights are missing, damaged, unsafe, or for the other stream.
    """
    if isinstance(source, Mapping):
        state = _tensors(source, "the given mapping")
    elif (name := _name(source, available, stream, variant)) is not None:
        weights = available[name]
        if weights.stream != stream:
            others = [other for other, found in available.items() if found.stream == stream]
            raise WeightsError(
                f"weights {name} are for stream {weights.stream}, stream {stream} was wanted; {suggest(name, others)}"
            )
        if weights.variant != variant:
            others = [other for other, found in available.items() if found.variant == variant]
            raise WeightsError(
                f"weights {name} are for {weights.variant}, {variant} was wanted; {suggest(name, others)}"
            )
        state = read_checkpoint(fetch(weights, folder or weights_folder()))
        state = weights.convert(state) if weights.convert else state
    else:
        state = read_checkpoint(Path(str(source)).expanduser())
    return state, {"sha256": state_digest(state)}


def random_seed(source: WeightsSource) -> int | None:
    """The seed in `random:SEED`; None when `source` is something else.

    Raises:
        UsageError: when what follows `random:` is not a whole number from 0 to 2^63 - 1.
    """
    if not isinstance(source, str) or not source.startswith("random:"):
        return None
    seed = source.removeprefix("random:")
    if not (seed.isascii() and seed.isdigit() and len(seed) < 20 and int(seed) < 1 << 63):
        raise UsageError(
            f"random weights are written random:SEED with a whole number from 0 to 2^63 - 1, got {source!r}"
        )
    return int(seed)


@torch.no_grad()
def randomise(model: nn.Module, seed: int) -> dict[str, Any]:
    """Fill the weights of two or more dimensions from `seed`, set biases to 0, and give the identity {"random": seed}.

    He's normal initialisation (arXiv 1502.01852): the variance is kept through layers with ReLU, so that features of
    a dry run differ from input to input. The numbers depend on the seed and the order of the parameters alone.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.ndim >= 2:
            nn.init.kaiming_normal_(parameter, nonlinearity="relu", generator=generator)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
    return {"random": seed}


def load_strict(model: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Copy `state` into `model`; every key of both must be used. `what` names the weights in a refusal.

    Only BatchNorm's `num_batches_tracked`, which old checkpoints lack and inference does not use, may be absent.

    Raises:
        WeightsError: naming the first five keys that are missing, unknown, or of another shape.
    """
    wanted = model.state_dict()
    missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    unknown = [key for key in state if key not in wanted]
    shaped = [
        f"{key} {list(state[key].shape)}, wanted {list(wanted[key].shape)}"
        for key in wanted
        if key in state and state[key].shape != wanted[key].shape
    ]
    problems = [
        _first_five(label, keys)
        for label, keys in (("missing", missing), ("unknown", unknown), ("other shape", shaped))
        if keys
    ]
    if problems:
        raise WeightsError(f"{what}: the keys do not fit: {'; '.join(problems)}")
    model.load_state_dict(dict(state), strict=False)


def state_digest(state: Mapping[str, Tensor]) -> str:
    """Hex SHA-256 of keys, types, shapes and values, in the order of the keys' names."""
    found = hashlib.sha256()
    for key in sorted(state):
        tensor = state[key].detach().cpu().contiguous()
        found.update(f"{key} {tensor.dtype} {list(tensor.shape)}\n".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def read_checkpoint(path: Path) -> State:
    """The tensors in a checkpoint (PyTorch's formats, .safetensors or .npz), on the CPU; no code in the file is run.

    Raises:
        WeightsError: when the file is missing, empty, damaged, unsafe, or holds no mapping of tensors.
    """
    _refuse_non_checkpoint(path)
    damaged = WeightsError(f"{path} is truncated, damaged, or no checkpoint; fetch it again")
    try:
        if path.suffix == ".safetensors":
            found: object = _read_safetensors(path)
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                found = {name: torch.from_numpy(np.array(arrays[name])) for name in arrays.files}
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if (code := re.search(r"GLOBAL (\S+)", str(error))) is None:
            raise damaged from None
        raise WeightsError(
            f"{path} holds {code[1]} beside tensors, and to read that is to run its code; if you trust the file, keep "
            "its tensors alone with torch.load(.., weights_only=False) and torch.save(state_dict, ..)"
        ) from None
    except (RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError, OSError, BadZipFile):
        raise damaged from None
    return _tensors(found, str(path))


def fetch(weights: Weights, folder: Path) -> Path:
    """The checked file of `weights` in `folder`; downloaded, or resumed, if it is missing.

    The transfer goes to `NAME.part`, which is kept when it breaks off; the file appears under its name only whole and
    with the right hash. Where no hash is published, that of the first file is kept beside it, and later ones must have
    it too.

    Raises:
        WeightsError: when it cannot be downloaded (with the url and the place to put the file) or has another hash.
    """
    path = folder / weights.filename
    if not path.exists() and weights.by_hand:
        raise WeightsError(
            f"{weights.filename} must be fetched by hand: take it from {weights.url} and put it at {path}"
        )
    if path.exists():
        _check(path, weights, "delete it, and it is downloaded anew")
    else:
        download(weights.url, path, lambda part: _check(part, weights, "nothing was kept; try again"))
    if weights.sha256 is None and weights.git_blob is None:
        _pin(path)
    return path


def pin_of(path: Path) -> Path:
    """Where the hash of the first file is kept that came without a published one."""
    return path.with_name(f"{path.name}.sha256")


def _pin(path: Path) -> None:
    """Keep a file's hash, or raise where another one was kept."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    pin = pin_of(path)
    if not pin.exists():
        write_atomic(pin, f"{found}\n".encode())
    elif (wanted := pin.read_text(encoding="utf-8").strip()) != found:
        raise WeightsError(
            f"{path} has SHA-256 {found}, the first one had {wanted}; take the first file back, or delete {pin} if "
            "this one is right"
        )


def _name(source: str | Path | None, available: Mapping[str, Weights], stream: str, variant: str) -> str | None:
    """The key of `available` that `source` means; None where it is a path."""
    if source is None:
        for name, weights in available.items():
            if weights.stream == stream and weights.variant == variant:
                return name
        what = " of ".join(part for part in (f"stream {stream}", variant) if part)
        raise WeightsError(f"there are no published weights for {what}; give a path or random:SEED")
    if isinstance(source, Path):
        return None
    if source in available:
        return source
    if os.sep in source or source.endswith(_SUFFIXES) or Path(source).exists():
        return None
    raise WeightsError(f"weights {source!r} are no file and no known name; {suggest(source, available)}")


def _tensors(found: object, what: str) -> State:
    """Open wrappers, take prefixes off the keys, and refuse everything but tensors."""
    if not isinstance(found, Mapping):
        raise WeightsError(f"{what} holds a {type(found).__name__}, wanted a mapping from names to tensors")
    for wrapper in _WRAPPERS:
        if isinstance(found.get(wrapper), Mapping):
            return _tensors(found[wrapper], what)
    state: State = {}
    for key, value in found.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise WeightsError(f"{what} holds a {type(value).__name__} under {key!r}, wanted tensors under names")
        short = _without_prefix(key)
        if short in state:
            raise WeightsError(f"{what} holds {short!r} twice, with and without a prefix")
        state[short] = value
    if not state:
        raise WeightsError(f"{what} holds no tensors")
    return state


def _read_safetensors(path: Path) -> State:
    """The tensors of a safetensors file: length of the header (8 bytes), header (JSON), values."""
    data = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    state = {}
    for key, entry in header.items():
        first, last = entry["data_offsets"]
        values = torch.frombuffer(data, dtype=torch.uint8)[start + first : start + last].clone()
        state[key] = values.view(_SAFETENSORS_TYPES[entry["dtype"]]).reshape(entry["shape"])
    return state


def _without_prefix(key: str) -> str:
    while key.startswith(_PREFIXES):
        key = key.partition(".")[2]
    return key


def _first_five(label: str, keys: list[str]) -> str:
    more = f" and {len(keys) - 5} more" if len(keys) > 5 else ""
    return f"{len(keys)} {label} ({', '.join(keys[:5])}{more})"


def _refuse_non_checkpoint(path: Path) -> None:
    """Raise for what is plainly no checkpoint, in words that say what it is."""
    if not path.exists():
        raise WeightsError(f"there are no weights at {path}")
    if not path.is_file():
        raise WeightsError(f"{path} is not a file, wanted a checkpoint")
    try:
        with path.open("rb") as file:
            start = file.read(64).lstrip()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from None
    if path.stat().st_size == 0:
        raise WeightsError(f"{path} is empty, wanted a checkpoint; fetch it again")
    if start.startswith((b"<!", b"<html", b"<HTML", b"<?xml")):
        raise WeightsError(f"{path} is a web page, wanted a checkpoint; fetch it from the address of the raw file")
    if start.startswith(b"version https://git-lfs"):
        raise WeightsError(f"{path} is a Git LFS pointer, wanted a checkpoint; run: git lfs pull")


def _check(path: Path, weights: Weights, advice: str) -> None:
    """Raise where the hash of a file is not the published one."""
    if weights.sha256 is not None:
        kind, wanted, found = "SHA-256", weights.sha256, hashlib.sha256()
    elif weights.git_blob is not None:
        kind, wanted, found = "git object name", weights.git_blob, hashlib.sha1(usedforsecurity=False)
        found.update(f"blob {path.stat().st_size}\0".encode())
    else:
        return
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            found.update(chunk)
    if not found.hexdigest().startswith(wanted.lower()):
        raise WeightsError(f"{path} from {weights.url} has {kind} {found.hexdigest()}, wanted {wanted}; {advice}")
