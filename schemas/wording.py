"""Counts in sentences: ``1 video``, ``2 videos``."""

from __future__ import annotations


def counted(count: int, singular: str, plural: str = "") -> str:
    """A number with its noun: ``1 video``, ``1,200 videos``.

    Args:
        plural: of a noun that doesn't merely take an s.
    """
    return f"{count:,} {noun(count, singular, plural)}"


def noun(count: int, singular: str, plural: str = "") -> str:
    """The noun alone, as a sentence about so many wants it."""
    return singular if count == 1 else plural or f"{singular}s"
