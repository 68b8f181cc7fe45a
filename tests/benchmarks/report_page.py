"""The report's page, how large and how slow: ``python -m tests.benchmarks.report_page [--quick] [--json FILE]``.

A hundred videos of ten minutes, twelve outputs six times a second, and 24 face pictures of each. The goals are 30 MB
and 3 s. Opening is timed in headless Chromium: from the request until the first video's timelines are drawn, and for
another video, zoomed in and out.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from emobeam.pipelines.console import make_ui
from emobeam.pipelines.results.report import ReportRequest, run_report
from tests.emo_transforms.results.report.browser import browser, chromium, page_of
from tests.emo_transforms.results.report.outputs import write_cache, write_collection

GOAL_BYTES, GOAL_SECONDS = 30_000_000, 3.0


def measure(folder: Path, videos: int, minutes: float, tasks: list[str]) -> dict[str, Any]:
    """The figures of one collection, written into a folder."""
    names = write_collection(folder, videos, minutes * 60, tasks)
    write_cache(folder, names, minutes * 60, every=30)
    made = run_report(ReportRequest(str(folder)), make_ui(quiet=True))
    figures = {"videos": videos, "minutes": minutes, "tasks": tasks, "bytes": made.bytes, "pictures": made.pictures}
    figures["seconds_to_make"] = round(made.seconds, 2)
    if chromium() is None:
        return figures
    with browser() as running, page_of(running, Path(made.path)) as (page, problems):
        began = time.perf_counter()
        page.goto(Path(made.path).as_uri())
        page.wait_for_function("window.emobeamReport && emobeamReport.range")
        figures["seconds_to_open"] = round(time.perf_counter() - began, 2)
        figures["seconds_to_another"] = round(
            page.evaluate(_TIMED.format(f"await emobeamReport.open(5 % {videos})")), 3
        )
        # Plots are drawn in a microtask; awaiting one keeps two zooms from becoming one.
        zooms = "for (let i = 0; i < 50; i++) { emobeamReport.zoom(100 - i, 200 + i); await null; await null; }"
        figures["milliseconds_a_zoom"] = round(page.evaluate(_TIMED.format(zooms)) / 50 * 1000, 1)
        figures["problems"] = problems
    return figures


_TIMED = """async () => {{
  const began = performance.now();
  {};
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  return (performance.now() - began) / 1000;
}}"""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--quick", action="store_true", help="so little that figures mean nothing: does it run?")
    arguments.add_argument("--videos", type=int, default=100)
    arguments.add_argument("--minutes", type=float, default=10.0)
    arguments.add_argument("--tasks", nargs="+", default=["au"])
    arguments.add_argument("--json", type=Path)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        size = (3, 0.5) if given.quick else (given.videos, given.minutes)
        figures = measure(Path(folder), *size, given.tasks)
    text = json.dumps(figures, indent=2)
    print(text)
    if given.json:
        given.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
