"""File names of what is exported: readable, safe on every system, and no two alike."""

from __future__ import annotations

import hashlib
import re

_UNSAFE = re.compile(r'[<>:"|?*\\\x00-\x1f\x7f\ud800-\udfff]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_LONGEST = 110
"""Bytes of a part of a name: a video, a subject, a digest and a suffix fit into the 255 of usual file systems."""


class FileNames:
    """Gives every (video, subject) its path below the export: ``day 1/pair`` -> ``day 1/pair.csv``.

    Folders of ids are kept. What Windows or an archive can't hold becomes ``_``, and nothing leaves the folder. Where
    two would get one name (case doesn't count), the later one gets eight digits of a digest of what it is.
    """

    def __init__(self, suffix: str) -> None:
        self._suffix = suffix
        self._taken: dict[str, tuple[str, str]] = {}

    def of(self, video: str, subject: str = "") -> str:
        """Relative path with ``/``."""
        parts = [_safe(part) for part in video.split("/")]
        if subject:
            parts[-1] += "_" + _safe(subject)
        stem = "/".join(parts)
        if self._taken.setdefault(stem.casefold(), (video, subject)) != (video, subject):
            digest = hashlib.sha256(f"{video}\0{subject}".encode("utf-8", "surrogatepass")).hexdigest()[:8]
            stem = f"{stem}-{digest}"
            self._taken[stem.casefold()] = (video, subject)
        return stem + self._suffix


def _safe(part: str) -> str:
    # Cut between characters, and by their bytes: 83 characters of Chinese are 249 of them.
    whole = _UNSAFE.sub("_", part.replace("/", "_")).encode()[:_LONGEST]
    clean = whole.decode(errors="ignore").rstrip(". ")
    if not clean or _RESERVED.fullmatch(clean) or clean.startswith("."):
        clean = "_" + clean.lstrip(".")
    return clean
