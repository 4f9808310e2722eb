"""Label-only check: its figures against their definitions, its verdicts on signal and on noise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wtal.errors import UsageError
from wtal.eval.label_check import check_labels, stratified_folds


def collection(seed, videos=48, classes=4, strength=0.0):
    """Labels and scores (V, C), higher by `strength` for labels, and three folds."""
    rng = np.random.default_rng(seed)
    shown = (rng.random((videos, classes)) < 0.35).astype(float)
    scores = rng.standard_normal((videos, classes)) + strength * shown
    return shown, scores, np.arange(videos) % 3


def plain_auc(shown, scores, folds):
    """Compute the definition, pair by pair."""
    pairs = [
        (scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j])
        for i in range(len(shown))
        for j in range(len(shown))
        if folds[i] == folds[j] and shown[i] == 1 and shown[j] == 0
    ]
    return sum(pairs) / len(pairs)


@pytest.mark.parametrize("seed", range(4))
def test_auc_is_the_share_of_ordered_pairs(seed):
    shown, scores, folds = collection(seed, strength=0.7)
    scores = np.round(scores, 1)  # ties
    check = check_labels(list("abcd"), shown, scores, folds)
    for i, one in enumerate(check.classes):
        assert one.auc.value == pytest.approx(plain_auc(shown[:, i], scores[:, i], folds))
        assert one.auc.low <= one.auc.value <= one.auc.high
        assert one.ap.low <= one.ap.value <= one.ap.high


def test_average_precision_by_hand():
    shown = np.array([[1.0], [0.0], [1.0], [0.0]])
    check = check_labels(["a"], shown, np.array([[0.9], [0.8], [0.7], [0.1]]), np.zeros(4, np.intp)).classes[0]
    assert check.ap.value == pytest.approx((1 + 2 / 3) / 2)
    assert (check.positives, check.negatives, check.chance) == (2, 2, 0.5)


def test_what_is_told_perfectly_is_learned():
    shown, _, folds = collection(0)
    check = check_labels(list("abcd"), shown, shown, folds)
    assert {one.verdict for one in check.classes} == {"learned"}
    assert check.auc == 1.0


@pytest.mark.slow
def test_noise_is_not_learned_in_19_of_20():
    wrong = 0
    for seed in range(100):
        checks = check_labels(list("abcd"), *collection(seed, videos=30)).classes
        wrong += any(one.verdict in ("weak", "learned") for one in checks)
    assert wrong <= 5


def test_little_is_weak():
    shown, scores, folds = collection(1, videos=150, strength=0.9)
    assert {one.verdict for one in check_labels(list("abcd"), shown, scores, folds).classes} == {"weak"}


def test_another_scale_in_each_fold_changes_nothing():
    shown, scores, folds = collection(2, strength=1.0)
    first, second = (check_labels(list("abcd"), shown, s, folds) for s in (scores, scores + 100.0 * folds[:, None]))
    assert first == second


def test_unknown_labels_do_not_count():
    shown, scores, folds = collection(3, strength=1.0)
    more = np.vstack([shown, np.full((6, 4), np.nan)])
    check = check_labels(list("abcd"), more, np.vstack([scores, np.zeros((6, 4))]), np.append(folds, [0, 1, 2] * 2))
    assert check.classes == check_labels(list("abcd"), shown, scores, folds).classes


def test_a_class_of_every_video_is_not_known():
    shown = np.ones((6, 1))
    check = check_labels(["a"], shown, np.zeros((6, 1)), np.arange(6) % 2).classes[0]
    assert (check.verdict, check.auc, check.p) == ("not known", None, None)
    assert "not known" in check.sentence()


def test_what_does_not_fit_is_refused():
    shown, scores, folds = collection(0)
    with pytest.raises(UsageError, match="wanted"):
        check_labels(["a"], shown, scores, folds)
    scores[0, 0] = np.nan
    with pytest.raises(UsageError, match="not finite"):
        check_labels(list("abcd"), shown, scores, folds)


@given(st.lists(st.sets(st.sampled_from("abc"), max_size=3), min_size=3, max_size=40), st.integers(2, 5))
def test_folds_are_even(labels, count):
    shown = {f"v{i:02}": sorted(one) for i, one in enumerate(labels)}
    folds = stratified_folds(shown, count)
    assert set(folds) == set(shown)
    sizes = np.bincount(list(folds.values()), minlength=count)
    rarest = min("abc", key=lambda c: (sum(c in one for one in labels) or 99, c))
    of_rarest = np.bincount([folds[v] for v, one in shown.items() if rarest in one] or [0], minlength=count)
    assert of_rarest.max() - of_rarest.min() <= 1
    assert sizes.sum() == len(labels)
