"""Advice on labels: a line on what cannot be learned and what to add, none otherwise."""

import pytest

from wtal.data.assemble import DatasetBuilder
from wtal.pipeline.checks.label_advice import advise


def dataset(**labels):
    """Dataset from video -> labels; a label that begins with `!` is absent."""
    builder = DatasetBuilder()
    for video, shown in labels.items():
        builder.add_video(video, "training")
        for label in shown:
            (builder.add_absent if label.startswith("!") else builder.add_label)(video, label.removeprefix("!"))
    return builder.build()


def test_a_collection_that_can_be_learned_gets_no_advice():
    assert advise(dataset(a=["jump"], b=["jump"], c=["run"], d=["run"], e=[]), "training") == []


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({"a": ["jump"], "b": ["jump"]}, "'jump' is the only class and no video is known to lack it"),
        ({"a": ["jump", "run"], "b": ["jump"], "c": ["jump", "run"]}, "all training videos show 'jump'"),
        ({"a": ["jump"], "b": ["run"], "c": ["run"]}, "'jump' has one training video (a)"),
        ({"a": ["jump", "run"], "b": ["jump", "run"], "c": []}, "'jump', 'run' always occur together"),
        ({"a": [], "b": []}, "no video of 'training' at hand has a label"),
        ({"a": ["jump"], "b": ["jump"], "c": ["!run"]}, "'jump' is the only class"),
    ],
)
def test_each_obstacle_is_named(labels, said):
    assert any(said in line for line in advise(dataset(**labels), "training")), advise(dataset(**labels), "training")


def test_labels_that_no_file_bears_are_named():
    lines = advise(dataset(a=["jump"], b=["run"], c=["run"], d=["jump"]), "training", ["a", "d"])
    assert "no video at hand shows 'run'" in lines[0]


def test_one_absent_class_is_enough_to_tell_it():
    assert advise(dataset(a=["jump"], b=["jump"], c=["!jump"]), "training") == []
