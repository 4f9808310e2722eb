import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wtal.data.annotations import coverage
from wtal.data.assemble import DatasetBuilder
from wtal.data.files import read_json, write_atomic, write_json
from wtal.data.names import bare_id, match_ids
from wtal.errors import FormatError, UsageError


def small_dataset():
    builder = DatasetBuilder()
    for i in range(7):
        builder.add_video(f"v{i}", "training", 10.0)
        builder.add_segment(f"v{i}", "run" if i % 2 else "jump", 1, 2)
    builder.add_video("w", "validation", 5.0)
    builder.add_segment("w", "run", 0, 1)
    return builder.build()


def test_select_sorts_by_id_and_joins_subsets():
    dataset = small_dataset()
    assert dataset.subsets == {"training": 7, "validation": 1}
    assert [video.id for video in dataset.select("validation")] == ["w"]
    assert [video.id for video in dataset.select("validation,training")] == [*(f"v{i}" for i in range(7)), "w"]
    assert len(dataset.select("*")) == 8


@given(st.integers(1, 9))
def test_folds_part_a_subset(count):
    dataset = small_dataset()
    folds = [{v.id for v in dataset.select(f"training@{k}/{count}")} for k in range(count)]
    assert sorted(name for fold in folds for name in fold) == [f"v{i}" for i in range(7)]
    for k, fold in enumerate(folds):
        rest = {v.id for v in dataset.select(f"training@!{k}/{count}")}
        assert rest == {f"v{i}" for i in range(7)} - fold


@pytest.mark.parametrize(("subset", "hint"), [("trainig", "did you mean 'training'"), ("training@3/2", "k < n")])
def test_a_wrong_subset_is_refused_with_a_hint(subset, hint):
    with pytest.raises(UsageError, match=hint):
        small_dataset().select(subset)


def test_ids_match_with_and_without_the_prefix():
    assert match_ids(["a", "v_b", "c", "d"], ["v_a", "b", "c", "e"]) == {"a": "v_a", "v_b": "b", "c": "c"}
    assert match_ids(["a"], ["a", "v_a"]) == {"a": "a"}


def test_an_id_that_really_begins_with_v_keeps_it():
    assert bare_id("v_UmAH95xls") == "v_UmAH95xls"
    assert bare_id("v_v_UmAH95xls") == "v_UmAH95xls"
    assert bare_id("v_QOlSCBRmfWY") == "QOlSCBRmfWY"
    assert match_ids(["v_UmAH95xls"], ["v_v_UmAH95xls", "UmAH95xls"]) == {"v_UmAH95xls": "v_v_UmAH95xls"}
    assert match_ids(["v_v_UmAH95xls"], ["v_UmAH95xls"]) == {"v_v_UmAH95xls": "v_UmAH95xls"}


def test_classes_are_sorted_and_labels_follow_their_order():
    builder = DatasetBuilder()
    builder.add_video("a", "s")
    for label in ("run", "jump", "clap"):
        builder.add_label("a", label)
    dataset = builder.build()
    assert dataset.classes == ("clap", "jump", "run") == dataset.videos["a"].labels
    assert dataset.notes == ("videos with labels but no segments: 1 (a)",)


def test_a_fixed_class_list_keeps_its_order_and_strangers_come_behind():
    builder = DatasetBuilder(["run", "jump", "idle"])
    builder.add_video("a", "s")
    for label in ("walk", "jump", "run", "fall"):
        builder.add_segment("a", label, 0, 1)
    dataset = builder.build()
    assert dataset.classes == ("run", "jump", "idle", "fall", "walk")
    assert dataset.videos["a"].labels == ("run", "jump", "fall", "walk")
    assert dataset.notes == (
        "labels missing from the file's class list, added as classes: 2 ('walk' in a, 'fall' in a)",
    )


def test_odd_segments_are_counted_and_only_unusable_ones_left_out():
    builder = DatasetBuilder()
    builder.add_video("a", "s", 10.0)
    odd = [(8, 12), (11, 12), (-1, 2), (3, 3), (5, 4), (float("nan"), 1), (0, float("inf"))]
    for start, end in odd:
        builder.add_segment("a", "run", start, end)
    builder.add_video("b", "s", float("nan"))
    dataset = builder.build()
    assert [(a.start, a.end) for a in dataset.videos["a"].annotations] == odd[:4]
    assert dataset.videos["b"].duration is None
    counts = {note.partition(":")[0]: note for note in dataset.notes}
    assert set(counts) == {
        "segments that end after their video, kept",
        "segments that begin after their video, kept",
        "segments that begin before second 0, kept",
        "segments of length 0, kept",
        "segments that end before they begin, left out",
        "segments without finite times, left out",
        "durations not above 0, treated as unknown",
        "videos without annotation",
    }
    assert counts["segments without finite times, left out"].endswith(": 2 (first: a)")


def test_the_label_of_an_unusable_segment_still_counts():
    builder = DatasetBuilder()
    builder.add_video("a", "s")
    builder.add_segment("a", "run", 2, 1)
    assert builder.build().videos["a"].labels == ("run",)


def test_contradicting_rows_are_refused():
    builder = DatasetBuilder()
    builder.add_video("a", "s", 3.0)
    builder.add_video("a", "s")
    with pytest.raises(FormatError, match="in subset 's' and in 't'"):
        builder.add_video("a", "t")
    with pytest.raises(FormatError, match=r"lasts 3.0 s and 4.0 s"):
        builder.add_video("a", "s", 4.0)


def test_coverage_names_what_is_missing_on_either_side():
    dataset = small_dataset()
    assert coverage(dataset, [*(f"v_v{i}" for i in range(7)), "w"]) == ()
    missing, extra = coverage(dataset, ["v0", "v1", "v2", "v3", "v4", "w", "z"])
    assert missing == "annotated videos that are missing: 2 (v5, v6)"
    assert extra == "videos that the annotations do not name: 1 (z)"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "deep" / "value.json"
    write_json(path, {"é": 1})
    assert read_json(path) == {"é": 1}

    def half(file):
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, half)
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, float("nan"))
    assert read_json(path) == {"é": 1}
    assert os.listdir(path.parent) == ["value.json"]  # noqa: PTH208 (hidden names too)


def test_a_bad_json_file_is_one_clear_line(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a": 1,,}')
    with pytest.raises(FormatError, match=r"a\.json is not JSON: .*line 1 column 9"):
        read_json(path)
    path.write_bytes(b"\xff\xfa\x00")
    with pytest.raises(FormatError, match="not UTF-8"):
        read_json(path)
    path.write_text("[" * 200_000)
    with pytest.raises(FormatError, match="nested too deeply"):
        read_json(path)
    with pytest.raises(FormatError, match=r"cannot read .*No such file"):
        read_json(tmp_path / "none.json")
    path.write_bytes('{"a": 1}'.encode("utf-16"))
    assert read_json(path) == {"a": 1}
