import json
import pickle

import numpy as np
import pytest

from tests.support.reference import SHARED, needs_shared
from wtal.data.annotations import guess_format, read_annotations, write_annotations
from wtal.data.detections import align_ids, read_detections, write_detections
from wtal.data.formats import DATASETS
from wtal.data.segments import Annotation, Detection
from wtal.errors import FormatError, UsageError

RUN = [{"label": "run", "segment": [1.5, 2.5]}, {"label": "jump", "segment": [3, 4]}]
FILES = {
    "activitynet": {
        "version": "VERSION 1.3",
        "taxonomy": [
            {"nodeId": 0, "nodeName": "Root", "parentId": None, "parentName": None},
            {"nodeId": 1, "nodeName": "run", "parentId": 0, "parentName": "Root"},
            {"nodeId": 2, "nodeName": "jump", "parentId": 0, "parentName": "Root"},
        ],
        "database": {"a": {"duration": 9.0, "subset": "training", "annotations": RUN}},
    },
    "hacs": {"database": {"a": {"duration": "9.0", "subset": "training", "annotations": RUN}}},
    "thumos": {
        "database": {
            "a": {
                "subset": "training",
                "annotations": [{"label": x["label"], "segment": [str(s) for s in x["segment"]]} for x in RUN],
            }
        }
    },
}
TABLES = {
    "plain": "video,label,start,end,duration\na,run,1.5,2.5,9\na,jump,3,4,9\n",
    "semicolon": "Video;Label;Start;End;Duration\r\na;run;1,5;2,5;9\r\n\r\na;jump;3;4;9\r\n",
    "tab": 'label\tvideo\tstart\tend\tduration\n"run"\tclips/a.MP4\t1.5\t2.5\t9\njump\tclips/a.MP4\t3\t4\t\n',
}


def write_wtalc(folder, **changes):
    arrays = {
        "videoname": np.array([b"a"]),
        "subset": np.array([b"training"]),
        "classlist": np.array([b"jump", b"run"]),
        "labels": np.array([[b"run", b"jump"], None], dtype=object)[:1],
        "labels_all": np.array([[b"run"], None], dtype=object)[:1],
        "segments": np.array([[[1.5, 2.5], [3, np.float64(4)]], None], dtype=object)[:1],
        "duration": np.array([[9.0]]),
        **changes,
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return folder


def write_sample(name, folder):
    """Write the same video in each format: run in [1.5, 2.5), jump in [3, 4), 9 seconds long."""
    if name == "wtalc":
        return write_wtalc(folder / "arrays")
    path = folder / f"{name}.data"
    path.write_text(TABLES["plain"] if name == "csv" else json.dumps(FILES[name]))
    return path


@pytest.mark.parametrize("name", ["activitynet", "hacs", "thumos", "csv", "wtalc"])
def test_every_format_tells_the_same(name, tmp_path):
    path = write_sample(name, tmp_path)
    assert [leaf for leaf in DATASETS.names() if DATASETS.load(leaf).sniff(path)] == [name]
    dataset = read_annotations(path)
    video = dataset.videos["a"]
    assert dataset.classes == video.labels == ("jump", "run")
    assert video.annotations == (Annotation(1.5, 2.5, "run"), Annotation(3, 4, "jump"))
    assert video.subset == "training"
    assert video.duration == (None if name == "thumos" else 9.0)
    assert dataset.notes == ()
    assert read_annotations(path, name) == dataset


def test_every_leaf_keeps_the_contract(tmp_path):
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for name in DATASETS.names():
        leaf = DATASETS.load(name)
        for path in ("binary", "empty", "folder", "missing"):
            assert leaf.sniff(tmp_path / path) is False, (name, path)
            with pytest.raises(FormatError):
                leaf.read(tmp_path / path)


def test_the_form_of_bsn(tmp_path):
    path = tmp_path / "bsn.json"
    entry = {"duration_second": 9.0, "duration_frame": 270, "annotations": RUN, "feature_frame": 256}
    path.write_text(json.dumps({"v_a": entry}))
    dataset = read_annotations(path)
    assert guess_format(path) == "activitynet"
    assert dataset.videos["v_a"].duration == 9.0
    assert dataset.subsets == {"unspecified": 1}
    assert "videos without a subset" in dataset.notes[0]


def test_a_label_that_the_taxonomy_lacks_is_reported(tmp_path):
    content = json.loads(json.dumps(FILES["activitynet"]))
    content["database"]["a"]["annotations"].append({"label": "fly", "segment": [0, 1]})
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    dataset = read_annotations(path)
    assert dataset.classes == ("jump", "run", "fly")
    assert dataset.notes == ("labels missing from the file's class list, added as classes: 1 ('fly' in a)",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1, 2]", r"wanted an object with 'database'; got \[1, 2\]"),
        ('{"results": {}}', "holds detections, not annotations"),
        ('{"database": []}', r"database: wanted an object of videos, got \[\]"),
        ('{"database": {"a": 3}}', "a: wanted an object with 'annotations', got 3"),
        ('{"database": {"a": {"annotations": {}}}}', r"a.annotations: wanted a list, got \{\}"),
        ('{"database": {"a": {"annotations": [3]}}}', r"a.annotations\[0\]: wanted an object"),
        ('{"database": {"a": {"annotations": [{"segment": [0, 1]}]}}}', r"\[0\].label: wanted a string, got None"),
        ('{"database": {"a": {"annotations": [{"label": "x", "segment": [1]}]}}}', r"segment: wanted \[start, end\]"),
        (
            '{"database": {"a": {"annotations": [{"label": "x", "segment": ["1", "b"]}]}}}',
            r"segment\[1\]: wanted a num",
        ),
        ('{"database": {"a": {"annotations": [{"label": "x", "segment": [true, 1]}]}}}', r"segment\[0\]: wanted a num"),
        ('{"database": {"a": {"duration": [], "annotations": []}}}', r"a.duration: wanted a number"),
        ('{"database": {"a": {"subset": 3, "annotations": []}}}', r"a.subset: wanted a string, got 3"),
        ('{"taxonomy": [3], "database": {}}', "taxonomy: wanted a list of objects"),
        ('{"classes": ["a", "a"], "database": {}}', "a class is named twice"),
        ('{"database": {}}', "names no video"),
    ],
)
def test_wrong_json_is_named_by_its_place(content, message, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(FormatError, match=message):
        read_annotations(path, "activitynet")


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_as_people_save_them(name, encoding, tmp_path):
    path = tmp_path / "labels.csv"
    path.write_bytes(TABLES[name].encode(encoding))
    video = read_annotations(path).videos["a"]
    assert video.annotations == (Annotation(1.5, 2.5, "run"), Annotation(3, 4, "jump"))
    assert video.duration == 9.0
    assert video.subset == "training"


def test_a_table_of_labels_alone(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text('video,label,subset,mood\na,run,,x\na,jump,,x\n"my, clip.mp4","long jump",test,x\nc,,test,x\n')
    dataset = read_annotations(path)
    assert dataset.classes == ("jump", "long jump", "run")
    assert {v.id: (v.labels, v.subset) for v in dataset.videos.values()} == {
        "a": (("jump", "run"), "training"),
        "my, clip": (("long jump",), "test"),
        "c": ((), "test"),
    }
    assert dataset.notes == (
        "columns that are not used: 1 (mood)",
        "videos with labels but no segments: 2 (a, my, clip)",
        "videos without annotation: 1 (c)",
    )


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("clip,label\na,b\n", "wanted a header with the columns video,label, got 'clip,label'"),
        ("", "wanted a header"),
        ("video,label\na\n", "line 2 has 1 cells, the header 2"),
        ("video,label,start\na,b,1\n", "columns start and end go together"),
        ("video,label,start,end\na,b,1,\n", "line 2: a segment needs label, start and end"),
        ("video,label,start,end\na,b,1,x\n", "line 2: end: wanted seconds or a clock time, got 'x'"),
        ("video,label,label\na,b,c\n", "names a column twice"),
        ("video,label\n,b\n", "line 2: the video has no name"),
        ("video,label,subset\na,b,x\na,c,y\n", "in subset 'x' and in 'y'"),
        ("video,label\n", "names no video"),
    ],
)
def test_wrong_tables_are_named_by_their_line(table, message, tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text(table)
    with pytest.raises(FormatError, match=message):
        read_annotations(path, "csv")


def test_a_folder_with_one_sub_folder_a_class(tmp_path):
    names = ("run/a.mp4", "run/b.AVI", "run/notes.txt", "jump/c.mkv", "jump/a.mp4", "loose.mp4", "run/x/deep.mp4")
    for name in (*names, ".git/x.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    dataset = read_annotations(tmp_path)
    assert {video.id: video.labels for video in dataset.videos.values()} == {
        "jump/a": ("jump",),
        "run/a": ("run",),
        "b": ("run",),
        "c": ("jump",),
    }
    assert dataset.subsets == {"training": 4}
    assert dataset.notes == (
        "videos that share their name, so that their id includes the folder: 2 (jump/a, run/a)",
        "files other than videos, skipped: 1 (run/notes.txt)",
        "unlabelled videos next to the sub-folders, skipped: 1 (loose)",
        "unlabelled videos further below the sub-folders, skipped: 1 (deep)",
        "videos with labels but no segments: 4 (first: jump/a, c, run/a)",
    )


class Evil:
    def __reduce__(self):
        return (print, ("this must not run",))


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_that_would_run_code_is_refused(protocol, tmp_path, capsys):
    folder = write_wtalc(tmp_path / "arrays")
    with (folder / "labels.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": (1,)})
        pickle.dump([Evil()], file, protocol=protocol)
    with pytest.raises(FormatError, match=r"labels\.npy is not read: it asks for .*print, and loading that could run"):
        read_annotations(folder)
    assert capsys.readouterr().out == ""


def test_arrays_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(FormatError, match="one entry for each of 1 videos"):
        read_annotations(write_wtalc(tmp_path / "a", subset=np.array([b"x", b"y"])))
    with pytest.raises(FormatError, match="1 labels for 2 segments"):
        read_annotations(write_wtalc(tmp_path / "b", labels=np.array([[b"run"], None], dtype=object)[:1]))
    folder = write_wtalc(tmp_path / "c")
    (folder / "segments.npy").write_bytes((folder / "segments.npy").read_bytes()[:-9])
    with pytest.raises(FormatError, match=r"segments\.npy is not a readable \.npy file"):
        read_annotations(folder)


def test_unknown_content_is_refused_with_the_choices(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"results": {}}')
    with pytest.raises(FormatError, match=r"wanted annotations in a known format \(activitynet, .*got detections"):
        read_annotations(path)
    with pytest.raises(FormatError, match="no annotations at"):
        read_annotations(tmp_path / "missing")
    with pytest.raises(UsageError, match="did you mean 'thumos'"):
        read_annotations(path, "thumoss")


def test_what_is_written_reads_back_equal(tmp_path):
    folder = write_wtalc(tmp_path / "arrays", classlist=np.array([b"run", b"idle", b"jump"]))
    dataset = read_annotations(folder)
    assert read_annotations(write_annotations(dataset, tmp_path / "a.json")) == dataset
    table = tmp_path / "labels.csv"
    table.write_text("video,label\na,run\nb,jump\nc,\n")
    labels = read_annotations(table)
    assert read_annotations(write_annotations(labels, tmp_path / "b.json")) == labels


DETECTIONS = {"a": [Detection(0.5, 1.25, "long, jump", 0.1), Detection(2, 3, "run", -1.5)], "b": []}


def test_detections_read_back_equal(tmp_path):
    assert read_detections(write_detections(DETECTIONS, tmp_path / "d.json")) == DETECTIONS
    assert read_detections(write_detections(DETECTIONS, tmp_path / "d.csv")) == {"a": DETECTIONS["a"]}


def test_detections_take_the_ids_of_the_ground_truth():
    aligned = align_ids({"v_a": [1], "b": [2], "z": [3]}, ["a", "v_b", "c"])
    assert aligned == {"a": [1], "v_b": [2], "z": [3]}


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ("[]", r"wanted an object with 'results': .*, got \[\] as 'results'"),
        ('{"a": [], "b": [], "a": []}', "results.a occurs twice"),
        ('{"a": []}, "results": {}', "'results' occurs twice"),
        ('{"a": 3}', "results.a: wanted a list of detections, got 3"),
        ('{"a": [3]}', r"results.a\[0\]: wanted an object"),
        ('{"a": [{"label": "x", "score": 1}]}', r"results.a\[0\].segment is missing; .* classifications"),
        ('{"a": [{"label": 1, "score": 1, "segment": [0, 1]}]}', r"results.a\[0\].label: wanted a string, got 1"),
        ('{"a": [{"label": "x", "score": "1", "segment": [0, 1]}]}', r"results.a\[0\].score: wanted a finite number"),
        ('{"a": [{"label": "x", "score": NaN, "segment": [0, 1]}]}', r"score: wanted a finite number, got nan"),
        ('{"a": [{"label": "x", "score": true, "segment": [0, 1]}]}', r"score: wanted a finite number, got True"),
        ('{"a": [{"label": "x", "score": 1, "segment": [0, "1"]}]}', r"segment: wanted two finite numbers"),
        ('{"a": [{"label": "x", "score": 1, "segment": [2, 1]}]}', r"segment: it ends before it begins"),
    ],
)
def test_wrong_detections_are_named_by_their_place(results, message, tmp_path):
    path = tmp_path / "d.json"
    path.write_text(f'{{"results": {results}}}')
    with pytest.raises(FormatError, match=message):
        read_detections(path)


def test_annotations_are_not_taken_for_detections(tmp_path):
    with pytest.raises(FormatError, match=r"wanted an object with 'results'.*, got annotations$"):
        read_detections(write_sample("hacs", tmp_path))
    path = tmp_path / "d.csv"
    path.write_text("video,label,start,end,score\na,x,2,1,0.5\n")
    with pytest.raises(FormatError, match="line 2: wanted finite start <= end"):
        read_detections(path)


@needs_shared
@pytest.mark.parametrize(
    ("path", "name", "classes", "subsets", "notes"),
    [
        ("annotations/activitynet-1.2.json", "activitynet", 100, {"test": 2383}, ["end after their video", ": 58 ("]),
        ("annotations/activitynet-1.3-bsn.json", "activitynet", 200, {"unspecified": 19228}, ["annotation: 4851 ("]),
        ("annotations/thumos14/gt.json", "thumos", 20, {"test": 210, "train": 200}, []),
        ("annotations/Thumos14reduced-Annotations", "wtalc", 20, {"validation": 200, "test": 212}, [": 30 ("]),
        ("kth-untrimmed/annotations.json", "activitynet", 4, {"training": 48, "validation": 24}, []),
        ("activitynet/activitynet_gt.json", "activitynet", 2, {"validation": 1, "training": 1}, []),
    ],
)
def test_real_files(path, name, classes, subsets, notes):
    assert guess_format(SHARED / "data" / path) == name
    dataset = read_annotations(SHARED / "data" / path)
    assert len(dataset.classes) == classes
    assert dataset.subsets == subsets
    text = "\n".join(dataset.notes)
    assert all(note in text for note in notes)
    assert notes or not text


@needs_shared
def test_the_two_forms_of_thumos_agree():
    arrays = read_annotations(SHARED / "data/annotations/Thumos14reduced-Annotations").videos
    texts = read_annotations(SHARED / "data/annotations/thumos14/gt.json").videos
    assert set(arrays) - set(texts) == {"video_test_0000270", "video_test_0001496"}
    for name, video in texts.items():
        assert set(video.annotations) == set(arrays[name].annotations), name
        assert len(video.annotations) == len(arrays[name].annotations)
