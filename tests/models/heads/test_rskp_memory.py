"""RSKP's memory: filled with the best means, kept in a resumed run, read by videos."""

import numpy as np
import pytest
import torch

from tests.support.rskp import DIMS, batch_of, batch_of_one, fill, head_of
from wtal.errors import ConfigError
from wtal.models import create_head
from wtal.models.head import Moment
from wtal.models.training.config import TrainConfig
from wtal.models.training.inputs import LabelledVideo
from wtal.models.training.trainer import Trainer


def test_the_memory_is_filled_where_the_warmup_ends_with_the_best_means_of_each_class():
    labels = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 0]])
    batch = batch_of((20, 13, 9, 11), labels=labels)
    singles = [batch_of_one(batch, i) for i in range(4)]
    head = head_of(memory_slots=6).eval()
    head.begin_step(Moment(4, 10, 0), lambda: iter(singles))
    assert not head.memory.is_filled
    output = head(batch)
    fill(head, singles)
    for c in range(3):
        shown = labels[:, c] > 0
        scores = output.extras["mu_pred"][shown][..., c].flatten()
        means = output.extras["mu"][shown].flatten(0, 1)
        best = scores.topk(min(6, len(scores)))
        torch.testing.assert_close(head.memory.scores[c, : len(best.values)], best.values)
        torch.testing.assert_close(head.memory.features[c, : len(best.values)], means[best.indices])
        assert (head.memory.scores[c, len(best.values) :] == 0).all()


def test_the_videos_of_a_step_leave_what_they_leave_one_by_one():
    batch = batch_of()
    together, looped = fill(head_of(dropout=0.0), [batch_of(seed=1)]), fill(head_of(dropout=0.0), [batch_of(seed=1)])
    together.train()(batch)
    for i in range(3):
        looped.train()(batch_of_one(batch, i))
    torch.testing.assert_close(together.memory.scores, looped.memory.scores)
    torch.testing.assert_close(together.memory.features, looped.memory.features)
    before = together.memory.features.clone()
    together.eval()(batch_of(seed=2))
    assert torch.equal(before, together.memory.features)


def test_empty_slots_take_part_only_in_the_authors_form():
    batch = batch_of()
    ours, theirs = head_of(memory_slots=9), head_of(memory_slots=9, authors=True)
    for head in (ours, theirs):
        fill(head.eval(), [batch_of(seed=3)])
    assert (ours.memory.scores[0] == 0).any()
    left, right = (head(batch).extras["r_cas"] for head in (ours, theirs))
    assert not torch.allclose(left, right)


def test_a_video_that_the_memory_does_not_know_walks_with_its_own_means():
    head = fill(head_of().eval(), [batch_of((9,), labels=torch.tensor([[0.0, 1, 0]]))])
    output = head(batch_of())
    torch.testing.assert_close(output.extras["r_cas"][0], output.extras["m_cas"][0])
    assert not torch.allclose(output.extras["r_cas"][1], output.extras["m_cas"][1])


def test_pseudo_labels_weigh_less_once_the_memory_is_in_and_come_from_both_branches():
    head, batch = head_of(inter_share=0.0).eval(), batch_of()
    before = head.loss(head(batch), batch)["spl"]
    torch.testing.assert_close(head.loss(fill(head, [batch])(batch), batch)["spl"], 0.5 * before)
    other = head_of(inter_share=1.0).eval()
    after = other.loss(fill(other, [batch_of(seed=7)])(batch), batch)["spl"]
    assert not torch.allclose(after, 0.5 * before)


@pytest.mark.parametrize("memory", ["class", "video"])
def test_a_resumed_run_goes_on_with_its_memory(tmp_path, memory):
    videos = [
        LabelledVideo(f"v{i}", lambda i=i: {k: v.numpy() for k, v in batch_of((12,), seed=i).streams.items()}, label)
        for i, label in enumerate(np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 2]])
    ]
    config = TrainConfig(steps=8, batch_size=3, sampling="full", checkpoint_every=1, learning_rate=1e-2)

    def trainer(folder):
        return Trainer(head_of(memory=memory, memory_videos=6), videos, config, 0, tmp_path / folder)

    whole = trainer("whole").run().head.state_dict()
    for stop in (3, 5, 8):

        def interrupt(progress, stop=stop):
            if progress.step == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            trainer("parts").run(interrupt)
    resumed = trainer("parts").run().head.state_dict()
    assert whole["memory.filled"] == 1
    for key, value in whole.items():
        assert torch.equal(value, resumed[key]), key


def test_the_memory_of_videos_gives_another_of_the_same_class_and_follows_slowly():
    labels = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 0, 1]])
    batch = batch_of(labels=labels)
    head = fill(head_of(memory="video", memory_videos=3, memory_momentum=0.75, dropout=0.0), [batch])
    stored = head.memory.features.clone()
    torch.testing.assert_close(stored, head.eval()(batch).extras["mu"])
    found = head.memory.train().retrieve(batch.labels, batch)
    torch.testing.assert_close(found.features[:2], stored[[1, 0]])
    assert found.present.any(dim=1).tolist() == [True, True, False]
    with torch.no_grad():
        head.representatives.mu.add_(1.0)
    now = head.train()(batch).extras["mu"]
    torch.testing.assert_close(head.memory.features, 0.75 * stored + 0.25 * now)
    with pytest.raises(ConfigError, match=r"memory_videos = 2 is fewer than the training videos"):
        fill(head_of(memory="video", memory_videos=2), [batch])


def test_a_head_tells_what_it_remembers_once_its_memory_is_filled():
    head = head_of().eval()
    assert head.remembered_snippets() is None
    vectors, classes = fill(head, [batch_of()]).remembered_snippets()
    assert vectors.shape == (len(classes), 16)
    assert set(classes.tolist()) == {0, 1, 2}
    assert head_of(branches="intra").remembered_snippets() is None
    assert create_head("bm", 3, DIMS).remembered_snippets() is None
