"""CO2-Net against its authors' numbers in both forms, its repairs, and the switches in its tables."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cosine_similarity

from tests.support.authors import assert_equal, assert_losses, reference
from tests.support.reference import needs_shared
from wtal.data.batch import SnippetBatch
from wtal.errors import UsageError, WeightsError
from wtal.models import create_head, load_author_checkpoint

WEIGHTS = {"mil_orig": 1.0, "mil_supp": 1.0, "contrastive": 1.0, "mutual": 1.0}
DIMS = {"rgb": 8, "flow": 8}


def make(authors=False, **settings):
    torch.manual_seed(0)
    narrow = {"width": 16, "attention_width": 8}
    return create_head("co2net", 3, DIMS, authors=authors, **{**narrow, **settings}).eval()


def batch_of(lengths=(12, 12, 12, 12, 12, 12, 12)):
    generator = torch.Generator().manual_seed(0)
    videos = [{name: torch.rand(n, dim, generator=generator) for name, dim in DIMS.items()} for n in lengths]
    labels = torch.eye(3)[torch.tensor([0, 0, 1, 1, 2, 2, 0])[: len(lengths)]]
    return SnippetBatch.collate(videos, labels)


@needs_shared
@pytest.mark.parametrize(("name", "classes"), [("co2net_thumos", 20), ("co2net_anet", 100)])
def test_both_forms_equal_the_authors(name, classes):
    ours = reference(name)
    head = load_author_checkpoint("co2net", ours.weights, num_classes=classes)
    rgb, flow = ours.features.chunk(2, dim=-1)
    batch = SnippetBatch.from_features({"rgb": rgb, "flow": flow}, ours.labels)
    output = head(batch)
    found = {"cas": output.cas, "attn": output.attention}
    assert_equal(
        found | {"v_atn": output.extras["rgb_attention"], "f_atn": output.extras["flow_attention"]}, ours.arrays
    )
    losses = head.loss(output, batch)
    total = sum(value.item() for value in losses.values())
    assert total == pytest.approx(ours.facts["losses"]["total"], rel=1e-5)
    others = {key: losses.pop(key) for key in ("norm", "guide")}
    assert_losses(losses, ours.facts["losses"], WEIGHTS)
    mean = (output.attention + output.extras["rgb_attention"] + output.extras["flow_attention"]).mean() / 3
    assert others["norm"].item() == pytest.approx(0.8 * mean.item(), rel=1e-5)


@needs_shared
def test_the_form_of_a_checkpoint_can_be_named():
    ours = reference("co2net_thumos")
    assert load_author_checkpoint("co2net", ours.weights, num_classes=20).config.pooling == 1
    named = load_author_checkpoint("co2net", ours.weights, num_classes=20, pooling=13, top_k_ratio=5)
    assert (named.config.pooling, named.config.top_k_ratio) == (13, 5)
    with pytest.raises(UsageError, match="takes no setting 'poling'"):
        load_author_checkpoint("co2net", ours.weights, num_classes=20, poling=13)


@needs_shared
def test_checkpoints_that_do_not_fit_are_refused_by_name():
    weights = reference("co2net_thumos").weights
    with pytest.raises(WeightsError, match=r"feat_encoder\.0\.bias is \(3,\), wanted \(2048,\)"):
        load_author_checkpoint("co2net", {**weights, "feat_encoder.0.bias": torch.zeros(3)}, num_classes=20)
    narrow = {key: value for key, value in weights.items() if key != "fusion.0.weight"}
    with pytest.raises(WeightsError, match=r"missing fusion\.0\.weight"):
        load_author_checkpoint("co2net", narrow | {"feat_encoder.0.bias": torch.zeros(3)}, num_classes=20)
    weights["more"] = weights.pop("fAttn.attention.5.bias")
    with pytest.raises(WeightsError, match=r"unknown more; missing fAttn\.attention\.5\.bias"):
        load_author_checkpoint("co2net", weights, num_classes=20)


@pytest.mark.parametrize("fusion", ["ccm", "se", "ssma", "concat", "add"])
def test_every_fusion_answers_differently(fusion):
    batch, plain = batch_of(), make(fusion="concat")
    head = make(fusion=fusion)
    output = head(batch)
    assert output.cas.shape == (7, 12, 4)
    assert (fusion == "concat") == torch.equal(output.cas, plain(batch).cas)
    gates = [name for name, _ in head.named_parameters() if "gate" in name]
    assert bool(gates) == (fusion in ("ccm", "se", "ssma"))


@pytest.mark.parametrize(
    ("setting", "term"),
    [
        ("supp_weight", "mil_supp"),
        ("contrastive_weight", "contrastive"),
        ("mutual_weight", "mutual"),
        ("norm_weight", "norm"),
        ("guide_weight", "guide"),
    ],
)
def test_a_term_without_weight_is_left_out(setting, term):
    batch, whole, head = batch_of(), make(), make(**{setting: 0})
    terms = head.loss(head(batch), batch)
    assert set(whole.loss(whole(batch), batch)) - set(terms) == {term}
    assert head.pairs == (0 if term == "contrastive" else 3)


def test_gradients_of_mutual_learning_go_to_the_learner():
    head, batch = make(), batch_of()
    output = head(batch)
    head.loss(output, batch)["mutual"].backward()
    rgb, flow = output.extras["rgb_attention"], output.extras["flow_attention"]
    assert head.rgb_attention.third.weight.grad.abs().sum() > 0
    torch.testing.assert_close(((rgb - flow) ** 2).mean(), head.loss(output, batch)["mutual"])


def test_pooling_is_a_mean_over_real_snippets():
    batch = batch_of((12, 5))
    plain, pooled = make(), make(pooling=5)
    pooled.load_state_dict(plain.state_dict())
    before, after = plain(batch).cas, pooled(batch).cas
    for video, length in ((0, 12), (1, 5)):
        for t in range(length):
            window = before[video, max(0, t - 2) : min(length, t + 3)]
            torch.testing.assert_close(after[video, t], window.mean(dim=0))
    theirs = make(authors=True, pooling=5)
    theirs.load_state_dict(plain.state_dict())
    whole = batch_of((12,))
    torch.testing.assert_close(theirs(whole).cas[0, 0], before[0, :3].sum(dim=0) / 5)


def test_dropout_never_leaves_an_attention_of_one_half():
    batch = batch_of((40,))
    torch.manual_seed(1)
    right, theirs = (make(authors=authors, fusion_dropout=0.0).train() for authors in (False, True))
    share = (theirs(batch).extras["rgb_attention"] == 0.5).float().mean()
    assert share > 0.3
    assert (right(batch).extras["rgb_attention"] == 0.5).float().mean() < 0.1


def test_co_activity_is_the_authors_where_pairs_share_several_classes():
    """Compare with the authors' mean over all shared classes, where a pair of two classes counts twice."""
    labels = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1], [0, 1, 1], [1, 0, 0], [0, 1, 0.0]])
    batch = replace(batch_of((12,) * 6), labels=labels)
    theirs, ours = make(authors=True), make()
    output = theirs(batch)
    attention, x = output.extras["cas_supp"].softmax(dim=1), output.extras["features"]
    total, count = 0.0, 0
    for i in (0, 2, 4):
        for c in torch.nonzero(labels[i] * labels[i + 1])[:, 0].tolist():
            high = [attention[j, :, c] @ x[j] for j in (i, i + 1)]
            low = [(1 - attention[j, :, c]) / 11 @ x[j] for j in (i, i + 1)]
            apart = [1 - cosine_similarity(a, b, dim=0) for a, b in (high, (high[0], low[1]), (high[1], low[0]))]
            total += sum(0.5 * torch.relu(apart[0] - one + 0.5).item() for one in apart[1:])
            count += 1
    assert count == 3
    assert theirs.loss(output, batch)["contrastive"].item() == pytest.approx(total / count, rel=1e-5)
    assert ours.loss(output, batch)["contrastive"].item() != pytest.approx(total / count, rel=1e-5)


@pytest.mark.parametrize(
    ("dims", "settings", "words"),
    [
        ({"rgb": 8}, {}, "two streams"),
        ({"rgb": 8, "flow": 6}, {"fusion": "add"}, "one width"),
        (DIMS, {"pooling": 4}, "must be odd"),
    ],
)
def test_what_does_not_fit_is_refused(dims, settings, words):
    with pytest.raises(UsageError, match=words):
        create_head("co2net", 3, dims, **settings)


def test_streams_may_have_two_widths():
    torch.manual_seed(0)
    head = create_head("co2net", 3, {"flow": 6, "rgb": 8}, width=16, attention_width=8).eval()
    streams = {"rgb": torch.rand(1, 9, 8), "flow": torch.rand(1, 9, 6)}
    assert head(SnippetBatch.from_features(streams)).cas.shape == (1, 9, 4)
