"""Any image encoder of the transformers library: ViT, DINOv2, DeiT, BEiT, Swin, ConvNeXt, ResNet, ...

A name is that of a model of huggingface.co (`facebook/dinov2-small`) or of a folder with its files: `config.json`,
`preprocessor_config.json` and `model.safetensors`, whole or in shards. The feature is the class token of the last
hidden state if the model has one, else the mean of its tokens or of the cells of its last map; heads and their pooling
are left out. Pictures are prepared by the preprocessor's file, and always cropped to a square; they may differ from the
size in the configuration if the model accepts any, as for DINOv2's 224 of 518 pixels.
"""

import inspect
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wtal.errors import UsageError, WeightsError
from wtal.extractors.backbone import WeightsSource
from wtal.extractors.image_encoder import Encoding, ImageEncoder
from wtal.extractors.image_encoders import named_encoders
from wtal.extractors.weights import Weights
from wtal.extractors.weights.model_folder import first_line
from wtal.extractors.weights.transformers_model import Kind, TransformersModel, load_model
from wtal.registry import suggest

OTHERS = "an image encoder of transformers, OWNER/NAME on huggingface.co or a folder"
ENCODINGS: dict[str, Encoding] = {}
WEIGHTS: dict[str, Weights] = {}


def create(name: str, weights: WeightsSource = None) -> ImageEncoder:
    """Create the encoder `name`; `weights` None means those next to the configuration.

    Raises:
        UsageError: when the name is neither a folder nor OWNER/NAME.
        WeightsError: when files are missing and cannot be fetched, do not fit, or do not belong to an image encoder.
        MissingExtraError: when transformers is not installed.
    """
    if os.sep not in name and not Path(name).is_dir():
        raise UsageError(f"there is no image encoder {name!r}; {suggest(name, named_encoders())}, or {OTHERS}")
    model = load_model("frames", name, _IMAGES, weights)
    tap = "class token" if model.has_class_token else "mean of the last map"
    feature = _class_token if model.has_class_token else _mean
    encoding = Encoding(_dim(model, feature, name), model.pictures, tap)
    about = {
        "model": model.network.config.model_type,
        "library": f"transformers {version('transformers')}",
        **model.identity,
    }
    return ImageEncoder(model.network, encoding, feature, about)


def _class_token(network: Any, pictures: Tensor) -> Tensor:
    """Map (M, 3, side, side) -> (M, d)."""
    tokens: Tensor = network(pictures).last_hidden_state
    return tokens[:, 0]


def _mean(network: Any, pictures: Tensor) -> Tensor:
    """Map (M, 3, side, side) -> (M, d), over tokens (M, t, d) or the cells of a map (M, d, h, w)."""
    last: Tensor = network(pictures).last_hidden_state
    return last.mean(dim=1) if last.ndim == 3 else last.flatten(2).mean(dim=2)


@torch.inference_mode()
def _dim(model: TransformersModel, feature: Any, name: str) -> int:
    """Return the width of the feature, measured on a black picture, as configurations name it in many ways.

    Raises:
        WeightsError: when the model does not accept the picture size of its preprocessor.
    """
    side = model.pictures.crop
    try:
        encoded: Tensor = feature(model.network.eval(), torch.zeros(1, 3, side, side))
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"frames:{name} does not encode pictures of {side} x {side} ({first_line(error)})"
        ) from error
    return encoded.shape[1]


def _is_of_images(config: Any) -> bool:
    return not any(hasattr(config, key) for key in ("num_frames", "frames_per_clip", "text_config"))


def _takes_any_size(network_class: Any) -> bool:
    """Return whether a model has no option to interpolate positions: it always does so, or has none."""
    return "interpolate_pos_encoding" not in inspect.signature(network_class.forward).parameters


_IMAGES = Kind(
    noun="image",
    fits=_is_of_images,
    wanted="an encoder of images, and neither of videos nor of text",
    any_size=_takes_any_size,
)
