"""STPN against its public reproduction's arithmetic, its deviations, switches, fusion and embedding."""

import numpy as np
import pytest
import torch

from wtal.data.batch import SnippetBatch
from wtal.errors import ConfigError, WeightsError
from wtal.models import create_head, load_author_checkpoint
from wtal.models.layers.late_fusion import LateFusion

NARROW = {"attention_width": 4}
SHAPES = {
    "Attention/dense/kernel": (6, 4),
    "Attention/dense/bias": (4,),
    "Attention/dense_1/kernel": (4, 1),
    "Attention/dense_1/bias": (1,),
    "Classification/class_weight/kernel": (6, 3),
    "Classification/class_weight/bias": (3,),
}


def batch_of(lengths=(8, 8, 8), streams=("rgb",), classes=3):
    generator = torch.Generator().manual_seed(0)
    videos = [{name: torch.rand(n, 6, generator=generator) for name in streams} for n in lengths]
    return SnippetBatch.collate(videos, torch.eye(classes)[torch.arange(len(lengths)) % classes])


def make(authors=False, streams=("rgb",), classes=3, **settings):
    torch.manual_seed(0)
    dims = dict.fromkeys(streams, 6)
    return create_head("stpn", classes, dims, authors=authors, **{**NARROW, **settings}).eval()


def variables(seed=0):
    rng = np.random.default_rng(seed)
    return {key: rng.standard_normal(shape).astype(np.float32) for key, shape in SHAPES.items()}


def test_variables_of_the_public_reproduction_give_its_forward_and_loss():
    values, batch = variables(), batch_of()
    head = load_author_checkpoint("stpn", values, num_classes=3)
    output = head(batch)
    # The TensorFlow graph in plain arithmetic.
    x, y = batch.streams["rgb"].numpy().astype(np.float64), batch.labels.numpy()
    hidden = np.maximum(x @ values["Attention/dense/kernel"] + values["Attention/dense/bias"], 0)
    attention = 1 / (1 + np.exp(-(hidden @ values["Attention/dense_1/kernel"] + values["Attention/dense_1/bias"])))
    kernel = values["Classification/class_weight/kernel"]
    logits = (attention * x).mean(axis=1) @ kernel + values["Classification/class_weight/bias"]
    scores = 1 / (1 + np.exp(-logits))
    entropy = -(y * np.log(scores) + (1 - y) * np.log(1 - scores)).mean()
    np.testing.assert_allclose(output.attention.detach().numpy(), attention[..., 0], rtol=1e-5)
    np.testing.assert_allclose(output.video_scores.detach().numpy(), scores, rtol=1e-5)
    np.testing.assert_allclose(output.cas.detach().numpy(), x @ kernel, rtol=1e-4, atol=1e-6)
    losses = head.loss(output, batch)
    assert losses["cls"].item() == pytest.approx(entropy, rel=1e-5)
    assert losses["sparsity"].item() == pytest.approx(1e-4 * attention.sum(axis=(1, 2)).mean(), rel=1e-5)


def test_names_of_tensors_and_variables_of_the_optimizer_are_read():
    values = variables()
    saved = {f"{key}:0": value for key, value in values.items()}
    saved |= {f"{key}/{slot}": value for key, value in values.items() for slot in ("Adam", "Adam_1")}
    saved |= {"beta1_power": np.float32(0.5), "beta2_power": np.float32(0.5)}
    batch = batch_of()
    assert torch.equal(
        load_author_checkpoint("stpn", saved, 3)(batch).cas, load_author_checkpoint("stpn", values, 3)(batch).cas
    )


def test_a_checkpoint_that_does_not_fit_is_refused_by_name():
    values = variables()
    values["Attention/dense_2/bias"] = values.pop("Attention/dense_1/bias")
    with pytest.raises(WeightsError, match="unknown Attention/dense_2/bias; missing Attention/dense_1/bias"):
        load_author_checkpoint("stpn", values, num_classes=3)
    with pytest.raises(WeightsError, match=r"class_weight/bias is \(3,\), wanted \(5,\)"):
        load_author_checkpoint("stpn", variables(), num_classes=5)


def test_a_variable_that_is_there_twice_and_one_that_is_no_array_are_refused():
    values = variables()
    values["Attention/dense/bias:0"] = values["Attention/dense/bias"] + 1
    with pytest.raises(WeightsError, match="Attention/dense/bias is there twice, with and without :0"):
        load_author_checkpoint("stpn", values, num_classes=3)
    with pytest.raises(WeightsError, match="epoch is of type int, wanted a tensor"):
        load_author_checkpoint("stpn", {"epoch": 3}, num_classes=3)


@pytest.mark.parametrize(("classes", "ratio"), [(20, 1.0), (200, 10.0)])
def test_terms_are_the_reproductions_at_20_classes_and_400_snippets(classes, ratio):
    batch = batch_of((400, 400), classes=classes)
    ours, theirs = make(classes=classes), make(authors=True, classes=classes)
    left, right = ours.loss(ours(batch), batch), theirs.loss(theirs(batch), batch)
    assert left["cls"].item() == pytest.approx(ratio * right["cls"].item(), rel=1e-5)
    assert left["sparsity"].item() == pytest.approx(right["sparsity"].item(), rel=1e-5)


def test_the_sparsity_of_a_video_does_not_depend_on_its_length():
    head = make()
    features = batch_of((5,)).streams["rgb"]
    once, thrice = (SnippetBatch.from_features({"rgb": features.repeat(1, n, 1)}, torch.eye(3)[:1]) for n in (1, 3))
    torch.testing.assert_close(head.loss(head(once), once), head.loss(head(thrice), thrice))


def test_pooling_is_not_divided_by_the_attention():
    """Halve the attention everywhere, which halves the logit."""
    head, batch = make(), batch_of()
    with torch.no_grad():
        head.attention.second.weight.zero_()
        head.attention.second.bias.fill_(50.0)
    whole = head(batch).extras["logits"]
    with torch.no_grad():
        head.attention.second.bias.zero_()
    torch.testing.assert_close(head(batch).extras["logits"], whole / 2)


def test_two_streams_are_two_models_whose_probabilities_are_averaged():
    head, batch = make(streams=("rgb", "flow")), batch_of((8, 5, 3), ("rgb", "flow"))
    assert isinstance(head, LateFusion)
    output = head(batch)
    parts = list(output.streams.values())
    torch.testing.assert_close(output.cas.sigmoid(), torch.stack([part.cas.sigmoid() for part in parts]).mean(dim=0))
    for name in ("attention", "video_scores"):
        mean = torch.stack([getattr(part, name) for part in parts]).mean(dim=0)
        torch.testing.assert_close(getattr(output, name), mean)
    terms = {f"{term}_{stream}" for term in ("cls", "sparsity") for stream in ("rgb", "flow")}
    assert set(head.loss(output, batch)) == terms
    assert set(load_author_checkpoint("stpn", {"rgb": variables(), "flow": variables(1)}, 3)(batch).streams) == {
        "rgb",
        "flow",
    }


def test_the_fusion_of_certain_streams_stays_finite():
    head, batch = make(streams=("rgb", "flow")), batch_of((4,), ("rgb", "flow"))
    with torch.no_grad():
        head.parts["rgb"].classifier.weight.fill_(1e4)
        head.parts["flow"].classifier.weight.fill_(-1e4)
    cas = head(batch).cas
    torch.testing.assert_close(cas.sigmoid(), torch.full_like(cas, 0.5))
    with torch.no_grad():
        head.parts["flow"].classifier.weight.fill_(1e4)
    assert torch.isfinite(head(batch).cas).all()


def test_embedding_is_a_layer_before_the_network():
    batch, plain, embedded = batch_of((8, 5)), make(), make(embedding=7)
    assert plain.embedding == 6
    torch.testing.assert_close(plain.embed(batch), batch.features())
    assert embedded.embedding == 7
    assert embedded.embed(batch).shape == (2, 8, 7)
    assert (embedded.embed(batch)[1, 5:] == 0).all()
    assert {key for key, _ in embedded.named_parameters()} - {key for key, _ in plain.named_parameters()} == {
        "features.linear.weight",
        "features.linear.bias",
    }


def test_input_dropout_takes_channels_of_the_whole_video():
    dropped = make(input_dropout=0.5).train().embed(batch_of((8,)))[0]
    assert set((dropped == 0).sum(dim=0).tolist()) == {0, 8}


def test_each_term_has_its_switch():
    batch, plain, more = batch_of(), make(sparsity_weight=0), make(foreground_weight=0.5)
    assert set(plain.loss(plain(batch), batch)) == {"cls"}
    output = more(batch)
    terms = more.loss(output, batch)
    branch = more.foreground.loss(output.extras["fore_logits"], batch.labels)
    torch.testing.assert_close(terms["foreground"], 0.5 * branch)
    assert set(terms) == {"cls", "sparsity", "foreground"}
    branch.backward()
    assert more.foreground.center.grad.abs().sum() > 0


@pytest.mark.parametrize(("key", "value"), [("embedding", -1), ("attention_width", 0), ("sparsity_weight", -1)])
def test_values_that_no_network_can_have_are_refused(key, value):
    with pytest.raises(ConfigError, match=rf"{key}: wanted .*, got {value}"):
        make(**{key: value})
