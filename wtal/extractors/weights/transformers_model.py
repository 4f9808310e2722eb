"""A transformers model without its head: built, loaded strictly, and its preparation of pictures.

For backbones that accept models by name, of clips or of pictures. Only tensors are read: no pickled file is opened, and
no code of a model is run.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from wtal.errors import WeightsError, require
from wtal.extractors.backbone import WeightsSource
from wtal.extractors.pictures import Pictures
from wtal.extractors.torchvision_guard import EXTRA, ready
from wtal.extractors.weights.checkpoint import State
from wtal.extractors.weights.model_folder import CONFIG, ModelFolder, first_line
from wtal.extractors.weights.published import load_weights, random_seed, randomise, refuse_misfits

_HEADS = ("classifier", "fc_norm", "pooler", "decoder", "encoder_to_decoder", "mask_token")
"""First parts of the keys of classifiers, and of parts used only for pre-training."""
_CLASS_TOKENS = ("cls_token", "class_token")
_RESAMPLING = {0: "nearest", 2: "bilinear", 3: "bicubic"}
_VALUES = {"image_mean": (0.0, 0.0, 0.0), "image_std": (1.0, 1.0, 1.0)}
"""Keys of the preprocessor's file, and their values if it does not normalize."""
_CONVNEXT_WHOLE = 384
"""Size in pixels from which ConvNeXt's preprocessor stretches whole pictures."""


@dataclass(frozen=True)
class Kind:
    """Models accepted by a backbone: `noun` ("video" or "image") selects the files on preparing pictures.

    `fits` returns whether a configuration is that of such a model, and `wanted` describes it. If `any_size` accepts the
    model's class, pictures may differ from the size in the configuration.
    """

    noun: str
    fits: Callable[[Any], bool]
    wanted: str
    any_size: Callable[[Any], bool] = lambda network_class: False


@dataclass(frozen=True)
class TransformersModel:
    """A model without its head, its preparation of pictures, and the identity of its configuration and weights."""

    network: Any
    pictures: Pictures
    identity: dict[str, Any]

    @property
    def has_class_token(self) -> bool:
        """True if the first token represents the whole."""
        return any(key.rpartition(".")[2] in _CLASS_TOKENS for key in dict(self.network.named_parameters()))


def load_model(backbone: str, name: str, kind: Kind, weights: WeightsSource) -> TransformersModel:
    """Load the model `name`, in float32; `weights` None means those next to the configuration.

    `backbone` is the part of its name before the colon, for error messages.

    Raises:
        WeightsError: when files are missing and cannot be fetched, do not fit, or do not belong to a model of that
            kind.
        MissingExtraError: when transformers is not installed.
    """
    if find_spec("torchvision") is not None:
        ready()
    called = f"{backbone}:{name}"
    folder = ModelFolder.find(backbone, name, with_tensors=weights is None)
    config = _config(folder.path)
    network_class = _network_class(config, called, kind)
    pictures = _pictures(folder, config, kind, kind.any_size(network_class))
    if (seed := random_seed(weights)) is not None:
        network = _built(network_class, config, seed, called)
        identity = randomise(network, seed)
    else:
        source = folder.tensors() if weights is None else weights
        state, identity = load_weights(source, {}, "rgb", variant=name)
        network = _loaded(network_class, config, state, f"{backbone} {name} weights")
    return TransformersModel(network, pictures, {"config": folder.config_digest(), "weights": identity})


def _config(folder: Path) -> Any:
    """Read the configuration in `folder` with transformers, without running any code in the folder."""
    transformers: Any = require("transformers", EXTRA)
    path = folder / CONFIG
    if not path.is_file():
        raise WeightsError(f"{folder} has no {CONFIG}, wanted the files of a transformers model")
    try:
        return transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:
        raise WeightsError(
            f"{path} is not of a model supported by transformers {transformers.__version__} ({first_line(error)}); "
            "code of a model is never run"
        ) from error


def _network_class(config: Any, called: str, kind: Kind) -> Any:
    """Return the class of the bare encoder with pictures as input.

    Raises:
        WeightsError: when the configuration is not that of an encoder of the wanted kind.
    """
    transformers: Any = require("transformers", EXTRA)
    known = type(config) in transformers.MODEL_MAPPING
    network_class = transformers.MODEL_MAPPING[type(config)] if known else None
    takes_pictures = getattr(network_class, "main_input_name", "") in ("pixel_values", "pixel_values_videos")
    if not takes_pictures or not kind.fits(config):
        raise WeightsError(f"{called} is a {config.model_type}, wanted {kind.wanted}")
    return network_class


def _options(network_class: Any) -> dict[str, Any]:
    """Return the options for building the encoder without pooling of tokens, if it has a layer for that."""
    pools = "add_pooling_layer" in inspect.signature(network_class.__init__).parameters
    return {"add_pooling_layer": False} if pools else {}


def _built(network_class: Any, config: Any, seed: int, called: str) -> nn.Module:
    """Build transformers' encoder with random numbers from `seed`; the caller's random state is unchanged."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            network: nn.Module = network_class(config, **_options(network_class))
        except (RuntimeError, ValueError, ImportError) as error:
            raise WeightsError(f"{called} cannot be built from its {CONFIG} ({first_line(error)})") from error
    return network


def _loaded(network_class: Any, config: Any, state: State, what: str) -> nn.Module:
    """Load the encoder with `state`, in any layout that transformers reads; heads are left out.

    Raises:
        WeightsError: naming the first five keys that are missing, unknown, or of another shape.
    """
    prefix = f"{network_class.base_model_prefix}."
    kinds = {key: key.removeprefix(prefix).partition(".")[0] for key in state}
    encoder_state = {key: value for key, value in state.items() if kinds[key] not in _HEADS}
    with _quiet():
        try:
            network: nn.Module
            network, info = network_class.from_pretrained(
                None,
                config=config,
                state_dict=encoder_state,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **_options(network_class),
            )
        except (RuntimeError, ValueError, ImportError) as error:
            raise WeightsError(f"{what}: they do not fit the model in {CONFIG} ({first_line(error)})") from error
    shaped = [f"{key} {list(shape)}, wanted {list(wanted)}" for key, shape, wanted in info["mismatched_keys"]]
    refuse_misfits(what, sorted(info["missing_keys"]), sorted(info["unexpected_keys"]), sorted(shaped))
    return network


def _pictures(folder: ModelFolder, config: Any, kind: Kind, any_size: bool) -> Pictures:
    """Read the preparation of pictures from the preprocessor's file in `folder`.

    Raises:
        WeightsError: when the file is missing, incomplete or wrong.
    """
    path, settings = folder.preprocessor(kind.noun)
    resize, crop = _sizes(settings)
    side = _square(getattr(config, "image_size", None) or getattr(config, "crop_size", None))
    crop = crop or side
    if not crop or (side and crop != side and not any_size):
        raise WeightsError(
            f"{path} crops pictures to {settings.get('crop_size')}, but the model in {CONFIG} takes {side}"
        )
    mode = _RESAMPLING.get(settings.get("resample", 2))
    normal = settings.get("do_normalize", True)
    mean, std = (_triple(settings.get(key)) if normal else at_rest for key, at_rest in _VALUES.items())
    for wrong, key in ((resize == 0, "size"), (not mode, "resample"), (not mean, "image_mean"), (not std, "image_std")):
        if wrong:
            raise WeightsError(
                f"{path} has {key} {settings.get(key)!r}, which does not define how pictures are prepared"
            )
    rescales = settings.get("do_rescale", True)
    # ViViT's shift values to [-1, 1] first, whether configured or not.
    shifts = rescales and settings.get("offset", config.model_type == "vivit")
    factor = settings.get("rescale_factor", 1 / 127.5 if shifts else 1 / 255) if rescales else 1.0
    return Pictures(resize, crop, str(mode), float(factor), float(shifts), mean, std)


def _sizes(settings: dict[str, Any]) -> tuple[int | tuple[int, int] | None, int]:
    """Return (resize, crop) of a preprocessor; resize is None if disabled, 0 if unknown; crop 0 if unspecified.

    ConvNeXt's kind has the crop as its size, and `crop_pct` as its share of the resized picture.
    """
    resize = _resize(settings.get("size")) if settings.get("do_resize", True) else None
    share = settings.get("crop_pct")
    if isinstance(share, int | float) and 0 < share <= 1 and isinstance(resize, int):
        return (int(resize / share) if resize < _CONVNEXT_WHOLE else (resize, resize)), resize
    return resize, _square(settings.get("crop_size"))


def _square(size: Any) -> int:
    """Return the side given as a number, {"height": .., "width": ..} or a pair; 0 if not a square."""
    if isinstance(size, dict):
        size = (size.get("height"), size.get("width"))
    if isinstance(size, list | tuple):
        size = size[0] if len(size) == 2 and size[0] == size[1] else 0
    return size if isinstance(size, int) and size > 0 else 0


def _resize(size: Any) -> int | tuple[int, int]:
    """Return the shorter side, or (height, width), from a preprocessor's `size`; 0 if it has neither."""
    if isinstance(size, dict) and "shortest_edge" in size:
        return _square(size["shortest_edge"])
    if isinstance(size, dict):
        height, width = _square(size.get("height")), _square(size.get("width"))
        return (height, width) if height and width else 0
    return _square(size)


def _triple(values: Any) -> tuple[float, ...]:
    """Return one number per colour, from three or one; empty for anything else."""
    if isinstance(values, int | float):
        values = [values] * 3
    fits = isinstance(values, list) and len(values) == 3 and all(isinstance(value, int | float) for value in values)
    return tuple(float(value) for value in values) if fits else ()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the progress bar and the report of loading in transformers: errors are raised instead."""
    transformers: Any = require("transformers", EXTRA)
    log = transformers.utils.logging
    verbosity, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(verbosity)
        if bars:
            log.enable_progress_bar()
