"""Background modeling against its equations, its switches, its fusion, and its Gaussian over time."""

import numpy as np
import pytest
import torch

from wtal.data.batch import SnippetBatch
from wtal.errors import ConfigError, WeightsError
from wtal.models import create_head, load_author_checkpoint
from wtal.models.layers.temporal import masked_smooth

NARROW = {"attention_width": 4}


def batch_of(lengths=(9, 12, 5), streams=("rgb",), labels=((1, 0, 0), (0, 1, 1), (0, 0, 1))):
    generator = torch.Generator().manual_seed(0)
    videos = [{name: torch.rand(n, 6, generator=generator) for name in streams} for n in lengths]
    return SnippetBatch.collate(videos, torch.tensor(labels).float())


def make(streams=("rgb",), **settings):
    torch.manual_seed(0)
    return create_head("bm", 3, dict.fromkeys(streams, 6), **{**NARROW, **settings}).eval()


def smooth(values, sigma):
    """Gaussian over the values of a video, cut at 4 deviations and at its ends, with weights that sum to one."""
    t = np.arange(len(values))
    weights = np.exp(-0.5 * ((t[:, None] - t) / sigma) ** 2) * (np.abs(t[:, None] - t) <= int(4 * sigma + 0.5))
    return weights @ values / weights.sum(axis=1)


def by_the_equations(head, x, labels, sigma):
    """Unweighted terms of one video (T, D)."""
    with torch.no_grad():
        x = torch.as_tensor(x)
        attention = head.attention(x)[:, 0]
        rest = 1 - attention
        foreground = (attention[:, None] * x).sum(dim=0) / (1 + attention.sum())
        background = (rest[:, None] * x).sum(dim=0) / (rest.sum() + 1e-6)
        p_fg, p_bg, p = (head.classifier(one).softmax(dim=-1) for one in (foreground, background, x))
        near = (foreground @ head.prototypes.weight.T, background @ head.prototypes.weight.T)
    labelled = smooth(p[:, :3][:, labels.bool()].amax(dim=1).numpy(), sigma)
    of_all = smooth(p[:, :3].sum(dim=1).numpy(), sigma)
    a = attention.numpy()
    return {
        "cls_fore": -(labels / labels.sum() * p_fg[:3].log()).sum().item(),
        "cls_back": -p_bg[3].log().item(),
        "guide": (np.abs(a - labelled) + np.abs(a - of_all)).mean().item(),
        "cluster": -(near[0].softmax(-1)[0].log() + near[1].softmax(-1)[1].log()).item(),
    }


def test_terms_are_those_of_the_equations_each_video_over_its_own_snippets():
    head, batch = make(guide_sigma=1.5), batch_of()
    found = head.loss(head(batch), batch)
    alone = [
        by_the_equations(head, batch.streams["rgb"][i, :n], batch.labels[i], 1.5)
        for i, n in enumerate(batch.lengths.tolist())
    ]
    assert set(found) == set(alone[0])
    for name, weight in {"cls_fore": 1.0, "cls_back": 0.1, "guide": 0.1, "cluster": 0.1}.items():
        expected = np.mean([one[name] for one in alone])
        assert found[name].item() == pytest.approx(weight * expected, rel=1e-5), name


def test_what_guides_the_attention_is_not_moved_by_it():
    head, batch = make(), batch_of()
    with torch.no_grad():
        head.attention.second.bias.fill_(3.0)  # above both guides: between them, their gradients cancel
    head.loss(head(batch), batch)["guide"].backward()
    assert head.classifier.weight.grad is None
    assert head.attention.first.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("switch", "term"),
    [("background_weight", "cls_back"), ("guide_weight", "guide"), ("cluster_weight", "cluster")],
)
def test_each_term_has_its_switch(switch, term):
    batch, whole, less, more = batch_of(), make(), make(**{switch: 0}), make(**{switch: 0.2})
    terms = whole.loss(whole(batch), batch)
    twice = more.loss(more(batch), batch)
    torch.testing.assert_close(twice.pop(term), 2 * terms.pop(term))
    torch.testing.assert_close(twice, terms)
    assert set(less.loss(less(batch), batch)) == set(terms)
    assert (switch == "cluster_weight") == (less.prototypes is None)


def test_background_is_a_class_that_video_scores_leave_out():
    output = make()(batch_of())
    assert output.cas.shape == (3, 12, 4)
    torch.testing.assert_close(output.video_scores, output.extras["fg_logits"].softmax(dim=-1)[:, :3])


@pytest.mark.parametrize("share", [0.5, 0.35])
def test_two_streams_are_two_models_whose_probabilities_are_averaged(share):
    head, batch = make(("rgb", "flow"), rgb_weight=share), batch_of(streams=("rgb", "flow"))
    output = head(batch)
    rgb, flow = output.streams["rgb"], output.streams["flow"]
    mean = share * rgb.cas.softmax(dim=-1) + (1 - share) * flow.cas.softmax(dim=-1)
    torch.testing.assert_close(output.cas.softmax(dim=-1), mean)
    torch.testing.assert_close(output.attention, share * rgb.attention + (1 - share) * flow.attention)
    assert len(head.loss(output, batch)) == 8


def test_embedding_is_a_layer_before_the_network():
    plain, embedded = make(), make(embedding=7)
    assert (plain.embedding, embedded.embedding) == (6, 7)
    assert (embedded.embed(batch_of())[2, 5:] == 0).all()
    new = {key for key, _ in embedded.named_parameters()} - {key for key, _ in plain.named_parameters()}
    assert new == {"features.linear.weight", "features.linear.bias"}


def test_the_foreground_branch_is_an_addition():
    batch, plain, more = batch_of(), make(), make(foreground_weight=0.5)
    output = more(batch)
    terms = more.loss(output, batch)
    branch = more.foreground.loss(output.extras["fore_logits"], batch.labels)
    torch.testing.assert_close(terms.pop("foreground"), 0.5 * branch)
    torch.testing.assert_close(terms, plain.loss(plain(batch), batch))


def test_there_is_no_checkpoint_to_load():
    with pytest.raises(WeightsError, match=r"no authors' checkpoint.*one, two"):
        load_author_checkpoint("bm", {"one": torch.zeros(1), "two": torch.zeros(1)}, num_classes=3)


@pytest.mark.parametrize(("key", "value"), [("guide_sigma", -1), ("rgb_weight", 1), ("cluster_weight", -0.1)])
def test_values_that_no_network_can_have_are_refused(key, value):
    with pytest.raises(ConfigError, match=rf"{key}: wanted .*, got {value}"):
        make(**{key: value})


@pytest.mark.parametrize("sigma", [0.0, 0.1, 0.7, 2.0])
def test_a_gaussian_over_time_keeps_to_each_video(sigma):
    generator = torch.Generator().manual_seed(0)
    values, mask = torch.rand(3, 11, 2, generator=generator), torch.arange(11) < torch.tensor([[11], [4], [1]])
    values[~mask] = torch.nan
    found = masked_smooth(values, mask, sigma)
    assert (found[~mask] == 0).all()
    for i, length in enumerate((11, 4, 1)):
        for c in range(2):
            video = values[i, :length, c].numpy()
            np.testing.assert_allclose(found[i, :length, c], smooth(video, sigma) if sigma else video, rtol=1e-5)


def test_a_gaussian_over_time_has_a_finite_gradient():
    values = torch.rand(2, 40, 1, requires_grad=True)
    masked_smooth(values, torch.arange(40) < torch.tensor([[40], [2]]), 1.0).square().sum().backward()
    assert torch.isfinite(values.grad).all()
    assert (values.grad[1, 2:] == 0).all()
