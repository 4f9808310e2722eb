"""DELU against its authors' numbers in both forms, its evidence by hand, and the order of its curriculum."""

import math

import pytest
import torch

from tests.support.authors import assert_equal, assert_losses, reference
from tests.support.reference import needs_shared
from wtal.data.batch import SnippetBatch
from wtal.errors import UsageError, WeightsError
from wtal.models import create_head, load_author_checkpoint
from wtal.models.head import Moment
from wtal.models.layers.evidence import log_likelihood, mean_at_highest, squared_distance

DIMS = {"rgb": 8, "flow": 8}
NAMES = {
    "mil_orig": "loss_mil_orig",
    "mil_supp": "loss_mil_supp",
    "contrastive": "loss_supp_contrastive",
    "mutual": "mutual_loss",
    "norm": "norm_loss",
    "guide": "guide_loss",
    "edl": "edl_loss",
    "uct_guide": "uct_guide_loss",
}
"""Our terms -> the authors'."""


def make(authors=False, **settings):
    torch.manual_seed(0)
    narrow = {"width": 16, "attention_width": 8}
    return create_head("delu", 3, DIMS, authors=authors, **{**narrow, **settings}).eval()


def batch_of(lengths=(12, 9, 20, 12, 7, 15, 12)):
    generator = torch.Generator().manual_seed(0)
    videos = [{name: torch.rand(n, dim, generator=generator) for name, dim in DIMS.items()} for n in lengths]
    labels = torch.eye(3)[torch.tensor([0, 0, 1, 1, 2, 2, 0])[: len(lengths)]]
    return SnippetBatch.collate(videos, labels)


def at(head, share):
    """Head at this share of training."""
    head.begin_step(Moment(round(1000 * share), 1000, 0), lambda: iter(()))
    return head


@needs_shared
@pytest.mark.parametrize(("name", "classes"), [("delu_thumos", 20), ("delu_anet", 100)])
def test_both_forms_equal_the_authors(name, classes):
    ours = reference(name, "heads2")
    head = load_author_checkpoint("delu", ours.weights, num_classes=classes)
    rgb, flow = ours.features.chunk(2, dim=-1)
    batch = SnippetBatch.from_features({"rgb": rgb, "flow": flow}, ours.labels)
    output = head(batch)
    extras = output.extras
    found = {"cas": output.cas, "attn": output.attention, "feat_first16": extras["features"][..., :16]}
    assert_equal(found | {"v_atn": extras["rgb_attention"], "f_atn": extras["flow_attention"]}, ours.arrays)
    losses, weights = ours.facts["losses"], ours.facts["weights"]
    given = dict.fromkeys(NAMES, 1.0) | {
        "norm": weights["alpha1"],
        "guide": weights["alpha2"],
        "edl": weights["alpha_edl"],
        "uct_guide": weights["alpha_uct_guide"],
    }
    for iteration, when in zip(ours.facts["iterations"], ("early", "late"), strict=True):
        head.begin_step(Moment(iteration, ours.facts["max_iter"], 0), lambda: iter(()))
        terms = head.loss(output, batch)
        theirs = {key: losses[value] for key, value in NAMES.items() if value in losses}
        theirs["uct_guide"] = losses[f"uct_guide_loss_{when}"]
        assert_losses(terms, theirs, given)
        assert sum(value.item() for value in terms.values()) == pytest.approx(losses[f"total_{when}"], rel=1e-5)


@needs_shared
def test_the_form_of_a_checkpoint_can_be_named():
    weights = reference("delu_thumos", "heads2").weights
    plain = load_author_checkpoint("delu", weights, num_classes=20).config
    assert (plain.evidence, plain.pooling, plain.amplitude) == ("exp", 1, 0.7)
    named = load_author_checkpoint("delu", weights, num_classes=20, evidence="relu").config
    assert (named.evidence, named.pooling, named.amplitude) == ("relu", 13, 0.2)
    assert load_author_checkpoint("delu", weights, num_classes=20, evidence="relu", pooling=5).config.pooling == 5
    weights["more"] = weights.pop("fAttn.attention.5.bias")
    with pytest.raises(WeightsError, match=r"unknown more; missing fAttn\.attention\.5\.bias"):
        load_author_checkpoint("delu", weights, num_classes=20)


def test_evidence_by_hand():
    activations = torch.tensor([[1.0, -2.0, 0.5], [0.0, 30.0, -30.0]], dtype=torch.float64)
    labels = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    for found, video in zip(log_likelihood(activations, labels), range(2), strict=True):
        alpha = [math.exp(max(-10.0, min(10.0, value))) + 1 for value in activations[video].tolist()]
        shown = [c for c in range(3) if labels[video, c]]
        inverse = sum(1 / alpha[c] for c in shown)
        certainty = 1 - 3 / sum(alpha)
        wanted = sum(len(shown) * certainty / alpha[c] / inverse * math.log(sum(alpha) / alpha[c]) for c in shown)
        assert found.item() == pytest.approx(wanted, rel=1e-5)
    alpha = [2.0, 1.0, 1.5]
    wanted = (1 - 2 / 4.5) ** 2 + (1 / 4.5) ** 2 + (1 - 1.5 / 4.5) ** 2
    assert sum(alpha) == 4.5
    assert squared_distance(activations, labels)[0].item() == pytest.approx(wanted)


def test_the_evidence_of_a_video_is_of_its_highest_real_snippets():
    values = torch.arange(12.0).reshape(2, 6, 1)
    attention = torch.tensor([[0.1, 0.9, 0.2, 0.8, 0.0, 0.3], [0.2, 0.1, 0.3, 0.9, 0.9, 0.9]])
    mask = torch.tensor([[True] * 6, [True] * 3 + [False] * 3])
    assert mean_at_highest(values, attention, mask, 3)[:, 0].tolist() == [2.0, 8.0]


@pytest.mark.parametrize("curriculum", ["certain-first", "uncertain-first"])
def test_weights_follow_uncertainty_and_turn_around(curriculum):
    """Avoid the trap of a bare argsort: every snippet has the weight of its own rank."""
    head, batch = make(curriculum=curriculum), batch_of()
    cas = head(batch).extras["cas_supp"]
    uncertainty = 1 / (cas.exp() + 1).sum(dim=-1)
    for share in (0.0, 0.3, 0.5, 0.9):
        weights = at(head, share)._curriculum(cas, batch.mask)
        rising = (curriculum == "uncertain-first") == (share < 0.5)
        for video, length in enumerate(batch.lengths.tolist()):
            ordered = weights[video, :length][uncertainty[video, :length].argsort()]
            assert ordered.mean().item() == pytest.approx(1.0, abs=1e-6)
            steps = ordered.diff() if rising else -ordered.diff()
            assert (steps > 0).all() if share != 0.5 else (ordered == 1.0).all()


def test_the_authors_weights_have_nothing_to_do_with_uncertainty():
    head, batch = at(make(authors=True), 0.0), batch_of((40,))
    cas = head(batch).extras["cas_supp"]
    order = (1 / (cas.exp() + 1).sum(dim=-1))[0].argsort()
    weights = head._curriculum(cas, batch.mask)[0]
    assert not (weights[order].diff() > 0).all()
    assert weights.argsort().tolist() == order.argsort().tolist()


def test_one_snippet_weighs_one_at_any_time():
    head, batch = make(), batch_of((1,))
    assert at(head, 0.0)._curriculum(head(batch).extras["cas_supp"], batch.mask).tolist() == [[1.0]]


@pytest.mark.parametrize(("setting", "term"), [("edl_weight", "edl"), ("uct_guide_weight", "uct_guide")])
def test_a_term_without_weight_is_left_out(setting, term):
    batch, whole, head = batch_of(), make(), make(**{setting: 0})
    assert set(whole.loss(whole(batch), batch)) - set(head.loss(head(batch), batch)) == {term}


def test_without_its_terms_it_is_co2net():
    batch, delu = batch_of(), make(edl_weight=0, uct_guide_weight=0, guide_weight=0.8)
    torch.manual_seed(0)
    co2net = create_head("co2net", 3, DIMS, width=16, attention_width=8).eval()
    ours, theirs = delu(batch), co2net(batch)
    assert torch.equal(ours.cas, theirs.cas)
    assert delu.loss(ours, batch) == co2net.loss(theirs, batch)


@pytest.mark.parametrize(
    ("dims", "settings", "words"),
    [({"rgb": 8}, {}, "delu needs two streams"), (DIMS, {"pooling": 4}, "must be odd")],
)
def test_what_does_not_fit_is_refused(dims, settings, words):
    with pytest.raises(UsageError, match=words):
        create_head("delu", 3, dims, **settings)
