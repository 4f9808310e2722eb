"""Runtimes and precisions of networks: features do not depend on the number of clips per call."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.support.networks import first_names, made, shrink
from wtal.errors import UsageError
from wtal.extractors import create_backbone
from wtal.extractors.backbone import Backbone
from wtal.extractors.decoding.frame_size import FrameSize
from wtal.extractors.runtime import run_by

NETWORKS = [name for name in first_names() if not name.startswith(("motion", "torchvision"))] + ["torchvision:r3d_18"]
"""Networks with few layers; all layers of torchvision's other networks are its own."""
BATCHES = (2, 3, 1)


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS])
def net(request, tmp_path, monkeypatch):
    shrink(monkeypatch)
    return create_backbone(made(request.param, tmp_path), "rgb", "random:0")


def clips_for(net, side=48):
    """Preprocessed clips, cut smaller for speed."""
    frames = np.random.default_rng(0).integers(0, 256, (max(BATCHES), net.span, side, side, 3), dtype=np.uint8)
    return net.preprocess(frames)[..., :side, :side]


@torch.inference_mode()
def features(net, clips):
    return net(clips).float().numpy()


def cosine(one, other):
    return np.min((one * other).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1))


def test_bfloat16_moves_the_last_digits_alone(net):
    clips = clips_for(net, side=32)[:1]
    mixed = run_by(net, precision="bfloat16")
    assert mixed.identity["precision"] == "bfloat16"
    assert cosine(features(mixed, clips), features(net, clips)) > 0.9999


def test_openvino_moves_the_last_digits_alone(net):
    pytest.importorskip("openvino", reason="needs the extra openvino")
    clips = clips_for(net)
    compiled = run_by(net, "openvino")
    assert compiled.identity["runtime"].startswith("openvino ")
    wanted = features(net, clips)
    for count in BATCHES:
        found = features(compiled, clips[:count])
        assert found.shape == (count, net.dim)
        np.testing.assert_allclose(found, wanted[:count], rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.slow
def test_openvino_compiles_once_more_for_another_size(tmp_path, monkeypatch):
    pytest.importorskip("openvino", reason="needs the extra openvino")
    shrink(monkeypatch)
    net = create_backbone("vivit", "rgb", "random:0")
    compiled, clips = run_by(net, "openvino"), clips_for(net)
    for view in (clips, clips[..., :32, :], clips):
        np.testing.assert_allclose(features(compiled, view), features(net, view), rtol=1e-4, atol=1e-4)
    assert len(compiled._compiled) == 2


class Traced(Backbone):
    """A network that tracing would break, because it fixes the number of clips or a number derived from it."""

    stream, dim, span, size = "rgb", 4, 2, FrameSize(short_side=8, enlarge=True)

    def __init__(self, wrong: str) -> None:
        super().__init__()
        self.identity = {"backbone": "traced"}
        self.wrong, self.linear = wrong, nn.Linear(3, 4)

    def preprocess(self, frames: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 4, 1, 2, 3))).float()

    def forward(self, clips: Tensor) -> Tensor:
        features = self.linear(clips.mean(dim=(2, 3, 4)))
        return features[: len(clips)] if self.wrong == "rows" else features * len(clips)


@pytest.mark.parametrize(
    ("wrong", "words"), [("rows", "2 features for 3 clips"), ("values", "features different from")]
)
def test_a_network_that_openvino_cannot_hold_is_refused(wrong, words):
    pytest.importorskip("openvino", reason="needs the extra openvino")
    compiled = run_by(Traced(wrong).eval(), "openvino")
    with pytest.raises(UsageError, match=words):
        compiled.extract(np.random.default_rng(0).integers(0, 256, (2, 2, 8, 8, 3), dtype=np.uint8))


def test_runtimes_that_do_not_fit_are_refused():
    for descriptor in (create_backbone("motion", "rgb"), create_backbone("motion-pyramid", "rgb")):
        assert run_by(descriptor) is descriptor
        with pytest.raises(UsageError, match="is not a network"):
            run_by(descriptor, "openvino")
    with pytest.raises(UsageError, match="leave out one of them"):
        run_by(create_backbone("i3d", "rgb", "random:0"), "openvino", "bfloat16")
