"""Folders and names of encoders of transformers: every layout of files, refusals, the hub's cache."""

import json
import pickle
import shutil

import pytest
import torch

from tests.support.encoders import (
    BARE,
    PARITY,
    SIDE,
    VIT,
    WITH_HEAD,
    clip,
    config,
    edit,
    error,
    expected,
    features,
    load,
    refusal,
    transformers,
    write,
)
from wtal.errors import UsageError
from wtal.extractors import create_backbone


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
    """Published files have separate names for the biases of queries and values."""
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
    assert "does not exist; pass a checkpoint" in refusal(tmp_path / "shards")


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
    assert "has no model.safetensors; pass another file as weights by its path" in refusal(tmp_path)
    torch.save({"state": Harm()}, tmp_path / "pytorch_model.bin")
    refusal(tmp_path, tmp_path / "pytorch_model.bin")
    assert not (tmp_path / "harm").exists()
    torch.save(state, tmp_path / "pytorch_model.bin")
    load(tmp_path, tmp_path / "pytorch_model.bin")


def test_no_code_of_a_folder_is_run(tmp_path):
    write(tmp_path, "videomae")
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'harm')!r}, 'w')\nclass C: pass\n")
    edit(tmp_path / "config.json", model_type="own", auto_map={"AutoConfig": "own.C", "AutoModel": "own.C"})
    assert "code of a model is never run" in refusal(tmp_path)
    edit(tmp_path / "config.json", model_type="videomae")
    load(tmp_path)
    assert not (tmp_path / "harm").exists()


def test_folders_that_lack_something(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "has no config.json" in refusal(tmp_path / "empty")
    write(tmp_path / "bare", "vjepa2", processor=False)
    assert "neither video_preprocessor_config.json nor preprocessor_config.json" in refusal(tmp_path / "bare")
    assert "is neither a folder nor the name of a model" in refusal(tmp_path / "absent")
    write(tmp_path / "whole", "vjepa2")
    settings = tmp_path / "whole" / "video_preprocessor_config.json"
    whole = settings.read_text()
    for key, value in [("image_mean", None), ("image_std", [1, 2]), ("size", {"longest_edge": 3}), ("resample", 1)]:
        edit(settings, **{key: value})
        assert f"video_preprocessor_config.json has {key} {value!r}" in refusal(tmp_path / "whole")
        settings.write_text(whole)
    edit(settings, crop_size={"height": 48, "width": 48})
    assert "crops pictures to {'height': 48, 'width': 48}, but the model in config.json takes 32" in refusal(
        tmp_path / "whole"
    )
    settings.write_text("{")
    assert "video_preprocessor_config.json cannot be read" in refusal(tmp_path / "whole")
    settings.write_text(whole)
    edit(tmp_path / "whole" / "config.json", hidden_size=23)
    for weights in (None, "random:0"):
        assert "config.json (" in refusal(tmp_path / "whole", weights)


def test_what_is_no_encoder_of_videos(tmp_path):
    about = transformers.ViTConfig(image_size=SIDE, **VIT)
    transformers.ViTModel(about).save_pretrained(tmp_path)
    assert "is a vit, wanted an encoder of videos" in refusal(tmp_path)


def test_a_name_is_needed():
    with pytest.raises(UsageError, match="hf:NAME"):
        create_backbone("hf", stream="rgb")
    with pytest.raises(UsageError, match="no stream 'flow'"):
        create_backbone("hf:x", stream="flow")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Provide an empty cache of the hub, without a network."""
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
    """Load from a cache with configuration and tensors, without the preprocessor's file."""
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
    assert f"hf:some/tiny is not a folder, not in the cache {cache} and cannot be downloaded (" in message
    assert "take config.json, the preprocessor's json and model.safetensors" in message
    assert "from https://huggingface.co/some/tiny/tree/main, put them into one folder and pass hf:FOLDER" in message
    assert "cannot be downloaded" in refusal("some..tiny", "random:0")
