"""Requests of a head to the trainer: pairs of a class first, stages, a pass over all videos; and epochs for steps."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.planted import CLASSES, STREAMS, WIDTH, planted_videos
from wtal.errors import ConfigError, UsageError
from wtal.models.head import Head, HeadOutput
from wtal.models.layers.late_fusion import LateFusion, weighted_mean
from wtal.models.training.checkpoint import Checkpoint, load_stage, load_trained
from wtal.models.training.config import TrainConfig
from wtal.models.training.inputs import LabelledVideo, Scaler, choose_pairs, training_batch
from wtal.models.training.trainer import Trainer, steps_of

BASE = {"steps": 12, "batch_size": 4, "learning_rate": 1e-2, "sampling": "full", "checkpoint_every": 5}


class Recorder(Head):
    """Linear head that records the trainer's calls; its memory and its average are buffers."""

    def __init__(self, pairs=0, stages=1, stream="rgb"):
        super().__init__()
        self.stream = stream
        torch.manual_seed(0)
        self.num_classes, self.pairs, self.stages = len(CLASSES), pairs, stages
        self.linear = nn.Linear(WIDTH, len(CLASSES))
        self.register_buffer("memory", torch.zeros(WIDTH))
        self.register_buffer("sum", torch.zeros_like(self.linear.weight))
        self.batches, self.moments, self.ended = [], [], []

    def forward(self, batch):
        if self.training:
            self.batches.append(batch)
        cas = self.linear(batch.streams[self.stream] + self.memory)
        return HeadOutput(cas, None, cas.mean(dim=1).softmax(dim=-1))

    def loss(self, output, batch):
        return {"loss": -(output.video_scores.log() * batch.labels).mean()}

    def begin_step(self, moment, videos):
        self.moments.append(moment)
        if moment.share >= 0.5 and not self.memory.any():
            self.memory.copy_(
                torch.stack([batch.streams[self.stream].mean(dim=(0, 1)) for batch in videos()]).mean(dim=0)
            )

    def end_stage(self, stage):
        self.ended.append(stage)
        self.sum += self.linear.weight.detach()

    def finish(self):
        self.linear.weight.data.copy_(self.sum / self.stages)


def videos():
    return [LabelledVideo(v.id, lambda v=v: v.streams, v.labels) for v in planted_videos(9, seed=4)]


def train(folder, head, stop_after=None, **settings):
    trainer = Trainer(head, videos(), TrainConfig(**{**BASE, **settings}), 3, folder)

    def on_step(progress):
        if progress.step == stop_after:
            raise KeyboardInterrupt

    return trainer.run(on_step)


def test_pairs_of_one_class_stand_first(tmp_path):
    head = Recorder(pairs=2)
    train(tmp_path, head, batch_size=6)
    assert len(head.batches) == 12
    for batch in head.batches:
        assert len(batch.ids) == 6
        for i in (0, 2):
            assert (batch.labels[i] * batch.labels[i + 1]).any()
            assert batch.ids[i] != batch.ids[i + 1]
    others = [name for batch in head.batches for name in batch.ids[4:]]
    assert len(set(others[:9])) == 9  # after the pairs, every video comes once before any comes twice


def test_pairs_are_drawn_of_all_classes_that_two_videos_share():
    rng = np.random.default_rng(0)
    drawn = [choose_pairs([[0, 1, 2], [3, 4]], 2, rng) for _ in range(50)]
    assert {tuple(sorted(pairs[i : i + 2])) for pairs in drawn for i in (0, 2)} == {(0, 1), (0, 2), (1, 2), (3, 4)}
    assert all(len({pairs[0] < 3, pairs[2] < 3}) == 2 for pairs in drawn)  # two classes, so each gives one pair
    assert len(choose_pairs([[5, 6]], 3, rng)) == 6
    assert choose_pairs([], 3, rng) == []


@pytest.mark.parametrize(
    ("head", "settings", "words"),
    [
        ({"pairs": 3}, {}, "batch_size >= 6"),
        ({"pairs": 1}, {"accumulate": 2}, "accumulate"),
        ({"stages": 13}, {}, "13 stages"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(tmp_path, head, settings, words):
    with pytest.raises(ConfigError, match=words):
        train(tmp_path, Recorder(**head), **settings)


def test_stages_are_kept_and_the_last_word_is_the_heads(tmp_path):
    head = Recorder(stages=3)
    trained = train(tmp_path, head)
    assert head.ended == [0, 1, 2]
    kept = [load_stage(Recorder(), tmp_path, stage) for stage in range(3)]
    assert [one.step for one in kept] == [4, 8, 12]
    mean = torch.stack([one.head.linear.weight for one in kept]).mean(dim=0)
    torch.testing.assert_close(trained.head.linear.weight, mean)
    assert torch.equal(load_trained(Recorder(), tmp_path).head.linear.weight, trained.head.linear.weight)
    assert not torch.equal(kept[2].head.linear.weight, trained.head.linear.weight)
    with pytest.raises(UsageError, match="no stage 3; it has 0, 1, 2"):
        load_stage(Recorder(), tmp_path, 3)
    with pytest.raises(UsageError, match="was not trained in stages; leave out --stage"):
        load_stage(Recorder(), tmp_path / "elsewhere", 0)


@pytest.mark.parametrize("stop", [3, 4, 6, 8, 11])
def test_memories_and_stages_survive_a_stop(tmp_path, stop):
    whole = train(tmp_path / "whole", Recorder(stages=3))
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", Recorder(stages=3), stop_after=stop)
    resumed = train(tmp_path / "cut", Recorder(stages=3))
    left, right = whole.head.state_dict(), resumed.head.state_dict()
    assert whole.head.memory.any()
    for key in left:
        assert torch.equal(left[key], right[key]), key
    for stage in range(3):
        one, other = (load_stage(Recorder(), tmp_path / name, stage).head for name in ("whole", "cut"))
        assert torch.equal(one.linear.weight, other.linear.weight)


def test_a_head_is_told_where_training_stands(tmp_path):
    head = Recorder()
    train(tmp_path, head)
    assert [moment.step for moment in head.moments] == list(range(12))
    assert [moment.epoch for moment in head.moments] == [step * 4 // 9 for step in range(12)]
    assert head.moments[6].share == 0.5


def test_epochs_count_passes_over_the_videos(tmp_path):
    assert steps_of(TrainConfig(epochs=5, batch_size=4), 9) == 5 * math.ceil(9 / 4)
    assert steps_of(TrainConfig(steps=7), 9) == 7
    train(tmp_path, Recorder(), epochs=2)
    state = Checkpoint.newest(tmp_path)
    assert state.step == state.steps == 6


def test_late_fusion_trains_every_stream_and_hands_hooks_on(tmp_path):
    parts = {stream: Recorder(stages=2, stream=stream) for stream in STREAMS}
    head = LateFusion(parts, fused)
    Trainer(head, videos(), TrainConfig(**BASE), 0, tmp_path).run()
    assert [part.ended for part in parts.values()] == [[0, 1], [0, 1]]
    assert all(part.memory.any() for part in parts.values())
    assert not torch.equal(parts["rgb"].memory, parts["flow"].memory)
    assert {stream: {tuple(b.streams) for b in part.batches} for stream, part in parts.items()} == {
        stream: {(stream,)} for stream in STREAMS
    }
    both = head(trainer_batch())
    assert set(both.streams) == set(STREAMS)
    assert set(head.loss(both, trainer_batch())) == {"loss_rgb", "loss_flow"}
    with pytest.raises(UsageError, match="lack 'flow'"):
        head(trainer_batch().only("rgb"))


def trainer_batch():
    return training_batch(videos()[:3], Scaler({}, {}), None, 0.0, np.random.default_rng(0))


def fused(outputs):
    return HeadOutput(
        weighted_mean({name: one.cas for name, one in outputs.items()}, {}),
        None,
        weighted_mean({name: one.video_scores for name, one in outputs.items()}, {"rgb": 3.0}),
    )
