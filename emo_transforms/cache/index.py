"""The indexes of a feature cache, and which records in it still hold.

The truth is in the shards' footers and the failure records; ``videos.parquet`` and ``segments.parquet`` are
sorted views of them that :func:`rebuild_index` makes anew.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.cache.dataset import shard_uri
from emobeam.emo_transforms.cache.failures import drop_failure, failure_name, read_failures, write_failure
from emobeam.emo_transforms.cache.footers import segment_row
from emobeam.emo_transforms.cache.shards import read_footer
from emobeam.emo_transforms.cache.video_facts import Facts, read_facts, settle_facts
from emobeam.emo_transforms.storage.parquet_files import read_parquet
from emobeam.schemas.plain_json import from_text
from emobeam.schemas.records import Display, Failure, Fingerprint, Outcome, ShardRecord, VideoFacts
from emobeam.schemas.tables import SEGMENTS, VIDEOS

Row = dict[str, Any]
"""Of ``segments.parquet``, by column."""


def read_index(features: str) -> list[Row]:
    """Rows of ``segments.parquet``; empty where there is none yet or it can't be read (it is only an index)."""
    try:
        table = read_parquet(storage.join(features, "segments.parquet"))
    except (OSError, pa.ArrowException):  # pyarrow tells of some damage by plain OSErrors
        return []
    for name in [name for name in ("display", "facts") if name not in table.column_names]:  # 0.1 tells neither
        table = table.append_column(SEGMENTS.field(name), pa.repeat("", len(table)))
    rows: list[Row] = table.to_pylist() if table.schema.equals(SEGMENTS) else []
    return rows


def make_index(features: str, *, trust: bool = True, without: Collection[str] = ()) -> tuple[list[Row], pa.Table]:
    """What the indexes should hold, from footers and failure records; writes nothing.

    Args:
        trust: take rows of shards that the old index already knows (names of shards are digests of all
            that decides their content); otherwise every footer is read again.
        without: names of shards that are left out as if they weren't there.

    Returns:
        Rows of ``segments.parquet``, and the table of videos (see ``emobeam.schemas.tables.VIDEOS``), sorted by id.
    """
    segments = read_segments(features, trust=trust, without=without)
    videos = _video_rows(segments, read_failures(features).values(), read_facts(features))
    return segments, pa.Table.from_pylist(videos, VIDEOS)


def read_segments(
    features: str, *, trust: bool = True, known: Mapping[str, Row] | None = None, without: Collection[str] = ()
) -> list[Row]:
    """What ``segments.parquet`` should hold: a row for each shard there is; only of unknown ones the footers are read.

    Args:
        trust, without: see :func:`make_index`.
        known: rows by shard, instead of those of the old index.
    """
    if known is None:
        known = {row["shard"]: row for row in read_index(features)} if trust else {}
    sizes = storage.sizes(storage.join(features, "shards"), ".parquet")
    sizes = {shard: size for shard, size in sizes.items() if shard not in without}
    new = sorted(sizes.keys() - known.keys())
    read = storage.side_by_side(features, lambda shard: _segment_row(features, shard, sizes[shard]), new)
    segments = [*(row for row in read if row is not None), *(known[shard] for shard in sizes.keys() & known.keys())]
    segments.sort(key=lambda row: (row["video"], row["segment"], row["shard"]))
    return segments


def rebuild_index(features: str, *, trust: bool = True, without: Collection[str] = ()) -> pa.Table:
    """Writes ``segments.parquet`` and ``videos.parquet``, see :func:`make_index`; returns the latter."""
    segments, table = make_index(features, trust=trust, without=without)
    _write_index(features, segments, table)
    return table


def settle_index(
    features: str,
    current: Mapping[str, Fingerprint | None],
    cache_id: str,
    found: Mapping[str, VideoFacts] | None = None,
    known: Mapping[str, Row] | None = None,
    records: Iterable[ShardRecord] = (),
) -> pa.Table:
    """What ends a run: :func:`settle`, and indexes that know of it, by one listing of the shards.

    Args:
        known: rows by shard as they were when the run began; None: read from the old index.
        records: of the run; their footers need not be read. What is told twice counts once.
        found: what looking at videos told, by video.

    Returns:
        The table of videos.
    """
    made = {record.shard: record for record in records}
    rows = {row["shard"]: row for row in read_index(features)} if known is None else known
    segments = read_segments(features, known={**rows, **{shard: record.row for shard, record in made.items()}})
    _write_index(features, segments)
    lost = {shard: record.lost for shard, record in made.items()}
    gone, failures = settle(features, current, cache_id, segments, lost)
    segments = [row for row in segments if row["shard"] not in gone]
    untold = {row["video"] for row in segments if not row["facts"]}
    facts = settle_facts(features, current, {video: told for video, told in (found or {}).items() if video in untold})
    table = pa.Table.from_pylist(_video_rows(segments, failures, facts), VIDEOS)
    _write_index(features, segments, table)
    return table


def _write_index(features: str, segments: list[Row], videos: pa.Table | None = None) -> None:
    for name, table in (("segments", pa.Table.from_pylist(segments, SEGMENTS)), ("videos", videos)):
        if table is not None:
            with storage.atomic_file(storage.join(features, f"{name}.parquet")) as path:
                pq.write_table(table, path, compression="zstd")


def _segment_row(features: str, shard: str, size: int) -> dict[str, Any] | None:
    try:
        footer = read_footer(shard_uri(features, shard), size=size)
    except FileNotFoundError:
        return None  # another job has removed it since the listing
    return segment_row(footer, shard, size)


def _video_rows(segments: list[Row], failures: Iterable[Failure], facts: Facts) -> list[Row]:
    by_video: dict[str, list[Row]] = defaultdict(list)
    for row in segments:
        by_video[row["video"]].append(row)
    failed: dict[str, list[Failure]] = defaultdict(list)
    for failure in failures:
        failed[failure.video].append(failure)
    return [_video_row(video, by_video[video], failed[video], facts) for video in sorted({*by_video, *failed})]


def _video_row(video: str, segments: list[Row], failures: list[Failure], facts: Facts) -> dict[str, Any]:
    failures = sorted(failures, key=lambda failure: (failure.segments, failure.reason))
    segments = _of_one_content(segments, failures)
    total = max((row["count"] for row in segments), default=len({i for f in failures for i in f.segments}))
    counts = {key: sum(row[key] for row in segments) for key in ("frames", "sampled", "lost", "with_face", "rows")}
    note = next((row["note"] for row in segments if row["note"]), "")
    outcome: Outcome = "ok"
    stage = reason = message = None
    if failures:
        outcome = "partial" if segments else "failed"
        stage, reason, message = failures[0].stage, failures[0].reason, failures[0].message
    elif len(segments) < total:
        outcome, stage, reason = "partial", "plan", "incomplete"
        message = f"{total - len(segments)} of {total} segments are missing; run extract again"
    elif counts["lost"] or note:
        outcome, stage, reason = "partial", "decode", "lost_frames"
        message = note or f"{counts['lost']} of {counts['sampled']} sampled frames could not be decoded"
    elif not counts["with_face"]:
        outcome = "no_face"
    times = [row[key] for row in segments for key in ("first_time", "last_time") if row[key] is not None]
    first = segments[0] if segments else None
    known = _facts_of(first, facts) if first else None
    return {
        "video": video,
        "outcome": outcome,
        "stage": stage,
        "reason": reason,
        "message": message,
        "segments": total,
        "segments_done": len(segments),
        **counts,
        "duration": max(times) - min(times) if times else None,
        "width": first["width"] if first else None,
        "height": first["height"] if first else None,
        "size": first["size"] if first else (failures[0].size if failures else None),
        "digest": first["digest"] if first else (failures[0].digest if failures else None),
        **(_display_row(segments, known) if known else {}),
    }


def _facts_of(row: Mapping[str, Any], facts: Facts) -> VideoFacts | None:
    """What its shard tells, or else what was noted beside the shards."""
    if row["facts"]:
        return from_text(VideoFacts, row["facts"])
    return facts.get((row["video"], row["size"], row["digest"]))


def _display_row(segments: list[Row], known: VideoFacts) -> dict[str, Any]:
    """How frames became what is shown, see ``emobeam.schemas.tables.VIDEOS``."""
    displays = [from_text(Display, row["display"]) if row["display"] else Display() for row in segments]
    sizes = dict.fromkeys(size for display in displays for size in display.sizes)
    across, along = next(iter(sizes)).aspect if sizes else (1, 1)
    return {
        "coded_width": known.coded[0],
        "coded_height": known.coded[1],
        "aspect": f"{across}:{along}",
        "rotation": known.rotation,
        "mirrored": displays[0].mirrored,
        "interlaced": displays[0].interlaced,
        "size_changes": max(len(sizes) - 1, 0),
        "clock_changes": len(displays[0].clock),
        "offset": known.offset,
        "notes": "; ".join(known.notes),
    }


def as_shown(rows: list[Row]) -> list[Row]:
    """Rows of one content without those whose pictures were taken as they are coded, where that isn't what is shown.

    Shards of an older version remain beside the new ones until these are complete. Of two ways to show them the one
    with more shards counts; of as many the one that tells more, which is the newer.
    """
    shown: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        shown[row["display"]].append(row)
    told = {display: found for display, found in shown.items() if display} or shown
    return max(told.values(), key=lambda found: (len(found), len(found[0]["display"])), default=[])


def _of_one_content(segments: list[Row], failures: list[Failure]) -> list[Row]:
    """Of a file that has changed, the cache may hold shards of both contents for a while.

    A video has the segments of one: the one its failure records are about, else the more complete one.
    """
    contents: dict[Fingerprint, list[Row]] = defaultdict(list)
    for row in segments:
        contents[Fingerprint(row["size"], row["digest"])].append(row)
    contents = {content: as_shown(rows) for content, rows in contents.items()}
    spoken_of = {Fingerprint(failure.size, failure.digest) for failure in failures}
    chosen = max(
        contents,
        key=lambda content: (
            content in spoken_of,
            len(contents[content]) / contents[content][0]["count"],
            content.digest,
        ),
        default=None,
    )
    return contents[chosen] if chosen else []


def settle(
    features: str,
    current: Mapping[str, Fingerprint | None],
    cache_id: str,
    segments: Iterable[Row] | None = None,
    lost: Mapping[str, tuple[int, ...]] | None = None,
) -> tuple[set[str], list[Failure]]:
    """Makes the failure records of the given videos true again at the end of a run.

    One record per failed or partial video stays, with all it lost; records of segments that have their shard
    now, or of an earlier content of the file, go. Shards of an earlier content go once the new one is complete.

    Args:
        current: fingerprint of each video of the run, None where the input could not be read.
        segments: rows of the index, read where they aren't given.
        lost: by shard: sampled frames that could not be decoded, where that is known without its footer.

    Returns:
        Names of the shards that went, and all records that hold now, those of other videos included.
    """
    rows = defaultdict(list)
    for row in read_index(features) if segments is None else segments:
        if row["video"] in current:
            rows[row["video"]].append(row)
    records: dict[str, dict[str, Failure]] = defaultdict(dict)
    for name, failure in read_failures(features).items():
        records[failure.video][name] = failure

    def settled(video: str) -> tuple[set[str], dict[str, Failure]]:
        print_ = current[video]
        if print_ is None:  # what was there before may be there again: its records stay, that of this run is written
            return set(), records[video]
        return _settle_video(features, video, print_, rows[video], records[video], cache_id, lost or {})

    touched = [video for video in current if rows[video] or records[video]]
    gone: set[str] = set()
    for video, (shards, now) in zip(touched, storage.side_by_side(features, settled, touched), strict=True):
        gone |= shards
        records[video] = now
    return gone, [failure for own in records.values() for failure in own.values()]


def _is_of(row: Mapping[str, Any], print_: Fingerprint) -> bool:
    return bool(row["size"] == print_.size and row["digest"] == print_.digest)


def _settle_video(
    features: str,
    video: str,
    print_: Fingerprint,
    rows: list[Row],
    records: dict[str, Failure],
    cache_id: str,
    known_lost: Mapping[str, tuple[int, ...]],
) -> tuple[set[str], dict[str, Failure]]:
    """The shards of a video that went, and its records now."""
    mine = as_shown([row for row in rows if _is_of(row, print_)])
    gone = set()
    if mine and len(mine) == mine[0]["count"]:
        gone = {row["shard"] for row in rows} - {row["shard"] for row in mine}
        for shard in gone:
            storage.remove(shard_uri(features, shard))
    valid = {
        name: failure
        for name, failure in records.items()
        if (failure.size, failure.digest) == (print_.size, print_.digest) and failure.reason != "lost_frames"
    }
    open_ = [failure for name in sorted(valid) if (failure := _what_is_left(name, valid, mine)) is not None]
    name = failure_name(video, print_, cache_id)
    lost = tuple(
        frame
        for row in sorted(mine, key=lambda row: row["segment"])
        if row["lost"]
        for frame in known_lost.get(row["shard"]) or _lost_frames(features, row, records.get(name))
    )
    note = next((row["note"] for row in mine if row["note"]), "")
    merged = _merged(video, print_, open_, lost, note, bool(mine))
    for old in records:
        if old != name or merged is None:
            drop_failure(features, old)
    if merged is None:
        return gone, {}
    if merged != records.get(name):
        write_failure(features, name, merged)
    return gone, {name: merged}


def _lost_frames(features: str, row: Mapping[str, Any], record: Failure | None) -> tuple[int, ...]:
    """Sampled frames of a shard that could not be decoded, from the record of an earlier run where it has them."""
    if record is not None:
        told = tuple(frame for frame in record.frames if row["first_frame"] <= frame <= row["last_frame"])
        if len(told) == row["lost"]:
            return told
    try:
        return read_footer(shard_uri(features, row["shard"]), size=row["bytes"]).lost
    except FileNotFoundError:
        return ()  # another job has removed it


def _what_is_left(name: str, records: Mapping[str, Failure], rows: list[Row]) -> Failure | None:
    """A record without the segments that have their shard now, or a newer record of their own."""
    failure = records[name]
    if not failure.shards:
        return None if rows else failure
    gone = {(row["shard"], row["segment"]) for row in rows}
    if name not in failure.shards:
        gone |= {(other, index) for other, own in records.items() if other in own.shards for index in own.segments}
    shards, segments = {shard for shard, _ in gone}, {index for _, index in gone}
    left = replace(
        failure,
        segments=tuple(index for index in failure.segments if index not in segments),
        shards=tuple(shard for shard in failure.shards if shard not in shards),
        frames=tuple(
            frame
            for frame in failure.frames
            if not any(row["frames"] and row["first_frame"] <= frame <= row["last_frame"] for row in rows)
        ),
    )
    return left if left.shards else None


def _merged(
    video: str, print_: Fingerprint, failures: list[Failure], lost: tuple[int, ...], note: str, rows: bool
) -> Failure | None:
    outcome: Outcome = "partial" if rows else "failed"
    if failures:
        first = min(failures, key=lambda failure: failure.segments)
        frames = {frame for failure in failures for frame in failure.frames} | set(lost)
        native = [frame for failure in failures for frame in failure.native_frames]
        times = dict(zip(native, (time for failure in failures for time in failure.native_times), strict=False))
        return replace(
            first,
            outcome=outcome,
            permanent=all(failure.permanent for failure in failures),
            segments=tuple(sorted({i for failure in failures for i in failure.segments})),
            shards=tuple(sorted({shard for failure in failures for shard in failure.shards})),
            frames=tuple(sorted(frames)),
            native_frames=tuple(sorted(set(native))),
            native_times=tuple(times[frame] for frame in sorted(times)),
        )
    if not lost and not note:
        return None
    message = note or f"{len(lost)} sampled frames could not be decoded"
    return Failure(
        video=video,
        uri="",
        outcome=outcome,
        stage="decode",
        reason="lost_frames",
        message=message,
        permanent=True,
        frames=lost,
        size=print_.size,
        digest=print_.digest,
    )
