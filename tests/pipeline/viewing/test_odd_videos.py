"""Pages of videos with odd names, and of those that browsers do not play."""

import json
import shutil

import av
import pytest

from tests.support.reference import SHARED, needs_shared
from tests.support.videos import constant, write_video, write_with_sound
from tests.support.viewed import content, entry_of, index_of, report_of, until, write_collection
from wtal.extractors.decoding.player_clock import player_clock

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(2)</script>",
    "\u202egnp.exe",
    "line\nbreak \u2028 end",
    "=cmd|' -C calc'!A0",
    "100% #1 ?a=b&c",
    '" onload="alert(3)',
    "javascript:alert(4)",
)


def flat(name):
    """Replace `/` in a name, so that a file may have it."""
    return name.replace("/", "\u2044")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """Page whose videos and labels have names that would run or break something if they were not escaped."""
    labels = [*HOSTILE, "..", "x" * 300]
    detections = {
        flat(name): [(labels[(i + k) % len(labels)], 0.2, 1 + k, 0.5 + k / 10) for k in range(2)]
        for i, name in enumerate(HOSTILE)
    }
    return report_of(write_collection(tmp_path_factory.mktemp("odd"), detections))[1]


def test_names_are_texts_and_their_videos_play(hostile, open_page):
    page = open_page(hostile.page.as_uri())
    names = page.eval_on_selector_all(".card .name", "nodes => nodes.map((node) => node.textContent)")
    assert set(names) == {flat(name) for name in HOSTILE}
    for place in range(len(names)):
        page.evaluate(f"wtal.go(wtal.content.videos[{place}])")
        page.wait_for_selector("#video h2")
        until(page, f"wtal.view.current && wtal.view.current.video.number === {place}")
        until(page, "document.querySelector('video') && document.querySelector('video').duration > 3.9")
        assert page.text_content("#video h2") in names
    assert page.evaluate("[...document.images].filter((image) => image.getAttribute('src') === 'x').length") == 0
    page.set_viewport_size({"width": 360, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_nothing_of_a_name_is_markup_or_a_path(hostile):
    folder = hostile.page.parent
    assert "alert" not in hostile.page.read_text()
    for file in (*folder.rglob("0*.js"), *folder.rglob("index.js")):
        assert "<" not in file.read_text(encoding="ascii")  # ASCII: nothing that a script reads as the end of a line
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-./") for name in files)


@pytest.fixture
def old(tmp_path):
    """Detection file, and a video that browsers do not play: MPEG-4 Part 2 in AVI."""
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "old.avi", constant(25, 100), size=(160, 120), codec="mpeg4")
    file = tmp_path / "detections.json"
    file.write_text(json.dumps(content({"old": [("run", 1.0, 2.0, 0.9)]})))
    return file


def test_without_a_copy_there_is_a_filmstrip_with_a_clock(old, open_page):
    _, report = report_of(old)
    assert "the container (avi)" in report.notes[0]
    assert "--proxies needed" in report.notes[0]
    page = open_page(report.page.as_uri() + "#video=old")
    page.wait_for_selector(".film .tile")
    assert page.query_selector("video") is None
    page.keyboard.press("n")
    until(page, "wtal.view.current.player.time() > 1.3")
    until(page, "wtal.view.current.player.time() < 1.3")  # it loops
    page.keyboard.press("Space")
    assert page.evaluate("wtal.view.current.player.paused()")
    page.keyboard.press("2")
    page.wait_for_selector(".answer.no[aria-pressed=true]")


def test_a_copy_is_made_once_and_plays_at_the_same_times(old, open_page):
    collection, report = report_of(old, "needed")
    (copy,) = (report.page.parent / "proxies").iterdir()
    before = copy.stat().st_mtime_ns
    assert report_of(old, "needed")[1] == report
    assert copy.stat().st_mtime_ns == before
    clock = player_clock(copy)
    assert (clock.start, float(clock.duration)) == (0, pytest.approx(4, abs=0.05))
    page = open_page(report.page.as_uri() + "#video=old")
    until(page, "document.querySelector('video') && document.querySelector('video').readyState >= 2")
    assert entry_of(report, 0)["source"] == f"proxies/{copy.name}"
    assert collection.videos[0].detections[0].start == 1.0


def test_a_late_picture_keeps_its_times(tmp_path, open_page):
    """Sound from 0, the picture from 0.5 s on: the detection file counts from the picture, players from the sound."""
    (tmp_path / "videos").mkdir()
    write_with_sound(tmp_path / "videos" / "late.mkv", 0.5)
    file = tmp_path / "detections.json"
    file.write_text(json.dumps(content({"late": [("run", 0.5, 1.5, 0.9)]})))
    _, report = report_of(file, "needed")
    assert any("begins after the sound" in note for note in report.notes)
    assert entry_of(report, 0)["shift"] == pytest.approx(0.5, abs=0.001)
    (copy,) = (report.page.parent / "proxies").iterdir()
    with av.open(str(copy)) as container:
        times = [float(frame.time) for frame in container.decode(video=0)]
        assert times[:2] == pytest.approx([0, 0.5], abs=0.02)
        assert len(container.streams.audio) == 1
    page = open_page(report.page.as_uri() + "#video=late")
    until(page, "document.querySelector('video') && document.querySelector('video').readyState >= 2")
    assert "0:01.0–0:02.0" in page.inner_text(".detections")
    page.evaluate("wtal.view.current.player.seek(1.25)")
    page.keyboard.press("n")
    page.keyboard.press("k")
    page.evaluate("wtal.view.current.moveHere(0)")
    moved = page.evaluate("wtal.verdicts.content().verdicts[0]")
    assert moved["detection"]["segment"] == [0.5, 1.5]
    assert moved["segment"][0] == pytest.approx(page.evaluate("wtal.view.current.player.time()") - 0.5, abs=0.002)

    file.write_text(json.dumps(content({"late": [("run", 1.0, 2.0, 0.9)]}, begins={"late": 0.5})))
    _, report = report_of(file)
    assert entry_of(report, 0)["shift"] == pytest.approx(0, abs=0.001)


def test_a_broken_and_a_missing_video_still_have_timelines(tmp_path, open_page):
    file = write_collection(tmp_path, {"good": [("run", 1, 2, 0.9)], "broken": [("run", 1, 2, 0.8)], "gone": []})
    (tmp_path / "videos" / "broken.mp4").write_bytes(b"no video")
    (tmp_path / "videos" / "gone.mp4").unlink()
    (tmp_path / "failures.json").write_text(json.dumps({"empty": "the file is empty (0 bytes)"}))
    _, report = report_of(file)
    assert list(report.unseen) == ["broken"]
    assert "gone" in report.notes[0]
    assert index_of(report)["failures"] == [["empty", "the file is empty (0 bytes)"]]
    page = open_page(report.page.as_uri())
    assert "1 video failed" in page.inner_text("#failures summary")
    page.goto(report.page.as_uri() + "#video=broken")
    page.wait_for_selector(".bar")
    assert "cannot be read" in page.inner_text(".stage")


@needs_shared
@pytest.mark.shared
def test_real_odd_videos_are_shown(tmp_path, open_page):
    (tmp_path / "videos").mkdir()
    names = ("video_90.mov", "h265_10bits.mp4", "testsrc2_vp8.webm", "test_non_zero_start.mp4", "unordered.mov")
    for name in names:
        shutil.copy(SHARED / "data" / "odd" / name, tmp_path / "videos" / name)
    file = tmp_path / "detections.json"
    file.write_text(json.dumps(content({name.partition(".")[0]: [("run", 0.2, 0.5, 0.9)] for name in names})))
    _, report = report_of(file, "needed")
    assert report.unseen == {}
    page = open_page(report.page.as_uri())
    for number in range(len(names)):
        page.evaluate(f"wtal.go(wtal.content.videos[{number}])")
        until(page, f"wtal.view.current && wtal.view.current.video.number === {number}")
        until(page, "document.querySelector('video') && document.querySelector('video').readyState >= 2")
        wide = page.evaluate("document.querySelector('video').videoWidth > document.querySelector('video').videoHeight")
        width, height = entry_of(report, number)["size"]
        assert wide == (width > height)  # it is upright
