"""UM against its authors' numbers, and its documented repairs."""

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
    facts = json.loads((folder / "um.json").read_text())
    arrays = np.load(folder / "um.npz")
    weights = {key: torch.from_numpy(value) for key, value in reference_weights(facts["state"]).items()}
    features = torch.from_numpy(np.abs(reference_normal("input:" + facts["input"], tuple(facts["shape"]))) * 0.4)
    return facts, arrays, weights, features


def make(classes=3, **config):
    torch.manual_seed(0)
    return create_head("um", classes, {"rgb": 6}, **{"width": 16} | config).eval()


def batch_of(*lengths, labels=None):
    generator = torch.Generator().manual_seed(1)
    videos = [{"rgb": torch.rand(length, 6, generator=generator)} for length in lengths]
    return SnippetBatch.collate(videos, torch.eye(3)[: len(lengths)] if labels is None else labels)


@needs_shared
def test_forward_and_losses_equal_the_authors():
    facts, arrays, weights, features = _reference()
    head = load_author_checkpoint("um", weights, num_classes=20)
    batch = SnippetBatch.from_features(
        {"rgb": features[..., :1024], "flow": features[..., 1024:]}, torch.from_numpy(arrays["labels"]).float()
    )
    output = head(batch)
    found = {
        "score_act": output.video_scores,
        "score_bkg": output.extras["score_bkg"],
        "cas_softmax": output.cas.exp(),
        "feat_norm": output.extras["feat_norm"],
    }
    for name, value in found.items():
        expected = arrays[name]
        assert np.abs(value.detach().numpy() - expected).max() <= 1e-5 * np.abs(expected).max(), name
    losses = head.loss(output, batch)
    weight = {"loss_cls": 1.0, "loss_um": facts["alpha"], "loss_be": facts["beta"]}
    assert losses.keys() == weight.keys()
    for name, value in losses.items():
        assert value.item() == pytest.approx(facts["losses"][name] * weight[name], rel=1e-5), name
    assert sum(v.item() for v in losses.values()) == pytest.approx(facts["losses"]["loss_total"], rel=1e-5)


@needs_shared
def test_the_attention_lies_between_the_lengths_of_background_and_action():
    facts, arrays, weights, features = _reference()
    head = load_author_checkpoint("um", weights, num_classes=20)
    ordered = np.sort(arrays["feat_norm"].astype(np.float64), axis=1)
    snippets = ordered.shape[1]
    low = ordered[:, : snippets // facts["r_bkg"]].mean(axis=1, keepdims=True)
    high = ordered[:, -(snippets // facts["r_act"]) :].mean(axis=1, keepdims=True)
    expected = np.clip((arrays["feat_norm"] - low) / (high - low), 0, 1)
    found = head(SnippetBatch.from_features({"rgb": features})).attention.detach().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)  # the norms agree to 1e-5 and are almost equal
    assert found.min() == 0
    assert found.max() == 1


@needs_shared
def test_a_checkpoint_that_does_not_fit_is_refused_by_name():
    _, _, weights, _ = _reference()
    del weights["cas_module.conv.0.bias"]
    weights["classifier.bias"] = torch.zeros(3)
    with pytest.raises(WeightsError, match=r"unknown classifier\.bias; missing cas_module\.conv\.0\.bias"):
        load_author_checkpoint("um", weights, num_classes=20)


def test_a_checkpoint_of_other_widths_and_classes_is_read_off_its_tensors():
    source = create_head("um", 7, {"rgb": 10}, authors=True, width=24).eval()
    names = {
        "module.cas_module.conv.0.weight": source.conv.weight,
        "module.cas_module.conv.0.bias": source.conv.bias,
        "module.cas_module.classifier.0.weight": source.classifier.weight,
    }
    loaded = load_author_checkpoint("um", {key: value.detach() for key, value in names.items()}, num_classes=7)
    batch = SnippetBatch.from_features({"rgb": torch.rand(2, 31, 10)})
    assert torch.equal(loaded(batch).cas, source(batch).cas)
    with pytest.raises(WeightsError, match=r"classifier\.0\.weight is \(7, 24, 1\), wanted \(9, 24, 1\)"):
        load_author_checkpoint("um", {key: value.detach() for key, value in names.items()}, num_classes=9)


@pytest.mark.parametrize(("classes", "ratio"), [(20, 1.0), (200, 10.0)])
def test_the_classification_terms_are_the_authors_at_20_classes_and_no_weaker_at_200(classes, ratio):
    features = torch.rand(2, 40, 6)
    batch = SnippetBatch.from_features({"rgb": features}, torch.eye(classes)[[1, 3]])
    ours, theirs = make(classes), make(classes)
    theirs.authors = True
    left, right = ours.loss(ours(batch), batch), theirs.loss(theirs(batch), batch)
    for name in ("loss_cls", "loss_be"):
        assert left[name].item() == pytest.approx(ratio * right[name].item(), rel=1e-5)
    assert left["loss_um"].item() == pytest.approx(right["loss_um"].item(), rel=1e-5)


def test_padding_is_computed_on_by_the_authors_alone():
    batch = batch_of(40, 12)
    for authors in (False, True):
        torch.manual_seed(0)
        head = create_head("um", 3, {"rgb": 6}, authors=authors, width=16).eval()
        alone = SnippetBatch({"rgb": batch.streams["rgb"][1:, :12]}, batch.mask[1:, :12])
        equal = torch.allclose(head(alone).video_scores, head(batch).video_scores[1:], rtol=1e-5)
        assert equal is not authors


def test_one_choice_of_snippets_comes_first_on_both_sides():
    """Take the chosen snippets first in training; then, unlike the authors' code, the next best of the others."""
    head = make(selection_dropout=0.5).train()
    norm = torch.tensor([[5.0, 1.0, 4.0, 2.0, 3.0, 6.0, 7.0, 8.0, 0.0]])
    mask = torch.ones(1, 9, dtype=torch.bool)
    kept = torch.tensor([[2.0, 2.0, 0, 0, 0, 0, 0, 0, 0]])
    head.selection_dropout.forward = lambda ones: kept
    head.config = head.config.model_copy(update={"action_ratio": 3, "background_ratio": 3})
    action, background = head._selected(norm, mask)
    assert (action[0] * 3).round().tolist() == [1, 1, 0, 0, 0, 0, 0, 1, 0]
    assert (background[0] * 3).round().tolist() == [1, 1, 0, 0, 0, 0, 0, 0, 1]
    head.authors = True
    action, background = head._selected(norm, mask)
    assert (action[0, :2] * 3).round().tolist() == [1, 1]
    assert (background[0, :2] * 3).round().tolist() == [1, 1]
    assert action[0, 7] == 0 == background[0, 8]  # theirs takes any


def test_the_choice_is_random_in_training_alone():
    head, batch = make(), batch_of(60)
    assert torch.equal(head(batch).extras["feat_act"], head(batch).extras["feat_act"])
    head.train()
    assert not torch.equal(head(batch).extras["feat_act"], head(batch).extras["feat_act"])


def test_action_is_pulled_to_the_margin_and_background_to_nothing():
    head, batch = make(margin=5.0), batch_of(30, 30)
    output = head(batch)
    output.extras["feat_act"] = torch.tensor([[3.0, 0.0], [0.0, 9.0]])
    output.extras["feat_bkg"] = torch.tensor([[0.0, 4.0], [0.5, 0.0]])
    loss = head.loss(output, batch)["loss_um"]
    assert loss.item() == pytest.approx(5e-4 * ((5 - 3 + 4) ** 2 + 0.5**2) / 2, rel=1e-6)


def test_background_is_of_no_class():
    head, batch = make(), batch_of(30, 20, 9)
    output = head(batch)
    output.extras["score_bkg"] = torch.full((3, 3), 1 / 3)
    least = head.loss(output, batch)["loss_be"]
    output.extras["score_bkg"] = torch.tensor([[0.8, 0.1, 0.1]] * 3)
    assert head.loss(output, batch)["loss_be"] > least


@pytest.mark.parametrize(
    ("config", "left"),
    [
        ({"uncertainty_weight": 0.0}, {"loss_cls", "loss_be"}),
        ({"background_weight": 0.0}, {"loss_cls", "loss_um"}),
        ({"foreground_weight": 0.5}, {"loss_cls", "loss_um", "loss_be", "foreground"}),
    ],
)
def test_a_term_is_there_where_it_has_a_weight(config, left):
    head, batch = make(**config), batch_of(10, 8)
    assert set(head.loss(head(batch), batch)) == left
    assert any(key.startswith("foreground") for key in head.state_dict()) is ("foreground" in left)


def test_the_class_wise_foreground_branch_trains_as_the_loop_over_videos_and_changes_no_detection():
    plain, head, batch = make(), make(foreground_weight=0.5), batch_of(25, 14, 1)
    assert torch.equal(plain(batch).cas, head(batch).cas)
    loss = head.loss(head(batch), batch)["foreground"]
    loss.backward()
    together = {key: p.grad.clone() for key, p in head.named_parameters()}
    head.zero_grad()
    for i, length in enumerate((25, 14, 1)):
        alone = SnippetBatch(
            {"rgb": batch.streams["rgb"][i : i + 1, :length]}, batch.mask[i : i + 1, :length], batch.labels[i : i + 1]
        )
        (head.loss(head(alone), alone)["foreground"] / 3).backward()
    for key, p in head.named_parameters():
        assert p.grad.abs().sum() > 0, key
        torch.testing.assert_close(p.grad, together[key], rtol=1e-4, atol=1e-6)


def test_the_two_halves_are_the_whole():
    head, batch = make(), batch_of(12, 7)
    x = head.embed(batch)
    assert x.shape == (2, 12, head.embedding)
    assert (x[1, 7:] == 0).all()
    assert torch.equal(head.respond(x, batch).cas, head(batch).cas)


@pytest.mark.parametrize(
    ("key", "value"), [("width", 0), ("action_ratio", 0), ("margin", 0), ("selection_dropout", 1), ("dropout", -0.1)]
)
def test_values_that_no_network_can_have_are_refused_in_one_line(key, value):
    with pytest.raises(ConfigError, match=rf"{key}: wanted .*, got {value}; "):
        create_head("um", 3, {"rgb": 6}, **{key: value})
