"""Take the pictures of README.md and docs/report.md from a finished demo: `python docs/make_screenshots.py demo`.

It opens the page in Chromium, as the tests do, and writes `docs/images/report-*.jpg`: a video of the reported subset as
README.md shows it, all videos, and one of them with its second detection selected and the first one marked wrong, in
the light and the dark form. The video of README.md is the first of the subset with two classes, as in
`make_pictures.py`: it is not chosen by its results.
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from wtal.errors import UsageError
from wtal.pipeline.workspace import Workspace

IMAGES = Path(__file__).with_name("images")
LARGEST = 200 * 1024
"""Bytes: a picture above that is refused."""

FRONT = "report-front"
"""Name of the picture of README.md."""

_SIZE = {"width": 1180, "height": 720}
_FRONT_SIZE = {"width": 1180, "height": 800}
_QUALITY = 70


def main(argv: Sequence[str] | None = None) -> None:
    """Write the pictures of a demo folder's page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("demo", type=Path, help="folder that `wtal demo` made")
    parser.add_argument("--video", default="training_03", help="id of the video to show in docs/report.md")
    parser.add_argument("--front", default="validation_01", help="id of the video to show in README.md")
    parser.add_argument("--out", type=Path, default=IMAGES, help="folder to write into")
    options = parser.parse_args(argv)
    page = Workspace(options.demo / "workspace").newest_run() / "report" / "index.html"
    chromium = shutil.which("chromium")
    if not page.is_file() or chromium is None:
        raise UsageError(f"wanted chromium and {page}; run `wtal demo`, and apt-get install chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        views = (
            ("light", FRONT, options.front),
            ("light", "report-videos", None),
            ("light", "report-video", options.video),
            ("dark", "report-dark", options.video),
        )
        for scheme, name, video in views:
            size = _FRONT_SIZE if name == FRONT else _SIZE
            context = browser.new_context(viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
            shown = context.new_page()
            shown.goto(page.resolve().as_uri() + (f"#video={video}" if video else ""))
            if name == FRONT:
                play(shown)
            elif video:
                review(shown)
            shown.wait_for_timeout(500)
            picture = shown.screenshot(type="jpeg", quality=_QUALITY)
            if len(picture) > LARGEST:
                raise UsageError(f"{name} has {len(picture)} bytes, {LARGEST} is the most")
            (options.out / f"{name}.jpg").write_bytes(picture)
            print(options.out / f"{name}.jpg")
        browser.close()


def play(page: Page) -> None:
    """Play the first detection, and stop in the middle of it."""
    page.wait_for_selector(".bar")
    page.keyboard.press("n")
    page.wait_for_timeout(1500)
    page.keyboard.press("k")


def review(page: Page) -> None:
    """Mark the first detection wrong, and play the second."""
    page.wait_for_selector(".bar")
    for key in ("n", "2", "n"):
        page.keyboard.press(key)
    page.wait_for_timeout(1500)
    page.keyboard.press("k")


if __name__ == "__main__":
    main()
