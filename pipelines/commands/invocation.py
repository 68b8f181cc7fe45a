"""How the command line was called: what a command knows beside its own options."""

from __future__ import annotations

import io
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Invocation:
    """What is behind ``--``, and whose process this is.

    Attributes:
        beam_args: options for Beam.
        own_process: the process was started for the command, and ends with it.
    """

    beam_args: tuple[str, ...] = ()
    own_process: bool = False

    def load_lightly(self, runner: str = "direct") -> None:
        """Keeps out of a process of its own what libraries load just in case."""
        if not self.own_process:
            return
        from emobeam.emo_transforms.storage.lean_imports import arrow_without_pandas, beam_without_stores

        arrow_without_pandas()
        if runner == "direct":
            beam_without_stores()


_MOST_WORDS, _MOST_PIECES = 200, 8


def unquoted_path(words: Sequence[str]) -> str:
    """What to say of a path with blanks that was typed without quotes, and so reached the command in pieces.

    That is where some of a command's words are, put together by blanks, a path that is there; else ``""``, as of
    the many words that a shell makes of a pattern.
    """
    if len(words) > _MOST_WORDS:
        return ""
    for first, word in enumerate(words):
        if word.startswith("-"):
            continue
        for end in range(first + 2, min(first + _MOST_PIECES, len(words)) + 1):
            path = " ".join(words[first:end])
            if os.path.exists(path):
                return f"is {path} meant? A path with blanks has to be quoted: {shlex.quote(path)}"
    return ""


class _Output(io.FileIO):
    def write(self, data: Any) -> int:  # type: ignore[override]  # of text, which it never is
        try:
            return super().write(data)
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return super().write(data)


def outlive_readers() -> None:
    """Makes standard output outlive whoever reads it, as ``head`` does: what is left to print goes nowhere then.

    So the command goes on, and its exit code is that of what it did. Only where the output is the process's own.
    """
    stream = sys.stdout
    if not isinstance(stream, io.TextIOWrapper):
        return
    raw = getattr(stream.buffer, "raw", stream.buffer)  # Python runs without a buffer, too
    if not isinstance(raw, io.FileIO):
        return
    stream.flush()
    output = _Output(stream.fileno(), "wb", closefd=False)
    sys.stdout = io.TextIOWrapper(
        output if raw is stream.buffer else io.BufferedWriter(output),  # type: ignore[arg-type]
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
