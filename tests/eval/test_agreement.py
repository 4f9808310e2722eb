"""Agreement of seeds on their detections, by hand."""

import pytest

from wtal.data.segments import Detection
from wtal.eval.agreement import agreement

HERE, SHIFTED, AWAY = Detection(0, 10, "a", 1.0), Detection(1, 11, "a", 0.8), Detection(40, 50, "a", 0.9)


@pytest.mark.parametrize(
    ("first", "second", "share"),
    [
        ([HERE], [HERE], 1.0),
        ([HERE], [SHIFTED], 1.0),  # tIoU 9/11
        ([HERE], [AWAY], 0.0),
        ([HERE, AWAY], [SHIFTED], 2 / 3),
        ([HERE], [], 0.0),
        ([HERE, Detection(40, 50, "a", 0.4)], [HERE], 1.0),  # below half of the best: not sure
    ],
)
def test_two_seeds(first, second, share):
    assert agreement([[{"v": first}, {"v": second}]], ["a"]) == {"a": pytest.approx(share)}
    assert agreement([[{"v": second}, {"v": first}]], ["a"]) == {"a": pytest.approx(share)}


def test_three_seeds_agree_by_the_mean_of_their_pairs():
    assert agreement([[{"v": [HERE]}, {"v": [HERE]}, {"v": [AWAY]}]], ["a"]) == {"a": pytest.approx(1 / 3)}


def test_classes_and_videos_are_apart():
    other = Detection(0, 10, "b", 1.0)
    assert agreement([[{"v": [HERE]}, {"v": [other]}]], ["a", "b"]) == {"a": 0.0, "b": 0.0}
    assert agreement([[{"v": [HERE]}, {"w": [HERE]}]], ["a"]) == {"a": 0.0}


def test_heads_are_compared_with_themselves_alone():
    assert agreement([[{"v": [HERE]}, {"v": [HERE]}], [{"v": [AWAY]}, {"v": [AWAY]}]], ["a"]) == {"a": 1.0}
    assert agreement([[{"v": [HERE]}], [{"v": [AWAY]}]], ["a"]) == {}


def test_nothing_to_compare():
    assert agreement([[{"v": [HERE]}]], ["a"]) == {}
    assert agreement([[{"v": []}, {}]], ["a"]) == {}
