"""TriDet, and FuSTAL's copy of it, against their authors' numbers; its repairs."""

import pytest
import torch

from tests.support.reference import needs_shared
from tests.support.students import assert_detections, assert_near, reference_targets, student_reference
from wtal.errors import ConfigError
from wtal.models import create_student, load_author_student
from wtal.models.regression.decoding import decode
from wtal.models.regression.suppression import gaussian_suppression
from wtal.models.regression.video_term import video_term
from wtal.models.students.tridet import mean_distance

BOTH = pytest.mark.parametrize("name", ["student_tridet_thumos", "student_fustal_thumos"])
SMALL = {"width": 32, "branch_blocks": 2, "bins": 4, "wide": 3}


def load(name):
    ours = student_reference(name)
    settings = {"max_length": 256, "drop_path": 0.0, "input_noise": 0.0}
    return ours, load_author_student("tridet", ours.weights, 20, **settings)


@needs_shared
@BOTH
def test_answers_lessons_and_losses_equal_the_authors(name):
    ours, student = load(name)
    output = student.train()(ours.features, ours.mask)
    assert torch.equal(output.mask, torch.from_numpy(ours.arrays["mask"]))
    assert_near(output.logits, ours.arrays["logits"])
    theirs = {"bins": "offsets", "starts": "start_logits", "ends": "end_logits"}
    for key, array in theirs.items():
        assert_near(output.extras[key], ours.arrays[array])
    targets = reference_targets(ours, output.points, 20)
    assert_near(targets.classes, ours.arrays["class_targets"], 0)
    assert_near(targets.distances, ours.arrays["offset_targets"])
    losses = ours.facts["losses"]
    for step in (1, 2):
        terms = student.loss(output, targets)
        assert student.normalizer.item() == pytest.approx(losses[f"normalizer_step{step}"], rel=1e-9)
        assert terms["class"].item() == pytest.approx(losses[f"cls_loss_step{step}"], rel=1e-5)
        assert terms["regression"].item() == pytest.approx(losses[f"reg_loss_step{step}"], rel=1e-5)
        total = sum(terms.values())
        if name == "student_fustal_thumos":
            labels = torch.zeros(len(ours.mask), 20)
            for video in range(len(labels)):
                labels[video, torch.from_numpy(ours.arrays[f"classes{video}"])] = 1
            term = video_term(output, labels, 5, authors=True)
            both = losses[f"cls_loss_step{step}"] + losses[f"reg_loss_step{step}"]
            assert term.item() == pytest.approx(losses[f"final_loss_step{step}"] - both, rel=1e-4)
            total = total + term
        assert total.item() == pytest.approx(losses[f"final_loss_step{step}"], rel=1e-5)


@needs_shared
@BOTH
def test_detections_equal_the_authors(name):
    ours, student = load(name)
    for video, length in enumerate(ours.mask.sum(dim=1).tolist()):
        with torch.no_grad():
            output = student(ours.features[video : video + 1, :length], ours.mask[video : video + 1, :length])
        left = gaussian_suppression(*(values.numpy() for values in decode(output, 0)), max_detections=2000)
        best = type(left)(*(values[:200] for values in left))
        assert_detections(best, ours.arrays[f"detections{video}"], ours.facts, video)


@needs_shared
def test_the_right_form_equals_the_authors_where_nothing_is_padded_but_at_the_ends():
    """Compare logits of classes and both borders, and distances without positions outside of the video."""
    ours, theirs = load("student_tridet_thumos")
    mine = create_student("tridet", 20, 2048, form="thumos14").eval()
    mine.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        right, lean = (student(ours.features[:1], ours.mask[:1]) for student in (mine, theirs))
    assert_near(right.logits[0], ours.arrays["logits"][0])
    assert_near(right.extras["starts"][0], ours.arrays["start_logits"][0])
    level = slice(0, 256)
    inner = slice(16, 240)
    torch.testing.assert_close(right.distances[0, level][inner], lean.distances[0, level][inner], atol=1e-4, rtol=0)
    assert (right.distances[0, 0, :, 0] == 0).all()
    assert (lean.distances[0, 0, :, 0] > 1).all()


def test_a_distance_is_the_mean_of_bins_that_lie_in_the_video():
    torch.manual_seed(0)
    own, border = torch.randn(1, 6, 4), torch.randn(1, 6, 2)
    real = torch.tensor([[True, True, True, True, True, False]])
    right, theirs = mean_distance(own, border, real), mean_distance(own, border, None)
    for t in range(5):
        for c in range(2):
            logits = [own[0, t, j] + border[0, t + j, c] for j in range(4) if t + j < 5]
            share = torch.stack(logits).softmax(dim=0)
            assert right[0, t, c].item() == pytest.approx(sum(j * p.item() for j, p in enumerate(share)), abs=1e-6)
            logits = [own[0, t, j] + (border[0, t + j, c] if t + j < 6 else 0.0) for j in range(4)]
            share = torch.stack(logits).softmax(dim=0)
            assert theirs[0, t, c].item() == pytest.approx(sum(j * p.item() for j, p in enumerate(share)), abs=1e-6)


def test_no_segment_of_the_right_form_leaves_its_video():
    torch.manual_seed(0)
    student = create_student("tridet", 3, 8, **SMALL).eval()
    mask = torch.arange(30)[None] < torch.tensor([30, 19])[:, None]
    output = student(torch.rand(2, 30, 8), mask)
    for video, length in enumerate((30, 19)):
        borders = decode(output, video, threshold=0.0).borders
        assert len(borders)
        assert borders.min() >= 0
        assert borders.max() <= length - 1 + 1e-4


def test_kernels_that_start_at_zero_never_learn():
    torch.manual_seed(0)
    sizes = {}
    for deviation in (0.0, 0.1):
        student = create_student("tridet", 3, 8, kernel_deviation=deviation, residual_scale=1.0, drop_path=0.0, **SMALL)
        output = student(torch.rand(1, 20, 8), torch.ones(1, 20, dtype=torch.bool))
        (output.logits.sum() + output.distances.sum()).backward()
        kernels = [
            parameter.grad.abs().sum().item()
            for name, parameter in student.named_parameters()
            if name.split(".")[-2] in ("fc", "psi", "narrow", "wide", "whole")
        ]
        sizes[deviation] = kernels
    assert sum(sizes[0.0]) == 0
    assert min(sizes[0.1]) > 0


@pytest.mark.parametrize("authors", [False, True])
def test_the_class_loss_leads_borders_in_the_authors_form_alone(authors):
    torch.manual_seed(0)
    student = create_student("tridet", 3, 8, authors=authors, max_length=20, **SMALL)
    distances = torch.rand(1, 5, 3, 2).add(0.5).requires_grad_()
    targets = torch.rand(1, 5, 3, 2).add(0.5)
    places = (torch.tensor([0]), torch.tensor([2]), torch.tensor([1]))
    entropy = student.weigh_by_borders(torch.ones(1, 5, 3), places, distances[places], targets[places])
    shared = torch.minimum(distances[0, 2, 1], targets[0, 2, 1]).sum()
    iou = shared / (distances[0, 2, 1].sum() + targets[0, 2, 1].sum() - shared)
    assert entropy[0, 2, 1].item() == pytest.approx(iou.item() ** 0.2, rel=1e-5)
    assert entropy.sum().item() == pytest.approx(14 + iou.item() ** 0.2, rel=1e-5)
    assert entropy.requires_grad == authors


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"narrow": 2}, "narrow must be odd, got 2"),
        ({"wide": 4}, "wide must be odd, got 4"),
        ({"width": 24}, "multiple of 16, got 24"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        create_student("tridet", 3, 8, **settings)
