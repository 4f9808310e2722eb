"""Published weights: found or downloaded, checked, fitted strictly."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from torch import Tensor, nn

from wtal.data.files import write_atomic
from wtal.data.regular import require_regular
from wtal.errors import AbsentError, UsageError, WeightsError, WrongKindError, require
from wtal.extractors.backbone import Pixels, WeightsSource
from wtal.extractors.weights.checkpoint import State, is_file, read_checkpoint, tensors_of
from wtal.extractors.weights.download import download
from wtal.registry import suggest

_SUFFIXES = (".pt", ".pth", ".pyth", ".ckpt", ".bin", ".tar", ".safetensors", ".npz")
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Weights:
    """One published checkpoint of one stream ("rgb" | "flow"), of one variant of its backbone.

    `url` and `source` (the page that publishes it), `licence`, `trained_on`, and `accuracy` in percent as published.
    `layout` names the code whose keys the file uses, which the backbone's `create` converts to its own. `sha256` is the
    hex digest of the file, or its first digits if no more is published; `git_blob` its object name in a git repository
    (SHA-1 of "blob", size and bytes), which is checked if `sha256` is None. If both are None, `unchecked` is the
    reason. `by_hand` means that the url is a page for manual download, of a file named `file`. `package` is the folder
    of an installed package that includes the file, as MODULE/FOLDER, and `extra` the extra that installs it: then
    nothing is downloaded. `pixels` are those of training, if a backbone's entries differ in them.

    Raises:
        ValueError: when both hash and reason are missing.
    """

    stream: str
    url: str
    licence: str
    source: str
    trained_on: str
    layout: str
    accuracy: Mapping[str, float] = field(default_factory=dict)
    sha256: str | None = None
    git_blob: str | None = None
    unchecked: str = ""
    variant: str = ""
    file: str = ""
    by_hand: bool = False
    pixels: Pixels | None = None
    package: str = ""
    extra: str = ""

    def __post_init__(self) -> None:
        if not (self.sha256 or self.git_blob or self.unchecked):
            raise ValueError(f"weights from {self.url} need sha256, git_blob, or the reason for their absence")

    @property
    def published(self) -> tuple[str, str] | None:
        """Kind and digits of the published hash; None without one."""
        if self.sha256:
            return "SHA-256", self.sha256
        return ("git object name", self.git_blob) if self.git_blob else None

    @property
    def filename(self) -> str:
        """Last part of the url: the file's name in the weights folder."""
        return self.file or Path(urlparse(self.url).path).name

    def location(self, folder: Path) -> Path:
        """Return the actual or expected path of the file: in its package, if installed, else in `folder`."""
        module, _, inside = self.package.partition("/")
        spec = find_spec(module) if module else None
        if spec is None or spec.origin is None:
            return folder / self.filename
        return Path(spec.origin).parent / inside / self.filename


def weights_folder() -> Path:
    """Return the folder of downloaded weights: `weights` in $WTAL_WORKSPACE, or in ./workspace."""
    return Path(os.environ.get("WTAL_WORKSPACE") or "workspace") / "weights"


def load_weights(
    source: WeightsSource,
    available: Mapping[str, Weights],
    stream: str,
    folder: Path | None = None,
    variant: str = "",
) -> tuple[State, dict[str, Any]]:
    """Load the tensors of `source`, and their identity {"sha256": of keys, shapes, types and values}.

    `source` is a path, a mapping of tensors, a name from `available`, or None for the first of `available` for `stream`
    and `variant`. Named weights are searched for in `folder` (default `weights_folder()`) and downloaded if missing.
    Wrappers and key prefixes are removed by `checkpoint.tensors_of`; the identity covers the rest, under the names in
    the file. The same numbers in another layout therefore have another identity.

    Raises:
        WeightsError: when the weights are missing, damaged, unsafe, or for the other stream.
    """
    if isinstance(source, Mapping):
        state = tensors_of(source, "the given mapping")
    elif (name := _name(source, available, stream, variant)) is not None:
        weights = available[name]
        if weights.stream != stream:
            others = [other for other, entry in available.items() if entry.stream == stream]
            raise WrongKindError(
                f"weights {name} are for stream {weights.stream}, wanted stream {stream}; {suggest(name, others)}"
            )
        if weights.variant != variant:
            others = [other for other, entry in available.items() if entry.variant == variant]
            raise WrongKindError(f"weights {name} are for {weights.variant}, wanted {variant}; {suggest(name, others)}")
        state = read_checkpoint(fetch(weights, folder or weights_folder()))
    else:
        state = read_checkpoint(Path(str(source)).expanduser())
    return state, {"sha256": state_digest(state)}


def published_as(
    source: WeightsSource, available: Mapping[str, Weights], stream: str, variant: str = ""
) -> Weights | None:
    """Return the entry of `available` named `source`, or with the hash of the file at `source`; else None."""
    if isinstance(source, Mapping):
        return None
    if (name := _name(source, available, stream, variant)) is not None:
        return available[name]
    path = Path(str(source)).expanduser()
    if not is_file(path):
        return None
    hashes = _hashes(path)
    return next((entry for entry in available.values() if entry.published and not _difference(entry, hashes)), None)


def random_seed(source: WeightsSource) -> int | None:
    """Return the seed in `random:SEED`; None for other sources.

    Raises:
        UsageError: when `random:` is not followed by an integer from 0 to 2^63 - 1.
    """
    if not isinstance(source, str) or not source.startswith("random:"):
        return None
    seed = source.removeprefix("random:")
    if not (seed.isascii() and seed.isdigit() and len(seed) < 20 and int(seed) < 1 << 63):
        raise UsageError(f"random weights are written random:SEED with an integer from 0 to 2^63 - 1, got {source!r}")
    return int(seed)


@torch.no_grad()
def randomise(model: nn.Module, seed: int) -> dict[str, Any]:
    """Fill weights of two or more dimensions from `seed`, set biases to 0, and return the identity {"random": seed}.

    He's normal initialization (arXiv 1502.01852): the variance is preserved through layers with ReLU, so that features
    of a dry run differ between inputs. The numbers depend only on the seed and the order of the parameters.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.ndim >= 2:
            nn.init.kaiming_normal_(parameter, nonlinearity="relu", generator=generator)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
    return {"random": seed}


@torch.no_grad()
def share_variance(model: nn.Module, ends: str) -> None:
    """Scale all residual branches to add as much variance together as one would, to keep random features in range.

    The scales at the end of a branch have names that end in `ends`.
    """
    scales = [parameter for name, parameter in model.named_parameters() if name.endswith(ends)]
    for scale in scales:
        scale.fill_(len(scales) ** -0.5)


def load_strict(
    model: nn.Module, state: Mapping[str, Tensor], what: str, as_in_file: Callable[[str], str] = str
) -> None:
    """Copy `state` into `model`; every key of both must be used. `what` names the weights in error messages.

    If keys were renamed, `as_in_file` maps a key of the model to its name in the file, for error messages.

    Only BatchNorm's `num_batches_tracked`, which old checkpoints lack and inference does not use, may be absent.

    Raises:
        WeightsError: naming the first five keys that are missing, unknown, or of another shape.
    """
    model_state = model.state_dict()
    missing = [as_in_file(key) for key in model_state if key not in state and not key.endswith("num_batches_tracked")]
    unknown = [as_in_file(key) for key in state if key not in model_state]
    shaped = [
        f"{as_in_file(key)} {list(state[key].shape)}, wanted {list(model_state[key].shape)}"
        for key in model_state
        if key in state and state[key].shape != model_state[key].shape
    ]
    refuse_misfits(what, missing, unknown, shaped)
    model.load_state_dict(dict(state), strict=False)


def refuse_misfits(what: str, missing: Sequence[str], unknown: Sequence[str], other_shape: Sequence[str]) -> None:
    """Raise if keys of the weights `what` do not fit a network.

    Raises:
        WeightsError: naming the first five of each kind.
    """
    kinds = (("missing", missing), ("unknown", unknown), ("other shape", other_shape))
    if problems := [_first_five(label, keys) for label, keys in kinds if keys]:
        raise WeightsError(f"{what}: the keys do not fit: {'; '.join(problems)}")


def state_digest(state: Mapping[str, Tensor]) -> str:
    """Return the hex SHA-256 of keys, types, shapes and values, in the order of the keys' names."""
    digest = hashlib.sha256()
    for key in sorted(state):
        tensor = state[key].detach().cpu().resolve_conj().resolve_neg().contiguous()
        digest.update(f"{key} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def fetch(weights: Weights, folder: Path) -> Path:
    """Return the checked file of `weights` in `folder`; downloaded, or resumed, if it is missing.

    The transfer goes to `NAME.part`, which is kept when interrupted; the file appears under its name only when complete
    and with the right hash. If no hash is published, it must be a checkpoint; the hash of the first one is then
    recorded next to it, and later ones must match.

    Raises:
        WeightsError: when it cannot be downloaded (with the url and the place to put the file), has another hash, or is
            not a checkpoint.
        MissingExtraError: when it comes in a package that is not installed.
    """
    path = weights.location(folder)
    if not path.exists() and weights.package:
        module = require(weights.package.partition("/")[0], weights.extra)
        raise WeightsError(f"{module.__name__} is installed without {path}; install it again")
    if not path.exists() and weights.by_hand:
        raise WeightsError(
            f"{weights.filename} must be downloaded by hand: get it from {weights.url} and put it at {path}"
        )
    if not path.exists():
        download(weights.url, path, lambda part: _refuse_part(part, weights))
    verify(weights, path)
    if weights.published is None and not pin_of(path).exists():
        write_atomic(pin_of(path), f"{_hashes(path)['SHA-256']}\n".encode())
    return path


def verify(weights: Weights, path: Path) -> Path:
    """Return the file at `path` after reading it whole and checking it against `weights`. Nothing is downloaded.

    Raises:
        WeightsError: when it does not have the published hash; or, if none is published, not that of the first file, or
            is not a checkpoint.
    """
    hashes = _hashes(path)
    if difference := _difference(weights, hashes):
        raise WeightsError(f"{path} {difference}; delete it to download it again")
    if weights.published is None:
        _refuse_another_than_the_first(path, hashes["SHA-256"])
        try:
            read_checkpoint(path)
        except WeightsError as error:
            raise WeightsError(f"{error}: delete {path} (and {pin_of(path).name} next to it, if present)") from None
    return path


def pin_of(path: Path) -> Path:
    """Return the path with the hash of the first file received, if none is published."""
    return path.with_name(f"{path.name}.sha256")


def _refuse_part(part: Path, weights: Weights) -> None:
    """Raise if a download does not have the published hash, or, if none is published, is not a checkpoint."""
    if difference := _difference(weights, _hashes(part)):
        raise WeightsError(f"{part} {difference}; nothing was kept; try again")
    if weights.published is None:
        try:
            read_checkpoint(part)
        except WeightsError as error:
            raise WeightsError(f"the file from {weights.url} is unusable, nothing was kept: {error}") from None


def _refuse_another_than_the_first(path: Path, sha256: str) -> None:
    pin = pin_of(path)
    require_regular(pin, WeightsError)
    if pin.exists() and (wanted := pin.read_text(encoding="utf-8").strip()) != sha256:
        raise WeightsError(
            f"{path} has SHA-256 {sha256}, the first one had {wanted}; restore the first file, or delete {pin} if "
            "this one is right"
        )


def _hashes(path: Path) -> dict[str, str]:
    """Map each kind of hash -> hex digest of a file."""
    require_regular(path)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        git_blob = hashlib.sha1(f"blob {file.tell()}\0".encode(), usedforsecurity=False)
        file.seek(0)
        while chunk := file.read(_CHUNK):
            git_blob.update(chunk)
    return {"SHA-256": sha256, "git object name": git_blob.hexdigest()}


def _difference(weights: Weights, hashes: Mapping[str, str]) -> str:
    """Return the difference from the published hash; empty if there is none, or none is published."""
    kind, wanted = weights.published or ("SHA-256", "")
    if hashes[kind].startswith(wanted.lower()):
        return ""
    return f"from {weights.url} has {kind} {hashes[kind]}, wanted {wanted}"


def _name(source: str | Path | None, available: Mapping[str, Weights], stream: str, variant: str) -> str | None:
    """Return the key of `available` for `source`; None if that is a path."""
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
    if os.sep in source or source.endswith(_SUFFIXES) or is_file(Path(source)):
        return None
    choices = suggest(source, [*available, "random:SEED"])
    raise AbsentError(f"weights {source!r} are neither a file nor a known name; {choices}")


def _first_five(label: str, keys: Sequence[str]) -> str:
    more = f" and {len(keys) - 5} more" if len(keys) > 5 else ""
    return f"{len(keys)} {label} ({', '.join(keys[:5])}{more})"
