"""Laws of every head in the registry."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from tests.support.narrow import NARROW
from tests.support.outputs import stacked
from tests.support.planted import CLASSES, STREAMS, WIDTH, planted_videos
from wtal import models
from wtal.data.batch import SnippetBatch
from wtal.data.grid import SnippetGrid
from wtal.data.store import VideoFeatures
from wtal.errors import ConfigError, UsageError, WeightsError
from wtal.eval import evaluate_detections
from wtal.models import create_head, load_author_checkpoint
from wtal.models.heads import HEADS
from wtal.models.inference import activate
from wtal.models.localization.config import LocalizeConfig
from wtal.models.localization.localize import localize
from wtal.models.training.config import TrainConfig
from wtal.models.training.inputs import LabelledVideo
from wtal.models.training.trainer import Trainer

DIMS = dict.fromkeys(STREAMS, WIDTH)
# Settings of the planted test for heads with special training or detection.
PLANTED_TRAIN = {
    "facnet": {"scaling": "standard"},
    "rskp": {"scaling": "standard"},
    "tscn": {"learning_rate": 1e-3},
    "lgbm": {"steps": 250},
}
PLANTED_LOCALIZE = {
    "basnet": {"signal": "product", "activation": "softmax"},
    "bm": {"signal": "product", "activation": "softmax"},
    "case": {"activation": "sigmoid", "range": "none"},
    "co2net": {"activation": "softmax"},
    "ddgnet": {"activation": "softmax"},
    "delu": {"activation": "softmax"},
    "facnet": {"activation": "softmax", "threshold_start": 0.1},
    "lgbm": {"signal": "product", "activation": "softmax", "nms_tiou": 0.5},
    "rskp": {
        "signal": "product",
        "activation": "softmax",
        "range": "none",
        "threshold_start": 0.001,
        "threshold_stop": 0.1,
        "threshold_step": 0.005,
        "video_weight": 0.0,
        "nms_tiou": 0.5,
    },
    "stpn": {"signal": "product", "activation": "sigmoid"},
    "tscn": {"signal": "product", "activation": "softmax", "range": "none"},
    "um": {"signal": "product", "activation": "softmax"},
}

LONG_TO_TRAIN = ("case", "co2net", "ddgnet", "delu", "facnet", "lgbm", "rskp", "stpn", "tscn")
"""Heads that need more than five seconds to learn planted actions."""

heads = pytest.mark.parametrize("name", HEADS.names())


def make(name, authors=False, seed=0):
    torch.manual_seed(seed)
    return create_head(name, len(CLASSES), DIMS, authors=authors, **NARROW.get(name, {}))


def batch_of(lengths, seed=0, labels=True):
    generator = torch.Generator().manual_seed(seed)
    videos = [{s: torch.rand(n, WIDTH, generator=generator) for s in STREAMS} for n in lengths]
    target = torch.eye(len(CLASSES))[torch.arange(len(lengths)) % len(CLASSES)] if labels else None
    return SnippetBatch.collate(videos, target)


@heads
def test_shapes_and_ranges(name):
    output = make(name).eval()(batch_of([9, 14]))
    assert output.cas.shape[:2] == (2, 14)
    assert output.cas.shape[2] in (len(CLASSES), len(CLASSES) + 1)
    assert output.video_scores.shape == (2, len(CLASSES))
    assert (output.video_scores >= 0).all()
    assert (output.video_scores <= 1).all()
    if output.attention is not None:
        assert output.attention.shape == (2, 14)
        assert ((output.attention >= 0) & (output.attention <= 1)).all()


@heads
@pytest.mark.parametrize("authors", [False, True])
def test_every_parameter_gets_a_finite_gradient(name, authors):
    head, batch = make(name, authors).train(), batch_of([20, 30, 25])
    torch.stack(list(head.loss(head(batch), batch).values())).sum().backward()
    for key, parameter in head.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
        assert parameter.grad.abs().sum() > 0, key


@heads
def test_padding_never_changes_the_rest(name):
    head = make(name).eval()
    alone, padded = batch_of([12]), batch_of([12, 40])
    rest = {s: torch.where(padded.mask[..., None], v, torch.full_like(v, 7.0)) for s, v in padded.streams.items()}
    garbage = SnippetBatch(rest, padded.mask, padded.labels)
    left, right = head(alone), head(garbage)
    torch.testing.assert_close(left.cas[0], right.cas[0, :12], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(left.video_scores[0], right.video_scores[0], rtol=1e-5, atol=1e-6)
    if left.attention is not None:
        torch.testing.assert_close(left.attention[0], right.attention[0, :12], rtol=1e-5, atol=1e-6)


@heads
@pytest.mark.parametrize("authors", [False, True])
def test_every_snippet_has_an_embedding(name, authors):
    head = make(name, authors).eval()
    alone, padded = head(batch_of([12])).embeddings, head(batch_of([12, 40] if not authors else [12, 12])).embeddings
    assert alone
    assert alone.keys() == padded.keys()
    assert set(alone) in ({""}, set(STREAMS))
    for key, x in alone.items():
        assert x.shape[:2] == (1, 12)
        assert x.shape[2] > 1
        assert x[0].std(dim=0).sum() > 0
        torch.testing.assert_close(x[0], padded[key][0, :12], rtol=1e-5, atol=1e-6)


@heads
def test_a_batch_is_its_videos(name):
    head, batch = make(name).eval(), batch_of([15, 15, 15])
    together = head(batch)
    for i in range(3):
        alone = head(SnippetBatch({s: v[i : i + 1] for s, v in batch.streams.items()}, batch.mask[i : i + 1]))
        torch.testing.assert_close(alone.cas[0], together.cas[i], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(alone.video_scores[0], together.video_scores[i], rtol=1e-5, atol=1e-6)


@heads
@pytest.mark.parametrize("authors", [False, True])
def test_a_batch_trains_as_the_loop_over_its_videos(name, authors):
    """Loss and gradients of a padded batch are the mean over its videos, one after the other."""
    head, batch = make(name, authors).eval(), batch_of([14, 9, 21, 14, 30, 1])
    if authors:  # as their code does, which pads by sampling every video to one length
        batch = batch_of([21] * 6)
    batch = SnippetBatch(batch.streams, batch.mask, torch.eye(len(CLASSES))[[0, 0, 1, 1, 2, 2]])
    together = gradients(head, [batch])
    alone = [part(batch, i) for i in range(len(batch.mask))]
    tied = head.pairs or head.ties_videos
    looped = gradients_over_outputs(head, alone, batch) if tied else gradients(head, alone)
    assert together.keys() == looped.keys()
    for key in together:
        torch.testing.assert_close(
            together[key], looped[key], rtol=1e-4, atol=1e-6, msg=lambda m, key=key: f"{key}: {m}"
        )


def part(batch, i):
    """Single i-th video, without its padding."""
    length = int(batch.mask[i].sum())
    streams = {name: x[i : i + 1, :length] for name, x in batch.streams.items()}
    return SnippetBatch(streams, batch.mask[i : i + 1, :length], batch.labels[i : i + 1])


def gradients(head, batches):
    """Loss and gradients of every parameter, as the mean over batches."""
    head.zero_grad()
    losses = [torch.stack(list(head.loss(head(batch), batch).values())).sum() for batch in batches]
    (torch.stack(losses).sum() / len(batches)).backward()
    found = {key: p.grad.clone() for key, p in head.named_parameters()}
    return {"loss": torch.stack(losses).mean().detach(), **found}


def gradients_over_outputs(head, alone, batch):
    """Loss and gradients if the loss couples videos: each passes the head alone, and the loss gets all outputs."""
    head.zero_grad()
    loss = torch.stack(
        list(head.loss(stacked([head(one) for one in alone], batch.lengths.tolist()), batch).values())
    ).sum()
    loss.backward()
    return {"loss": loss.detach(), **{key: p.grad.clone() for key, p in head.named_parameters()}}


@heads
def test_equal_seeds_make_equal_heads_and_steps(name):
    losses = []
    for _ in range(2):
        head, batch = make(name, seed=3).train(), batch_of([20, 30])
        torch.manual_seed(5)
        losses.append([value.item() for value in head.loss(head(batch), batch).values()])
    assert losses[0] == losses[1]


@heads
def test_state_round_trip(name):
    first, second, batch = make(name, seed=1).eval(), make(name, seed=2).eval(), batch_of([10])
    assert not torch.equal(first(batch).cas, second(batch).cas)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(batch).cas, second(batch).cas)


@heads
@pytest.mark.parametrize("labels", ["none", "all"])
def test_one_snippet_and_extreme_labels(name, labels):
    head, batch = make(name).train(), batch_of([1, 2])
    target = torch.zeros(2, len(CLASSES)) if labels == "none" else torch.ones(2, len(CLASSES))
    batch = SnippetBatch(batch.streams, batch.mask, target)
    for key, value in head.loss(head(batch), batch).items():
        assert torch.isfinite(value), key


@heads
def test_unknown_settings_and_foreign_checkpoints_are_refused(name):
    with pytest.raises(ConfigError, match="widht"):
        create_head(name, 3, DIMS, widht=3)
    with pytest.raises(WeightsError, match="nonsense"):
        load_author_checkpoint(name, {"nonsense": torch.zeros(1)}, num_classes=3)


@heads
def test_a_head_without_classes_or_features_is_refused(name):
    for classes in (0, -1):
        with pytest.raises(UsageError, match=f"at least one class, got {classes}"):
            create_head(name, classes, DIMS)
        with pytest.raises(UsageError, match=f"at least one class, got {classes}"):
            load_author_checkpoint(name, {}, classes)
    for dims in ({}, {"rgb": 0}):
        with pytest.raises(UsageError, match="at least one stream of features"):
            create_head(name, 3, dims)


@pytest.mark.parametrize("name", ["basnet", "case", "co2net", "ddgnet", "delu", "facnet", "rskp", "um", "wtalc"])
def test_keys_that_fall_together_and_values_that_are_no_tensors_are_refused(name):
    with pytest.raises(WeightsError, match=r"mu is there twice, with and without module\."):
        load_author_checkpoint(name, {"mu": torch.zeros(1), "module.mu": torch.ones(1)}, num_classes=3)
    with pytest.raises(WeightsError, match="epoch is of type int, wanted a tensor"):
        load_author_checkpoint(name, {"epoch": 3}, num_classes=3)
    with pytest.raises(WeightsError, match="mu is empty"):
        load_author_checkpoint(name, {"mu": torch.zeros(0)}, num_classes=3)


def test_a_batch_is_made_beside_the_head_that_takes_it():
    assert models.SnippetBatch is SnippetBatch
    with pytest.raises(AttributeError):
        models.Snippets  # noqa: B018


def test_an_unknown_head_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'basnet'"):
        create_head("basnett", 3, DIMS)


@pytest.mark.parametrize(
    ("name", "seed"),
    [
        pytest.param(name, seed, marks=pytest.mark.slow if seed or name in LONG_TO_TRAIN else ())
        for name in HEADS.names()
        for seed in (0, 1)
    ],
)
def test_planted_actions_are_found(name, seed, tmp_path):
    train, held_out = planted_videos(24, seed=1), planted_videos(16, seed=2)
    settings = {"steps": 200, "batch_size": 8, "learning_rate": 2e-3, "sampling": "full", "checkpoint_every": 200}
    config = TrainConfig(**settings | PLANTED_TRAIN.get(name, {}))
    # Search every class: of two in a video, a softmax may leave almost nothing to the lesser.
    found_by = {"threshold_stop": 0.9, "threshold_step": 0.05, "class_threshold": 0.0}
    localization = LocalizeConfig(**found_by | PLANTED_LOCALIZE.get(name, {}))
    videos = [LabelledVideo(v.id, lambda v=v: v.streams, v.labels) for v in train]
    trained = Trainer(make(name, seed=seed), videos, config, seed, tmp_path).run()
    detections = {}
    for video in held_out:
        length = len(video.streams["rgb"])
        grid = SnippetGrid(Fraction(25), length * 25 // 2, Fraction(25, 2), 12)
        assert grid.num_snippets == length
        made = activate(trained.head, trained.scaler, VideoFeatures(video.id, grid, video.streams, {}))
        detections[video.id] = localize(made, grid, CLASSES, localization)
    truth = {video.id: video.annotations for video in held_out}
    found = evaluate_detections(truth, detections, [0.5]).average
    assert found > 0.9, f"{name}: mAP@0.5 is {found:.3f} on planted actions"


def test_attention_is_learned_without_times():
    """Training batches have no field for annotations."""
    fields = set(SnippetBatch.__dataclass_fields__)
    assert fields == {"streams", "mask", "labels", "ids", "grids"}
    assert set(LabelledVideo.__dataclass_fields__) == {"id", "load", "labels"}
    assert np.ndim(planted_videos(1, 0)[0].labels) == 1
