"""Every export, read back by the rules of its format: the same classes at the same times, within half a frame."""

import csv
import io
import random
from contextlib import nullcontext
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.export_readers import READERS
from wtal.data.segments import Detection
from wtal.errors import VideoError
from wtal.report.export_text import plain
from wtal.report.exports import EXPORTS, ExportVideo
from wtal.report.fit import fit, shown_labels

NTSC = Fraction(30000, 1001)
NAMES = EXPORTS.names()
ONLY_STARTS = {"youtube", "kodi"}
ONLY_SUMS = {"time-budget"}
HOLDS_NOTHING = {"mpv-edl", "youtube"}
MARKS_OF_FORMATS = str.maketrans("<>{}|,/", "()()___")
"""Characters that some formats replace."""


def video_of(detections, **facts):
    values = {
        "file": Path("/videos/a b#1 é.mp4"),
        "relative": "a b#1 é.mp4",
        "duration": 120.0,
        "rate": NTSC,
        "frames": 3596,
        "size": (64, 48),
        "sound": True,
        **facts,
    }
    return ExportVideo("a b#1 é", tuple(sorted(detections, key=lambda d: d.start)), **values)


def written(name, video):
    """Sheet of a video, and the video from the format."""
    leaf = EXPORTS.load(name)
    shown = shown_labels(sorted({d.label for d in video.detections}), leaf.EXPORT.reserved)
    fitted, _ = fit(video, leaf.EXPORT, shown)
    classes = sorted(shown) if leaf.EXPORT.exact else [shown[label] for label in sorted(shown)]
    return leaf.render([fitted], classes)


def labels_at(cuts, second):
    return {label for start, end, label in cuts if start <= second < end}


def wanted_at(detections, second, overlaps):
    covering = [d for d in detections if d.start <= second < d.end]
    if overlaps == "none" and covering:
        return {max(covering, key=lambda d: d.score).label}
    return {d.label for d in covering}


def agrees(name, video, translate=str):
    """Compare a reader's content of a file with the detections, in the middles of all parts between two edges."""
    export = EXPORTS.load(name).EXPORT
    shift = float(video.start) if export.clock == "player" else 0.0
    cuts = [
        (float(start), float(end), translate(label))
        for start, end, label in READERS[name](written(name, video).text, video)
    ]
    half = 0.5 / float(video.rate or 25) + 1e-6
    edges = sorted(
        {edge + shift for d in video.detections for edge in (d.start, d.end)} | {shift, shift + video.duration}
    )
    count = 0
    for former, latter in pairwise(edges):
        for second in (former + half, latter - half):
            if former + half <= second <= latter - half and latter - former > 2 * half:
                wanted = {translate(label) for label in wanted_at(video.detections, second - shift, export.overlaps)}
                assert labels_at(cuts, second) == wanted, (name, second)
                count += 1
    assert count > 5
    if export.overlaps == "any" and export.clock == "player" and name != "resolve-markers":
        ends = sorted((d.start + shift, d.end + shift) for d in video.detections)
        for (start, end, _), (first, last) in zip(sorted(cuts), ends, strict=True):
            assert abs(start - first) <= half
            assert abs(end - last) <= half


def detections_of(seed, labels=("run", "jump", "sit"), count=20):
    """Overlapping detections with times off the frames."""
    generator = random.Random(seed)
    starts = [generator.uniform(0, 110) for _ in range(count)]
    return [
        Detection(start, start + generator.uniform(0.2, 9), generator.choice(labels), generator.random())
        for start in starts
    ]


every_format = pytest.mark.parametrize("name", sorted(READERS))


def test_every_format_has_a_reader():
    assert set(NAMES) == READERS.keys() | ONLY_STARTS | ONLY_SUMS


@every_format
@pytest.mark.parametrize("seed", range(3))
def test_overlapping_detections_at_29_97(name, seed):
    agrees(name, video_of(detections_of(seed)))


@every_format
@pytest.mark.parametrize("rate", [Fraction(25), Fraction(24000, 1001), Fraction(60)])
def test_other_rates(name, rate):
    agrees(name, video_of(detections_of(7), rate=rate, frames=round(120 * rate)))


@every_format
def test_a_picture_that_begins_after_the_sound(name):
    agrees(name, video_of(detections_of(3), start=Fraction(3, 4), file_start=Fraction(14, 10)))


@every_format
def test_a_variable_rate(name):
    video = video_of(detections_of(4), rate=None, variable=True)
    if "rate" in EXPORTS.load(name).EXPORT.needs:
        with pytest.raises(VideoError, match="variable"):
            written(name, video)
    else:
        agrees(name, video)


@pytest.mark.parametrize("name", [name for name in NAMES if EXPORTS.load(name).EXPORT.per == "collection"])
def test_a_line_break_in_a_file_name_spoils_no_other_video(name):
    leaf = EXPORTS.load(name)
    odd = replace(video_of(detections_of(5)), id="two\nlines", file=Path("/videos/two\nlines.mp4"))
    with nullcontext() if name != "m3u8" else pytest.raises(VideoError, match="line break"):
        fitted, _ = fit(odd, leaf.EXPORT, {label: label for label in ("run", "jump", "sit")})
        leaf.render([fitted], ["jump", "run", "sit"])


@pytest.mark.parametrize("name", NAMES)
def test_no_detections(name):
    if name in HOLDS_NOTHING:
        with pytest.raises(VideoError):
            written(name, video_of([]))
    else:
        text = written(name, video_of([])).text
        assert name == "kodi" or name in ONLY_SUMS or READERS[name](text, video_of([])) == []


HOSTILE = (
    "<script>alert(1)</script>",
    "=cmd|' /C calc'!A0",
    "+1",
    "@SUM(A1)",
    "two\nlines --> more",
    "\u202egnp.exe",
    "tab\there, comma; # \\ =",
    "\x00\x1b[31m",
    "../../etc/passwd",
    "“quotes” & 'marks'",
    "{\\an8}日本語",
    "＝1+1",
    "＋1",
    "－1",
    "＠SUM(A1)",
)


@every_format
def test_hostile_labels(name):
    detections = [Detection(5.0 * k + 1, 5.0 * k + 4, label, 0.5) for k, label in enumerate(HOSTILE)]

    def tame(label):
        return plain(label).translate(MARKS_OF_FORMATS)

    agrees(name, video_of(detections), tame)
    text = written(name, video_of(detections)).text
    assert name == "activitynet" or not set("\u202e\x00\x1b") & set(text)


ALIKE = (
    *("other", "other (2)", "background", "(other)", "(begin)", "unnamed", "\x00"),
    *("a<b", "a(b", "a{b", "a(b (2)", "a|b", "a/b", "a,b", "a_b", "=x", "'=x", "a b", "a\u202e b"),
)
"""Names that a format uses itself, and labels that are equal after its replacements."""


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"kodi"}))
def test_labels_stay_distinct_from_one_another_and_from_the_names_of_the_format(name):
    detections = [Detection(12.0 * k + 1, 12.0 * k + 12, label, 0.5) for k, label in enumerate(ALIKE)]
    video = video_of(detections, duration=240.0, frames=7193)
    text = written(name, video).text
    if name == "youtube":
        labels = {line.partition(" ")[2] for line in text.splitlines()} - {"(begin)", "(other)"}
    elif name == "time-budget":
        labels = {row["label"] for row in csv.DictReader(io.StringIO(text))}
    else:
        labels = {label for _, _, label in READERS[name](text, video)}
    assert len(labels) == len(ALIKE)
    assert "a(b" in labels, "a label that a format can hold is as it was"


@pytest.mark.parametrize("name", ["csv", "losslesscut-csv", "deepethogram", "time-budget"])
def test_no_cell_runs_in_a_spreadsheet(name):
    detections = [Detection(5.0 * k + 1, 5.0 * k + 4, label, 0.5) for k, label in enumerate(HOSTILE)]
    video = replace(video_of(detections), id="=1+1", relative="-x.mp4")
    cells = [
        cell
        for row in csv.reader(io.StringIO(written(name, video).text))
        for cell in row
        if not cell.lstrip("-").isdigit()
    ]
    assert len(cells) > len(HOSTILE)
    assert [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r", *"＝＋－＠"))] == []


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"activitynet", "csv"}))
def test_a_detection_without_length_is_left_out_and_counted(name):
    leaf = EXPORTS.load(name)
    video = video_of([Detection(4.0, 4.0, "run", 0.9), Detection(50.0, 60.0, "run", 0.9)])
    fitted, changes = fit(video, leaf.EXPORT, {"run": "run"})
    assert len(fitted.detections) == 1
    assert list(changes.values()) == [1]


@pytest.mark.parametrize("name", NAMES)
def test_what_a_format_needs_is_named(name):
    leaf = EXPORTS.load(name)
    bare = ExportVideo("a", (Detection(1.0, 2.0, "run", 0.5),))
    if leaf.EXPORT.needs:
        with pytest.raises(VideoError, match="--videos"):
            fit(bare, leaf.EXPORT, {"run": "run"})
    elif name != "youtube":
        fitted, _ = fit(bare, leaf.EXPORT, {"run": "run"})
        assert leaf.render([fitted], ["run"]).text
