"""Page in a real browser: it loads from disk, plays, filters, accepts keys, and keeps verdicts."""

import json
from pathlib import Path

import pytest

from tests.support.viewed import report_of, until, write_collection
from wtal.data.verdicts import parse_verdicts


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    file = write_collection(tmp_path_factory.mktemp("page"), label_check={"run": "learned", "jump": "not learned"})
    return report_of(file)[1]


@pytest.fixture
def page(report, open_page):
    return open_page(report.page.as_uri())


def cards(page):
    return page.eval_on_selector_all(".card .name", "nodes => nodes.map((node) => node.textContent)")


def state(page, of):
    return page.evaluate(f"wtal.view.current.{of}")


def playing(page):
    """Wait for the picture, and return its position."""
    until(page, "document.querySelector('video')?.readyState >= 2")
    return page.evaluate("document.querySelector('video').currentTime")


def downloaded(page):
    with page.expect_download() as download:
        page.click("#download")
    assert download.value.suggested_filename == "verdicts.json"
    return parse_verdicts(Path(download.value.path()).read_text(encoding="utf-8"), "the download")


def test_the_collection_is_listed_searched_sorted_and_filtered(page):
    assert cards(page) == ["first", "second", "third"]
    assert page.inner_text("#count") == "3 videos, 4 detections"
    assert "jump not learned" in page.inner_text("#check")
    page.fill("#search", "JUMP sec")
    assert cards(page) == ["second"]
    page.fill("#search", "")
    page.select_option("#sort", "name")
    assert cards(page) == ["first", "second", "third"]
    assert page.inner_text("#classes li:first-child .total") == "2 · 2"
    page.evaluate("document.querySelector('#least').value = 0")
    page.dispatch_event("#least", "input")
    assert page.inner_text("#count") == "3 videos, 5 detections"
    page.uncheck("#class-0")
    assert page.inner_text("#count") == "3 videos, 2 detections"
    page.click("#all-classes")
    page.select_option("#sort", "uncertain")
    assert cards(page)[-1] == "third"


def test_a_detection_is_played_in_a_loop_and_seen_on_the_timelines(page):
    page.click(".card:has-text('first')")
    page.click("[aria-label^='play run 2,']")
    playing(page)
    until(page, "document.querySelector('video').currentTime > 2.6")
    until(page, "document.querySelector('video').currentTime < 2.6")  # it begins again
    page.keyboard.press("k")
    assert 2.3 <= playing(page) <= 3.3
    assert page.evaluate("document.querySelector('video').paused")
    assert page.inner_text("[aria-current] .what") == "run 2"
    left = page.evaluate("document.querySelector('.playhead').style.left")
    assert float(left.rpartition("* ")[2].rstrip(")")) == pytest.approx(playing(page) / 4, abs=0.02)
    cue = page.evaluate(
        "[...document.querySelector('video').textTracks[0].cues].map((c) => [c.startTime, c.endTime, c.text])"
    )
    assert cue == [[0.5, 1.5, "run 0.90"], [1, 2, "jump 0.80"], [2.4, 3.2, "run 0.75"]]


def test_keys_move_the_player(page):
    page.click(".card:has-text('first')")
    playing(page)
    for keys, second in ((["ArrowRight"] * 2, 2), (["Shift+ArrowLeft"], 1.96), (["j"], 0), (["ArrowRight"], 1)):
        for key in keys:
            page.keyboard.press(key)
        assert state(page, "player.time()") == pytest.approx(second, abs=0.01)
    page.keyboard.press("]")
    assert state(page, "player.rate") == 1.5
    page.keyboard.press("[")
    page.keyboard.press("[")
    assert page.evaluate("document.querySelector('video').playbackRate") == 0.75
    page.keyboard.press("Space")
    until(page, "!document.querySelector('video').paused")
    page.keyboard.press("Space")
    until(page, "document.querySelector('video').paused")
    page.keyboard.press("+")
    assert state(page, "timeline.zoom") == 2
    page.keyboard.press("Escape")
    page.wait_for_selector("#cards .card:focus")  # the previous position


def test_brackets_typed_with_altgr_change_the_speed(page):
    page.click(".card:has-text('first')")
    playing(page)
    rates = []
    for key, held in (("]", "ctrlKey altKey"), ("[", "altKey"), ("[", "modifierAltGraph ctrlKey"), ("[", "ctrlKey")):
        options = {"key": key, "bubbles": True, **dict.fromkeys(held.split(), True)}
        page.evaluate("(options) => document.body.dispatchEvent(new KeyboardEvent('keydown', options))", options)
        rates.append(state(page, "player.rate"))
    assert rates == [1.5, 1, 0.75, 0.75]  # with Ctrl alone it is a command of the browser


def test_the_second_detection_of_a_class_is_marked_wrong_by_keys_alone(page):
    for key in ("/", *"first", "Enter"):
        page.keyboard.press(key)
    page.wait_for_selector("#video h2:focus")
    for key in "nnn":
        page.keyboard.press(key)
    page.wait_for_selector("[aria-current] .what:has-text('run 2')")
    page.keyboard.press("2")
    assert page.get_attribute("[aria-current] .answer.no", "aria-pressed") == "true"
    page.reload()
    page.wait_for_selector(".answer.no[aria-pressed=true]")  # kept in the browser
    (verdict,) = downloaded(page).verdicts
    assert (verdict.video, verdict.label, verdict.verdict) == ("first", "run", "no")
    assert (verdict.detection.segment, verdict.detection.score) == ((2.4, 3.2), 0.75)


def test_all_verdicts(page):
    page.goto(page.url + "#video=second")
    playing(page)
    page.click("[aria-label='yes: jump 1']")
    assert [v.verdict for v in downloaded(page).verdicts] == ["yes"]
    page.click("[aria-label='yes: jump 1']")  # undone
    assert downloaded(page).verdicts == ()
    page.keyboard.press("5")
    assert [v.verdict for v in downloaded(page).verdicts] == ["skip"]
    page.evaluate("wtal.view.current.player.seek(1.2)")
    page.keyboard.press("i")
    page.evaluate("wtal.view.current.player.seek(3)")
    page.keyboard.press("3")
    (moved,) = downloaded(page).verdicts
    assert (moved.verdict, moved.detection.segment) == ("moved", (1.0, 2.5))
    assert moved.segment == pytest.approx((1.2, 3.0), abs=0.001)
    page.keyboard.press("0")
    page.evaluate("wtal.view.current.player.seek(3.2)")
    page.keyboard.press("4")
    page.evaluate("wtal.view.current.player.seek(3.9)")
    page.focus(".missing select")
    page.select_option(".missing select", label="run")
    page.keyboard.press("4")
    page.keyboard.press("f")  # a detection of jump has no verdict
    page.wait_for_selector(".looked:has-text('Looked at, and no jump?')")
    assert downloaded(page).looked_at == ()
    page.keyboard.press("f")
    content = downloaded(page)
    assert content.looked_at == ("second",)
    (missed,) = content.verdicts
    assert (missed.label, missed.verdict, missed.detection) == ("run", "missed", None)
    assert missed.segment == pytest.approx((3.2, 3.9), abs=0.001)
    page.click(".missed-list button")
    assert downloaded(page).verdicts == ()


def test_two_tabs_of_a_page_keep_the_verdicts_of_both(page):
    page.goto(page.url + "#video=first")
    other = page.context.new_page()
    other.goto(page.url.replace("=first", "=second"))
    for tab, click in ((page, "no: run 1"), (other, "yes: jump 1")):
        tab.click(f"[aria-label='{click}']")
        tab.wait_for_selector("#saved:has-text('Stored')")
    assert {(v.video, v.verdict) for v in downloaded(other).verdicts} == {("first", "no"), ("second", "yes")}
    until(page, "wtal.verdicts.total() === 2")
    page.reload()
    page.wait_for_selector("[aria-label='no: run 1'][aria-pressed=true]")
    assert len(downloaded(page).verdicts) == 2


def test_an_edge_is_drawn_to_its_place(page):
    page.goto(page.url + "#video=second")
    playing(page)
    page.keyboard.press("n")
    page.keyboard.press("k")
    box = page.locator(".edge.side1").bounding_box()
    track = page.locator(".track.class").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 5)
    page.mouse.down()
    page.mouse.move(track["x"] + track["width"] * 0.75, box["y"] + 5, steps=4)
    page.mouse.up()
    (moved,) = downloaded(page).verdicts
    assert moved.segment == pytest.approx((1.0, 3.0), abs=0.02)
    page.focus(".edge.side0")
    page.keyboard.press("ArrowLeft")
    (moved,) = downloaded(page).verdicts
    assert moved.segment[0] == pytest.approx(0.96, abs=0.001)


def test_behind_the_last_detection_comes_the_next_video(page):
    page.goto(page.url + "#video=second")
    playing(page)
    page.keyboard.press("n")
    page.keyboard.press("Shift+P")
    page.wait_for_selector("h2:has-text('first')")
    for _ in range(4):
        page.keyboard.press("n")
    page.wait_for_selector("h2:has-text('second')")
    page.wait_for_selector("[aria-current] .what:has-text('jump 1')")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_has_no_horizontal_scroll(report, open_page, scheme):
    page = open_page(report.page.as_uri())
    page.set_viewport_size({"width": 360, "height": 700})
    page.emulate_media(color_scheme=scheme)
    for address in ("", "#video=first"):
        page.goto(report.page.as_uri() + address)
        page.wait_for_selector("h2:visible" if address else ".card")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("address", ["", "#video=first"])
def test_everything_has_a_name(page, address):
    page.goto(page.url + address)
    page.wait_for_selector("h2:visible" if address else ".card")
    page.evaluate("wtal.view.current && wtal.view.current.choose(0)")
    nameless = page.evaluate(
        """[...document.querySelectorAll('button, a, input, select, video, [role=slider], [role=group]')]
        .filter((node) => !(node.textContent.trim() || node.getAttribute("aria-label") || node.labels?.length))
        .map((node) => node.outerHTML)"""
    )
    assert nameless == []
    assert (
        page.evaluate('document.querySelectorAll(\'[tabindex]:not([tabindex="0"]):not([tabindex="-1"])\').length') == 0
    )


def test_colours_have_contrast(page):
    """Contrast of level AA in WCAG 2: 4.5 for texts, 3 for bars, on both backgrounds."""
    script = """(names) => {
      const style = getComputedStyle(document.documentElement);
      const lum = (name) => {
        const hex = style.getPropertyValue(name).trim();
        const parts = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16) / 255)
          .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
      };
      const low = {};
      for (const [name, least] of names) for (const ground of ['--paper', '--card', '--hover']) {
        const [a, b] = [lum(name), lum(ground)].sort((x, y) => y - x);
        const ratio = (a + 0.05) / (b + 0.05);
        if (ratio < least) low[`${name} on ${ground}`] = ratio;
      }
      return low;
    }"""
    texts = [(f"--{name}", 4.5) for name in ("ink", "faint", "link", "good", "bad")]
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate(script, [*texts, ("--focus", 3)]) == {}
        bars = page.evaluate(script, [(f"--c{i}", 3) for i in range(7)])
        assert bars == {}, json.dumps(bars)
