"""Any video encoder of the transformers library, `hf:NAME`: a clip -> as many numbers as its tokens have.

NAME is a model of huggingface.co (`hf:MCG-NJU/videomae-base`) or a folder with its files: `config.json`, one of
`video_preprocessor_config.json` and `preprocessor_config.json`, and `model.safetensors`, whole or in shards. Only
tensors are read: no pickled file of a folder is opened and no code that comes with a model is run. Whatever
transformers knows as a model for videos will do, above all

- VideoMAE: Tong et al., "VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video
  Pre-Training" (NeurIPS 2022);
- V-JEPA 2: Assran et al., "V-JEPA 2: Self-Supervised Video Models Enable Understanding, Prediction and Planning"
  (arXiv 2506.09985); its predictor is loaded and not run;
- TimeSformer: Bertasius et al., "Is Space-Time Attention All You Need for Video Understanding?" (ICML 2021);
- ViViT: Arnab et al., "ViViT: A Video Vision Transformer" (ICCV 2021), model 1, joint attention.

The feature is the class token of the last hidden state where the model has one (TimeSformer, ViViT), else the mean of
its tokens (VideoMAE, V-JEPA 2), before everything that a checkpoint lays on top: heads are left out by name. What
VideoMAE fine-tuned for classes normalises after the mean (`fc_norm`) belongs to its head.

Size, crop, values and resampling are those of the preprocessor's file, the number of frames is the model's. How far
apart frames lie is written nowhere: they are spread over a window of 64 frames of the store, which for VideoMAE (16 x
4) and ViViT (32 x 2) is what the papers train with; TimeSformer's 8 come closer together than its 8 x 32. Pictures are
always cut to the side of the network, also where the file asks for no crop. They are resized in floating point and
rounded, so that no value depends on the processor; transformers interpolates whole numbers where the processor can,
which is at most 1 of 255 apart.
"""

import contextlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from wtal.errors import UsageError, WeightsError, require
from wtal.extractors.backbone import ANY, Backbone, Description, Pixels, WeightsSource, ten_crops
from wtal.extractors.decoding.frame_size import FrameSize
from wtal.extractors.torchvision_guard import EXTRA, ready
from wtal.extractors.weights import Weights, load_weights, random_seed, randomise, refuse_misfits
from wtal.extractors.weights.checkpoint import State
from wtal.extractors.weights.model_folder import CONFIG, ModelFolder, first_line

STREAMS = ("rgb",)
FLOW = ""
STRIDE = 16
VARIANTS = ANY
WEIGHTS: dict[str, Weights] = {}

WINDOW = 64
"""Frames of the store that a model's frames are spread over, where it has no more of its own."""

_SHORT_SIDE = 256
_HEADS = ("classifier", "fc_norm", "pooler", "decoder", "encoder_to_decoder", "mask_token")
"""First parts of the keys of classifiers and of what is used for pre-training alone."""
_CLASS_TOKENS = ("cls_token", "class_token")
_RESAMPLING = {0: "nearest", 2: "bilinear", 3: "bicubic"}
_VALUES = {"image_mean": (0.0, 0.0, 0.0), "image_std": (1.0, 1.0, 1.0)}
"""Keys of the preprocessor's file, and what stands for them where it does not normalise."""


@dataclass(frozen=True)
class Pictures:
    """Preparation of pictures as a preprocessor's file wants it, all in RGB.

    Resized to `resize` (the shorter side, or (height, width), in pixels; None: not at all), cut to a square of `crop`
    pixels out of the centre, x -> x * `factor` - `offset`, less `mean`, divided by `std`.
    """

    resize: int | tuple[int, int] | None
    crop: int
    mode: str
    factor: float
    offset: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def whole(self) -> int:
        """The crop in pixels of frames whose shorter side is 256."""
        short = min(self.resize) if isinstance(self.resize, tuple) else self.resize or _SHORT_SIDE
        return min(round(_SHORT_SIDE * self.crop / short), _SHORT_SIDE)

    def target(self, height: int, width: int) -> tuple[int, int]:
        """The size that a picture gets before the crop; no side is left shorter than the crop."""
        if isinstance(self.resize, tuple):
            return max(self.resize[0], self.crop), max(self.resize[1], self.crop)
        short = max(self.resize or min(height, width), self.crop)
        return short * height // min(height, width), short * width // min(height, width)

    @property
    def pixels(self) -> Pixels:
        """The same arithmetic on values from 0 to 1."""
        whole = 255 * self.factor
        return Pixels(tuple((self.offset + mean) / whole for mean in self.mean), tuple(std / whole for std in self.std))

    def resized(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(N, L, H, W, 3) -> (N, L, H', W', 3): as large as before the crop."""
        size = (frames.shape[2], frames.shape[3])
        if (target := self.target(*size)) == size:
            return frames
        smooth = {} if self.mode == "nearest" else {"antialias": True}
        resized = np.empty((*frames.shape[:2], *target, 3), np.uint8)
        for clip, pictures in zip(resized, frames, strict=True):
            x = torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))).float()
            x = F.interpolate(x, target, mode=self.mode, **smooth).round_().clamp_(0, 255)
            clip[:] = x.permute(0, 2, 3, 1).numpy()
        return resized

    def cut(self, pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(N, L, H', W', 3) -> (N, L, crop, crop, 3), the centre; half margins are rounded down, as in the library."""
        top, left = ((length - self.crop) // 2 for length in pictures.shape[2:4])
        return pictures[:, :, top : top + self.crop, left : left + self.crop]

    def normalised(self, pictures: NDArray[np.uint8]) -> Tensor:
        """(N, L, crop, crop, 3) uint8 -> (N, 3, L, crop, crop) float32."""
        x = torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 4, 1, 2, 3))).float()
        mean, std = (torch.tensor(values)[:, None, None, None] for values in (self.mean, self.std))
        return (x * self.factor - self.offset).sub_(mean).div_(std)


class VideoEncoder(Backbone):
    """A video encoder of transformers without its head.

    `feature_map` gives the tokens of the last hidden state, (N, D, tokens), or the class token alone, (N, D, 1), where
    there is one; `forward` its mean, (N, D). `crop` counts the pixels of frames as they come, `pictures.crop` those
    that the network sees.
    """

    stream = "rgb"
    size = FrameSize(short_side=_SHORT_SIDE, enlarge=True)

    def __init__(self, name: str, network: nn.Module, pictures: Pictures) -> None:
        super().__init__()
        self.network: Any = network
        self.pictures = pictures
        config: Any = network.config
        self.dim, self.crop = int(config.hidden_size), pictures.whole
        self.frames = _frames(config)
        self.step = max(1, WINDOW // self.frames)
        self.span = self.frames * self.step
        self.class_token = any(key.rpartition(".")[2] in _CLASS_TOKENS for key in dict(network.named_parameters()))
        # The predictor of V-JEPA 2 says what hidden patches are like: of no use to features.
        takes = inspect.signature(network.forward).parameters
        self._extra = {"skip_predictor": True} if "skip_predictor" in takes else {}
        self.about = Description(
            dim=self.dim,
            span=self.span,
            frames=self.frames,
            step=self.step,
            size=self.size,
            crop=self.crop,
            side=pictures.crop,
            pixels=pictures.pixels,
            tap="class token" if self.class_token else "mean of the tokens",
            resize=pictures.resize,
            note=f"resampling {pictures.mode}",
        )
        self.identity: dict[str, Any] = {
            "backbone": "hf",
            "variant": Path(name).expanduser().resolve().name,
            "model": config.model_type,
            "preprocessing": self.about.to_json(),
            "library": f"transformers {version('transformers')}",
        }

    def preprocess(self, frames: NDArray[Any]) -> Tensor:
        """(N, span, H, W, 3) uint8 RGB -> (N, 3, frames, side, side) float32, normalised; of any size H x W.

        Every `step`-th frame is seen, those in the middle of the window.
        """
        return self.pictures.normalised(self.pictures.cut(self.pictures.resized(self._seen(frames))))

    def preprocess_ten(self, frames: NDArray[Any]) -> Iterator[Tensor]:
        """Preprocess as `preprocess` does, for each of `ten_crops` of the resized pictures."""
        resized = self.pictures.resized(self._seen(frames))
        for view in ten_crops(resized, self.pictures.crop, is_flow=False, rounded=int):
            yield self.pictures.normalised(view)

    def feature_map(self, clips: Tensor) -> Tensor:
        """(N, 3, L, H, W) preprocessed -> (N, D, tokens), or (N, D, 1) where there is a class token."""
        inputs = {self.network.main_input_name: clips.transpose(1, 2)}
        tokens: Tensor = self.network(**inputs, **self._extra).last_hidden_state
        return (tokens[:, :1] if self.class_token else tokens).transpose(1, 2)

    def forward(self, clips: Tensor) -> Tensor:
        """(N, 3, L, H, W) preprocessed -> (N, D)."""
        return self.feature_map(clips).mean(dim=2)

    def _seen(self, frames: NDArray[Any]) -> NDArray[Any]:
        return frames[:, (self.step - 1) // 2 :: self.step]


def create(stream: str, weights: WeightsSource = None, variant: str = "") -> VideoEncoder:
    """Make the encoder that `variant` names, for `stream` "rgb".

    `weights` as in `wtal.extractors.create_backbone`, but None takes those that lie beside the configuration.

    Raises:
        UsageError: when there is no name.
        WeightsError: when files are missing and cannot be fetched, do not fit, or belong to no video encoder.
        MissingExtraError: when transformers is not installed.
    """
    if not variant:
        raise UsageError("hf needs a model: hf:NAME, its name on huggingface.co or the folder of its files")
    if find_spec("torchvision") is not None:
        ready()
    folder = ModelFolder.find(variant, with_tensors=weights is None)
    config = _config(folder.path)
    network_class = _network_class(config, variant)
    pictures = _pictures(folder, config)
    if (seed := random_seed(weights)) is not None:
        network = _built(network_class, config, seed, variant)
        identity = randomise(network, seed)
    else:
        source = folder.tensors() if weights is None else weights
        state, identity = load_weights(source, WEIGHTS, stream, variant=variant)
        network = _loaded(network_class, config, state, variant)
    model = VideoEncoder(variant, network, pictures)
    model.identity |= {"config": folder.config_digest(), "weights": identity}
    return model


def _config(folder: Path) -> Any:
    """The configuration in `folder`, as transformers reads it without running code that lies beside it."""
    transformers: Any = require("transformers", EXTRA)
    path = folder / CONFIG
    if not path.is_file():
        raise WeightsError(f"{folder} has no {CONFIG}, wanted the files of a model of transformers")
    try:
        return transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:
        raise WeightsError(
            f"{path} is of no model that transformers {transformers.__version__} knows ({first_line(error)}); "
            "code that comes with a model is not run"
        ) from error


def _network_class(config: Any, name: str) -> Any:
    """The class of the bare encoder, whose input is a video.

    Raises:
        WeightsError: when the configuration is not that of a video encoder.
    """
    transformers: Any = require("transformers", EXTRA)
    known = type(config) in transformers.MODEL_MAPPING
    network_class = transformers.MODEL_MAPPING[type(config)] if known else None
    takes_pictures = getattr(network_class, "main_input_name", "") in ("pixel_values", "pixel_values_videos")
    if not takes_pictures or not _frames(config) or not hasattr(config, "hidden_size"):
        raise WeightsError(
            f"hf:{name} is a {config.model_type}, wanted an encoder of videos, whose configuration has num_frames or "
            "frames_per_clip and hidden_size"
        )
    return network_class


def _options(network_class: Any) -> dict[str, Any]:
    """Return the options that the encoder is built with: it pools no tokens, where it has a layer for that."""
    pools = "add_pooling_layer" in inspect.signature(network_class.__init__).parameters
    return {"add_pooling_layer": False} if pools else {}


def _built(network_class: Any, config: Any, seed: int, name: str) -> nn.Module:
    """The encoder as transformers makes it, its random numbers from `seed`; those of the caller stay as they were."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            network: nn.Module = network_class(config, **_options(network_class))
        except (RuntimeError, ValueError, ImportError) as error:
            raise WeightsError(f"hf:{name} cannot be built as its {CONFIG} says ({first_line(error)})") from error
    return network


def _loaded(network_class: Any, config: Any, state: State, name: str) -> nn.Module:
    """The encoder with `state`, in any of the layouts that transformers reads; heads are left out.

    Raises:
        WeightsError: naming the first five keys that are missing, unknown, or of another shape.
    """
    prefix = f"{network_class.base_model_prefix}."
    kinds = {key: key.removeprefix(prefix).partition(".")[0] for key in state}
    encoder_state = {key: value for key, value in state.items() if kinds[key] not in _HEADS}
    what = f"hf {name} weights"
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
            raise WeightsError(f"{what}: they do not load into what {CONFIG} says ({first_line(error)})") from error
    shaped = [f"{key} {list(shape)}, wanted {list(wanted)}" for key, shape, wanted in info["mismatched_keys"]]
    refuse_misfits(what, sorted(info["missing_keys"]), sorted(info["unexpected_keys"]), sorted(shaped))
    return network


def _pictures(folder: ModelFolder, config: Any) -> Pictures:
    """Read how the preprocessor's file in `folder` wants pictures.

    Raises:
        WeightsError: when there is no such file, or it lacks or misstates something.
    """
    path, settings = folder.preprocessor()
    side = _square(getattr(config, "image_size", None) or getattr(config, "crop_size", None))
    crop = _square(settings.get("crop_size")) or side
    if not crop or (side and crop != side):
        raise WeightsError(f"{path} cuts pictures to {settings.get('crop_size')}, the model of {CONFIG} takes {side}")
    size = settings.get("size")
    resize = _resize(size) if settings.get("do_resize", True) else None
    mode = _RESAMPLING.get(settings.get("resample", 2))
    normal = settings.get("do_normalize", True)
    mean, std = (_triple(settings.get(key)) if normal else at_rest for key, at_rest in _VALUES.items())
    for wrong, key in ((resize == 0, "size"), (not mode, "resample"), (not mean, "image_mean"), (not std, "image_std")):
        if wrong:
            raise WeightsError(f"{path} has {key} {settings.get(key)!r}, which says not how pictures are prepared")
    rescales = settings.get("do_rescale", True)
    # Those of ViViT shift values to [-1, 1] first, whether they say so or not.
    shifts = rescales and settings.get("offset", config.model_type == "vivit")
    factor = settings.get("rescale_factor", 1 / 127.5 if shifts else 1 / 255) if rescales else 1.0
    return Pictures(resize, crop, str(mode), float(factor), float(shifts), mean, std)


def _square(size: Any) -> int:
    """The side that a number, {"height": .., "width": ..} or a pair says; 0 where that is no square."""
    if isinstance(size, dict):
        size = (size.get("height"), size.get("width"))
    if isinstance(size, list | tuple):
        size = size[0] if len(size) == 2 and size[0] == size[1] else 0
    return size if isinstance(size, int) and size > 0 else 0


def _resize(size: Any) -> int | tuple[int, int]:
    """The shorter side, or (height, width), that a preprocessor's `size` says; 0 where it says neither."""
    if isinstance(size, dict) and "shortest_edge" in size:
        return _square(size["shortest_edge"])
    if isinstance(size, dict):
        height, width = _square(size.get("height")), _square(size.get("width"))
        return (height, width) if height and width else 0
    return _square(size)


def _triple(values: Any) -> tuple[float, ...]:
    """One number for each colour, or one for all; empty where it is neither."""
    if isinstance(values, int | float):
        values = [values] * 3
    fits = isinstance(values, list) and len(values) == 3 and all(isinstance(value, int | float) for value in values)
    return tuple(float(value) for value in values) if fits else ()


def _frames(config: Any) -> int:
    """Frames of a clip; 0 where the configuration is not that of a model for videos."""
    frames = getattr(config, "num_frames", None) or getattr(config, "frames_per_clip", None)
    return frames if isinstance(frames, int) else 0


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the progress bar and the report that transformers writes on loading: what is wrong is raised instead."""
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
