"""Verdicts: read back as written, and damage reported in one line."""

import json
from pathlib import Path

import pytest

from wtal.data.verdicts import Judged, Verdict, Verdicts, parse_verdicts, read_verdicts, write_verdicts
from wtal.errors import FormatError

JUDGED = {"segment": [1.5, 3], "score": 0.25}


def entry(verdict, segment=None, detection=None, video="a", label="run"):
    return {"video": video, "label": label, "verdict": verdict, "segment": segment, "detection": detection}


def content(*verdicts, looked_at=()):
    return {"format": 1, "verdicts": list(verdicts), "looked_at": list(looked_at)}


def test_verdicts_are_read_back_as_written(tmp_path):
    whole = content(
        entry("yes", detection=JUDGED),
        entry("no", detection={"segment": [0.1 + 0.2, 7], "score": -1}),
        entry("moved", [1, 2.5], {"segment": [2, 3], "score": 1}),
        entry("missed", [8, 9.25], label='"></script>\u2028'),
        entry("skip", detection=JUDGED, video="b\n"),
        looked_at=["a", "b\n"],
    )
    file = tmp_path / "verdicts.json"
    file.write_text(json.dumps(whole))
    verdicts = read_verdicts(file)
    assert verdicts.verdicts[1].detection == Judged(segment=(0.1 + 0.2, 7.0), score=-1.0)
    again = write_verdicts(verdicts, tmp_path / "again.json")
    assert read_verdicts(again) == verdicts
    assert json.loads(again.read_text()) == whole


def test_a_file_without_verdicts_tells_what_was_looked_at(tmp_path):
    path = write_verdicts(Verdicts(looked_at=("a",)), tmp_path / "verdicts.json")
    assert json.loads(path.read_text()) == content(looked_at=["a"])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "wanted an object with keys such as format, got "),
        ({"format": 2, "verdicts": [], "looked_at": []}, "format: wanted 1, got 2"),
        (content(entry("maybe", detection=JUDGED)), r"verdicts\[0\].verdict: "),
        (content(entry("yes", [1, 2], JUDGED)), "'yes' takes no segment"),
        (content(entry("yes")), "'yes' needs a detection"),
        (content(entry("moved", None, JUDGED)), "'moved' needs a segment"),
        (content(entry("missed", [1, 2], JUDGED)), "'missed' takes no detection"),
        (content(entry("missed", [3, 2])), r"\[3.0, 2.0\] ends before it begins"),
        (content(entry("no", detection={"segment": [3, 2], "score": 1})), "ends before it begins"),
        (content(entry("no", detection={"segment": ["1", 2], "score": 1})), r"detection.segment\[0\]"),
        (content(entry("no", detection={"segment": [1, 2], "score": True})), "detection.score"),
        (content(entry("yes", detection=JUDGED), entry("no", detection=JUDGED)), r"two verdicts on 'run' at \[1.5, 3"),
        (content(entry("missed", [1, 2]), entry("missed", [1, 2])), "two verdicts"),
        (content(looked_at=["a", "a"]), "names 'a' twice"),
        (content() | {"mood": "good"}, "unknown key 'mood'; choices: "),
        ({"format": 1, "verdicts": [{}]}, r"verdicts\[0\].video is missing; wanted a string"),
    ],
)
def test_damage_is_one_line(tmp_path, value, message):
    file = tmp_path / "verdicts.json"
    file.write_text(json.dumps(value))
    with pytest.raises(FormatError, match=message) as caught:
        read_verdicts(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


WAY_OUT = "; restore a copy, or delete it to begin without verdicts"


@pytest.mark.parametrize(
    "damage", [b"", b"\x00" * 50, b"\xff\x00\xfe", b'{"format": 1, "verd', b"[" * 100_000, b"{}{}", b'{"format": 2}']
)
def test_every_damage_has_a_way_out(tmp_path, damage):
    file = tmp_path / "verdicts.json"
    file.write_bytes(damage)
    with pytest.raises(FormatError) as caught:
        read_verdicts(file)
    assert str(caught.value).startswith(str(file))
    assert str(caught.value).endswith(WAY_OUT)
    with pytest.raises(FormatError, match=r"; ask for it$"):
        read_verdicts(file, "ask for it")


def test_a_file_that_cannot_be_opened_is_not_to_be_deleted(tmp_path):
    with pytest.raises(FormatError, match=r"^cannot read .*verdicts.json: No such file or directory$"):
        read_verdicts(tmp_path / "verdicts.json")


def test_a_key_twice_and_numbers_that_are_none_are_refused(tmp_path):
    file = tmp_path / "verdicts.json"
    file.write_text('{"format": 1, "verdicts": [], "verdicts": []}')
    with pytest.raises(FormatError, match="verdicts"):
        read_verdicts(file)
    file.write_text(json.dumps(content(entry("missed", [float("nan"), 2]))))
    with pytest.raises(FormatError, match=r"NaN|finite"):
        read_verdicts(file)


def test_two_detections_and_a_missed_one_may_share_a_segment():
    detection = Judged(segment=(1.0, 2.0), score=0.5)
    kinds = [("run", "yes", None, detection), ("jump", "no", None, detection), ("run", "missed", (1.0, 2.0), None)]
    verdicts = [Verdict(video="a", label=n, verdict=v, segment=s, detection=d) for n, v, s, d in kinds]
    assert len(Verdicts(verdicts=tuple(verdicts)).verdicts) == 3


def test_the_example_of_the_docs_is_read():
    text = (Path(__file__).resolve().parents[2] / "docs" / "review.md").read_text(encoding="utf-8")
    verdicts = parse_verdicts(text.partition("```json\n")[2].partition("```")[0], "the page")
    assert [verdict.verdict for verdict in verdicts.verdicts] == ["no", "moved", "missed"]
