"""Laws of every student: padding, gradients, the running mean of positive points, ignored points, decay."""

import copy

import pytest
import torch

from wtal.errors import ConfigError, UsageError
from wtal.models import create_student
from wtal.models.regression.points import assign
from wtal.models.student import PointTargets
from wtal.models.students import STUDENTS

LENGTHS = (101, 37, 64, 7, 1, 2)
STUDENT_NAMES = STUDENTS.names()
VARIANTS = [
    *[(name, {}) for name in STUDENT_NAMES],
    ("actionformer", {"global_last": True, "position_table": True, "window": 7, "stem_blocks": 2}),
    ("actionformer", {"window": 1, "branch_blocks": 6}),
    ("tridet", {"narrow": 3, "wide": 7, "bins": 5}),
]


def make(name, **settings):
    """Small student in which all norms and branches have an effect."""
    torch.manual_seed(0)
    student = create_student(name, 3, 8, **{"width": 32, "branch_blocks": 3, "residual_scale": 1.0, **settings})
    with torch.no_grad():
        for parameter in student.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return student.eval()


def batch_of(lengths, garbage=0.0):
    generator = torch.Generator().manual_seed(1)
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    features = torch.rand(len(lengths), max(lengths), 8, generator=generator)
    return torch.where(mask[..., None], features, torch.tensor(garbage)), mask


def lesson(output, weights=None, ignored=None):
    segments, labels = torch.tensor([[1.0, 5.5], [4.0, 30.0]]), torch.tensor([0, 2])
    each = assign(output.points, segments, labels, 3, weights=weights, ignored=ignored)
    return PointTargets.stack([each] * len(output.mask))


@pytest.mark.parametrize(("name", "settings"), VARIANTS)
def test_a_video_in_a_batch_equals_the_video_alone(name, settings):
    """Compute in double precision, so that rounding hides nothing."""
    student = make(name, **settings).double()
    features, mask = batch_of(LENGTHS, garbage=7.0)
    features = features.double()
    with torch.no_grad():
        together = student(features, mask)
        for video, length in enumerate(LENGTHS):
            alone = student(features[video : video + 1, :length], mask[video : video + 1, :length])
            real = together.mask[video]
            assert alone.mask.all()
            assert torch.equal(together.points.time[real], alone.points.time)
            for field in ("logits", "distances"):
                ours, own = getattr(together, field)[video][real], getattr(alone, field)[0]
                assert (ours - own).abs().max() <= 1e-10 * own.abs().max(), field


@pytest.mark.parametrize("name", STUDENT_NAMES)
def test_the_authors_form_leaks_padding(name):
    """Prove that the test above can fail."""
    student = make(name, authors=True, max_length=144)
    features, mask = batch_of((144, 37))
    with torch.no_grad():
        padded, mine = student(features, mask), make(name)
        mine.load_state_dict(student.state_dict())
        right = mine(features, mask)
    assert (padded.logits - right.logits)[1][right.mask[1]].abs().max() > 1e-3


@pytest.mark.parametrize("name", STUDENT_NAMES)
def test_answers_have_their_shapes(name):
    features, mask = batch_of((21, 9))
    output = make(name)(features, mask)
    count = 21 + 11 + 6 + 3
    assert output.logits.shape == (2, count, 3)
    assert output.distances.shape in ((2, count, 2), (2, count, 3, 2))
    assert (output.distances >= 0).all()
    assert output.mask.sum(dim=1).tolist() == [count, 9 + 5 + 3 + 2]


@pytest.mark.parametrize("name", STUDENT_NAMES)
def test_every_parameter_learns(name):
    student = make(name).train()
    output = student(*batch_of((60, 33)))
    sum(student.loss(output, lesson(output)).values()).backward()
    for key, parameter in student.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
    still = [key for key, parameter in student.named_parameters() if not parameter.grad.any()]
    assert all(key.startswith("scales.") or key.endswith("key.linear.bias") for key in still), still


@pytest.mark.parametrize("name", STUDENT_NAMES)
def test_the_normalizer_is_a_buffer_that_moves_before_it_divides(name):
    student = make(name, normalizer=50.0)
    output = student(*batch_of((60, 33)))
    targets = lesson(output)
    positive = int(((targets.classes.sum(dim=-1) > 0) & output.mask).sum())
    assert positive > 3
    still = sum(student.loss(output, targets).values()).item()
    assert student.normalizer.item() == 50
    moved = sum(student.train().loss(output, targets).values()).item()
    expected = 0.9 * 50 + 0.1 * positive
    assert student.normalizer.item() == pytest.approx(expected)
    assert moved == pytest.approx(still * 50 / expected, rel=1e-5)
    resumed = make(name)
    resumed.load_state_dict(student.state_dict())
    assert resumed.normalizer.item() == pytest.approx(expected)


@pytest.mark.parametrize("name", STUDENT_NAMES)
def test_a_batch_without_segments_teaches_background_alone(name):
    student = make(name, normalizer=10.0).train()
    output = student(*batch_of((20, 9)))
    nothing = assign(output.points, torch.zeros(0, 2), torch.zeros(0, dtype=torch.long), 3)
    terms = student.loss(output, PointTargets.stack([nothing] * 2))
    assert terms["regression"].item() == 0
    assert terms["class"].item() > 0
    assert student.normalizer.item() == pytest.approx(9.1)
    sum(terms.values()).backward()


@pytest.mark.parametrize("name", STUDENT_NAMES)
def test_ignored_points_and_padding_take_no_part(name):
    student = make(name)
    output = student(*batch_of((60, 33)))
    targets = lesson(output, ignored=torch.tensor([[40.0, 50.0]]))
    assert (targets.weight == 0).any()
    before = student.loss(output, targets)
    unseen = (targets.weight == 0) | ~output.mask
    changed = copy.copy(output.__dict__)
    changed["logits"] = torch.where(unseen[..., None], output.logits + 3, output.logits)
    after = student.loss(type(output)(**changed), targets)
    assert after["class"].item() == pytest.approx(before["class"].item(), rel=1e-6)


@pytest.mark.parametrize("name", STUDENT_NAMES)
def test_the_weight_of_a_segment_is_that_of_its_points(name):
    student = make(name)
    output = student(*batch_of((60,)))
    whole, half = (lesson(output, weights=torch.tensor([w, w])) for w in (1.0, 0.5))
    losses = [student.loss(output, targets)["regression"].item() for targets in (whole, half)]
    assert losses[1] == pytest.approx(losses[0] / 2, rel=1e-5)


def test_only_matrices_decay():
    student = make("actionformer")
    decayed, free = student.parameter_groups(0.05)
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.05, 0.0)
    names = {id(parameter): key for key, parameter in student.named_parameters()}
    assert all(names[id(p)].endswith("weight") and "norm" not in names[id(p)] for p in decayed["params"])
    assert len(decayed["params"]) + len(free["params"]) == len(names)


@pytest.mark.parametrize("name", STUDENT_NAMES)
def test_branches_of_whole_videos_are_dropped_in_training_alone(name):
    student = make(name, drop_path=0.6, input_dropout=0.0, **({"input_noise": 0.0} if name == "tridet" else {}))
    features, mask = batch_of((12, 12))
    assert torch.equal(student(features, mask).logits, student(features, mask).logits)
    student.train()
    torch.manual_seed(3)
    assert not torch.equal(student(features, mask).logits, student(features, mask).logits)


def test_streams_stand_side_by_side():
    student = create_student("actionformer", 2, {"rgb": 3, "flow": 5}, width=16, branch_blocks=1)
    assert student(torch.rand(1, 9, 8), torch.ones(1, 9, dtype=torch.bool)).logits.shape == (1, 14, 2)


def test_what_does_not_fit_is_refused():
    with pytest.raises(UsageError, match="at least one class and one feature, got 0 and 8"):
        create_student("actionformer", 0, 8)
    with pytest.raises(UsageError, match="there is no student 'actionforme'; did you mean 'actionformer'"):
        create_student("actionforme", 2, 8)
    with pytest.raises(ConfigError, match=r"student actionformer.*windo"):
        create_student("actionformer", 2, 8, windo=3)
    with pytest.raises(UsageError, match="no form 'hacs'"):
        create_student("tridet", 2, 8, form="hacs")
