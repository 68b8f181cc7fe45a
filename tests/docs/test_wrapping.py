"""Prose in Markdown wraps at 120 characters, so that a change shows in the lines that it is about."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from tests.docs.pages import ROOT, name_of

WIDTH = 120

_LISTED = subprocess.run(["git", "ls-files", "-z", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True)
EVERY_PAGE = [
    ROOT / name
    for name in _LISTED.stdout.split("\0")
    if name and (ROOT / name).exists() and not name.startswith("tests/fixtures/")  # made by earlier versions
]


def long_lines(text: str) -> list[int]:
    """Numbers of lines of prose that are too long. Code, tables and headings can't wrap, nor can one long word."""
    lines = text.splitlines()
    found = []
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type == "paragraph_open" and token.map is not None:
            found += [number for number in range(*token.map) if len(lines[number]) > WIDTH and _can_wrap(lines[number])]
    return [number + 1 for number in found]


def _can_wrap(line: str) -> bool:
    """Whether a word, after the mark of a list or quotation, ends before the edge."""
    return " " in line.lstrip(" >*+-.)0123456789")[:WIDTH]


def test_the_check_sees_prose_alone() -> None:
    long = "word " * 30
    passed_by = f"# {long}\n\n```\n{long}\n```\n\n|{long}|\n|---|\n|{long}|\n\n    {long}\n\n"
    assert long_lines(passed_by) == []
    assert long_lines(f"{passed_by}{long}\n\n- short\n  {long}\n\n> {long}\n") == [13, 16, 18]
    assert long_lines(f"see\n[{'x' * 130}](y)\n\n- {'x' * 130}\n") == []


def test_the_pages_are_found() -> None:
    assert {"README.md", "CHANGELOG.md", "docs/python.md"} <= {name_of(page) for page in EVERY_PAGE}


@pytest.mark.parametrize("page", EVERY_PAGE, ids=name_of)
def test_prose_wraps(page: Path) -> None:
    assert long_lines(page.read_text(encoding="utf-8")) == []
