"""LGBM-Net: exact global operations for each video, and an effect of every documented choice."""

import pytest
import torch

from wtal.data.batch import SnippetBatch
from wtal.errors import ConfigError, WeightsError
from wtal.models import create_head, load_author_checkpoint
from wtal.models.layers import context
from wtal.models.layers.context import BidirectionalLstm, LocalGlobal
from wtal.models.layers.temporal import unpack

NARROW = {"width": 16, "attention_width": 8}
OPERATIONS = ("lstm", "nonlocal", "pool", "none")


def make(**config):
    torch.manual_seed(0)
    return create_head("lgbm", 3, {"rgb": 6}, **NARROW | config).eval()


def batch_of(*lengths, labels=None):
    generator = torch.Generator().manual_seed(1)
    videos = [{"rgb": torch.rand(length, 6, generator=generator)} for length in lengths]
    return SnippetBatch.collate(videos, torch.eye(3)[: len(lengths)] if labels is None else labels)


def test_the_recurrence_is_torchs_own_over_each_video_alone():
    torch.manual_seed(0)
    ours = BidirectionalLstm(5, 8)
    theirs = torch.nn.LSTM(5, 4, batch_first=True, bidirectional=True)
    onward = {f"{name}": value for name, value in ours.onward.state_dict().items()}
    back = {f"{name}_reverse": value for name, value in ours.back.state_dict().items()}
    theirs.load_state_dict(onward | back)
    lengths = torch.tensor([7, 1, 12, 12, 3, 30, 2, 9, 8, 21])
    mask = torch.arange(33) < lengths[:, None]  # three columns that are padding in all videos
    rows = torch.randn(int(lengths.sum()), 5)
    expected = torch.cat([theirs(video[None])[0][0] for video in rows.split(lengths.tolist())])
    torch.testing.assert_close(ours(rows, mask), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stretches", [1, 2, 100])
def test_the_recurrence_does_not_depend_on_its_stretches_of_time(monkeypatch, stretches):
    torch.manual_seed(0)
    lstm, mask = BidirectionalLstm(5, 8), torch.arange(20) < torch.tensor([4, 20, 11, 1, 20])[:, None]
    rows = torch.randn(int(mask.sum()), 5)
    expected = lstm(rows, mask)
    monkeypatch.setattr(context, "_STRETCHES", stretches)
    torch.testing.assert_close(lstm(rows, mask), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("operation", ["lstm", "nonlocal", "pool"])
def test_a_global_operation_sees_all_of_its_video_and_nothing_of_the_next(operation):
    torch.manual_seed(0)
    layer, lengths = LocalGlobal(5, 8, operation, gain=1.0), torch.tensor([9, 4])
    mask = torch.arange(9) < lengths[:, None]
    rows = torch.randn(13, 5)
    before = unpack(layer(rows, mask), mask)
    rows[8] += 1.0  # the last snippet of the first video
    moved = (unpack(layer(rows, mask), mask) - before).abs().amax(dim=-1)
    assert (moved[0] > 1e-7).all()
    assert (moved[1] == 0).all()
    assert (moved[~mask] == 0).all()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_operation_holds_the_contract(operation):
    head, batch = make(global_operation=operation), batch_of(30, 21, 1)
    together = head(batch)
    for i, length in enumerate((30, 21, 1)):
        alone = head(SnippetBatch({"rgb": batch.streams["rgb"][i : i + 1, :length]}, batch.mask[i : i + 1, :length]))
        torch.testing.assert_close(alone.cas[0], together.cas[i, :length], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(alone.attention[0], together.attention[i, :length], rtol=1e-5, atol=1e-6)
    torch.stack(list(head.loss(together, batch).values())).sum().backward()
    for key, parameter in head.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
        assert parameter.grad.abs().sum() > 0, key


def test_only_the_local_operation_is_left_without_a_global_one():
    head = make(global_operation="none")
    assert not any("whole" in key or "gain" in key for key in head.state_dict())
    batch = batch_of(40, labels=torch.ones(1, 3))
    features = batch.streams["rgb"].clone()
    features[0, 39] += 1.0
    moved = (head(SnippetBatch({"rgb": features}, batch.mask)).extras["cas_base"] - head(batch).extras["cas_base"])[0]
    assert (moved[:37] == 0).all()
    assert (moved[37:].abs().sum(dim=1) > 0).all()


def test_both_branches_share_the_sub_net_and_detections_come_from_the_suppressed_one():
    head, batch = make(), batch_of(12, 9)
    output = head(batch)
    suppressed = batch.streams["rgb"] * output.attention[..., None].detach()
    twin = head(SnippetBatch({"rgb": suppressed}, batch.mask))
    torch.testing.assert_close(twin.extras["cas_base"], output.cas, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(output.video_scores, output.extras["score_supp"][:, :3])


def test_the_background_is_present_in_one_branch_and_absent_in_the_other():
    head, batch = make(), batch_of(20, 20, 20)
    output = head(batch)
    for name, sign in (("loss_base", 1), ("loss_supp", -1)):
        key = name.replace("loss", "score")
        scores = output.extras[key].detach().requires_grad_()
        output.extras[key] = scores
        head.loss(output, batch)[name].backward()
        assert (scores.grad[:, 3] * -sign > 0).all(), name


def test_the_highest_class_activation_draws_the_attention_and_is_not_drawn():
    head, batch = make(guide_weight=1.0), batch_of(20, 15)
    output = head(batch)
    highest = output.cas.softmax(dim=-1)[..., :3].amax(dim=-1)
    expected = torch.stack([((output.attention[i] - highest[i])[:n] ** 2).mean() for i, n in enumerate((20, 15))])
    loss = head.loss(output, batch)["loss_guide"]
    assert loss.item() == pytest.approx(expected.mean().item(), rel=1e-5)
    loss.backward()
    assert head.attention_out.weight.grad.abs().sum() > 0
    assert head.cas_out.weight.grad is None


@pytest.mark.parametrize(
    ("config", "left"),
    [
        ({"guide_weight": 0.0}, {"loss_base", "loss_supp", "loss_norm"}),
        ({"attention_weight": 0.0}, {"loss_base", "loss_supp", "loss_guide"}),
    ],
)
def test_a_term_without_weight_is_not_there(config, left):
    head, batch = make(**config), batch_of(10, 8)
    assert set(head.loss(head(batch), batch)) == left


def test_with_basnets_reductions_the_terms_keep_their_size_at_200_classes():
    torch.manual_seed(0)
    features = {"rgb": torch.rand(2, 40, 6)}
    for classes in (20, 200):
        head = create_head("lgbm", classes, {"rgb": 6}, **NARROW).eval()
        batch = SnippetBatch.from_features(features, torch.eye(classes)[:2])
        loss = head.loss(head(batch), batch)["loss_base"]
        scores = head(batch).extras["score_base"]
        target = torch.zeros_like(scores)
        target[[0, 1], [0, 1]] = target[:, -1] = 0.5
        entropy = torch.nn.functional.binary_cross_entropy(scores, target, reduction="none").sum(dim=1).mean()
        assert loss.item() == pytest.approx(entropy.item() / 21, rel=1e-5)


def test_there_is_no_authors_code():
    with pytest.raises(WeightsError, match=r"lgbm has no authors' checkpoint .* got the keys attention\.weight"):
        load_author_checkpoint("lgbm", {"attention.weight": torch.zeros(1)}, num_classes=3)
    torch.manual_seed(0)
    theirs, batch = create_head("lgbm", 3, {"rgb": 6}, authors=True, **NARROW).eval(), batch_of(10, 6)
    assert torch.equal(theirs(batch).cas, make()(batch).cas)


@pytest.mark.parametrize(
    ("key", "value"),
    [("width", 7), ("attention_width", 0), ("global_gain", 0), ("global_operation", "gru"), ("guide_weight", -1)],
)
def test_values_that_no_network_can_have_are_refused_in_one_line(key, value):
    with pytest.raises(ConfigError, match=rf"{key}: wanted .*, got "):
        create_head("lgbm", 3, {"rgb": 6}, **{key: value})
