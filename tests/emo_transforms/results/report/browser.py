"""Opening a page in headless Chromium, and what it complained about or asked for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_ARGUMENTS = ("no-sandbox", "disable-gpu", "disable-background-networking", "disable-component-update", "disable-sync")

PATIENCE = 240_000.0
"""How long a page may take for anything, in ms: the machine may have other things to do."""


def chromium() -> str | None:
    """Where a Chromium is, None where there is none."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def needs_chromium() -> None:
    """Skips the test where no browser or no way to drive it is installed."""
    pytest.importorskip("playwright", reason="the browser is driven with playwright; pip install playwright")
    if chromium() is None:
        pytest.skip("no chromium or google-chrome on the path")


@contextmanager
def browser() -> Iterator[Any]:
    """A running Chromium; starting one takes a second or two."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        flags = [f"--{flag}" for flag in _ARGUMENTS]
        running = play.chromium.launch(executable_path=chromium(), args=flags, timeout=PATIENCE)
        yield running
        running.close()


@contextmanager
def page_of(running: Any, path: Path, **context: Any) -> Iterator[tuple[Any, list[str]]]:
    """Yields a blank tab, and the list that console messages, errors and requests other than the page's own go to."""
    problems: list[str] = []
    visit = running.new_context(**{"viewport": {"width": 1280, "height": 900}, **context})
    visit.set_default_timeout(PATIENCE)
    page = visit.new_page()
    own = (path.as_uri(), "blob:", "data:")
    page.on("console", lambda message: problems.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: problems.append(f"error: {error}"))
    page.on("request", lambda asked: asked.url.startswith(own) or problems.append(f"request: {asked.url}"))
    page.on("dialog", lambda dialog: (problems.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    yield page, problems
    visit.close()
