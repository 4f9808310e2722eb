"""Tables and JSON written by people and spreadsheets: read correctly, or refused with file, line and cell."""

import json

import numpy as np
import pytest

from tests.support.reference import SHARED, needs_shared
from wtal.data.annotations import read_annotations
from wtal.data.detections import read_detections
from wtal.data.files import read_json
from wtal.data.parsing.json_stream import JsonStream
from wtal.data.segments import Annotation, Detection
from wtal.errors import FormatError, UsageError
from wtal.pipeline.inspection.show import describe

CASES = SHARED / "cases" / "10_annotations"
RIGHT = {"a": Annotation(1.5, 3, "run"), "b": Annotation(0, 62.5, "jump")}


def read(tmp_path, text):
    path = tmp_path / "labels.csv"
    path.write_text(text, newline="")
    return read_annotations(path)


@pytest.mark.parametrize(
    "table",
    [
        "video,label,start,end\na,run,1.5,3\nb,jump,0,62.5\n",
        "sep=;\nvideo;label;start;end\na;run;1,5;3\nb;jump;0;62,5\n",
        "sep=\t\nvideo\tlabel\tstart\tend\na\trun\t1,5\t3\nb\tjump\t0\t62.5\n",
        '"sep=|"\nvideo|label|start|end\na|run|1.5|3\nb|jump|0|62.5\n',
        "SEP=,\r\nvideo,label,start,end\r\na,run,1.5,3\r\nb,jump,0,62.5\r\n",
        "video,label,start,end,,,\na,run,1.5,3,,,\n,,,,,,\nb,jump,0,62.5,,,\n",
        "video,label,start,end\na,run,1.5,3,,\nb,jump,0,62.5,\n,,,,,\n",
        "\n,,,\nvideo,label,start,end\n\na,run,1.5,3\n\nb,jump,0,62.5\n",
        "video,label,start,end\ra,run,1.5,3\rb,jump,0,62.5\r",
        "video,label,start,end\na,run,0:01.5,0:03\nb,jump,0:00:00,0:01:02.5\n",
        'video,label,start,end\na,"run",1.5,3\nb,jump,00:00,1:02.50\n',
        "video;label;start;end\na;run;0:01,5;0:03\nb;jump;0;1:02,5\n",
        "video,label,start,end\na,run\u00a0,1.5,3\nb, jump,0,62.5\n",
    ],
)
def test_read_right(table, tmp_path):
    videos = read(tmp_path, table).videos
    assert {name: video.annotations for name, video in videos.items()} == {
        name: (annotation,) for name, annotation in RIGHT.items()
    }


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ('video,label,start,end\na,run,"1,200","1,500"\n', r"line 2: start: '1,200' could be 1.200 or 1200"),
        ("video\tlabel\tstart\tend\na\trun\t0.5\t1,200\n", r"line 2: end: '1,200' could be 1.200 or 1200"),
        ("video;label;start;end\na;run;0,5;1.200\n", r"line 2: end: '1.200' could be 1.200 or 1200"),
        ('video,label,duration\na,run,"1,5"\n', r"line 2: duration: '1,5' could be 1.5 or 15"),
        ("video,label,start,end\na,run,1_000,2_000\n", r"line 2: start: wanted seconds or a clock time, got '1_000'"),
        ("video,label,start,end\na,run,0:61,2\n", "line 2: start: wanted seconds or a clock time, got '0:61'"),
        ("video,label,start,end\na,run,1:2:3:4,2\n", "line 2: start: wanted seconds or a clock time"),
        ('video,label\na,run\nb,"jump\nc,run\n', "line 3: a quote that opens in line 3 is not closed"),
        ('video,label\na,"run\nb,jump\nc,fly"\nd,run\n', "line 2: a quote that opens there is only closed in line 4"),
        ("video,label\na,run,jump\n", "line 2 has 3 cells, the header 2; a cell that contains ',' needs quotes"),
        ("video,label,\na,run,jump\n", "line 2 has 3 cells, the header 2"),
        ("video,,label\na,x,run\n", "line 2: cell 'x' is in a column without a name"),
        ("video,label\na,run;jump\nb,run\n", r"line 2: 'run;jump' names several labels; .* run, jump"),
        ("video,label\na,run\nb,run|jump\n", r"line 3: 'run\|jump' names several labels"),
        ("video;label\na;run|jump\n", r"line 2: 'run\|jump' names several labels"),
        ('video,label\na,"run, jump"\nb,run\nc,jump\n', r"line 2: 'run, jump' names several labels"),
        ("video,label\na,run/jump\nb,run\nc,jump\n", r"line 2: 'run/jump' names several labels"),
        ("video,label\na,!run;jump\nb,run\n", r"line 2: '!run;jump' names several labels"),
        ("video,label\na,Run\nb,run\n", r"'Run' \(line 2\) and 'run' \(line 3\) differ only in capitals or spaces"),
        ("video,label\na,long jump\nb,long  jump\n", r"'long  jump' \(line 3\) .* differ"),
        ("video,label\na,long jump\nb,long\u00a0jump\n", r"\(line 2\) .* \(line 3\) differ"),
        ("video,label\na,caf\u00e9\nb,cafe\u0301\n", "differ only in capitals or spaces"),
        ("video,label\na,run\nb,!Run\n", "differ only in capitals or spaces"),
        ("video,label,subset\na,run,Training\nb,run,training\n", r"subsets 'Training' \(line 2\) and 'training'"),
    ],
)
def test_refused_by_line_and_cell(rows, message, tmp_path):
    with pytest.raises(FormatError, match=message) as refusal:
        read(tmp_path, rows)
    assert str(tmp_path / "labels.csv") in str(refusal.value)
    with pytest.raises(UsageError) as shown:
        describe(tmp_path / "labels.csv")
    assert str(refusal.value) in str(shown.value)


@pytest.mark.parametrize("mark", ["\t", ";"])
@pytest.mark.parametrize("sign", [",", "."])
def test_milliseconds_are_read_where_all_decimal_signs_are_alike(mark, sign, tmp_path):
    rows = "video|label|start|end\na|run|1~200|12~5\nb|jump|0~250|2~000\n"
    videos = read(tmp_path, rows.replace("|", mark).replace("~", sign)).videos
    assert [video.annotations for video in videos.values()] == [
        (Annotation(1.2, 12.5, "run"),),
        (Annotation(0.25, 2, "jump"),),
    ]


def test_labels_may_hold_marks_where_the_parts_are_no_labels(tmp_path):
    dataset = read(tmp_path, 'video,label\na,"clean and jerk, heavy"\nb,front/back\nc,rock + roll\n')
    assert dataset.classes == ("clean and jerk, heavy", "front/back", "rock + roll")


def test_detections_in_tables_obey_the_same(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text('video,label,start,end,score\na,run,"1,5",2,0.5\n')
    with pytest.raises(FormatError, match=r"line 2: start: '1,5' could be"):
        read_detections(path)
    path.write_text("sep=;\nvideo;label;start;end;score\na;run;1,5;1:02;0,5\n")
    assert read_detections(path) == {"a": [Detection(1.5, 62, "run", 0.5)]}


ENTRY = '{"subset": "s", "annotations": []}'


@pytest.mark.parametrize(
    ("text", "key", "places"),
    [
        (f'{{"database": {{"x": {ENTRY},\n "x": {ENTRY}}}}}', "x", "line 1 column 15 and line 2 column 2"),
        (f'{{"database": {{}},\n\n"database": {{"x": {ENTRY}}}}}', "database", "line 1 column 2 and line 3 column 1"),
        ('{"a": [{"b": "c:{}", "b": 1}]}', "b", "line 1 column 9 and line 1 column 22"),
        ('{"a": {"\\u0062": 1, "b": 1}}', "b", "line 1 column 8 and line 1 column 21"),
        ('[{"a": "\\"", "b": {"a": 1}, "a": {}}]', "a", "line 1 column 3 and line 1 column 29"),
    ],
)
@pytest.mark.parametrize("chunk", [7, 1 << 20])
def test_a_key_twice_is_refused_with_both_places(text, key, places, chunk, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(text)
    for what in (lambda: read_json(path), lambda: stream_value(path, chunk)):
        with pytest.raises(FormatError, match=f"key '{key}' occurs twice: {places}; keep one of them"):
            what()


def stream_value(path, chunk):
    with JsonStream.open(path, chunk) as stream:
        return stream.value()


def test_colons_and_equal_keys_of_different_objects_are_no_repetition(tmp_path):
    value = {"a:b": [{"c": "d:e"}, {"c": [{"c": 1}]}], "c": {"c": {"a:b": 1}}}
    path = tmp_path / "a.json"
    path.write_text(json.dumps(value))
    assert read_json(path) == stream_value(path, 5) == value


@pytest.mark.parametrize("chunk", [9, 1 << 20])
def test_detections_twice_are_refused_with_both_places(chunk, tmp_path, monkeypatch):
    monkeypatch.setattr("wtal.data.parsing.json_stream.CHUNK", chunk)
    path = tmp_path / "d.json"
    detection = '{"label": "a", "score": 1, "segment": [0, 1]}'
    twice = detection.replace("{", '{"label": 1, ')
    texts = {
        f'{{"results": {{"x": [{detection}],\n"y": [], "x": []}}}}': "results.x occurs twice: line 1 column 14 and l",
        '{"results": {}, "results": {}}': "'results' occurs twice: line 1 column 2 and line 1 column 17",
        f'{{"results": {{"x": [{twice}]}}}}': "key 'label' occurs twice",
    }
    for text, message in texts.items():
        path.write_text(text)
        with pytest.raises(FormatError, match=message):
            read_detections(path)


def test_a_video_twice_in_arrays_is_refused(tmp_path):
    def objects(*values):
        array = np.empty(len(values), dtype=object)
        array[:] = values
        return array

    names = np.array([b"x", b"y", b"x"])
    for name, array in {
        "videoname": names,
        "subset": np.array([b"test"] * 3),
        "classlist": np.array([b"run"]),
        "labels": objects(["run"], ["run"], ["run"]),
        "segments": objects([[0.0, 1.0]], [[0.0, 1.0]], [[0.0, 1.0]]),
    }.items():
        np.save(tmp_path / f"{name}.npy", array)
    with pytest.raises(FormatError, match=r"videoname\[0\] and videoname\[2\] are both 'x'"):
        read_annotations(tmp_path)


@needs_shared
@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("class_case.csv", r"'High Jump' \(line 2\) and 'high jump' \(line 4\) differ"),
        ("label_with_space.json", r"'A' \(first in x3\) and 'A ' \(first in x1\) differ"),
        ("key_twice.json", "key 'x1' occurs twice: line 1 column 49 and line 1 column 465"),
        ("comma_in_label.csv", "line 2 has 3 cells, the header 2; a cell that contains ',' needs quotes"),
        ("several_in_a_cell.csv", "line 2: 'A;B' names several labels"),
        ("thousands.csv", "line 2: start: '1,200' could be 1.200 or 1200"),
        ("segment_is_object.json", r"x1.annotations\[0\].segment: wanted \[start, end\] in seconds"),
    ],
)
def test_cases_that_are_refused(name, outcome):
    with pytest.raises(FormatError, match=outcome) as refusal:
        read_annotations(CASES / name)
    with pytest.raises(UsageError) as shown:
        describe(CASES / name)
    assert str(refusal.value) in str(shown.value)


@needs_shared
@pytest.mark.parametrize("name", ["clock_times.csv", "one_padded.csv", "padded.csv", "sep_line.csv"])
def test_cases_that_are_read(name):
    dataset = read_annotations(CASES / name)
    assert {video.id: video.labels for video in dataset.videos.values()} == {"x1": ("A",), "x2": ("B",)}
