"""One browser for all tests of pages, and pages that note errors and requests."""

import os
import shutil

import pytest

ARGUMENTS = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required", "--disable-gpu"]


@pytest.fixture(scope="session")
def browser():
    """Start Debian's Chromium; skip without it, or fail with WTAL_REQUIRE_BROWSER=1."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        if os.environ.get("WTAL_REQUIRE_BROWSER") == "1":
            pytest.fail("WTAL_REQUIRE_BROWSER=1 but there is no chromium")
        pytest.skip("needs chromium: apt-get install chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright, of the extra dev")
    with sync_api.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser):
    """Function that opens an address in a new context, which must end without errors."""
    contexts, faults = [], []

    def note(request):
        if not request.url.startswith(("file:", "data:", "blob:", "http://127.0.0.1:")):
            faults.append(f"a request left the disk: {request.url}")

    def opened(address, context=None, **options):
        own = context or browser.new_context(viewport={"width": 1280, "height": 800}, **options)
        if context is None:
            contexts.append(own)
        page = own.new_page()
        page.set_default_timeout(60_000)
        page.on("request", note)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("dialog", lambda dialog: faults.append(f"a dialog: {dialog.message}"))
        page.on("console", lambda line: faults.append(line.text) if line.type in ("error", "warning") else None)
        page.goto(address)
        page.wait_for_selector("#title:not(:empty)")
        return page

    opened.faults = faults
    yield opened
    for context in contexts:
        context.close()
    assert faults == []
