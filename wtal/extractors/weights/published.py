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
from wtal.errors import UsageError, WeightsError, require
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
    `layout` names the code whose keys the file has, which the backbone's `create` converts to its own.
    `sha256` is the hex digest of the file, or the first digits where no more is published; `git_blob` its object name
    in a git repository (SHA-1 of "blob", size and bytes), which checks the file where `sha256` is None. Where
    both are None, `unchecked` says why. `by_hand` says that the url is a page that a person must take the file from,
    and `file` what it is called there. `package` says in which folder of an installed package the file comes, as
    MODULE/FOLDER, and `extra` which extra installs that: then nothing is downloaded. `pixels` are those that it was
    trained with, where a backbone's entries differ in that.

    Raises:
        ValueError: when there is neither a hash nor a reason.
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
            raise ValueError(f"weights from {self.url} need sha256, git_blob, or the reason why there is none")

    @property
    def published(self) -> tuple[str, str] | None:
        """Kind and digits of the published hash; None where there is none."""
        if self.sha256:
            return "SHA-256", self.sha256
        return ("git object name", self.git_blob) if self.git_blob else None

    @property
    def filename(self) -> str:
        """The last part of the url: the name under which the file lies in the weights folder."""
        return self.file or Path(urlparse(self.url).path).name

    def location(self, folder: Path) -> Path:
        """Where the file is or belongs: in its package, if that is installed, else in `folder`."""
        module, _, inside = self.package.partition("/")
        spec = find_spec(module) if module else None
        if spec is None or spec.origin is None:
            return folder / self.filename
        return Path(spec.origin).parent / inside / self.filename


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
    missing. Wrappers are opened and prefixes taken off the keys as `checkpoint.tensors_of` says; the identity is of
    what is left, under the names of the file. So the same numbers in another layout have another identity.

    Raises:
        WeightsError: when the weights are missing, damaged, unsafe, or for the other stream.
    """
    if isinstance(source, Mapping):
        state = tensors_of(source, "the given mapping")
    elif (name := _name(source, available, stream, variant)) is not None:
        weights = available[name]
        if weights.stream != stream:
            others = [other for other, entry in available.items() if entry.stream == stream]
            raise WeightsError(
                f"weights {name} are for stream {weights.stream}, stream {stream} was wanted; {suggest(name, others)}"
            )
        if weights.variant != variant:
            others = [other for other, entry in available.items() if entry.variant == variant]
            raise WeightsError(
                f"weights {name} are for {weights.variant}, {variant} was wanted; {suggest(name, others)}"
            )
        state = read_checkpoint(fetch(weights, folder or weights_folder()))
    else:
        state = read_checkpoint(Path(str(source)).expanduser())
    return state, {"sha256": state_digest(state)}


def published_as(
    source: WeightsSource, available: Mapping[str, Weights], stream: str, variant: str = ""
) -> Weights | None:
    """The entry of `available` that `source` names, or whose published hash the file at `source` has; else None."""
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


@torch.no_grad()
def share_variance(model: nn.Module, ends: str) -> None:
    """Let all residual branches together add as much variance as one would, so that random features stay in range.

    The scales that end a branch are those whose names end in `ends`.
    """
    scales = [parameter for name, parameter in model.named_parameters() if name.endswith(ends)]
    for scale in scales:
        scale.fill_(len(scales) ** -0.5)


def load_strict(
    model: nn.Module, state: Mapping[str, Tensor], what: str, as_in_file: Callable[[str], str] = str
) -> None:
    """Copy `state` into `model`; every key of both must be used. `what` names the weights in a refusal.

    Where keys were renamed, `as_in_file` gives the name that a key of the model has in the file, for refusals.

    Only BatchNorm's `num_batches_tracked`, which old checkpoints lack and inference does not use, may be absent.

    Raises:
        WeightsError: naming the first five keys that are missing, unknown, or of another shape.
    """
    wanted = model.state_dict()
    missing = [as_in_file(key) for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    unknown = [as_in_file(key) for key in state if key not in wanted]
    shaped = [
        f"{as_in_file(key)} {list(state[key].shape)}, wanted {list(wanted[key].shape)}"
        for key in wanted
        if key in state and state[key].shape != wanted[key].shape
    ]
    refuse_misfits(what, missing, unknown, shaped)
    model.load_state_dict(dict(state), strict=False)


def refuse_misfits(what: str, missing: Sequence[str], unknown: Sequence[str], other_shape: Sequence[str]) -> None:
    """Raise where keys of the weights `what` do not fit a network.

    Raises:
        WeightsError: naming the first five of each kind.
    """
    kinds = (("missing", missing), ("unknown", unknown), ("other shape", other_shape))
    if problems := [_first_five(label, keys) for label, keys in kinds if keys]:
        raise WeightsError(f"{what}: the keys do not fit: {'; '.join(problems)}")


def state_digest(state: Mapping[str, Tensor]) -> str:
    """Hex SHA-256 of keys, types, shapes and values, in the order of the keys' names."""
    digest = hashlib.sha256()
    for key in sorted(state):
        tensor = state[key].detach().cpu().resolve_conj().resolve_neg().contiguous()
        digest.update(f"{key} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def fetch(weights: Weights, folder: Path) -> Path:
    """The checked file of `weights` in `folder`; downloaded, or resumed, if it is missing.

    The transfer goes to `NAME.part`, which is kept when it breaks off; the file appears under its name only whole and
    with the right hash. Where no hash is published, it must be a checkpoint; the hash of the first one is then kept
    beside it, and later ones must have it too.

    Raises:
        WeightsError: when it cannot be downloaded (with the url and the place to put the file), has another hash, or
            is no checkpoint.
        MissingExtraError: when it comes in a package that is not installed.
    """
    path = weights.location(folder)
    if not path.exists() and weights.package:
        module = require(weights.package.partition("/")[0], weights.extra)
        raise WeightsError(f"{module.__name__} is installed without {path}; install it again")
    if not path.exists() and weights.by_hand:
        raise WeightsError(
            f"{weights.filename} must be fetched by hand: take it from {weights.url} and put it at {path}"
        )
    if not path.exists():
        download(weights.url, path, lambda part: _refuse_part(part, weights))
    verify(weights, path)
    if weights.published is None and not pin_of(path).exists():
        write_atomic(pin_of(path), f"{_hashes(path)['SHA-256']}\n".encode())
    return path


def verify(weights: Weights, path: Path) -> Path:
    """The file at `path`, once it was read whole and is what `weights` say. Nothing is written or downloaded.

    Raises:
        WeightsError: when it has not the published hash; or, where none is published, not that of the first file, or is
            no checkpoint.
    """
    hashes = _hashes(path)
    if difference := _difference(weights, hashes):
        raise WeightsError(f"{path} {difference}; delete it, and it is downloaded anew")
    if weights.published is None:
        _refuse_another_than_the_first(path, hashes["SHA-256"])
        try:
            read_checkpoint(path)
        except WeightsError as error:
            raise WeightsError(f"{error}: delete {path} (and {pin_of(path).name} beside it, if it is there)") from None
    return path


def pin_of(path: Path) -> Path:
    """Where the hash of the first file is kept that came without a published one."""
    return path.with_name(f"{path.name}.sha256")


def _refuse_part(part: Path, weights: Weights) -> None:
    """Raise where what was downloaded has not the published hash, or, where none is published, is no checkpoint."""
    if difference := _difference(weights, _hashes(part)):
        raise WeightsError(f"{part} {difference}; nothing was kept; try again")
    if weights.published is None:
        try:
            read_checkpoint(part)
        except WeightsError as error:
            raise WeightsError(f"what came from {weights.url} is of no use, nothing was kept: {error}") from None


def _refuse_another_than_the_first(path: Path, sha256: str) -> None:
    pin = pin_of(path)
    if pin.exists() and (wanted := pin.read_text(encoding="utf-8").strip()) != sha256:
        raise WeightsError(
            f"{path} has SHA-256 {sha256}, the first one had {wanted}; take the first file back, or delete {pin} if "
            "this one is right"
        )


def _hashes(path: Path) -> dict[str, str]:
    """Kind -> hex digest of a file."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        git_blob = hashlib.sha1(f"blob {file.tell()}\0".encode(), usedforsecurity=False)
        file.seek(0)
        while chunk := file.read(_CHUNK):
            git_blob.update(chunk)
    return {"SHA-256": sha256, "git object name": git_blob.hexdigest()}


def _difference(weights: Weights, hashes: Mapping[str, str]) -> str:
    """Return what differs from the published hash; empty where nothing does, or none is published."""
    kind, wanted = weights.published or ("SHA-256", "")
    if hashes[kind].startswith(wanted.lower()):
        return ""
    return f"from {weights.url} has {kind} {hashes[kind]}, wanted {wanted}"


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
    if os.sep in source or source.endswith(_SUFFIXES) or is_file(Path(source)):
        return None
    raise WeightsError(f"weights {source!r} are no file and no known name; {suggest(source, available)}")


def _first_five(label: str, keys: Sequence[str]) -> str:
    more = f" and {len(keys) - 5} more" if len(keys) > 5 else ""
    return f"{len(keys)} {label} ({', '.join(keys[:5])}{more})"
