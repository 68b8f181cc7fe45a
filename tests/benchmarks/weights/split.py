"""The published split, and whether a head was trained on its test side."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_FILE = Path(__file__).resolve().parents[3] / "emo_transforms" / "shipped" / "split.json"
_PERSON = re.compile(r"(?:(?P<folder>.*)/)?(?P<person>\d+)(?:-\d+)*")


def read_split() -> dict[str, Any]:
    """The content of ``split.json``."""
    split: dict[str, Any] = json.loads(_FILE.read_text())
    return split


def london_test() -> list[str]:
    """Identities of the London set on the test side."""
    return sorted(read_split()["london"]["test"])


def renders_test() -> tuple[int, int]:
    """First and last number of the rendered people of the test side."""
    first, last = read_split()["renders"]["test"]
    return int(first), int(last)


def leaked(ids: Iterable[str]) -> list[str]:
    """Which ids of training videos belong to the test side.

    Ids are those of stage 1 over people folders, ``<person>-<clip>``, below the name of the folder where there are
    several; a folder with ``london`` in its name holds London identities. Names of the real clips count as well.
    """
    split = read_split()
    first, last = renders_test()
    london = {int(name) for name in split["london"]["test"]}
    clips = {Path(name).stem for name in split["clips"]["test"]}
    found = []
    for name in ids:
        match = _PERSON.fullmatch(name)
        if match is None:
            known = Path(name).stem in clips
        elif "london" in (match["folder"] or "").lower():
            known = int(match["person"]) in london
        else:
            known = first <= int(match["person"]) <= last
        if known:
            found.append(name)
    return found
