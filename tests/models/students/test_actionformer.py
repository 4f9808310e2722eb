"""ActionFormer against its authors' numbers in both forms: outputs, targets, losses, detections; its switches."""

import pytest
import torch

from tests.support.reference import needs_shared
from tests.support.students import (
    assert_detections,
    assert_near,
    given_answer,
    reference_targets,
    student_reference,
)
from wtal.errors import ConfigError, UsageError, WeightsError
from wtal.models import create_student, load_author_student
from wtal.models.regression.decoding import decode
from wtal.models.regression.suppression import Detections, gaussian_suppression, with_class_scores

THUMOS = ("student_actionformer_thumos", 20, "thumos14", {"max_length": 576})
ANET = ("student_actionformer_anet", 1, "activitynet-1.3", {})
BOTH = pytest.mark.parametrize(("name", "classes", "form", "settings"), [THUMOS, ANET], ids=["thumos", "anet"])


def load(name, classes, form, settings):
    ours = student_reference(name)
    return ours, load_author_student("actionformer", ours.weights, classes, form, drop_path=0.0, **settings)


def detections(output, form):
    """Candidates of the first video and their suppression with the form's settings."""
    if form == "thumos14":
        return gaussian_suppression(*(values.numpy() for values in decode(output, 0)))
    candidates = decode(output, 0, shortest=0.001)
    return gaussian_suppression(
        *(values.numpy() for values in candidates), sigma=0.75, max_detections=100, by_class=False, voting_tiou=0.9
    )


@needs_shared
@BOTH
def test_answers_lessons_and_losses_equal_the_authors(name, classes, form, settings):
    ours, student = load(name, classes, form, settings)
    student.train()
    output = student(ours.features, ours.mask)
    points = output.points
    assert_near(torch.stack([points.time, points.low, points.high, points.stride], dim=1), ours.arrays["points"], 0)
    assert torch.equal(output.mask, torch.from_numpy(ours.arrays["mask"]))
    assert_near(output.logits, ours.arrays["logits"])
    assert_near(output.distances, ours.arrays["offsets"])
    targets = reference_targets(ours, points, classes)
    assert_near(targets.classes, ours.arrays["class_targets"], 0)
    assert_near(targets.distances, ours.arrays["offset_targets"])
    weight, losses = student.settings.regression_weight, ours.facts["losses"]
    for step in (1, 2):
        terms = student.loss(output, targets)
        assert student.normalizer.item() == pytest.approx(losses[f"normalizer_step{step}"], rel=1e-9)
        assert terms["class"].item() == pytest.approx(losses[f"cls_loss_step{step}"], rel=1e-5)
        assert terms["regression"].item() == pytest.approx(weight * losses[f"reg_loss_step{step}"], rel=1e-5)
        assert sum(terms.values()).item() == pytest.approx(losses[f"final_loss_step{step}"], rel=1e-5)


@needs_shared
@BOTH
def test_detections_equal_the_authors(name, classes, form, settings):
    ours, student = load(name, classes, form, settings)
    for video, length in enumerate(ours.mask.sum(dim=1).tolist()):
        with torch.no_grad():
            output = student(ours.features[video : video + 1, :length], ours.mask[video : video + 1, :length])
        assert_detections(detections(output, form), ours.arrays[f"detections{video}"], ours.facts, video)
    answer = given_answer(ours, output.points, classes, -9 if form == "thumos14" else -4)
    assert_detections(detections(answer, form), ours.arrays["decoded"], ours.facts, len(ours.mask) - 1)


@needs_shared
def test_fusion_with_the_scores_of_another_classifier_equals_the_authors():
    arrays = student_reference(ANET[0]).arrays
    decoded = arrays["decoded"].astype(float)
    plain = Detections(decoded[:, :2], decoded[:, 2].astype(int), decoded[:, 3])
    fused = with_class_scores(plain, arrays["external"].astype(float))
    assert (fused.borders == arrays["fused"][:, :2]).all()
    assert (fused.classes == arrays["fused"][:, 2]).all()
    assert fused.scores == pytest.approx(arrays["fused"][:, 3], rel=1e-5)


@needs_shared
def test_the_right_form_equals_the_authors_where_nothing_is_padded():
    ours, theirs = load(*THUMOS)
    mine = create_student("actionformer", 20, 2048, form="thumos14", max_length=576).eval()
    mine.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        output = mine(ours.features, ours.mask)
    assert_near(output.logits[0], ours.arrays["logits"][0])
    assert_near(output.distances[0], ours.arrays["offsets"][0])
    apart = (output.logits[1] - torch.from_numpy(ours.arrays["logits"][1])).abs().amax(dim=1)[:300]
    largest = ours.facts["padding"]["largest_change_of_logits_by_level"][0]
    assert apart.max().item() >= largest / 10
    assert apart[:250].max().item() < 1e-5


@needs_shared
def test_checkpoints_that_do_not_fit_are_refused_by_name():
    weights = student_reference(ANET[0]).weights
    short = {key: value for key, value in weights.items() if key != "backbone.stem.0.ln1.bias"}
    with pytest.raises(WeightsError, match=r"missing backbone\.stem\.0\.ln1\.bias"):
        load_author_student("actionformer", short, 1)
    with pytest.raises(WeightsError, match=r"cls_head\.cls_head\.conv\.weight is \(1, 256, 3\), wanted \(2, 256, 3\)"):
        load_author_student("actionformer", weights, 2)
    with pytest.raises(WeightsError, match="unknown more"):
        load_author_student("actionformer", {**weights, "more": torch.ones(1)}, 1)
    with pytest.raises(ConfigError, match="width is 256 in the checkpoint, got 512"):
        load_author_student("actionformer", weights, 1, width=512)
    with pytest.raises(UsageError, match="has no form 'thumos'; did you mean 'thumos14'"):
        load_author_student("actionformer", weights, 1, form="thumos")


@needs_shared
def test_checkpoints_of_several_gpus_are_taken():
    weights = student_reference(ANET[0]).weights
    plain, several = (
        load_author_student("actionformer", {prefix + key: value for key, value in weights.items()}, 1)
        for prefix in ("", "module.")
    )
    assert all(torch.equal(value, several.state_dict()[key]) for key, value in plain.state_dict().items())


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"window": 4}, "window must be odd, got 4"), ({"width": 30}, "multiple of attention_heads, got 30 and 4")],
)
def test_settings_that_do_not_fit_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        create_student("actionformer", 3, 8, **settings)


@pytest.mark.parametrize(("length", "padded"), [(10, 72), (72, 72), (73, 144)])
def test_the_authors_form_pads_to_its_length_or_a_multiple(length, padded):
    """Windows of 19 on levels of strides 1, 2 and 4 divide multiples of 72."""
    student = create_student("actionformer", 3, 8, authors=True, width=16, branch_blocks=2, max_length=72).eval()
    output = student(torch.rand(1, length, 8), torch.ones(1, length, dtype=torch.bool))
    assert output.logits.shape == (1, padded + padded // 2 + padded // 4, 3)
    assert output.mask.sum() == length + -(-length // 2) + -(-length // 4)


def test_the_window_bounds_what_a_level_sees():
    """Half of the window, extended by convolutions of 3: four times before and three times after it."""
    torch.manual_seed(0)
    student = create_student("actionformer", 2, 4, width=16, branch_blocks=0, window=5, residual_scale=1.0).eval()
    x, mask = torch.rand(1, 60, 4), torch.ones(1, 60, dtype=torch.bool)
    changed = x.clone()
    changed[0, 30] += 1
    apart = (student(x, mask).logits - student(changed, mask).logits).abs().amax(dim=(0, 2)).nonzero()[:, 0]
    reach = 2 + 1 + 2 + 3
    assert apart.min() == 30 - reach
    assert apart.max() == 30 + reach
    wide = create_student("actionformer", 2, 4, width=16, branch_blocks=1, global_last=True, residual_scale=1.0).eval()
    apart = (wide(x, mask).logits - wide(changed, mask).logits).abs().amax(dim=(0, 2))[60:]
    assert (apart > 0).all()


def test_positions_are_told_apart_by_the_table_alone():
    torch.manual_seed(0)
    mask = torch.ones(1, 40, dtype=torch.bool)
    plain, told = (
        create_student("actionformer", 2, 4, width=16, branch_blocks=0, position_table=on).eval()
        for on in (False, True)
    )
    middle = slice(15, 25)
    still = [student(torch.ones(1, 40, 4), mask).logits[0, middle] for student in (plain, told)]
    assert still[0].std(dim=0).max() < 1e-6
    assert still[1].std(dim=0).min() > 1e-4
