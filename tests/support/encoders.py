"""Small encoders of transformers in folders, and the library's results with them; skips without it."""

import importlib.util
import json

import numpy as np
import pytest
import torch

from tests.support.reference import reference_normal
from wtal.errors import WeightsError
from wtal.extractors import create_backbone
from wtal.extractors.torchvision_guard import ready
from wtal.extractors.weights import randomise

if importlib.util.find_spec("transformers") is None or importlib.util.find_spec("torchvision") is None:
    pytest.skip("transformers or torchvision is not installed", allow_module_level=True)
ready()

import transformers  # noqa: E402

PARITY = 1e-5
"""Largest error allowed, relative to the largest value."""
SIDE = 32
VIT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
_MAE_DECODER = {
    "decoder_hidden_size": 8,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 16,
}
_JEPA = {
    "mlp_ratio": 2,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "pred_hidden_size": 24,
    "pred_num_attention_heads": 2,
    "pred_num_hidden_layers": 1,
}


def config(family, **changes):
    sizes = {"image_size": SIDE, "num_frames": 4, "num_labels": 5}
    if family == "videomae":
        return transformers.VideoMAEConfig(**{**sizes, **VIT, **_MAE_DECODER, **changes})
    if family == "timesformer":
        return transformers.TimesformerConfig(**{**sizes, **VIT, **changes})
    if family == "vivit":
        return transformers.VivitConfig(**{**sizes, **VIT, **changes})
    return transformers.VJEPA2Config(**{"crop_size": SIDE, "frames_per_clip": 4, "num_labels": 5, **_JEPA, **changes})


BARE = {
    "videomae": transformers.VideoMAEModel,
    "timesformer": transformers.TimesformerModel,
    "vivit": transformers.VivitModel,
    "vjepa2": transformers.VJEPA2Model,
}
WITH_HEAD = {
    "videomae": transformers.VideoMAEForVideoClassification,
    "timesformer": transformers.TimesformerForVideoClassification,
    "vivit": transformers.VivitForVideoClassification,
    "vjepa2": transformers.VJEPA2ForVideoClassification,
}
PROCESSORS = {
    "videomae": transformers.VideoMAEVideoProcessor,
    "timesformer": transformers.TimesformerVideoProcessor,
    "vivit": transformers.VivitVideoProcessor,
    "vjepa2": transformers.VJEPA2VideoProcessor,
}
CLASS_TOKEN = ("timesformer", "vivit")


def filled(network, seed=4):
    """Draw all parameters, including biases and scales, so that each of them has an effect."""
    randomise(network, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return network.eval()


def write(folder, family, made=None, processor=True, **options):
    """Write a folder as by `save_pretrained`; return the saved network."""
    network = filled((made or WITH_HEAD[family])(config(family)))
    network.save_pretrained(folder, **options)
    if processor:
        PROCESSORS[family](size={"shortest_edge": 36}, crop_size={"height": SIDE, "width": SIDE}).save_pretrained(
            folder
        )
    return network


def clip(batch=2, frames=4):
    return torch.from_numpy(np.tanh(reference_normal("clip", (batch, 3, frames, SIDE, SIDE))))


def load(folder, weights=None):
    return create_backbone(f"hf:{folder}", stream="rgb", weights=weights)


def expected(network, family, clips):
    """Output of the library's encoder: its class token, or the mean of its tokens."""
    base = getattr(network, network.base_model_prefix, network)
    with torch.inference_mode():
        tokens = base(clips.transpose(1, 2)).last_hidden_state
    return tokens[:, 0] if family in CLASS_TOKEN else tokens.mean(dim=1)


def features(net, clips=None):
    with torch.inference_mode():
        return net(clip() if clips is None else clips)


def error(actual, expected):
    assert actual.shape == expected.shape
    return ((actual - expected).abs().max() / expected.abs().max()).item()


def refusal(folder, weights=None):
    with pytest.raises(WeightsError) as caught:
        load(folder, weights)
    message = str(caught.value)
    assert "\n" not in message
    return message


def edit(path, **changes):
    entries = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in entries.items() if value is not None}))
