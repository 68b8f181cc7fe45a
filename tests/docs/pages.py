"""What the documentation shows: its commands, its Python, its links."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

_FENCE = re.compile(r"^ {0,3}(```+|~~~+)\s*(\S*)")
_SHELL = ("sh", "bash", "shell", "console")
_START = re.compile(r"(?:\$ )?(?:\w+=\S+ )*(?:\S*/)?emobeam(?= |$)")
_ENDS = ("|", "||", "&&", ";", ">", ">>", "2>", "&")


@dataclass(frozen=True)
class Command:
    """A command line ``emobeam ...``.

    Attributes:
        words: what follows ``emobeam``.
        text: as it stands in the page, on one line.
    """

    page: str
    line: int
    words: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Block:
    """A fenced block of Python."""

    page: str
    line: int
    code: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def name_of(page: Path) -> str:
    """Path below the repository."""
    return page.relative_to(ROOT).as_posix()


def code_lines(text: str) -> list[tuple[int, str, str]]:
    """Lines of code as (number, language, line); an indented block has no language."""
    found = []
    fence, language = "", ""
    blank_before = True
    indented = False
    for number, line in enumerate(text.splitlines(), 1):
        mark = _FENCE.match(line)
        if fence:
            if mark and mark[1].startswith(fence) and not mark[2]:
                fence = ""
            else:
                found.append((number, language, line))
        elif mark:
            fence, language = mark[1], mark[2] or "text"
        else:
            indented = line.startswith("    ") and (blank_before or indented)
            if indented:
                found.append((number, "", line))
        blank_before = not line.strip()
    return found


def commands_in(page: str, text: str) -> list[Command]:
    """The command lines of a page, continued lines joined, comments and what comes after a pipe left out."""
    lines = [(number, line) for number, language, line in code_lines(text) if not language or language in _SHELL]
    found = []
    index = 0
    while index < len(lines):
        number, line = lines[index]
        index += 1
        line = line.strip()
        while line.endswith("\\") and index < len(lines):
            line = line[:-1].rstrip() + " " + lines[index][1].strip()
            index += 1
        start = _START.match(line)
        if start:
            words = shlex.split(line[start.end() :], comments=True)
            end = next((place for place, word in enumerate(words) if word in _ENDS), len(words))
            found.append(Command(page, number, tuple(words[:end]), line))
    return found


def python_in(page: str, text: str) -> list[Block]:
    """The fenced Python of a page."""
    blocks = []
    lines: list[str] = []
    first = 0
    for number, language, line in [*code_lines(text), (0, "", "")]:
        if language == "python" and (not lines or number == first + len(lines)):
            first = first or number
            lines.append(line)
            continue
        if lines:
            blocks.append(Block(page, first, "\n".join(lines) + "\n"))
        lines, first = ([line], number) if language == "python" else ([], 0)
    return blocks


COMMANDS = [command for page in PAGES for command in commands_in(name_of(page), page.read_text(encoding="utf-8"))]
BLOCKS = [block for page in PAGES for block in python_in(name_of(page), page.read_text(encoding="utf-8"))]
