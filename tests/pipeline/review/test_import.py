"""Corrections from every program: unchanged is right, moved is moved, removed is wrong, new was missed."""

import json
import subprocess
import sys
from fractions import Fraction

import pytest
from click.testing import CliRunner

from tests.support.review_programs import PROGRAMS, corrected, format_of
from tests.support.videos import constant, write_video, write_with_sound
from wtal.cli import main
from wtal.data.files import write_json
from wtal.data.verdicts import read_verdicts
from wtal.report.imports import IMPORTS

NTSC = Fraction(30000, 1001)
ODD = "=run | <b>, 'é'"
DETECTIONS = {
    "a": [("run", 0.513, 1.487, 0.9), ("jump", 1.021, 2.011, 0.8), (ODD, 2.4, 3.2, 0.75), ("run", 2.9, 3.6, 0.2)],
    "b": [("jump", 1.0, 2.5, 0.85)],
}
every_program = pytest.mark.parametrize("name", sorted(PROGRAMS))


def call(*arguments, code=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, f"{result.output}{result.exception!r}"
    return result


def write_source(folder, rate=NTSC, **origin):
    videos = folder / "videos"
    videos.mkdir()
    for video in DETECTIONS:
        write_video(videos / f"{video}.mp4", constant(rate, 120), unit=Fraction(1, 30000))
    results = {
        video: [{"label": label, "score": score, "segment": [start, end]} for label, start, end, score in own]
        for video, own in DETECTIONS.items()
    }
    return write_json(folder / "detections.json", {"results": results, "wtal": origin})


@pytest.fixture
def source(tmp_path):
    return write_source(tmp_path)


def exported(source, name, *options):
    out = source.parent / f"out-{name}"
    call("export", source, "--to", format_of(name), "--videos", source.parent / "videos", "--out", out, *options)
    return out


def reviewed(source, files, *options, code=0):
    return call("review", "import", source, *files, "--videos", source.parent / "videos", *options, code=code)


def answers(source):
    """Verdicts of a source, (video, label, score) -> verdict, and missed segments."""
    content = read_verdicts(source.with_name("detections-verdicts.json"))
    judged = {(v.video, v.label, v.detection.score): v for v in content.verdicts if v.detection}
    return judged, [v for v in content.verdicts if v.verdict == "missed"], content.looked_at


def test_every_reader_is_tried_and_named_as_its_export():
    assert set(map(format_of, PROGRAMS)) == set(IMPORTS.names())


@every_program
def test_what_is_left_as_it_is_was_right(source, name):
    files = corrected(name, exported(source, name), lambda cuts: cuts, NTSC)
    reviewed(source, files, "--looked-at")
    judged, missed, looked_at = answers(source)
    first = {key: verdict.verdict for key, verdict in judged.items() if key[0] == "a"}
    assert first == {("a", label, score): "yes" for label, _, _, score in DETECTIONS["a"]}
    assert missed == []
    assert "a" in looked_at


@every_program
def test_moved_removed_and_new_segments(source, name):
    def change(cuts):
        kept = [cut for cut in cuts if cut[2] != "jump"]
        for cut in kept:
            if cut[2] == "run" and cut[0] < 2:
                cut[1] += 0.4
        return [*kept, [0.1, 0.4, "run"]]

    result = reviewed(source, corrected(name, exported(source, name), change, NTSC), "--from", format_of(name))
    judged, missed, looked_at = answers(source)
    half = 0.5 / float(NTSC) + 0.001
    assert {key[1:]: verdict.verdict for key, verdict in judged.items()} == {
        ("run", 0.9): "moved",
        ("jump", 0.8): "no",
        (ODD, 0.75): "yes",
        ("run", 0.2): "yes",
    }
    moved = judged["a", "run", 0.9].segment
    assert moved[0] == 0.513, "the end that nobody touched is that of the detection, to the letter"
    assert moved[1] == pytest.approx(1.887, abs=2 * half)
    assert judged["a", "run", 0.9].detection.segment == (0.513, 1.487)
    (new,) = missed
    assert (new.video, new.label) == ("a", "run")
    assert new.segment == pytest.approx((0.1, 0.4), abs=half)
    assert looked_at == (("a",) if name == "label-studio" else ())
    assert "1 moved" in result.stdout
    assert ("jump", 0.85) not in {key[1:] for key in judged}, "b is as it was exported: nobody says it was looked at"


@every_program
def test_answers_are_withdrawn_by_replacing_them_and_stay_otherwise(source, name):
    def change(cuts):
        return [cut for cut in cuts if cut[2] != "jump"] + [[0.1, 0.4, "run"]]

    own = ("--looked-at", "--from", format_of(name))
    other = {"video": "c", "label": "run", "verdict": "missed", "segment": [1.0, 2.0], "detection": None}
    reviewed(source, corrected(name, exported(source, name), change, NTSC), *own)
    file = source.with_name("detections-verdicts.json")
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"verdicts": [*content["verdicts"], other]}))
    restored = corrected(name, exported(source, name, "--force"), lambda cuts: cuts, NTSC)
    stayed = reviewed(source, restored, *own)
    assert "1 earlier verdicts that the files do not repeat stay; --replace drops" in stayed.stderr
    assert len(answers(source)[1]) == 2
    assert "are dropped (a: 'missed' on 'run')" in reviewed(source, restored, *own, "--replace").stderr
    judged, missed, _ = answers(source)
    assert {verdict.verdict for verdict in judged.values()} == {"yes"}
    assert [verdict.video for verdict in missed] == ["c"], "no file has that video"


def test_a_verdict_undone_on_the_page_is_withdrawn_by_replacing(source, tmp_path):
    def of(*answered):
        return [
            {"video": video, "label": "jump", "verdict": "no", "segment": None, "detection": detection}
            for video, detection in answered
        ]

    first = ("a", {"segment": [1.021, 2.011], "score": 0.8})
    second = ("b", {"segment": [1.0, 2.5], "score": 0.85})
    file = tmp_path / "verdicts.json"
    for content, options, count in ((of(first, second), (), 2), (of(second), (), 2), (of(second), ("--replace",), 1)):
        write_json(file, {"format": 1, "verdicts": content, "looked_at": []})
        result = reviewed(source, [file], *options)
        assert len(answers(source)[0]) == count
        assert ("1 earlier verdicts" in result.stderr) == (len(content) == 1)


@pytest.mark.slow
def test_two_imports_at_once_lose_no_answer(source, tmp_path):
    detections = {("a", 0.9): (0.513, 1.487), ("a", 0.2): (2.9, 3.6)}
    calls = []
    for number, ((video, score), segment) in enumerate(detections.items()):
        detection = {"segment": segment, "score": score}
        verdict = {"video": video, "label": "run", "verdict": "no", "segment": None, "detection": detection}
        file = write_json(tmp_path / f"{number}.json", {"format": 1, "verdicts": [verdict], "looked_at": []})
        calls.append([sys.executable, "-m", "wtal", "review", "import", str(source), str(file)])
    for _ in range(3):
        source.with_name("detections-verdicts.json").unlink(missing_ok=True)
        processes = [subprocess.Popen(call, stdout=subprocess.DEVNULL) for call in calls]
        assert [process.wait() for process in processes] == [0, 0]
        assert len(answers(source)[0]) == 2
    assert not list(tmp_path.glob(".*"))


@every_program
def test_a_file_as_it_was_exported_says_nothing(source, name):
    if name == "label-studio":
        pytest.skip("what was not submitted in Label Studio is no answer")
    result = reviewed(source, corrected(name, exported(source, name), lambda cuts: cuts, NTSC))
    assert "not marked as looked at" in result.stderr
    assert not source.with_name("detections-verdicts.json").exists()


@every_program
def test_everything_is_removed(source, name):
    files = corrected(name, exported(source, name), lambda cuts: [], NTSC)
    result = reviewed(source, files, "--looked-at", "--from", format_of(name))  # an empty table could be of anybody
    if name == "boris-table":  # an observation without an event is in no table
        assert "it has no annotated video" in result.stderr
        assert not source.with_name("detections-verdicts.json").exists()
        return
    judged, missed, looked_at = answers(source)
    rejected = {key for key, verdict in judged.items() if verdict.verdict == "no"}
    assert rejected == {("a", label, score) for label, _, _, score in DETECTIONS["a"]}
    assert "a" in looked_at
    assert missed == []


@pytest.mark.parametrize("name", sorted(set(PROGRAMS) - {"fiftyone", "label-studio"}))
@pytest.mark.parametrize("counts_from_file", [False, True])
def test_a_picture_that_begins_after_the_sound(tmp_path, name, counts_from_file):
    """Programs show the picture from 0.5 on; the detection file counts from there, or from the file's beginning."""
    (tmp_path / "videos").mkdir()
    write_with_sound(tmp_path / "videos" / "a.mkv", Fraction(1, 2))
    begin = 0.5 if counts_from_file else 0.0
    own = [{"label": "run", "score": 0.9, "segment": [begin + 0.2, begin + 1.0]}]
    origin = {"localize": {}, **({"begins": {"a": 0.5}} if counts_from_file else {})}
    source = write_json(tmp_path / "detections.json", {"results": {"a": own}, "wtal": origin})

    def change(cuts):
        assert [cut[:2] for cut in cuts] == [pytest.approx([0.7, 1.5])]
        cuts[0][1] = 1.9
        return [*cuts, [2.1, 2.4, "jump"]]

    reviewed(source, corrected(name, exported(source, name), change, 25))
    judged, missed, _ = answers(source)
    assert judged["a", "run", 0.9].segment == pytest.approx((begin + 0.2, begin + 1.4))
    assert missed[0].segment == pytest.approx((begin + 1.6, begin + 1.9))


def test_a_later_answer_wins_and_is_told(source):
    folder = exported(source, "llc")
    reviewed(source, corrected("llc", folder, lambda cuts: cuts, NTSC), "--looked-at")
    call("export", source, "--to", "llc", "--videos", source.parent / "videos", "--out", folder, "--force")
    result = reviewed(source, corrected("llc", folder, lambda cuts: cuts[1:], NTSC))
    assert "changed: a, run is now 'no'" in result.stderr
    judged, _, looked_at = answers(source)
    assert judged["a", "run", 0.9].verdict == "no"
    assert judged["b", "jump", 0.85].verdict == "yes", "what the later file does not say stays"
    assert looked_at == ("a", "b")


def test_what_was_not_exported_is_not_missed(source):
    folder = exported(source, "llc", "--min-score", 0.5)
    files = corrected("llc", folder, lambda cuts: cuts, NTSC)
    reviewed(source, files, "--min-score", 0.5, "--looked-at")
    assert ("a", "run", 0.2) not in answers(source)[0]


def test_an_export_of_the_best_alone_is_not_taken_for_rejections(tmp_path):
    source = write_source(tmp_path)
    content = json.loads(source.read_text())
    content["results"]["a"] = [
        {"label": "run", "score": 0.9 - k / 10, "segment": [k / 2, k / 2 + 0.3]} for k in range(6)
    ]
    write_json(source, content)
    files = corrected("llc", exported(source, "llc", "--top", 2), lambda cuts: cuts, NTSC)
    result = reviewed(source, files, "--looked-at", code=2)
    assert "--min-score or --top of the export" in result.stderr
    reviewed(source, files, "--looked-at", "--top", 2)
    assert {verdict.verdict for verdict in answers(source)[0].values()} == {"yes"}


def write_runs(folder, *runs):
    """Write a source whose first video has detections of one class, (start, end, score)."""
    source = write_source(folder)
    content = json.loads(source.read_text())
    content["results"]["a"] = [{"label": "run", "score": score, "segment": [*ends]} for *ends, score in runs]
    return write_json(source, content)


def answered(source, name, change, *options):
    """Return score -> (answer, segment) of the first video's detections, and the missed segments, after a change."""
    reviewed(source, corrected(name, exported(source, name, *options), change, NTSC), *options)
    judged, missed, _ = answers(source)
    own = {key[2]: (verdict.verdict, verdict.segment) for key, verdict in judged.items() if key[0] == "a"}
    return own, [verdict.segment for verdict in missed]


JOINS = [
    *((name, (), ((0.2, 1.6, 0.5), (1.2, 2.4, 0.9))) for name in ("boris", "boris-table", "elan")),
    *((name, ("--merge", 0.5), ((0.2, 0.9, 0.5), (1.1, 1.5, 0.4), (1.8, 2.4, 0.9))) for name in sorted(PROGRAMS)),
    *((name, ("--merge", 0), ((0.2, 2.4, 0.9), (0.5, 0.8, 0.5))) for name in sorted(PROGRAMS)),
]
"""Program, options of the export, and detections that it joins into 0.2 to 2.4."""


@pytest.mark.parametrize(("name", "options", "runs"), JOINS)
@pytest.mark.parametrize("end", [0, 1])
def test_detections_that_were_joined_are_answered_together(tmp_path, name, options, runs, end):
    """An end that nobody touched is that of the whole, whichever detection has the highest score."""
    source = write_runs(tmp_path, *runs)
    files = corrected(name, exported(source, name, *options), lambda cuts: cuts, NTSC)
    reviewed(source, files, *options, "--looked-at")
    assert {key[2]: v.verdict for key, v in answers(source)[0].items() if key[0] == "a"} == {
        score: "yes" for *_, score in runs
    }
    for file in files:
        file.unlink()

    def move(cuts):
        (cut,) = cuts
        assert cut == [pytest.approx(0.2, abs=0.02), pytest.approx(2.4, abs=0.02), "run"]
        cut[end] = (0.1, 3.0)[end]
        return cuts

    own, missed = answered(source, name, move, *options)
    segments = {segment for _, segment in own.values()}
    assert own.keys() == {score for *_, score in runs}
    assert {answer for answer, _ in own.values()} == {"moved"}
    assert missed == []
    (segment,) = segments
    assert segment[1 - end] == (0.2, 2.4)[1 - end], "to the letter"
    assert segment[end] == pytest.approx((0.1, 3.0)[end], abs=0.02)


APART = ((0.2, 0.9, 0.5), (1.1, 1.5, 0.4), (1.8, 2.4, 0.9))


@every_program
def test_a_joined_detection_that_was_cut_off_is_wrong(tmp_path, name):
    source = write_runs(tmp_path, *APART)
    own, missed = answered(source, name, lambda cuts: [[1.0, *cuts[0][1:]]], "--merge", 0.5)
    assert [own[score][0] for score in (0.5, 0.4, 0.9)] == ["no", "moved", "moved"]
    assert own[0.4][1] == own[0.9][1] == (pytest.approx(1.0, abs=0.02), 2.4)
    assert missed == []


@every_program
def test_a_joined_segment_that_a_person_splits(tmp_path, name):
    """None of its parts is wrong: the second segment is in the file as a missed one."""
    source = write_runs(tmp_path, *APART)
    own, missed = answered(source, name, lambda cuts: [[0.2, 1.5, "run"], [1.8, cuts[0][1], "run"]], "--merge", 0.5)
    assert own == {score: ("moved", (0.2, pytest.approx(1.5, abs=0.02))) for score in (0.5, 0.4)}
    assert missed == [pytest.approx((1.8, 2.4), abs=0.02)]


def test_a_person_joins_two_detections(source):
    def change(cuts):
        return [cut for cut in cuts if cut[2] != "run"] + [[0.5, 3.6, "run"]]

    reviewed(source, corrected("llc", exported(source, "llc"), change, NTSC))
    runs = [verdict for key, verdict in answers(source)[0].items() if key[1] == "run"]
    assert {verdict.verdict for verdict in runs} == {"moved"}
    assert len(runs) == 2


def test_a_segment_that_is_not_ticked_was_rejected(source):
    (first, _) = sorted(exported(source, "llc").iterdir())
    project = json.loads(first.read_text())
    project["cutSegments"][0]["selected"] = False
    first.write_text(json.dumps(project))
    reviewed(source, [first])
    assert answers(source)[0]["a", "run", 0.9].verdict == "no"


def test_names_that_no_detection_has_are_told(source):
    folder = exported(source, "llc")
    result = reviewed(source, corrected("llc", folder, lambda cuts: [*cuts, [0, 1, "juggle"], [1, 2, ""]], NTSC))
    assert "1 segments of 'juggle', a class without detections" in result.stderr
    assert "1 segments without a name, left out" in result.stderr
    (folder / "a-proj.llc").write_text((folder / "a-proj.llc").read_text().replace("a.mp4", "zebra.mp4"))
    refused = reviewed(source, [folder / "a-proj.llc"], code=1)
    assert "the detections have no video" in refused.stderr


def test_verdicts_that_a_browser_downloaded_are_taken_as_they_are(source):
    files = corrected("llc", exported(source, "llc"), lambda cuts: cuts[1:], NTSC)
    reviewed(source, files)
    kept = source.with_name("detections-verdicts.json")
    downloaded = kept.rename(source.with_name("verdicts (1).json"))
    reviewed(source, [downloaded])
    assert read_verdicts(kept) == read_verdicts(downloaded)


def test_what_cannot_be_compared_is_an_error_and_writes_nothing(source):
    files = corrected("llc", exported(source, "llc"), lambda cuts: [], NTSC)
    result = call("review", "import", source, *files, code=1)
    assert "a was not compared: needs the video's file; give its folder with --videos" in result.stderr
    assert not source.with_name("detections-verdicts.json").exists()


def test_a_cut_of_another_rate_is_read_at_the_rate_of_its_project(source):
    """Label Studio counts frames at the rate of its project, which is in the task."""
    (file,) = exported(source, "label-studio").iterdir()
    tasks = json.loads(file.read_text())
    regions = tasks[0]["predictions"][0]["result"]
    for region in regions:
        for span in region["value"]["ranges"]:
            span["start"], span["end"] = (span["start"] - 1) * 2 + 1, span["end"] * 2
    tasks[0]["data"]["fps"] *= 2
    tasks[0]["annotations"] = [{"result": regions}]
    file.write_text(json.dumps(tasks))
    reviewed(source, [file])
    assert {verdict.verdict for verdict in answers(source)[0].values()} == {"yes"}


@pytest.mark.parametrize("name", IMPORTS.names())
@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "null", '{"labels": 3, "observations": [], "cutSegments": {}}', "\x00", "a,b", "<x>", "[[]]"],
)
def test_files_that_are_something_else_are_one_line(source, name, text):
    file = source.with_name("odd.file")
    file.write_text(text)
    result = CliRunner().invoke(main, ["review", "import", str(source), str(file), "--from", name])
    assert result.exit_code in (0, 1, 2), result.exception
    assert result.exit_code == 0 or sum(line.startswith("wtal: ") for line in result.stderr.splitlines()) == 1
    assert not source.with_name("detections-verdicts.json").exists()


def test_other_options_than_those_of_the_export_are_noticed(source):
    content = json.loads(source.read_text())
    content["results"]["a"].append({"label": "jump", "score": 0.7, "segment": [3.1, 3.5]})
    source.write_text(json.dumps(content))
    files = corrected("label-studio", exported(source, "label-studio", "--pad", "0.25"), lambda cuts: cuts, NTSC)
    refused = reviewed(source, files, code=2)
    assert "longer by 0.25 s on both sides, as if exported with --pad" in refused.stderr
    reviewed(source, files, "--pad", "0.25")
    some = exported(source, "label-studio", "--classes", "run", "--force")
    noted = reviewed(source, corrected("label-studio", some, lambda cuts: cuts, NTSC))
    assert "it lacks all 2 detections of 'jump', which count as wrong" in noted.stderr
