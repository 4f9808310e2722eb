"""Any image encoder, per snippet, `frames:NAME`: 4 of 16 frames, each encoded alone -> mean and deviation per number.

NAME is an encoder of `wtal/extractors/image_encoders/`, `efficientnet-lite0` by default, or another accepted by a
family there. The feature of a snippet concatenates the mean and the standard deviation of the frames' encodings: the
content, and how much of it changes. This is not from a paper.

Image encoders recognize objects and places. If actions depend on things and places (sports, cooking), that helps a lot;
if one camera or a few show all classes, a head may learn the place instead of the action.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wtal.extractors.backbone import Description, WeightsSource
from wtal.extractors.image_encoder import Encoding, ImageEncoder
from wtal.extractors.image_encoders import ENCODERS, create_encoder, named_encoders
from wtal.extractors.pictures import PictureBackbone

STREAMS = ("rgb",)
FLOW = ""
STRIDE = 16

DEFAULT = "efficientnet-lite0"
VARIANTS = (DEFAULT, *(name for name in named_encoders() if name != DEFAULT))
OTHERS = "; ".join(filter(None, (ENCODERS.load(leaf).OTHERS for leaf in ENCODERS.names())))
WEIGHTS = {name: weights for leaf in ENCODERS.names() for name, weights in ENCODERS.load(leaf).WEIGHTS.items()}

FRAMES = 4
"""Number of encoded frames per snippet."""
FRAME_STEP = 4
"""Step between them, in frames of the window."""


def create(stream: str, weights: WeightsSource = None, variant: str = "") -> "SnippetFrames":
    """Create the backbone of the encoder `variant`; `weights` as in `wtal.extractors.create_backbone`.

    For an encoder outside `VARIANTS`, None means the weights next to its configuration.

    Raises:
        UsageError: when the encoder is unknown.
        MissingExtraError: when its library is not installed.
        WeightsError: when the weights are missing, damaged, or do not fit.
    """
    variant = variant or DEFAULT
    return SnippetFrames(variant, create_encoder(variant, weights))


def describe(stream: str, variant: str = "") -> Description:
    """Describe the input of one of `VARIANTS`."""
    name = variant or DEFAULT
    return _description(named_encoders()[name].ENCODINGS[name])


class SnippetFrames(PictureBackbone):
    """Encode (N, 3, 4, side, side) -> (N, 2 d): means over the frames of a clip, then their standard deviations."""

    span = FRAMES * FRAME_STEP
    step = FRAME_STEP

    def __init__(self, name: str, encoder: ImageEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.pictures = encoder.encoding.pictures
        self.about = _description(encoder.encoding)
        self.dim, self.crop = self.about.dim, self.about.crop
        self.identity: dict[str, Any] = {
            "backbone": "frames",
            "variant": Path(name).expanduser().resolve().name,
            "preprocessing": self.about.to_json(),
            **encoder.identity,
        }

    def encode(self, clips: Tensor) -> Tensor:
        """Encode (N, 3, L, H, W) preprocessed clips -> (N, L, d) float32, frame by frame.

        Always computed in float32, whatever the requested precision: frames of a snippet differ little, and the
        rounding of bfloat16 is of the same order.
        """
        with torch.autocast(clips.device.type, enabled=False):
            encoded: Tensor = self.encoder(clips.transpose(1, 2).flatten(0, 1))
        return encoded.reshape(-1, clips.shape[2], encoded.shape[-1])

    def feature_map(self, clips: Tensor) -> Tensor:
        """Map (N, 3, L, H, W) preprocessed clips -> (N, 2 d, 1): one cell per clip, as deviations have no frame."""
        features: Tensor = self(clips)
        return features[:, :, None]

    def forward(self, clips: Tensor) -> Tensor:
        """Map (N, 3, L, H, W) preprocessed clips -> (N, 2 d)."""
        encoded = self.encode(clips)
        mean = encoded.mean(dim=1)
        spread = (encoded - mean[:, None]).square().mean(dim=1).sqrt()
        return torch.cat([mean, spread], dim=1)


def _description(encoding: Encoding) -> Description:
    pictures = encoding.pictures
    return Description(
        dim=2 * encoding.dim,
        span=SnippetFrames.span,
        frames=FRAMES,
        step=FRAME_STEP,
        size=SnippetFrames.size,
        crop=pictures.whole,
        side=pictures.crop,
        pixels=pictures.pixels,
        tap=f"mean and standard deviation over the frames of: {encoding.tap}",
        resize=pictures.resize,
        note=f"resampling {pictures.mode}",
    )
