"""FAC-Net against its authors' numbers, its switches, its fusion, and its branch in other heads."""

import pytest
import torch

from tests.support.authors import assert_equal, assert_losses, reference
from tests.support.reference import needs_shared
from wtal.data.batch import SnippetBatch
from wtal.errors import ConfigError, WeightsError
from wtal.models import create_head, load_author_checkpoint
from wtal.models.layers.foreground import ClasswiseForeground, attended
from wtal.models.layers.losses import with_background

NARROW = {"width": 16}
WEIGHTS = {"cw": 1.0, "ca": 0.1, "mil": 0.1}


def batch_of(streams=("rgb",), dim=8, count=3, length=12):
    generator = torch.Generator().manual_seed(0)
    features = {name: torch.rand(count, length, dim, generator=generator) for name in streams}
    return SnippetBatch.from_features(features, torch.eye(3)[torch.arange(count) % 3])


def make(streams=("rgb",), **settings):
    torch.manual_seed(0)
    return create_head("facnet", 3, dict.fromkeys(streams, 8), **{**NARROW, **settings}).eval()


@needs_shared
@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_one_stream_equals_the_authors(stream):
    ours = reference("facnet")
    head = load_author_checkpoint("facnet", ours.weights, num_classes=20)
    batch = SnippetBatch.from_features({stream: ours.features}, ours.labels)
    output = head(batch)
    predictions = {name: output.extras[name] for name in ("cw_pred", "ca_pred", "mil_pred")}
    assert_equal(predictions | {"frame_scores": output.cas}, ours.arrays)
    assert torch.equal(output.video_scores, output.extras["ca_pred"][:, :20])
    losses = head.loss(output, batch)
    assert_losses(losses, ours.facts["losses"], WEIGHTS)
    assert sum(value.item() for value in losses.values()) == pytest.approx(ours.facts["losses"]["total"], rel=1e-5)


@needs_shared
def test_two_streams_are_two_models():
    ours = reference("facnet")
    other = {key: value * 0.9 for key, value in ours.weights.items()}
    head = load_author_checkpoint("facnet", {"rgb": ours.weights, "flow": other}, num_classes=20)
    batch = SnippetBatch.from_features({"rgb": ours.features, "flow": ours.features}, ours.labels)
    output = head(batch)
    assert_equal({"frame_scores": output.streams["rgb"].cas}, ours.arrays)
    assert set(head.loss(output, batch)) == {f"{term}_{stream}" for term in WEIGHTS for stream in ("rgb", "flow")}
    mean = (output.streams["rgb"].cas.softmax(-1) + output.streams["flow"].cas.softmax(-1)) / 2
    torch.testing.assert_close(output.cas.softmax(-1), mean)


@needs_shared
def test_a_checkpoint_that_does_not_fit_is_refused_by_name():
    weights = reference("facnet").weights
    weights["extra"] = weights.pop("fg_center")
    with pytest.raises(WeightsError, match="unknown extra; missing fg_center"):
        load_author_checkpoint("facnet", weights, num_classes=20)
    with pytest.raises(WeightsError, match=r"ac_center is .* wanted"):
        load_author_checkpoint("facnet", reference("facnet").weights, num_classes=21)


@pytest.mark.parametrize("left_out", WEIGHTS)
def test_a_branch_without_weight_is_not_there(left_out):
    head, batch = make(**{f"{left_out}_weight": 0}), batch_of()
    output = head(batch)
    assert set(head.loss(output, batch)) == set(WEIGHTS) - {left_out}
    assert f"{left_out}_pred" not in output.extras


@pytest.mark.parametrize(("only", "foreground"), [("cw", True), ("ca", True), ("mil", False)])
def test_one_branch_alone_scores_the_videos(only, foreground):
    head, batch = make(**{f"{name}_weight": 0 for name in WEIGHTS if name != only}), batch_of()
    output = head(batch)
    assert torch.equal(output.video_scores, output.extras[f"{only}_pred"][:, :3])
    assert hasattr(head, "foreground") == foreground


def test_the_hybrid_attention_is_the_mean_over_temperatures():
    batch = batch_of()
    state = make().state_dict()
    single = []
    for temperature in (1.0, 2.0, 5.0):
        head = make(temperatures=[temperature])
        head.load_state_dict(state)
        single.append(head(batch).extras)
    hybrid = make()(batch).extras
    for name in ("cw_logits", "ca_logits", "mil_logits"):
        torch.testing.assert_close(hybrid[name], torch.stack([one[name] for one in single]).mean(0))
    assert not torch.allclose(single[0]["cw_logits"], single[2]["cw_logits"])
    with pytest.raises(ConfigError, match="temperatures"):
        make(temperatures=[])


def test_background_is_a_class_or_none():
    batch = batch_of()
    assert make()(batch).cas.shape[-1] == 4
    assert torch.equal(make().foreground, -make().actions[-1:])
    without = make(background=False)
    assert without(batch).cas.shape[-1] == 3
    assert set(without.loss(without(batch), batch)) == set(WEIGHTS)


def test_scores_of_videos_have_a_scale_of_their_own():
    batch = batch_of()
    double, single = make()(batch).extras, make(video_scale=5.0)(batch).extras
    for name in ("cw_logits", "ca_logits", "mil_logits"):
        torch.testing.assert_close(double[name], 2 * single[name])


def test_attended_features_by_hand():
    x, scores = torch.randn(1, 5, 4), torch.randn(1, 5, 2)
    mask = torch.tensor([[True, True, True, True, False]])
    for temperature, found in zip((1.0, 3.0), attended(x, scores, mask, (1.0, 3.0)), strict=True):
        for c in range(2):
            weights = (temperature * scores[0, :4, c]).softmax(0)
            torch.testing.assert_close(found[0, c], weights @ x[0, :4])


@pytest.mark.parametrize("classes", [3, 4])
def test_the_branch_as_an_add_on(classes):
    torch.manual_seed(0)
    branch = ClasswiseForeground(6)
    x, cas = torch.rand(2, 7, 6), torch.randn(2, 7, classes, requires_grad=True)
    mask = torch.ones(2, 7, dtype=torch.bool)
    logits = branch(x, cas, mask)
    features = attended(x, cas, mask, branch.temperatures)
    wanted = [10 * torch.cosine_similarity(one, branch.center[None], dim=-1) for one in features]
    torch.testing.assert_close(logits, torch.stack(wanted).mean(0))
    labels = torch.tensor([[1.0, 0, 0], [0, 1, 1]])
    target = with_background(labels, 0.0)[:, :classes]
    loss = branch.loss(logits, labels)
    torch.testing.assert_close(loss, -(target * logits.log_softmax(-1)).sum(-1).mean())
    loss.backward()
    assert cas.grad.abs().sum() > 0
    assert branch.center.grad.abs().sum() > 0


def test_dropout_follows_both_layers():
    head = make(width=256, dropout=0.5)
    x = head.train().embed(batch_of())
    dropped = (x == 0).float().mean()
    kept = (head.eval().embed(batch_of()) == 0).float().mean()
    # Half of the output of ReLU.
    assert dropped == pytest.approx(float(kept + 0.5 * (1 - kept)), abs=0.06)
