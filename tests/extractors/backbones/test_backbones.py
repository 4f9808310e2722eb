"""All backbones: the contract, crops, variants, several in one pass, times on one grid, published weights."""

import json
import re
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from tests.extractors.backbones.test_backbone_contract import contract
from tests.support.videos import constant, write_video
from wtal.cli import main
from wtal.data.store import FeatureStore
from wtal.errors import UsageError, WeightsError
from wtal.extractors import create_backbone
from wtal.extractors.backbone import ten_crops
from wtal.extractors.backbones import BACKBONES
from wtal.extractors.execution.extractor import FrameSource
from wtal.extractors.weights import Weights, pin_of
from wtal.pipeline.inspection.weights import published_weights

TOY = '''
"""A toy: the mean colour of a clip's centre."""
import numpy as np
import torch
from wtal.extractors.backbone import Backbone, Description, Pixels
from wtal.extractors.decoding.frame_size import FrameSize

STREAMS = ("rgb",)
FLOW = ""
STRIDE = 4
VARIANTS = ("plain", "loud")
WEIGHTS = {}


class Toy(Backbone):
    stream, dim, span, crop = "rgb", 3, 8, 8
    size = FrameSize(short_side=16, enlarge=True)

    def __init__(self, variant):
        super().__init__()
        self.about = describe("rgb", variant)
        self.gain = 1 / (255 * self.about.pixels.std[0])
        self.identity = {"backbone": "toy", "preprocessing": self.about.to_json()}

    def preprocess(self, frames):
        top, left = (max(round((side - 8) / 2), 0) for side in frames.shape[2:4])
        cut = np.ascontiguousarray(frames[:, :, top : top + 8, left : left + 8].transpose(0, 4, 1, 2, 3))
        return self.gain * torch.from_numpy(cut).float()

    def feature_map(self, clips):
        return clips

    def forward(self, clips):
        return clips.mean(dim=(2, 3, 4))


def describe(stream, variant):
    std = (0.5 if variant == "loud" else 1.0,) * 3
    return Description(3, 8, 8, 1, Toy.size, 8, 8, Pixels((0.0,) * 3, std), "mean of the pixels")


def create(stream, weights=None, variant=""):
    return Toy(variant)
'''


def wtal(*arguments, code=0):
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exit_code == code, result.output + str(result.exception)
    return result


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Put a backbone into the package's folder, as one new file, during a test."""
    package = sys.modules["wtal.extractors.backbones"]
    (tmp_path / "leaf").mkdir()
    (tmp_path / "leaf" / "toy.py").write_text(TOY)
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path / "leaf")])
    own = type(BACKBONES)._own
    monkeypatch.setattr(type(BACKBONES), "_own", lambda self: own(self) | ({"toy"} if self is BACKBONES else set()))
    sys.modules.pop("wtal.commands.extract", None)  # its help names the backbones that were there when it was imported
    yield
    for name in ("wtal.commands.extract", "wtal.extractors.backbones.toy"):
        sys.modules.pop(name, None)


@pytest.fixture
def folder(tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    for name, count in (("one", 1), ("long", 50)):
        write_video(videos / f"{name}.mp4", constant(25, count))
    return videos


def test_a_backbone_is_one_new_file(toy, folder, tmp_path):
    assert "toy" in BACKBONES.names()
    line = re.search(r"^toy .*$", wtal("list", "backbones").stdout, re.MULTILINE)[0]
    assert "The mean colour" in line or "the mean colour" in line
    assert "variants plain, loud" in line
    lines = wtal("list", "backbones").stdout
    assert "    plain: 3 numbers from 8 frames; 16 px -> 8 x 8; RGB (x - 0) / 1; mean of the pixels" in lines
    seen = json.loads(wtal("list", "backbones", "--json").stdout)["toy"]["sees"]
    assert (seen["loud"]["dim"], seen["loud"]["std"]) == (3, [0.5] * 3)
    assert "toy" in wtal("extract", "--help").stdout
    for name in ("toy", "toy:loud"):
        contract(name, "rgb")
    out = wtal("extract", folder, "--backbone", "toy:loud", "--workspace", tmp_path / "ws").stdout.strip()
    store = FeatureStore.open(out)
    assert store.identity["backbone"] == "toy:loud"
    assert store["long"].streams["rgb"].shape == (13, 3)
    refused = wtal("extract", folder, "--backbone", "toy:quiet", "--workspace", tmp_path / "ws", code=2)
    assert "no variant 'quiet'" in refused.stderr


def test_a_default_variant_is_the_same_store(toy, folder, tmp_path):
    named, bare = (
        wtal("extract", folder, "--backbone", name, "--workspace", tmp_path / "ws").stdout
        for name in ("toy:plain", "toy")
    )
    assert named == bare


def test_several_backbones_from_one_pass_are_those_of_their_own(toy, folder, tmp_path):
    call = ("extract", folder, "--streams", "rgb")
    both = wtal(*call, "--backbone", "toy", "--backbone", "toy:loud", "--workspace", tmp_path / "both").stdout.split()
    assert len(both) == 2
    for name, path in zip(("toy", "toy:loud"), both, strict=True):
        alone = FeatureStore.open(wtal(*call, "--backbone", name, "--workspace", tmp_path / "one").stdout.strip())
        found = FeatureStore.open(path)
        assert found.identity == alone.identity
        for video in ("one", "long"):
            assert np.array_equal(found[video].streams["rgb"], alone[video].streams["rgb"])


def test_one_pass_decodes_once(toy, folder, tmp_path, monkeypatch):
    opened, own = [], FrameSource.open
    monkeypatch.setattr(FrameSource, "open", lambda self, *rest: opened.append(rest) or own(self, *rest))
    names = ("--backbone", "toy", "--backbone", "toy:loud")
    wtal("extract", folder, *names, "--workspace", tmp_path / "ws")
    assert len(opened) == 2
    wtal("extract", folder, *names, "--backbone", "motion", "--streams", "rgb", "--workspace", tmp_path / "ws")
    assert len(opened) == 4


def test_a_bad_video_fails_in_every_store(toy, folder, tmp_path):
    (folder / "bad.mp4").write_text("no video")
    names = ("--backbone", "toy", "--backbone", "toy:loud")
    result = wtal("extract", folder, *names, "--workspace", tmp_path / "ws", "--json", code=3)
    for one in json.loads(result.stdout)["stores"]:
        assert set(one["failures"]) == {"bad"}
        assert set(FeatureStore.open(one["store"]).ids) == {"one", "long"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--backbone", "toy", "--backbone", "toy"), "named twice"),
        (("--backbone", "toy", "--backbone", "toy:loud", "--out", "x"), "one folder cannot hold 2 stores"),
        (("--backbone", "motion", "--crops", "10"), "leave --crops at 1"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_read(toy, folder, tmp_path, arguments, words):
    result = wtal("extract", folder, *arguments, "--workspace", tmp_path / "ws", code=2)
    assert words in result.stderr


def test_ten_crops_by_hand():
    frames = np.arange(2 * 4 * 6).reshape(1, 1, 8, 6, 1)
    views = list(ten_crops(frames, 4, is_flow=False))
    assert [view.shape for view in views] == [(1, 1, 4, 4, 1)] * 10
    firsts = [int(view[0, 0, 0, 0, 0]) for view in views[:5]]
    assert firsts == [0, 2, 24, 26, 13]
    for plain, mirrored in zip(views[:5], views[5:], strict=True):
        assert np.array_equal(mirrored, plain[:, :, :, ::-1])
    small = list(ten_crops(frames, 7, is_flow=False))
    assert {view.shape for view in small} == {(1, 1, 7, 6, 1)}


def test_mirrored_flow_points_the_other_way():
    flow = np.random.default_rng(0).normal(size=(1, 2, 5, 5, 2)).astype(np.float32)
    *_, last = ten_crops(flow, 5, is_flow=True)
    assert np.array_equal(last, flow[:, :, :, ::-1] * [-1, 1])
    assert last.dtype == np.float32


def test_features_of_ten_crops_are_their_mean(toy):
    net = create_backbone("toy", "rgb")
    frames = np.random.default_rng(0).integers(0, 256, (2, 8, 16, 20, 3), dtype=np.uint8)
    each = [net.extract(np.ascontiguousarray(view)) for view in ten_crops(frames, 8, is_flow=False)]
    np.testing.assert_allclose(net.extract(frames, 10), np.mean(each, axis=0), rtol=1e-6)
    assert not np.allclose(net.extract(frames, 10), net.extract(frames))


@pytest.mark.parametrize("name", BACKBONES.names())
def test_every_leaf_says_what_it_is(name):
    module = BACKBONES.load(name)
    assert module.__doc__
    assert set(module.STREAMS) <= {"rgb", "flow"}
    assert module.STRIDE > 0
    assert isinstance(module.WEIGHTS, dict)
    with pytest.raises(UsageError):
        create_backbone(name, "smell", "random:0")


@pytest.mark.parametrize("name", published_weights())
def test_every_published_checkpoint_is_described(name):
    backbone, _, _ = name.partition(":")
    module, weights = BACKBONES.load(backbone), published_weights()[name]
    assert isinstance(weights, Weights)
    assert weights.stream in module.STREAMS
    assert weights.variant in (getattr(module, "VARIANTS", ()) or ("",))
    assert weights.url.startswith("https://")
    assert weights.source.startswith("https://")
    assert weights.licence
    assert weights.trained_on
    assert weights.layout
    assert weights.filename.endswith((".pt", ".pth", ".pyth", ".tar", ".safetensors"))
    assert all(0 < percent < 100 for percent in weights.accuracy.values())
    if weights.sha256:
        assert re.fullmatch("[0-9a-f]{8,64}", weights.sha256)
    if not (weights.sha256 or weights.git_blob):
        assert weights.unchecked


def test_the_list_of_weights_has_all_that_is_known_as_values(tmp_path, monkeypatch):
    monkeypatch.setenv("WTAL_WORKSPACE", str(tmp_path))
    listed = json.loads(wtal("list", "weights", "--json").stdout)
    assert listed.keys() == published_weights().keys()
    found, weights = listed["slowfast:slowfast_8x8_r101"], published_weights()["slowfast:slowfast_8x8_r101"]
    assert (found["url"], found["licence"], found["source"]) == (weights.url, weights.licence, weights.source)
    assert found["accuracy"] == dict(weights.accuracy)
    assert found["path"] == str(tmp_path / "weights" / weights.filename)
    assert found["present"] is False


def test_the_first_file_without_a_published_hash_is_pinned(tmp_path, monkeypatch):
    name, weights = next((k, w) for k, w in published_weights().items() if not (w.sha256 or w.git_blob))
    monkeypatch.setenv("WTAL_WORKSPACE", str(tmp_path))
    path = tmp_path / "weights" / weights.filename
    missing = wtal("weights", "check", name, code=1)
    assert f"run: wtal weights fetch {name}" in missing.stderr
    path.parent.mkdir()
    path.write_bytes(b"one")
    for action in ("check", "fetch"):
        assert f"fetch it again: delete {path}" in wtal("weights", action, name, code=1).stderr
    torch.save({"a": torch.zeros(1)}, path)
    assert wtal("weights", "check", name).stdout.strip() == str(path)
    assert not pin_of(path).exists()
    assert wtal("weights", "fetch", name).stdout.strip() == str(path)
    assert pin_of(path).is_file()
    assert "present" in re.search(rf"^{re.escape(name)} .*$", wtal("list", "weights").stdout, re.MULTILINE)[0]
    torch.save({"a": torch.ones(1)}, path)
    for action in ("check", "fetch"):
        assert "the first one had" in wtal("weights", action, name, code=1).stderr


def test_files_that_a_person_must_fetch_are_named_with_page_and_place(tmp_path, monkeypatch):
    name, weights = next((k, w) for k, w in published_weights().items() if w.by_hand)
    monkeypatch.setenv("WTAL_WORKSPACE", str(tmp_path))
    result = wtal("weights", "fetch", name, code=1)
    assert weights.url in result.stderr
    assert str(tmp_path / "weights" / weights.filename) in result.stderr
    assert "no weights 'x:y'" in wtal("weights", "fetch", "x:y", code=2).stderr


def test_weights_of_another_variant_are_refused():
    with pytest.raises(WeightsError, match="are for r50, wanted r101"):
        create_backbone("slowfast:r101", "rgb", "slowfast_8x8_r50")


def test_random_weights_of_a_network_are_its_seed(toy):
    one, other = (create_backbone("i3d", "rgb", f"random:{seed}") for seed in (0, 1))
    assert isinstance(one, nn.Module)
    assert not torch.equal(next(one.parameters()), next(other.parameters()))
