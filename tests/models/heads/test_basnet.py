"""BaS-Net against its authors' numbers, and its documented repairs."""

import json

import numpy as np
import pytest
import torch

from tests.support.reference import SHARED, needs_shared, reference_normal, reference_weights
from wtal.data.batch import SnippetBatch
from wtal.errors import ConfigError, WeightsError
from wtal.models import create_head, load_author_checkpoint


def _reference():
    folder = SHARED / "reference" / "heads"
    facts = json.loads((folder / "basnet.json").read_text())
    arrays = np.load(folder / "basnet.npz")
    weights = {key: torch.from_numpy(value) for key, value in reference_weights(facts["state"]).items()}
    features = torch.from_numpy(np.abs(reference_normal("input:" + facts["input"], tuple(facts["shape"]))) * 0.4)
    return facts, arrays, weights, features


@needs_shared
def test_forward_and_losses_equal_the_authors():
    facts, arrays, weights, features = _reference()
    head = load_author_checkpoint("basnet", weights, num_classes=20)
    batch = SnippetBatch.from_features(
        {"rgb": features[..., :1024], "flow": features[..., 1024:]}, torch.from_numpy(arrays["labels"]).float()
    )
    output = head(batch)
    found = {
        "cas_base": output.extras["cas_base"],
        "cas_supp": output.cas,
        "score_base": output.extras["score_base"],
        "score_supp": output.extras["score_supp"],
        "attention": output.attention,
    }
    for name, value in found.items():
        expected = arrays[name].reshape(value.shape)
        assert np.abs(value.detach().numpy() - expected).max() <= 1e-5 * np.abs(expected).max(), name
    losses = head.loss(output, batch)
    weight = {"loss_base": 1.0, "loss_supp": 1.0, "loss_norm": facts["alpha"]}
    for name, value in losses.items():
        assert value.item() == pytest.approx(facts["losses"][name] * weight[name], rel=1e-5), name
    assert sum(v.item() for v in losses.values()) == pytest.approx(facts["losses"]["loss_total"], rel=1e-5)


@needs_shared
def test_a_checkpoint_that_does_not_fit_is_refused_by_name():
    _, _, weights, _ = _reference()
    del weights["cas_module.conv_2.0.bias"]
    weights["classifier.bias"] = torch.zeros(3)
    with pytest.raises(WeightsError, match=r"unknown classifier\.bias; missing cas_module\.conv_2\.0\.bias"):
        load_author_checkpoint("basnet", weights, num_classes=20)


@pytest.mark.parametrize(("classes", "ratio"), [(4, 1.0), (20, 1.0), (200, 201 / 21)])
def test_the_classification_term_is_the_authors_up_to_20_classes_and_no_weaker_at_200(classes, ratio):
    torch.manual_seed(0)
    narrow = {"width": 8, "filter_width": 4}
    features = torch.rand(2, 750, 6)
    labels = torch.nn.functional.one_hot(torch.tensor([1, 3]), classes).float()
    batch = SnippetBatch.from_features({"rgb": features}, labels)
    ours = create_head("basnet", classes, {"rgb": 6}, **narrow).eval()
    theirs = create_head("basnet", classes, {"rgb": 6}, authors=True, **narrow).eval()
    theirs.load_state_dict(ours.state_dict())
    left, right = ours.loss(ours(batch), batch), theirs.loss(theirs(batch), batch)
    for name in ("loss_base", "loss_supp"):
        assert left[name].item() == pytest.approx(ratio * right[name].item(), rel=1e-5)
    assert left["loss_norm"].item() == pytest.approx(right["loss_norm"].item(), rel=1e-5)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("width", 0),
        ("filter_width", -4),
        ("top_k_ratio", 0),
        ("dropout", 2),
        ("dropout", -0.1),
        ("input_dropout", 1.5),
        ("attention_weight", -1e-4),
    ],
)
def test_values_that_no_network_can_have_are_refused_in_one_line(key, value):
    with pytest.raises(ConfigError, match=rf"{key}: wanted .*, got {value}; "):
        create_head("basnet", 3, {"rgb": 6}, **{key: value})
