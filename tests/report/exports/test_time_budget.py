"""Time budget: counts, totals, means and latencies per video and class, including absent classes."""

import csv
import io

import pytest

from tests.report.exports.test_contract import detections_of, video_of
from wtal.data.segments import Detection
from wtal.report.exports import EXPORTS
from wtal.report.fit import fit

LEAF = EXPORTS.load("time-budget")


def budget(videos, classes=("jump", "run", "sit")):
    fitted = [fit(video, LEAF.EXPORT, {label: label for label in classes})[0] for video in videos]
    sheet = LEAF.render(fitted, classes)
    rows = list(csv.DictReader(io.StringIO(sheet.text)))
    return {(row["video"], row["label"]): row for row in rows}, sheet.notes


def test_a_budget_by_hand():
    """Start the picture at 0.75 of the player; two overlapping detections of a class count once."""
    own = [Detection(2, 5, "run", 0.9), Detection(4, 8, "run", 0.5), Detection(20, 21.5, "run", 0.7)]
    rows, notes = budget([video_of([*own, Detection(3, 4, "sit", 0.4)], start=0.75)])
    assert notes == ()
    run = rows["a b#1 é", "run"]
    assert (run["count"], run["total (s)"], run["mean (s)"], run["latency (s)"]) == ("2", "7.500", "3.750", "2.000")
    assert (run["duration (s)"], run["share of the duration"]) == ("120.000", "0.0625")
    jump = rows["a b#1 é", "jump"]
    assert (jump["count"], jump["total (s)"], jump["mean (s)"], jump["latency (s)"]) == ("0", "0.000", "", "")
    assert set(rows) == {("a b#1 é", label) for label in ("jump", "run", "sit")}


@pytest.mark.parametrize("seed", range(5))
def test_totals_are_the_seconds_that_a_class_covers(seed):
    detections = detections_of(seed)
    rows, _ = budget([video_of(detections)])
    for label in ("jump", "run", "sit"):
        own = [d for d in detections if d.label == label]
        covered = sum(any(d.start <= k / 100 < d.end for d in own) for k in range(12000)) / 100
        assert float(rows["a b#1 é", label]["total (s)"]) == pytest.approx(covered, abs=0.01 * 2 * len(own) + 0.01)


def test_without_a_duration_there_is_no_share_and_a_note():
    rows, notes = budget([video_of([Detection(1, 2, "run", 0.5)], duration=None)])
    assert rows["a b#1 é", "run"]["share of the duration"] == ""
    assert len(notes) == 1
    assert "--videos" in notes[0]
