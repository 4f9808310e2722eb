"""Any video encoder of the transformers library, `hf:NAME`: a clip -> as many numbers as the width of its tokens.

NAME is a model of huggingface.co (`hf:MCG-NJU/videomae-base`) or a folder with its files: `config.json`, one of
`video_preprocessor_config.json` and `preprocessor_config.json`, and `model.safetensors`, whole or in shards. Only
tensors are read: no pickled file is opened, and no code of a model is run. Any model that transformers treats as a
video model works, above all

- VideoMAE: Tong et al., "VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video
  Pre-Training" (NeurIPS 2022);
- V-JEPA 2: Assran et al., "V-JEPA 2: Self-Supervised Video Models Enable Understanding, Prediction and Planning"
  (arXiv 2506.09985); its predictor is loaded but not run;
- TimeSformer: Bertasius et al., "Is Space-Time Attention All You Need for Video Understanding?" (ICML 2021);
- ViViT: Arnab et al., "ViViT: A Video Vision Transformer" (ICCV 2021), model 1, joint attention.

The feature is the class token of the last hidden state if the model has one (TimeSformer, ViViT), else the mean of its
tokens (VideoMAE, V-JEPA 2), before any layers on top: heads are left out by name. The normalization after the mean in a
VideoMAE fine-tuned for classes (`fc_norm`) belongs to its head.

Size, crop, values and resampling are those of the preprocessor's file, the number of frames is the model's. The spacing
of frames is documented nowhere: they are spread over a window of 64 frames of the store, which for VideoMAE (16 x 4)
and ViViT (32 x 2) matches training in the papers; TimeSformer's 8 are closer together than its 8 x 32. Pictures are
always cropped to the side of the network, even if the file requests no crop. They are resized in floating point and
rounded, so that no value depends on the processor; transformers interpolates integers where the processor can, which
differs by at most 1 of 255.
"""

import inspect
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor

from wtal.errors import UsageError
from wtal.extractors.backbone import Description, WeightsSource
from wtal.extractors.backbones import ANY
from wtal.extractors.pictures import PictureBackbone
from wtal.extractors.weights import Weights
from wtal.extractors.weights.transformers_model import Kind, TransformersModel, load_model

STREAMS = ("rgb",)
FLOW = ""
STRIDE = 16
VARIANTS = ANY
WEIGHTS: dict[str, Weights] = {}

WINDOW = 64
"""Window, in frames of the store, over which a model's frames are spread, unless it has more frames."""


def create(stream: str, weights: WeightsSource = None, variant: str = "") -> "VideoEncoder":
    """Create the encoder named by `variant`, for `stream` "rgb".

    `weights` as in `wtal.extractors.create_backbone`, but None means those next to the configuration.

    Raises:
        UsageError: when no name is given.
        WeightsError: when files are missing and cannot be fetched, do not fit, or do not belong to a video encoder.
        MissingExtraError: when transformers is not installed.
    """
    if not variant:
        raise UsageError("hf needs a model: hf:NAME, its name on huggingface.co or the folder of its files")
    return VideoEncoder(variant, load_model("hf", variant, _VIDEOS, weights))


class VideoEncoder(PictureBackbone):
    """A video encoder of transformers without its head.

    `feature_map` returns the tokens of the last hidden state, (N, D, tokens), or the class token alone, (N, D, 1), if
    there is one; `forward` its mean, (N, D).
    """

    def __init__(self, name: str, model: TransformersModel) -> None:
        super().__init__()
        self.network: Any = model.network
        self.pictures = pictures = model.pictures
        config: Any = model.network.config
        self.dim, self.crop = int(config.hidden_size), pictures.whole
        self.frames = _frames(config)
        self.step = max(1, WINDOW // self.frames)
        self.span = self.frames * self.step
        self.class_token = model.has_class_token
        # The predictor of V-JEPA 2 predicts hidden patches, which features do not need.
        takes = inspect.signature(model.network.forward).parameters
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
            **model.identity,
        }

    def feature_map(self, clips: Tensor) -> Tensor:
        """Map (N, 3, L, H, W) preprocessed clips -> (N, D, tokens), or (N, D, 1) with a class token."""
        inputs = {self.network.main_input_name: clips.transpose(1, 2)}
        tokens: Tensor = self.network(**inputs, **self._extra).last_hidden_state
        return (tokens[:, :1] if self.class_token else tokens).transpose(1, 2)

    def forward(self, clips: Tensor) -> Tensor:
        """Map (N, 3, L, H, W) preprocessed clips -> (N, D)."""
        return self.feature_map(clips).mean(dim=2)


def _frames(config: Any) -> int:
    """Return the number of frames of a clip; 0 if the configuration is not that of a video model."""
    frames = getattr(config, "num_frames", None) or getattr(config, "frames_per_clip", None)
    return frames if isinstance(frames, int) else 0


_VIDEOS = Kind(
    noun="video",
    fits=lambda config: bool(_frames(config)) and hasattr(config, "hidden_size"),
    wanted=("an encoder of videos, whose configuration has num_frames or frames_per_clip and hidden_size"),
)
