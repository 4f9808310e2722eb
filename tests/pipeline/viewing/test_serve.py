"""`wtal report --serve`: verdicts are saved at once, and others have no access."""

import http.client
import json
import threading

import pytest

from tests.support.viewed import report_of, until, write_collection
from wtal.data.verdicts import Judged, Verdict, Verdicts, read_verdicts, write_verdicts
from wtal.pipeline.viewing.serve import ReportServer

EMPTY = json.dumps({"format": 1, "verdicts": [], "looked_at": ["first"]})


@pytest.fixture
def server(tmp_path):
    collection, report = report_of(write_collection(tmp_path))
    media = {str(i): video.file for i, video in enumerate(collection.videos)}
    with ReportServer(report.page.parent, collection.verdicts, media) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def ask(server, method, path, body=None, host=None, **headers):
    """Send a request to the server; return (status, headers, content)."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", host or server.hosts[0])
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    if body is not None:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(None if body is None else body.encode())
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read()


@pytest.mark.slow
def test_verdicts_are_saved_at_once_and_two_pages_do_not_undo_one_another(server, open_page):
    first, second = open_page(server.address), open_page(server.address)
    for page, video in ((first, "first"), (second, "second")):
        page.evaluate(f"location.hash = '#video={video}'")
        until(page, "document.querySelector('video')?.readyState >= 2")  # the video comes through the server, by ranges
        page.keyboard.press("n")
        page.keyboard.press("2")
        page.wait_for_selector("#saved:has-text('Saved')")
    saved = read_verdicts(server.verdicts)
    assert {(v.video, v.label, v.verdict) for v in saved.verdicts} == {("first", "run", "no"), ("second", "jump", "no")}
    first.keyboard.press("f")
    first.keyboard.press("f")  # jump is open
    until(first, "document.querySelector('#saved').textContent === 'Saved'")
    first.reload()
    first.wait_for_selector(".looked[aria-pressed=true]")
    first.wait_for_selector(".answer.no[aria-pressed=true]")
    assert len(read_verdicts(server.verdicts).verdicts) == 2
    del open_page.faults[:]  # a browser reports each response of 409, which told the second page of the first


@pytest.mark.slow
def test_a_page_does_not_undo_later_answers_from_elsewhere(server, open_page):
    page = open_page(server.address + "#video=first")
    page.click("[aria-label='no: run 1']")
    page.wait_for_selector("#saved:has-text('Saved')")
    (own,) = read_verdicts(server.verdicts).verdicts
    write_verdicts(Verdicts(verdicts=(own.model_copy(update={"verdict": "yes"}),)), server.verdicts)
    page.click("[aria-label='no: jump 1']")
    page.wait_for_selector("[aria-label='yes: run 1'][aria-pressed=true]")
    page.wait_for_selector("#saved:has-text('Saved')")
    assert {(v.label, v.verdict) for v in read_verdicts(server.verdicts).verdicts} == {("run", "yes"), ("jump", "no")}
    del open_page.faults[:]


def test_a_page_says_that_nothing_was_saved(server, open_page):
    page = open_page(server.address + "#video=first")
    page.wait_for_selector(".bar")
    server.verdicts.mkdir()
    page.keyboard.press("n")
    page.keyboard.press("2")
    page.wait_for_selector("#saved.wrong:has-text('Not saved')")
    del open_page.faults[:]


@pytest.mark.parametrize(
    ("path", "host", "origin", "status"),
    [
        ("/{token}/verdicts.json", None, None, 200),
        ("/{token}/verdicts.json", None, "http://{host}", 200),
        ("/{token}/verdicts.json", None, "http://elsewhere.example", 403),
        ("/{token}/verdicts.json", None, "null", 403),
        ("/{token}/verdicts.json", "elsewhere.example", None, 403),
        ("/verdicts.json", None, None, 403),
        ("/{token}x/verdicts.json", None, None, 403),
        ("//verdicts.json", None, None, 403),
        ("/{token}/index.html", None, None, 404),
        ("/{token}/media/0", None, None, 404),
    ],
)
def test_who_may_save(server, path, host, origin, status):
    path = path.format(token=server.token)
    headers = {} if origin is None else {"Origin": origin.format(host=server.hosts[0])}
    assert ask(server, "POST", path, EMPTY, host, **headers)[0] == status
    assert server.verdicts.is_file() == (status == 200)


def test_damaged_and_late_verdicts_change_nothing(server):
    path = f"/{server.token}/verdicts.json"
    status, headers, content = ask(server, "GET", path)
    assert (status, json.loads(content)["verdicts"]) == (200, [])
    status, _, content = ask(server, "POST", path, '{"format": 1, "verdicts": [{}], "looked_at": []}')
    assert (status, b"verdicts[0].video" in content) == (400, True)
    assert not server.verdicts.exists()
    detection = Judged(segment=(1.0, 2.0), score=0.5)
    other = Verdict(video="a", label="run", verdict="yes", segment=None, detection=detection)
    write_verdicts(Verdicts(verdicts=(other,)), server.verdicts)
    assert ask(server, "POST", path, EMPTY, If_Match=headers["ETag"])[0] == 409
    assert read_verdicts(server.verdicts).verdicts == (other,)
    assert ask(server, "POST", path, EMPTY, If_Match=ask(server, "GET", path)[1]["ETag"])[0] == 200


def test_only_the_report_and_its_videos_are_sent(server):
    top = f"/{server.token}"
    assert b'data-served="yes"' in ask(server, "GET", f"{top}/index.html")[2]
    for path in (
        "/../detections.json",
        "/%2e%2e/detections.json",
        "/..%2fdetections.json",
        "/media/9",
        "/none",
        "/media/",
    ):
        assert ask(server, "GET", top + path)[0] == 404, path
    assert ask(server, "GET", "/index.html")[0] == 403
    whole = server.media["0"].read_bytes()
    for wanted, part, status in (
        ("bytes=0-9", whole[:10], 206),
        ("bytes=10-", whole[10:], 206),
        ("bytes=-7", whole[-7:], 206),
        ("bytes=99999999-", whole, 200),
        ("lines=1-2", whole, 200),
    ):
        answer = ask(server, "GET", f"{top}/media/0", Range=wanted)
        assert (answer[0], answer[2]) == (status, part)
    assert ask(server, "HEAD", f"{top}/media/0")[2] == b""


def test_it_listens_on_this_machine_alone(server):
    assert server.server_address[0] == "127.0.0.1"
    assert len(server.token) >= 32
    assert server.address == f"http://127.0.0.1:{server.server_port}/{server.token}/index.html"
