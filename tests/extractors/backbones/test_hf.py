"""Video encoders of transformers: the library's own numbers, from tiny models that these tests write."""

import importlib.util
import json
import pickle
import shutil

import numpy as np
import pytest
import torch

from tests.support.reference import reference_normal
from wtal.errors import UsageError, WeightsError
from wtal.extractors import create_backbone
from wtal.extractors.backbones import hf
from wtal.extractors.execution.config import ExtractConfig
from wtal.extractors.execution.extractor import Extractor, ExtractorSpec
from wtal.extractors.torchvision_guard import ready
from wtal.extractors.weights import randomise

if importlib.util.find_spec("transformers") is None or importlib.util.find_spec("torchvision") is None:
    pytest.skip("transformers or torchvision is not installed", allow_module_level=True)
ready()

import transformers  # noqa: E402

PARITY = 1e-5
"""Largest error allowed, relative to the largest value."""
SIDE = 32
_VIT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
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
        return transformers.VideoMAEConfig(**{**sizes, **_VIT, **_MAE_DECODER, **changes})
    if family == "timesformer":
        return transformers.TimesformerConfig(**{**sizes, **_VIT, **changes})
    if family == "vivit":
        return transformers.VivitConfig(**{**sizes, **_VIT, **changes})
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
FAMILIES = sorted(BARE)


def filled(network, seed=4):
    """All parameters drawn, biases and scales too, so that each of them counts."""
    randomise(network, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return network.eval()


def write(folder, family, made=None, processor=True, **options):
    """A folder as `save_pretrained` leaves it; gives the network that was saved."""
    network = filled((made or WITH_HEAD[family])(config(family)))
    network.save_pretrained(folder, **options)
    if processor:
        PROCESSORS[family](size={"shortest_edge": 36}, crop_size={"height": SIDE, "width": SIDE}).save_pretrained(
            folder
        )
    return network


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


def clip(batch=2, frames=4):
    return torch.from_numpy(np.tanh(reference_normal("clip", (batch, 3, frames, SIDE, SIDE))))


def pictures(*shape):
    return np.random.default_rng(2).integers(0, 256, shape, np.uint8)


def load(folder, weights=None):
    return create_backbone(f"hf:{folder}", stream="rgb", weights=weights)


def expected(network, family, clips):
    """What the library's own encoder says: its class token, or the mean of its tokens."""
    base = getattr(network, network.base_model_prefix, network)
    with torch.inference_mode():
        tokens = base(clips.transpose(1, 2)).last_hidden_state
    return tokens[:, 0] if family in CLASS_TOKEN else tokens.mean(dim=1)


def features(net, clips=None):
    with torch.inference_mode():
        return net(clip() if clips is None else clips)


def error(found, wanted):
    assert found.shape == wanted.shape
    return ((found - wanted).abs().max() / wanted.abs().max()).item()


def refusal(folder, weights=None):
    with pytest.raises(WeightsError) as caught:
        load(folder, weights)
    message = str(caught.value)
    assert "\n" not in message
    return message


def edit(path, **changes):
    entries = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in entries.items() if value is not None}))


# What the library says itself.


def test_equal_to_the_library(family, tmp_path):
    for made in (WITH_HEAD[family], BARE[family]):
        folder = tmp_path / made.__name__
        network = write(folder, family, made)
        net = load(folder)
        found = features(net)
        assert error(found, expected(network, family, clip())) < PARITY
        assert found.shape == (2, net.dim)
        assert (found[0] - found[1]).abs().max() > 1e-3
        with torch.inference_mode():
            maps = net.feature_map(clip())
        assert maps.shape == (2, net.dim, 1 if family in CLASS_TOKEN else 2 * 2 * 2)
        assert not net.training
        assert not any(parameter.is_meta for parameter in net.parameters())


@pytest.mark.parametrize("family", ["videomae", "timesformer", "vivit"])
def test_the_published_classifier_follows_from_the_feature(family, tmp_path):
    network = write(tmp_path, family)
    found = features(load(tmp_path))
    with torch.inference_mode():
        if family == "videomae":
            found = network.fc_norm(found)
        assert error(network.classifier(found), network(clip().transpose(1, 2)).logits) < PARITY


def test_what_was_saved_for_pretraining_loads(tmp_path):
    network = write(tmp_path, "videomae", transformers.VideoMAEForPreTraining)
    assert error(features(load(tmp_path)), expected(network, "videomae", clip())) < PARITY


def test_an_encoder_of_another_kind(tmp_path):
    """VideoPrism is named nowhere in the leaf."""
    about = transformers.VideoPrismVisionConfig(
        image_size=SIDE,
        num_frames=4,
        tubelet_size=(1, 16, 16),
        hidden_size=16,
        num_attention_heads=2,
        intermediate_size=32,
        num_spatial_layers=1,
        num_temporal_layers=1,
    )
    network = filled(transformers.VideoPrismVisionModel(about))
    network.save_pretrained(tmp_path)
    PROCESSORS["vjepa2"](crop_size={"height": SIDE, "width": SIDE}).save_pretrained(tmp_path)
    with torch.inference_mode():
        tokens = network(clip().transpose(1, 2)).last_hidden_state
    assert error(features(load(tmp_path)), tokens.mean(dim=1)) < PARITY


@pytest.mark.parametrize("size", [(36, 50), (256, 341), (120, 50), (32, 32), (20, 33), (1, 1), (97, 301)])
def test_preprocessing_is_the_librarys(family, size, tmp_path):
    write(tmp_path, family)
    net = load(tmp_path)
    frames = pictures(2, net.span, *size, 3)
    kept = frames.copy()
    clips = net.preprocess(frames)
    seen = frames[:, (net.step - 1) // 2 :: net.step].transpose(0, 1, 4, 2, 3)
    processor = PROCESSORS[family].from_pretrained(tmp_path)
    given = processor([torch.from_numpy(video.copy()) for video in seen], do_sample_frames=False, return_tensors="pt")
    wanted = next(iter(given.values())).transpose(1, 2)
    assert clips.shape == wanted.shape == (2, 3, 4, SIDE, SIDE)
    assert clips.dtype == torch.float32
    # The library interpolates in whole numbers where the processor can: some values are a step of 255 apart.
    step = net.pictures.factor / min(net.pictures.std)
    assert (clips - wanted).abs().max() < 1.01 * step
    assert (clips - wanted).abs().mean() < 0.25 * step
    if size in ((36, 50), (1, 1)):
        assert (clips - wanted).abs().max() < 1e-5
    assert (frames == kept).all()


def test_values_by_hand(tmp_path):
    write(tmp_path, "vivit")
    net = load(tmp_path)
    frames = pictures(1, 64, 36, 36, 3)
    frames.flags.writeable = False
    clips = net.preprocess(frames)
    value = (frames[0, 16 + 7, 2 + 3, 2 + 9, 1] / 127.5 - 1 - 0.5) / 0.5
    assert abs(clips[0, 1, 1, 3, 9].item() - value) < 1e-5
    edit(tmp_path / "video_preprocessor_config.json", offset=False, rescale_factor=1 / 255, image_mean=0.25)
    value = (frames[0, 16 + 7, 2 + 3, 2 + 9, 1] / 255 - 0.25) / 0.5
    assert abs(load(tmp_path).preprocess(frames)[0, 1, 1, 3, 9].item() - value) < 1e-5


# What is seen of a window.


@pytest.mark.parametrize(("frames", "step"), [(16, 4), (32, 2), (8, 8), (64, 1), (96, 1), (24, 2)])
def test_frames_are_spread_over_the_window(frames, step, tmp_path):
    about = config("timesformer", num_frames=frames)
    transformers.TimesformerModel(about).save_pretrained(tmp_path)
    PROCESSORS["timesformer"](crop_size=SIDE, size=SIDE).save_pretrained(tmp_path)
    net = load(tmp_path)
    assert (net.frames, net.step, net.span) == (frames, step, frames * step)
    moments = np.arange(net.span, dtype=np.uint8)[None, :, None, None, None] * np.ones((1, 1, SIDE, SIDE, 3), np.uint8)
    seen = net.preprocess(moments)[0, 0, :, 0, 0] * net.pictures.std[0] + net.pictures.mean[0]
    seen = (seen * 255).round().tolist()
    assert seen == list(range((step - 1) // 2, net.span, step))
    assert abs((seen[0] + seen[-1]) / 2 - (net.span - 1) / 2) <= 0.5


def test_frames_to_features(family, tmp_path):
    write(tmp_path, family)
    net = load(tmp_path)
    found = net.extract(pictures(2, net.span, 50, 40, 3))
    assert (found.shape, found.dtype) == ((2, net.dim), np.float32)
    assert (net.stream, net.pictures.crop, net.size.short_side, net.size.enlarge) == ("rgb", SIDE, 256, True)
    assert (hf.STREAMS, hf.FLOW, hf.STRIDE, hf.VARIANTS) == (("rgb",), "", 16, None)


@pytest.mark.parametrize(
    ("size", "crop"), [({"shortest_edge": 32}, 256), ({"shortest_edge": 36}, 228), ({"height": 36, "width": 64}, 228)]
)
def test_ten_crops_are_of_the_picture_that_one_crop_is_of(size, crop, tmp_path):
    write(tmp_path, "videomae")
    edit(tmp_path / "video_preprocessor_config.json", size=size)
    net = load(tmp_path)
    assert net.crop == crop
    frames = pictures(1, net.span, 256, 303, 3)
    views = list(net.preprocess_ten(frames))
    assert [view.shape for view in views] == [(1, 3, 4, SIDE, SIDE)] * 10
    assert torch.equal(views[4], net.preprocess(frames))
    assert torch.equal(views[9], net.preprocess(frames).flip(4))
    assert net.extract(frames, crops=10).shape == (1, 16)


# Layouts of files.


@pytest.mark.parametrize("layout", ["preprocessor_config.json", "processor_config.json", "old"])
def test_every_layout_of_the_preprocessor(layout, tmp_path):
    write(tmp_path, "videomae")
    latest = tmp_path / "video_preprocessor_config.json"
    wanted = load(tmp_path).identity
    settings = json.loads(latest.read_text())
    latest.unlink()
    if layout == "old":
        settings = {key: settings[key] for key in ("do_resize", "do_normalize", "image_mean", "image_std", "resample")}
        settings |= {"size": 36, "feature_extractor_type": "VideoMAEFeatureExtractor"}
    name = "preprocessor_config.json" if layout == "old" else layout
    nested = {"video_processor": settings} if layout == "processor_config.json" else settings
    (tmp_path / name).write_text(json.dumps(nested))
    assert load(tmp_path).identity == wanted


def test_biases_of_old_videomae_files(tmp_path):
    """What is published names the biases of queries and values apart from their maps."""
    network = write(tmp_path / "new", "videomae")
    old = {
        key.replace("query.bias", "q_bias").replace("value.bias", "v_bias"): value
        for key, value in network.state_dict().items()
    }
    assert len(set(old) - set(network.state_dict())) == 4
    net = load(tmp_path / "new", old)
    assert error(features(net), expected(network, "videomae", clip())) < PARITY


def test_a_state_in_the_layout_of_today(family, tmp_path):
    network = write(tmp_path, family)
    torch.save(network.state_dict(), tmp_path / "own.pt")
    by_mapping, by_path = load(tmp_path, network.state_dict()), load(tmp_path, tmp_path / "own.pt")
    assert torch.equal(features(by_mapping), features(by_path))
    assert error(features(by_path), features(load(tmp_path))) < PARITY
    assert by_mapping.identity == by_path.identity


def test_shards_and_half_precision(tmp_path):
    network = write(tmp_path / "whole", "videomae")
    write(tmp_path / "shards", "videomae", max_shard_size="10KB")
    assert not (tmp_path / "shards" / "model.safetensors").exists()
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    whole, shards = load(tmp_path / "whole"), load(tmp_path / "shards")
    assert torch.equal(features(whole), features(shards))
    assert whole.identity["weights"] == shards.identity["weights"]
    network.half().save_pretrained(tmp_path / "whole")
    half = load(tmp_path / "whole")
    assert {parameter.dtype for parameter in half.parameters()} == {torch.float32}
    assert 0 < error(features(half), features(whole)) < 1e-2
    next((tmp_path / "shards").glob("*00001-of*.safetensors")).unlink()
    assert "there are no weights at" in refusal(tmp_path / "shards")


# Refusals.


def test_keys_that_do_not_fit_are_named(family, tmp_path):
    network = write(tmp_path, family, BARE[family])
    state = dict(network.state_dict())
    key = next(key for key, value in state.items() if "pooler" not in key and value.ndim > 1 and "layer" in key)
    missing = refusal(tmp_path, {other: value for other, value in state.items() if other != key})
    assert f"hf {tmp_path} weights: the keys do not fit: 1 missing ({key})" in missing
    assert "1 unknown (extra.weight)" in refusal(tmp_path, {**state, "extra.weight": torch.zeros(2)})
    assert f"1 other shape ({key} [3, 3], wanted [" in refusal(tmp_path, {**state, key: torch.zeros(3, 3)})
    with_head = WITH_HEAD[family](config(family)).state_dict()
    prefix = network.base_model_prefix
    assert "extra.weight)" in refusal(tmp_path, {**with_head, f"{prefix}.extra.weight": torch.zeros(2)})
    assert "1 unknown (extra.weight)" in refusal(tmp_path, {**with_head, "extra.weight": torch.zeros(2)})


def test_no_pickle_of_a_folder_is_opened(tmp_path):
    class Harm:
        def __reduce__(self):
            return (open, (str(tmp_path / "harm"), "w"))

    write(tmp_path, "videomae")
    state = load(tmp_path).network.state_dict()
    (tmp_path / "model.safetensors").unlink()
    with (tmp_path / "pytorch_model.bin").open("wb") as file:
        pickle.dump(Harm(), file)
    assert "has no model.safetensors; of another file give the path as weights" in refusal(tmp_path)
    torch.save({"state": Harm()}, tmp_path / "pytorch_model.bin")
    refusal(tmp_path, tmp_path / "pytorch_model.bin")
    assert not (tmp_path / "harm").exists()
    torch.save(state, tmp_path / "pytorch_model.bin")
    load(tmp_path, tmp_path / "pytorch_model.bin")


def test_no_code_of_a_folder_is_run(tmp_path):
    write(tmp_path, "videomae")
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'harm')!r}, 'w')\nclass C: pass\n")
    edit(tmp_path / "config.json", model_type="own", auto_map={"AutoConfig": "own.C", "AutoModel": "own.C"})
    assert "code that comes with a model is not run" in refusal(tmp_path)
    edit(tmp_path / "config.json", model_type="videomae")
    load(tmp_path)
    assert not (tmp_path / "harm").exists()


def test_folders_that_lack_something(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "has no config.json" in refusal(tmp_path / "empty")
    write(tmp_path / "bare", "vjepa2", processor=False)
    assert "neither video_preprocessor_config.json nor preprocessor_config.json" in refusal(tmp_path / "bare")
    assert "is no folder and no name of a model" in refusal(tmp_path / "absent")
    write(tmp_path / "whole", "vjepa2")
    settings = tmp_path / "whole" / "video_preprocessor_config.json"
    whole = settings.read_text()
    for key, value in [("image_mean", None), ("image_std", [1, 2]), ("size", {"longest_edge": 3}), ("resample", 1)]:
        edit(settings, **{key: value})
        assert f"video_preprocessor_config.json has {key} {value!r}" in refusal(tmp_path / "whole")
        settings.write_text(whole)
    edit(settings, crop_size={"height": 48, "width": 48})
    assert "cuts pictures to {'height': 48, 'width': 48}, the model of config.json takes 32" in refusal(
        tmp_path / "whole"
    )
    settings.write_text("{")
    assert "video_preprocessor_config.json cannot be read" in refusal(tmp_path / "whole")
    settings.write_text(whole)
    edit(tmp_path / "whole" / "config.json", hidden_size=23)
    for weights in (None, "random:0"):
        assert "config.json says (" in refusal(tmp_path / "whole", weights)


def test_what_is_no_encoder_of_videos(tmp_path):
    about = transformers.ViTConfig(image_size=SIDE, **_VIT)
    transformers.ViTModel(about).save_pretrained(tmp_path)
    assert "is a vit, wanted an encoder of videos" in refusal(tmp_path)


def test_a_name_is_needed():
    with pytest.raises(UsageError, match="hf:NAME"):
        create_backbone("hf", stream="rgb")
    with pytest.raises(UsageError, match="no stream 'flow'"):
        create_backbone("hf:x", stream="flow")


# The hub.


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the hub, and no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def test_a_model_in_the_hubs_cache(cache, tmp_path):
    write(tmp_path / "tiny", "videomae")
    local = load(tmp_path / "tiny")
    place = cache / "models--some--tiny"
    revision = "0123456789abcdef0123456789abcdef01234567"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(revision)
    shutil.copytree(tmp_path / "tiny", place / "snapshots" / revision)
    net = load("some/tiny")
    assert torch.equal(features(net), features(local))
    assert net.identity == local.identity
    (place / "snapshots" / revision / "model.safetensors").unlink()
    assert load("some/tiny", "random:0").dim == 16
    assert "model.safetensors" in refusal("some/tiny")


def test_a_model_that_is_half_in_the_cache_is_completed(tmp_path, monkeypatch):
    """Configuration and tensors were fetched, the preprocessor's file was not."""
    import huggingface_hub

    write(tmp_path / "half", "videomae", processor=False)
    write(tmp_path / "whole", "videomae")
    asked = []

    def snapshot(name, *, allow_patterns, local_files_only=False):
        asked.append(local_files_only)
        return str(tmp_path / ("half" if local_files_only else "whole"))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert load("some/tiny").dim == 16
    assert asked == [True, False]


def test_a_model_that_cannot_be_fetched(cache):
    message = refusal("some/tiny")
    assert f"hf:some/tiny is no folder, not in the cache {cache} and cannot be downloaded (" in message
    assert "take config.json, the preprocessor's json and model.safetensors" in message
    assert "from https://huggingface.co/some/tiny/tree/main, put them into one folder and say hf:FOLDER" in message
    assert "cannot be downloaded" in refusal("some..tiny", "random:0")


# Random weights, identity.


def test_random_weights_need_the_configuration_alone(family, tmp_path):
    write(tmp_path, family)
    (tmp_path / "model.safetensors").unlink()
    before = torch.random.get_rng_state()
    net = load(tmp_path, "random:0")
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(99)
    same, other = load(tmp_path, "random:0"), load(tmp_path, "random:1")
    assert torch.equal(features(net), features(same))
    assert not torch.equal(features(net), features(other))
    assert (features(net)[0] - features(net)[1]).abs().max() > 1e-3
    assert net.identity["weights"] == {"random": 0}
    assert net.identity == same.identity != other.identity
    assert not net.training


def test_the_identity_is_that_of_the_numbers(tmp_path):
    write(tmp_path / "here" / "tiny", "videomae")
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    here, there = load(tmp_path / "here" / "tiny"), load(tmp_path / "there" / "tiny")
    assert here.identity == there.identity
    assert str(tmp_path) not in json.dumps(here.identity)
    assert (here.identity["variant"], here.identity["model"]) == ("tiny", "videomae")
    edit(tmp_path / "there" / "tiny" / "config.json", transformers_version="0", id2label={"0": "jump"})
    assert load(tmp_path / "there" / "tiny").identity == here.identity
    edit(tmp_path / "there" / "tiny" / "config.json", layer_norm_eps=1e-3)
    assert load(tmp_path / "there" / "tiny").identity != here.identity


def test_loading_says_nothing_and_leaves_the_log_as_it_was(tmp_path, capfd):
    write(tmp_path, "vivit")
    capfd.readouterr()
    verbosity = transformers.logging.get_verbosity()
    load(tmp_path)
    refusal(tmp_path, {"weight": torch.zeros(1)})
    assert transformers.logging.get_verbosity() == verbosity
    assert transformers.utils.logging.is_progress_bar_enabled()
    assert capfd.readouterr() == ("", "")


@pytest.mark.gpu
def test_the_gpu_agrees_with_the_cpu(cuda, family, tmp_path):
    write(tmp_path, family)
    net = load(tmp_path)
    frames = pictures(2, net.span, 64, 64, 3)
    on_cpu = net.extract(frames)
    assert np.abs(net.to(cuda).extract(frames) - on_cpu).max() / np.abs(on_cpu).max() < 2e-2


@pytest.mark.parametrize("way", ["whole", ".", "../tiny", "~/tiny"])
def test_a_folder_gives_the_store_its_own_name_however_it_is_called(way, tmp_path, monkeypatch):
    folder = tmp_path / "tiny"
    write(folder, "videomae")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path))
    called = str(folder) if way == "whole" else way
    extractor = Extractor(ExtractorSpec(ExtractConfig(backbone=f"hf:{called}")))
    assert extractor.name == "hf:tiny"
    assert extractor.readable.startswith("hf-tiny-rgb-64x16@25")
    assert extractor.identity["weights"]["rgb"]["variant"] == "tiny"
