"""Known negatives and absent classes: notation of each format, and knowledge of a video."""

import json

import pytest

from wtal.data.annotations import read_annotations, write_annotations
from wtal.data.dataset import LabelCount, content_digest
from wtal.errors import FormatError


def table(tmp_path, text):
    path = tmp_path / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_an_empty_label_is_a_known_negative(tmp_path):
    dataset = read_annotations(table(tmp_path, "video,label\na,jump\nb,\nc,run\n"))
    assert [dataset.videos["b"].shows(label) for label in ("jump", "run")] == [False, False]
    assert dataset.label_counts("training")["jump"] == LabelCount(positive=1, negative=2, unknown=0)


@pytest.mark.parametrize(
    "text", ["video,label\na,jump\na,run\nb,!jump\n", "video,label,absent\na,jump,\na,run,\nb,,jump\n"]
)
def test_an_absent_class_leaves_the_others_unknown(tmp_path, text):
    dataset = read_annotations(table(tmp_path, text))
    assert dataset.videos["b"].absent == ("jump",)
    assert dataset.videos["b"].shows("jump") is False
    assert dataset.videos["b"].shows("run") is None
    assert dataset.label_counts("training")["run"] == LabelCount(positive=1, negative=0, unknown=1)


def test_labels_are_complete_whatever_is_absent_beside_them(tmp_path):
    video = read_annotations(table(tmp_path, "video,label\na,jump\na,!run\nb,run\nc,swim\n")).videos["a"]
    assert [video.shows(label) for label in ("jump", "run", "swim")] == [True, False, False]


def test_shown_and_absent_at_once_is_refused(tmp_path):
    with pytest.raises(FormatError, match="'a' lists 'jump' as both shown and absent"):
        read_annotations(table(tmp_path, "video,label\na,jump\na,!jump\n"))


@pytest.mark.parametrize(
    ("row", "reason"),
    [("a,!", "needs a label after it"), ("a,! ", "needs a label after it"), ("a,!jump,1,2", "a segment needs label")],
)
def test_a_mark_without_a_label_or_with_times_is_refused(tmp_path, row, reason):
    header = "video,label,start,end" if row.count(",") > 1 else "video,label"
    with pytest.raises(FormatError, match=reason):
        read_annotations(table(tmp_path, f"{header}\n{row}\n"))


@pytest.mark.parametrize("name", ["none", "Background", "NEGATIVE", "negatives"])
def test_a_folder_of_negatives(tmp_path, name):
    for folder, file in (("jump", "a.mp4"), (name, "b.mp4")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).touch()
    dataset = read_annotations(tmp_path)
    assert dataset.classes == ("jump",)
    assert dataset.videos["b"].shows("jump") is False


def test_json_without_annotations_is_a_known_negative(tmp_path):
    path = tmp_path / "annotations.json"
    shown = {"subset": "training", "duration": 9.0, "annotations": [{"label": "jump", "segment": [1, 2]}]}
    nothing = {"subset": "training", "duration": 9.0, "annotations": []}
    path.write_text(json.dumps({"database": {"a": shown, "b": nothing, "c": {**nothing, "absent": ["run"]}}}))
    dataset = read_annotations(path)
    assert dataset.classes == ("jump", "run")
    assert [dataset.videos[name].shows("jump") for name in "abc"] == [True, False, None]


def test_what_is_written_is_read_back(tmp_path):
    dataset = read_annotations(table(tmp_path, "video,label\na,jump\nb,\nc,!jump\n"))
    again = read_annotations(write_annotations(dataset, tmp_path / "annotations.json"))
    assert again.videos == dataset.videos
    assert content_digest(again) == content_digest(dataset)


def test_an_absent_class_is_another_content(tmp_path):
    plain = read_annotations(table(tmp_path, "video,label\na,jump\nb,\n"))
    assert content_digest(plain) != content_digest(read_annotations(table(tmp_path, "video,label\na,jump\nb,!jump\n")))
