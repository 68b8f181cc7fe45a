"""Stretches of videos that users name in files: segments of a study, neutral stretches, speech, what was coded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.abaw.text_files import is_file
from emobeam.emo_transforms.inputs.listing import asked
from emobeam.emo_transforms.inputs.user_tables import MEDIA_OFFSET, number_in, read_table
from emobeam.emo_transforms.results.media_clock import since_first_frame
from emobeam.emo_transforms.results.studies.elan_files import ElanFile, read_eaf
from emobeam.schemas.records import EmobeamError, UsageError
from emobeam.schemas.row_keys import match_names

Floats = NDArray[np.float64]
Interval = tuple[float, float]

INSTANT = 1e-6
"""Seconds by which times may be off that went through a file or to another clock: below any frame, above rounding."""


@dataclass(frozen=True)
class Span:
    """A stretch, half-open, in s.

    ``subject`` and ``face`` are None where it holds for everybody in the video. ``on_media``: its times are on the
    media's own clock, else from the first frame.
    """

    video: str
    start: float
    end: float
    label: str = ""
    subject: str | None = None
    face: int | None = None
    on_media: bool = True

    def is_about(self, subject: str, face: int) -> bool:
        """Whether it holds for that face."""
        return self.subject in (None, subject) and self.face in (None, face)


@dataclass(frozen=True)
class Spans:
    """Stretches by video id.

    Attributes:
        by_video: in the order of the file.
        missing: names that mean no video here, each once.
    """

    by_video: Mapping[str, Sequence[Span]]
    missing: tuple[str, ...]

    def of(self, video: str, subject: str, face: int) -> list[Span]:
        """The stretches that hold for a face."""
        return [span for span in self.by_video.get(video, ()) if span.is_about(subject, face)]


def who_in(row: Mapping[str, str], uri: str, option: str) -> tuple[str | None, int | None]:
    """Subject and face that a row names; None where it has no such column or leaves it empty."""
    face = row.get("face", "")
    if face and not (face.isascii() and face.isdecimal()):
        raise UsageError(
            f"{option} {uri}, line {row['']}: face '{face}' is no number of the tables (0 is the main one)"
        )
    return row.get("subject") or None, int(face) if face else None


def read_spans(uri: str, option: str, *, tier: str = "") -> list[Span]:
    """Reads stretches.

    Args:
        uri: CSV with the columns ``video``, ``start``, ``end`` (s) and optionally ``label``, ``subject``, ``face``; or
            an ELAN file, or a folder of them (walked), named after the video. Times are on the media's own clock; a
            CSV file with a column :data:`MEDIA_OFFSET` has them from the first frame.
        option: for messages.
        tier: of ELAN files, the tier to read; capitals don't matter.

    Raises:
        UsageError, EmobeamError: nothing usable there; names file and line.
    """
    files = elan_files(uri, option)
    if files:
        return [span for file, video in files for span in _from_tier(file, video, tier, option)]
    spans = []
    for row in read_table(uri, option, ("video", "start", "end")):
        start, end = (number_in(row, column, uri, option) for column in ("start", "end"))
        if not start < end:
            raise UsageError(f"{option} {uri}, line {row['']}: ends at {end:g} s, before it starts at {start:g} s")
        who = who_in(row, uri, option)
        spans.append(Span(row["video"], start, end, row.get("label", ""), *who, on_media=MEDIA_OFFSET not in row))
    return spans


def elan_files(uri: str, option: str) -> list[tuple[ElanFile, str]]:
    """The ELAN files that a URI names, each with the video's name; empty where it is another kind of file."""
    try:
        if is_file(uri):
            return [(read_eaf(uri), stem(uri))] if uri.lower().endswith(".eaf") else []
        return [(read_eaf(file), name) for file, name in files_below(uri, (".eaf",))]
    except EmobeamError as error:
        raise EmobeamError(f"{option} {error}") from error


def files_below(uri: str, ends: tuple[str, ...]) -> list[tuple[str, str]]:
    """Files in a folder and the folders below, each with its path below ``uri`` without extension, sorted.

    Raises:
        EmobeamError: there is none.
    """
    fs, root = storage.file_system(uri)
    found = []
    for path in sorted(asked(uri, lambda: fs.find(root))):
        below = str(path).removeprefix(root.rstrip("/")).lstrip("/")
        if below.lower().endswith(ends) and not below.rpartition("/")[2].startswith("."):
            found.append((storage.join(uri, below), below.rpartition(".")[0]))
    if not found:
        raise EmobeamError(f"{uri}: the folder holds no {' or '.join(ends)} file")
    return found


def stem(name: str) -> str:
    """Last component of a path or URL without its extension."""
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    return last.rpartition(".")[0] or last


def _from_tier(file: ElanFile, video: str, tier: str, option: str) -> list[Span]:
    names = [name for name in file.tiers if name.strip().lower() == tier.strip().lower()]
    if not names:
        raise UsageError(f"{option} {file.uri}: no tier '{tier}'; it has {', '.join(file.tiers) or 'none'}")
    later = file.origin(video)
    if later is None:
        raise EmobeamError(
            f"{option} {file.uri}: its media begin at different times; name the file after the one that is meant"
        )
    return [Span(video, each.start + later, each.end + later, each.value) for each in file.tiers[names[0]]]


def settle(spans: Iterable[Span], videos: Iterable[str], offsets: Mapping[str, float] | None = None) -> Spans:
    """Finds the video that each stretch is about; a name ending in ``_left`` or ``_right`` also names the subject.

    Args:
        offsets: of the first frame on the media's own clock in s by video (see ``media_clock``); stretches that are on
            that clock come out in times of the tables.

    Raises:
        EmobeamError: a name may mean several videos.
    """
    spans = list(spans)
    matches = match_names([span.video for span in spans], videos)
    by_video: dict[str, list[Span]] = {}
    for span in spans:
        if span.video in matches.found:
            video, side = matches.found[span.video]
            subject = side or span.subject
            offset = (offsets or {}).get(video, 0.0) if span.on_media else 0.0
            start, end = (since_first_frame(edge, offset) for edge in (span.start, span.end))
            by_video.setdefault(video, []).append(Span(video, start, end, span.label, subject, span.face))
    return Spans(by_video, tuple(matches.missing))


def union(intervals: Iterable[Interval]) -> list[Interval]:
    """The same stretches without overlaps, in order of time."""
    merged: list[Interval] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def overlap(starts: Floats, ends: Floats, intervals: Iterable[Interval]) -> Floats:
    """Seconds of each stretch ``[starts, ends)`` that lie in any of the intervals, ``[n]``; an :data:`INSTANT` is 0."""
    seconds = np.zeros(len(starts))
    for start, end in union(intervals):
        seconds += np.clip(np.minimum(ends, end) - np.maximum(starts, start), 0.0, None)
    seconds[seconds < INSTANT] = 0.0
    return seconds
