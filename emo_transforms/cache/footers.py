"""The footer of a shard: how its rows came about, and whether it can be that of its rows."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import pyarrow.parquet as pq

from emobeam.emo_transforms.video.sampling import CROPS_PER_SEGMENT
from emobeam.schemas.config import SCHEMA_VERSION
from emobeam.schemas.plain_json import checked, from_text, parsed, to_text
from emobeam.schemas.records import Display, VideoFacts

FORM = 2
"""Of shards: 1 was that of version 0.1 (Arrow's tensors, a ``display`` as text and only where it isn't plain, no
``facts``). What columns hold is told by ``features_id`` and ``cache_id``, which a new form doesn't change."""

_MOST = 2**31 - 1


@dataclass(frozen=True)
class Footer:
    """The JSON document in a shard's footer: what the segment is and what was seen in it.

    Attributes:
        frames, times: all native frames of the segment and their presentation times in s, the video's first
            frame being at 0 (``times`` is empty where nothing supplies time).
        sampled, decoded, faces: in parallel: the frames looked at, whether they could be decoded, and the
            number of faces found.
        clipped: feature values beyond float16's range, clipped to it.
        note: damage met while demuxing the video.
        display: how decoded frames became what a player shows.
        facts: what looking at the video told beside that; None where nobody did, as in shards of form 1 and of crops.
        form: of the file, see :data:`FORM`.
    """

    video: str
    size: int
    digest: str
    segment: int
    count: int
    start: float
    frames: tuple[int, ...]
    times: tuple[float, ...]
    sampled: tuple[int, ...]
    decoded: tuple[bool, ...]
    faces: tuple[int, ...]
    rows: int
    clipped: int
    width: int
    height: int
    note: str
    features_id: str
    cache_id: str
    schema_version: int = SCHEMA_VERSION
    display: Display = field(default_factory=Display)
    facts: VideoFacts | None = None
    form: int = FORM

    @property
    def lost(self) -> tuple[int, ...]:
        """Sampled frames that could not be decoded."""
        return tuple(frame for frame, fine in zip(self.sampled, self.decoded, strict=True) if not fine)


def segment_row(footer: Footer, shard: str, size: int) -> dict[str, Any]:
    """The row of a shard in ``segments.parquet``; ``size`` is that of its file in bytes."""
    return {
        "video": footer.video,
        "segment": footer.segment,
        "shard": shard,
        "start": footer.start,
        "count": footer.count,
        "first_frame": footer.frames[0] if footer.frames else None,
        "last_frame": footer.frames[-1] if footer.frames else None,
        "frames": len(footer.frames),
        "sampled": len(footer.sampled),
        "lost": len(footer.lost),
        "with_face": sum(1 for faces in footer.faces if faces),
        "rows": footer.rows,
        "clipped": footer.clipped,
        "first_time": footer.times[0] if footer.times else None,
        "last_time": footer.times[-1] if footer.times else None,
        "width": footer.width,
        "height": footer.height,
        "size": footer.size,
        "digest": footer.digest,
        "note": footer.note,
        "bytes": size,
        "display": "" if footer.display.plain else to_text(footer.display),
        "facts": "" if footer.facts is None else to_text(footer.facts),
    }


def footer_text(footer: Footer) -> str:
    """The footer as JSON; equal footers give equal text."""
    return json.dumps(asdict(footer), separators=(",", ":"), ensure_ascii=False)


def footer_from(text: str | bytes) -> Footer:
    """The inverse of :func:`footer_text`, of shards of all forms.

    Raises:
        ValueError: it is none of emobeam's, of a newer one, or its parts don't agree.
    """
    data = parsed(text)
    if not isinstance(data, dict):
        raise ValueError("its footer isn't emobeam's (no JSON object)")
    if data.get("schema_version") != SCHEMA_VERSION:
        raise ValueError(
            f"written in schema version {data.get('schema_version')}, this emobeam reads {SCHEMA_VERSION}; use the "
            "emobeam that wrote it"
        )
    form = data.get("form", 1)
    if form not in range(1, FORM + 1):
        raise ValueError(f"a shard of form {form}, this emobeam reads up to {FORM}; use the emobeam that wrote it")
    try:
        if form == 1:
            display = from_text(Display, data["display"]) if "display" in data else Display()
            data = {**data, "form": 1, "display": parsed(json.dumps(asdict(display)))}
        footer = checked(Footer, data)
    except (TypeError, ValueError, KeyError) as error:
        raise ValueError(f"its footer isn't emobeam's ({error})") from error
    if wrong := _disagreement(footer):
        raise ValueError(f"its footer contradicts itself ({wrong})")
    return footer


def _disagreement(footer: Footer) -> str:
    """What can't be, ``""`` where all agrees."""
    frames, sampled = footer.frames, footer.sampled
    numbers = (footer.segment, footer.count, footer.rows, footer.width, footer.height)
    if not all(0 <= number <= _MOST for number in numbers) or footer.segment >= footer.count:
        return f"segment {footer.segment} of {footer.count}, {footer.rows} rows, {footer.width}x{footer.height} px"
    if footer.size < 0 or footer.clipped < 0:
        return f"{footer.size} bytes, {footer.clipped} values clipped"
    if frames and not (frames[0] >= 0 and frames[-1] <= _MOST and all(a < b for a, b in pairwise(frames))):
        return "frames out of order"
    if len(footer.times) not in (0, len(frames)) or any(a > b for a, b in pairwise(footer.times)):
        return f"{len(footer.times)} times for {len(frames)} frames, or out of order"
    if frames and not footer.times and frames[-1] - frames[0] >= CROPS_PER_SEGMENT:
        return f"frames {frames[0]} to {frames[-1]} without times in one segment"
    if not len(sampled) == len(footer.decoded) == len(footer.faces):
        return f"{len(sampled)} frames looked at, {len(footer.decoded)} decoded or not, {len(footer.faces)} with faces"
    if not set(sampled) <= set(frames) or any(a >= b for a, b in pairwise(sampled)):
        return "frames looked at that aren't among all frames, or out of order"
    if any(faces < 0 for faces in footer.faces):
        return "fewer than no faces"
    return ""


def check_rows(footer: Footer, file: pq.FileMetaData) -> None:
    """Raises ``ValueError`` where the footer can't be that of the rows of its file."""
    if footer.rows != file.num_rows:
        raise ValueError(f"its footer tells of {footer.rows} rows, the file has {file.num_rows}")
    names = [file.schema.column(place).path for place in range(file.num_columns)]
    if "frame" not in names:
        raise ValueError("has no column frame")
    for group in range(file.num_row_groups):
        told = file.row_group(group).column(names.index("frame")).statistics
        if told is None or not told.has_min_max:
            continue
        if not footer.frames or not footer.frames[0] <= told.min <= told.max <= footer.frames[-1]:
            raise ValueError(f"has rows of frames {told.min} to {told.max}, which its footer doesn't know")
