"""CASE against its authors' numbers, its transport and labels by hand, and the origin of its clusters."""

from dataclasses import replace

import pytest
import torch

from tests.support.authors import assert_equal, assert_losses, reference
from tests.support.reference import needs_shared
from wtal.data.batch import SnippetBatch
from wtal.errors import UsageError, WeightsError
from wtal.models import create_head, load_author_checkpoint
from wtal.models.head import Moment
from wtal.models.heads.case import Highest, generalised_cross_entropy
from wtal.models.layers.clusters import rank_prior, transported

DIMS = {"rgb": 8, "flow": 6}
WEIGHTS = {"video": 1.0, "attention_rgb": 1.0, "attention_flow": 1.0, "cluster": 1.0, "cluster_class": 0.3}


def make(authors=False, **settings):
    torch.manual_seed(0)
    return create_head("case", 3, DIMS, authors=authors, **{"width": 16, "clusters": 4, **settings})


def batch_of(lengths=(12, 9, 20, 15)):
    generator = torch.Generator().manual_seed(0)
    videos = [{name: torch.rand(n, dim, generator=generator) for name, dim in DIMS.items()} for n in lengths]
    return SnippetBatch.collate(videos, torch.eye(3)[torch.tensor([0, 1, 2, 0])[: len(lengths)]])


def theirs():
    ours = reference("case", "heads2")
    rgb, flow = ours.features.chunk(2, dim=-1)
    head = load_author_checkpoint("case", ours.weights, num_classes=20)
    return ours, head, SnippetBatch.from_features({"rgb": rgb, "flow": flow}, ours.labels)


@needs_shared
def test_two_steps_equal_the_authors():
    ours, head, batch = theirs()
    head.train()
    assert head.cluster_foreground.tolist() == [1 / 16] * 16
    for step in (1, 2):
        output = head(batch)
        found = {f"cas_{s}": answer.cas for s, answer in output.streams.items()}
        found |= {f"attention_{s}": answer.attention for s, answer in output.streams.items()}
        found |= {f"cluster_{s}": output.extras[f"cluster_{s}"] for s in output.streams}
        found[f"combined_step{step}"] = output.extras["combined"]
        found[f"foreground_step{step}"] = head.pseudo_labels(output, batch)["foreground"]
        arrays = dict(ours.arrays)
        arrays[f"foreground_step{step}"] = arrays[f"foreground_step{step}"][..., 0]
        assert_equal(found, arrays)
        terms = head.loss(output, batch)
        losses = {key: ours.facts["losses"][f"{key}_step{step}"] for key in WEIGHTS}
        assert_losses(terms, losses, WEIGHTS)
        total = sum(value.item() for value in terms.values())
        assert total == pytest.approx(ours.facts["losses"][f"total_step{step}"], rel=1e-5)
        labels = torch.from_numpy(arrays[f"cluster_class_target_step{step}"])
        torch.testing.assert_close(head.cluster_foreground, labels[:, 0], rtol=1e-5, atol=0)


@needs_shared
def test_detection_equals_the_authors():
    ours, head, batch = theirs()
    labels = torch.from_numpy(ours.arrays["cluster_class_target_step2"])
    loaded = load_author_checkpoint("case", {**ours.weights, "cls_gt": labels}, num_classes=20)
    head.train()
    for _ in range(2):
        head.loss(head(batch), batch)
    louder = 6 * (1 + torch.sin(torch.arange(48) / 3))[None, :, None]
    video = SnippetBatch.from_features({name: x[:1] * louder for name, x in batch.streams.items()})
    for each in (loaded, head.eval()):
        output = each(video)
        wanted = {"inference_combined0": output.cas.sigmoid(), "inference_scores0": output.video_scores}
        assert_equal(wanted | {"inference_combined0": output.extras["inference_combined"]}, ours.arrays)
        assert_equal(wanted, ours.arrays)


@needs_shared
def test_checkpoints_that_do_not_fit_are_refused_by_name():
    weights = reference("case", "heads2").weights
    with pytest.raises(WeightsError, match=r"cls_gt is \(3, 2\), wanted \(16, 2\)"):
        load_author_checkpoint("case", {**weights, "cls_gt": torch.zeros(3, 2)}, num_classes=20)
    weights["more"] = weights.pop("att_module_flow.bias")
    with pytest.raises(WeightsError, match=r"unknown more; missing att_module_flow\.bias"):
        load_author_checkpoint("case", weights, num_classes=20)


def test_transport_fills_columns_and_leaves_rows_whole():
    torch.manual_seed(0)
    mass = torch.tensor([0.5, 0.3, 0.2])
    plan = transported(torch.rand(2000, 3) / 5, mass)
    torch.testing.assert_close(plan.sum(dim=1), torch.ones(2000))
    torch.testing.assert_close(plan.mean(dim=0), mass, rtol=0.05, atol=0)
    by_hand = torch.tensor([[0.1, -0.1], [0.0, 0.05]], dtype=torch.float64)
    wanted = (20 * by_hand).exp()
    for _ in range(3):
        wanted = wanted / wanted.sum(dim=0) / 2
        wanted = wanted / wanted.sum(dim=1, keepdim=True)
    torch.testing.assert_close(transported(by_hand, torch.tensor([0.5, 0.5])), wanted)


def test_transport_of_nothing_stays_finite():
    for mass in (torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0])):
        assert torch.isfinite(transported(torch.tensor([[1.0, -1.0], [1.0, -1.0]]), mass)).all()


def test_the_foreground_is_the_highest_of_the_videos_classes():
    signal = torch.zeros(2, 6, 2)
    signal[0, [1, 4], 0], signal[0, [2, 3], 1], signal[1, 5, 0] = 1.0, 1.0, 9.0
    mask = torch.tensor([[True] * 6, [True] * 3 + [False] * 3])
    signal[1, 2, 0] = 0.5
    chosen = Highest.of(signal, mask, 3)
    labels = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    assert chosen.of_classes(labels, 6)[0].tolist() == [0, 1, 0, 0, 1, 0]
    assert chosen.of_classes(torch.ones(2, 2), 6)[0].tolist() == [0, 1, 1, 1, 1, 0]
    assert chosen.of_classes(labels, 6)[1, 2] == 1
    assert not chosen.of_classes(labels, 6)[1, 3:].any()
    assert chosen.mean(signal)[:, 0].tolist() == [1.0, 0.5]


def test_generalised_cross_entropy_by_hand():
    probability, truth = torch.tensor([[0.5, 0.2, 0.9]]), torch.tensor([[1.0, 0.0, 0.0]])
    mask = torch.tensor([[True, True, False]])
    wanted = (1 - 0.5**0.7) / 0.7 + (1 - 0.8**0.7) / 0.7
    assert generalised_cross_entropy(probability, truth, mask, 0.7).item() == pytest.approx(wanted, rel=1e-5)


def test_padding_never_enters_the_clusters_of_a_batch():
    head, batch = make().eval(), batch_of()
    longer = {name: torch.nn.functional.pad(x, (0, 0, 0, 30), value=9.0) for name, x in batch.streams.items()}
    padded = SnippetBatch(longer, torch.nn.functional.pad(batch.mask, (0, 30)), batch.labels)
    ours, rest = head.loss(head(batch), batch), head.loss(head(padded), padded)
    assert {key: value.item() for key, value in rest.items()} == pytest.approx(
        {key: value.item() for key, value in ours.items()}, rel=1e-5
    )


def test_clusters_know_foreground_by_a_moving_average_of_training_steps():
    head, batch = make(momentum=0.75), batch_of()
    before = head.cluster_foreground.clone()
    assert before.tolist() == [0.5] * 4
    head.eval().loss(head(batch), batch)
    assert torch.equal(head.cluster_foreground, before)
    head.train().loss(head(batch), batch)
    after = head.cluster_foreground.clone()
    assert "cluster_foreground" in head.state_dict()
    last = make(authors=True, prior_deviation=1e6).train()
    last.load_state_dict({**make().state_dict(), "cluster_foreground": before})
    equal = replace(batch, streams={k: x[:, :9] for k, x in batch.streams.items()}, mask=batch.mask[:, :9])
    last.loss(last(equal), equal)
    ours = make(momentum=0.75).train()
    ours.loss(ours(equal), equal)
    torch.testing.assert_close(ours.cluster_foreground, 0.75 * before + 0.25 * last.cluster_foreground)
    assert not torch.equal(after, before)


def test_activations_alone_tell_the_snippets_while_it_warms_up():
    head, batch = make(warmup=0.5).train(), batch_of()
    classes = torch.stack([answer.cas.softmax(dim=-1) for answer in head(batch).streams.values()]).mean(dim=0)
    for step, alone in ((0, True), (49, True), (50, False), (99, False)):
        head.begin_step(Moment(step, 100, 0), lambda: iter(()))
        assert torch.equal(head(batch).extras["combined"], classes) == alone
    assert not torch.equal(make(warmup=0.5)(batch).extras["combined"], classes)


def test_the_baseline_detects_without_clusters():
    batch, baseline = batch_of(), make(cluster_weight=0, cluster_class_weight=0).eval()
    output = baseline(batch)
    assert torch.equal(output.extras["combined"], output.extras["inference_combined"])
    assert set(baseline.loss(output, batch)) == {"video", "attention_rgb", "attention_flow"}
    assert not baseline.ties_videos
    assert make().ties_videos


def test_a_prior_of_true_ranks_sends_high_attention_to_clusters_of_foreground():
    """Avoid the trap of a bare argsort: the snippet with most attention has the largest foreground probability."""
    head = make(prior_deviation=0.1)
    head.cluster_foreground.copy_(torch.tensor([1.0, 0.8, 0.4, 0.2]))
    attention = torch.tensor([0.2, 0.9, 0.1, 0.5, 0.3])
    prior = head._prior(attention)
    assert prior.argmax(dim=0).tolist() == [1, 3, 0, 2]
    assert make()._prior(attention) is None
    authors = make(authors=True)
    order = (-attention).argsort()
    torch.testing.assert_close(
        authors._prior(attention), rank_prior(order / 5, torch.full((4,), 0.25), 10.0), rtol=1e-6, atol=0
    )
    assert authors._prior(attention).min() > 0.99 * authors._prior(attention).max()


def test_a_batch_without_a_stream_is_refused():
    with pytest.raises(UsageError, match="a model for rgb, flow; the features lack 'flow'"):
        make()(SnippetBatch.from_features({"rgb": torch.rand(1, 9, 8)}))
