"""Losses of points against their formulas, and the term of video-level labels."""

import math

import pytest
import torch

from wtal.models.regression.losses import distance_iou, focal, iou, smoothed
from wtal.models.regression.points import pyramid_points
from wtal.models.regression.video_term import video_term
from wtal.models.student import StudentOutput


def test_focal_loss_is_its_formula():
    p = 1 / (1 + math.exp(-0.7))
    loss = focal(torch.tensor([0.7, 0.7]), torch.tensor([1.0, 0.0])).tolist()
    assert loss == pytest.approx([-0.25 * (1 - p) ** 2 * math.log(p), -0.75 * p**2 * math.log(1 - p)], rel=1e-5)


def test_smoothing_spreads_over_classes_and_background():
    assert smoothed(torch.tensor([1.0, 0.0, 0.0]), 0.1).tolist() == pytest.approx([0.925, 0.025, 0.025])
    assert smoothed(torch.tensor([1.0, 0.0]), 0.0).tolist() == [1, 0]


def test_distance_iou_is_its_formula():
    """Segments [-2, 3] and [-1, 5] around a point."""
    ours, wanted = torch.tensor([2.0, 3.0]), torch.tensor([1.0, 5.0])
    assert iou(ours, wanted).item() == pytest.approx(4 / 7)
    assert distance_iou(ours, wanted).item() == pytest.approx(1 - 4 / 7 + (1.5 / 7) ** 2)
    assert distance_iou(wanted, wanted).item() == 0
    nothing = torch.zeros(2, requires_grad=True)
    distance_iou(nothing, torch.zeros(2)).backward()
    assert nothing.grad.isfinite().all()


def answer(logits, lengths):
    """Logits (B, T, C) at stride 1, and other numbers after them."""
    length = logits.shape[1]
    points = pyramid_points([length, -(-length // 2)], 4.0)
    mask = torch.arange(length)[None] < torch.tensor(lengths)[:, None]
    more = torch.full((len(logits), -(-length // 2), logits.shape[2]), 50.0)
    both = torch.cat([logits, more], dim=1)
    return StudentOutput(points, torch.cat([mask, mask[:, ::2]], dim=1), both, torch.zeros(*both.shape[:2], 2))


def test_the_video_term_sees_each_video_alone():
    torch.manual_seed(0)
    logits, lengths = torch.randn(2, 40, 3), (40, 17)
    labels = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    expected = 0.0
    for video, length in enumerate(lengths):
        best = logits[video, :length].sort(dim=0, descending=True).values[: length // 8].mean(dim=0)
        share = labels[video] / labels[video].sum()
        expected -= (share * best.log_softmax(dim=0)).sum().item() / 2
    term = video_term(answer(logits, lengths), labels)
    assert term.item() == pytest.approx(expected, rel=1e-5)
    logits[1, 17:] += 100
    assert video_term(answer(logits, lengths), labels).item() == pytest.approx(expected, rel=1e-5)


def test_the_authors_video_term_takes_one_count_for_the_batch():
    torch.manual_seed(0)
    logits, lengths = torch.randn(2, 40, 3), (40, 17)
    labels = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    best = logits.sort(dim=1, descending=True).values[:, : 57 // 5].mean(dim=1).softmax(dim=-1)
    share = labels / labels.sum(dim=1, keepdim=True)
    expected = -(share * best.log() + (1 - share) * (1 - best).log()).mean()
    assert video_term(answer(logits, lengths), labels, 5, authors=True).item() == pytest.approx(expected.item())
    torch.manual_seed(0)
    dropped = video_term(answer(logits, lengths), labels, drop=0.7)
    assert dropped.item() != pytest.approx(video_term(answer(logits, lengths), labels).item())
