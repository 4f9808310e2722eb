"""Training of a rescorer on planted actions, and the contents of its batches and outputs."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from tests.support.planted import CLASSES, WIDTH, planted_videos
from wtal.data.grid import SnippetGrid
from wtal.data.segments import Detection
from wtal.data.store import VideoFeatures
from wtal.models import create_rescorer
from wtal.models.localization.config import LocalizeConfig
from wtal.models.refinement.config import RescoreConfig
from wtal.models.refinement.rescoring import (
    ProposedVideo,
    RescorerTrainer,
    ScoredProposals,
    in_snippets,
    proposed_batch,
    rescored_detections,
    scored_proposals,
)
from wtal.models.training.inputs import Scaler

NOT_SCALED = Scaler({}, {})


def grid_of(video):
    return SnippetGrid(Fraction(25), 12 * len(video.streams["rgb"]), Fraction(12), 12)


def proposals_of(video, number):
    """Planted segments, slightly moved, among random ones of equal length."""
    rng, grid = np.random.default_rng(number), grid_of(video)
    planted = np.array([(a.start, a.end) for a in video.annotations])
    lengths = np.diff(planted, axis=1)[:, 0]
    starts = rng.uniform(0, grid.end - np.repeat(lengths, 6))
    others = np.stack([starts, starts + np.repeat(lengths, 6)], axis=1)
    near = planted + rng.uniform(-0.05, 0.05, planted.shape) * lengths[:, None]
    return np.concatenate([near, others]).clip(0, grid.end)


def proposed(video, number):
    shown = np.array([name in {a.label for a in video.annotations} for name in CLASSES], dtype=np.float32)
    return ProposedVideo(
        video.id, lambda: video.streams, shown, in_snippets(proposals_of(video, number), grid_of(video))
    )


def test_planted_actions_score_above_other_proposals_of_their_video(tmp_path):
    """Train with labels of videos only, and judge on other videos."""
    videos = planted_videos(24, seed=0)
    config = RescoreConfig.parse({"rescorer": {"name": "pmil"}, "train": {"steps": 80, "learning_rate": 1e-3}})
    torch.manual_seed(0)
    rescorer = create_rescorer("pmil", len(CLASSES), {"rgb": WIDTH, "flow": WIDTH}, width=32, head_width=16)
    trainer = RescorerTrainer(
        rescorer, [proposed(v, i) for i, v in enumerate(videos[:18])], config, NOT_SCALED, 0, tmp_path
    )
    trainer.run()
    right = []
    for number, video in enumerate(videos[18:]):
        candidates = [Detection(start, end, "any", 0.0) for start, end in proposals_of(video, number).tolist()]
        features = VideoFeatures(video.id, grid_of(video), video.streams, {})
        scored = scored_proposals(rescorer.eval(), NOT_SCALED, features, candidates)
        best = scored.borders[scored.scores.max(axis=1).argmax()]
        label = CLASSES[scored.scores.max(axis=0).argmax()]
        own = [a for a in video.annotations if a.label == label]
        right.append(any(min(best[1], a.end) - max(best[0], a.start) > 0.5 * (a.end - a.start) for a in own))
    assert sum(right) >= 5, right


def test_of_many_proposals_some_are_drawn():
    video = planted_videos(1, seed=0)[0]
    borders = np.sort(np.random.default_rng(0).uniform(0, 50, (1500, 2)), axis=1)
    many = ProposedVideo("many", lambda: video.streams, np.ones(len(CLASSES), np.float32), borders)
    first, second = (proposed_batch([many], NOT_SCALED, 1000, np.random.default_rng(seed)).borders for seed in (0, 1))
    assert first.shape == second.shape == (1000, 2)
    rows = {tuple(row) for row in borders.tolist()}
    assert len({tuple(row) for row in first.tolist()} & rows) == 1000
    assert not torch.equal(first, second)
    few = proposed_batch([many], NOT_SCALED, 1500, np.random.default_rng(0)).borders
    np.testing.assert_array_equal(few.numpy(), borders)


def test_seconds_are_snippets_of_the_videos_own_clock():
    grid = SnippetGrid(Fraction(25), 160, Fraction(16), 16, begins=Fraction(1, 2))
    seconds = np.array([[0.5, 0.5 + 0.64], [0.5 + 3.2, 0.5 + 6.4]])
    np.testing.assert_allclose(in_snippets(seconds, grid), [[0, 1], [5, 10]], atol=1e-12)


@pytest.mark.parametrize(
    ("video_scores", "shown", "labels"),
    [
        ([0.5, 0.3, 0.1], [True, True, True], {"a", "b"}),
        ([0.1, 0.15, 0.1], [True, True, True], {"b"}),
        ([0.5, 0.3, 0.1], [False, False, True], {"c"}),
        ([0.5, 0.3, 0.1], [False, False, False], set()),
    ],
)
def test_classes_that_are_looked_for(video_scores, shown, labels):
    scored = ScoredProposals(np.array([[0.0, 2.0], [1.0, 4.0]]), np.full((2, 3), 0.5), np.array(video_scores))
    found = rescored_detections(
        scored, ("a", "b", "c"), np.array(shown), LocalizeConfig(suppression="none"), RescoreConfig(), 0.5
    )
    assert {d.label for d in found} == labels
    for detection in found:
        expected = 0.5 + 0.2 * video_scores["abc".index(detection.label)]
        assert detection.score == pytest.approx(expected)
