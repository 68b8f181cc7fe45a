"""Counts in sentences (``1 video``, ``2 videos``), and what somebody may have meant who wrote something else."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def counted(count: int, singular: str, plural: str = "") -> str:
    """A number with its noun: ``1 video``, ``1,200 videos``.

    Args:
        plural: of a noun that doesn't merely take an s.
    """
    return f"{count:,} {noun(count, singular, plural)}"


def noun(count: int, singular: str, plural: str = "") -> str:
    """The noun alone, as a sentence about so many wants it."""
    return singular if count == 1 else plural or f"{singular}s"


def did_you_mean(text: str, known: Iterable[str]) -> str:
    """``; did you mean 'train'?`` where something known is spelled nearly so, capitals aside; else nothing."""
    plain = {name.lower(): name for name in known if name}
    close = get_close_matches(text.lower(), plain, n=1)
    return f"; did you mean {plain[close[0]]!r}?" if close else ""
