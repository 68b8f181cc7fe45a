"""Takes the picture of the README: ``python -m tests.docs.picture demo-out/report.html`` after ``make demo``."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

PICTURE = Path(__file__).parents[2] / "docs" / "images" / "report.png"


def main(report: str) -> None:
    """Opens the first video of a report and saves what a browser shows of its timelines."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1180, "height": 860})
        page.goto(Path(report).resolve().as_uri())
        page.evaluate("emobeamReport.open(emobeamReport.videos[0].id ?? emobeamReport.videos[0])")
        page.evaluate('document.querySelector("#videos").scrollIntoView()')
        page.mouse.move(780, 420)
        page.wait_for_timeout(600)
        page.screenshot(path=str(PICTURE))
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1])
