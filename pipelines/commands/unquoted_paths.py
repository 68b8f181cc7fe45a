"""A path with blanks that was typed without quotes reaches a command in pieces, which are all wrong by themselves."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence


def unquoted_path(words: Sequence[str]) -> str:
    """What to say where some of a command's words are, put together by blanks, a path that is there; else ``""``."""
    for first, word in enumerate(words):
        if word.startswith("-"):
            continue
        for end in range(first + 2, len(words) + 1):
            path = " ".join(words[first:end])
            if os.path.exists(path):
                return f"is {path} meant? A path with blanks has to be quoted: {shlex.quote(path)}"
    return ""
