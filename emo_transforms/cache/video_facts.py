"""What looking at videos told of which the cache holds shards of form 1, in ``probes.parquet``.

Those shards hold what was measured and say nothing of the rest (the place of the first frame on the media's own clock,
what people have to know of a file); newer ones tell it themselves. A video of which neither tells was looked at by an
emobeam that knew nothing of it, and is looked at again by the next run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.storage.parquet_files import read_parquet
from emobeam.schemas.records import Fingerprint, Video, VideoFacts
from emobeam.schemas.tables import PROBES

Facts = Mapping[tuple[str, int, str], VideoFacts]
"""By video, size and digest."""

_FILE = "probes.parquet"


def read_facts(features: str) -> dict[tuple[str, int, str], VideoFacts]:
    """What is known of the videos of a cache; nothing where the file isn't there or can't be read."""
    try:
        table = read_parquet(storage.join(features, _FILE))
    except (OSError, pa.ArrowException):
        return {}
    if not table.schema.equals(PROBES):
        return {}
    return {
        (row["video"], row["size"], row["digest"]): VideoFacts(
            row["offset"], (row["coded_width"], row["coded_height"]), row["rotation"], tuple(row["notes"])
        )
        for row in table.to_pylist()
    }


def carried_facts(videos: Iterable[Video], current: Mapping[str, Fingerprint | None]) -> dict[str, VideoFacts]:
    """What the caches whose crops are an input know of their videos: nobody looks at the videos again.

    Args:
        current: content of each video of the run, None where it could not be read.
    """
    known: dict[str, Facts] = {}
    carried = {}
    for video in videos:
        content = current.get(video.id)
        if video.kind != "cache" or content is None:
            continue
        if video.uri not in known:
            known[video.uri] = read_facts(video.uri)
        facts = known[video.uri].get((video.id, content.size, content.digest))
        if facts is not None:
            carried[video.id] = facts
    return carried


def settle_facts(
    features: str, current: Mapping[str, Fingerprint | None], found: Mapping[str, VideoFacts]
) -> dict[tuple[str, int, str], VideoFacts]:
    """Adds what a run found, drops what is of earlier contents of its videos, and writes that.

    Args:
        current: content of each video of the run, None where it could not be read.
        found: by video.

    Returns:
        What is known now.
    """
    before = read_facts(features)
    now = dict(before)
    for video, facts in found.items():
        content = current.get(video)
        if content is not None:
            now[video, content.size, content.digest] = facts
    for key in list(now):
        content = current.get(key[0])
        if content is not None and (content.size, content.digest) != key[1:]:
            del now[key]
    if now != before:
        rows = [
            {
                "video": video,
                "size": size,
                "digest": digest,
                "offset": facts.offset,
                "coded_width": facts.coded[0],
                "coded_height": facts.coded[1],
                "rotation": facts.rotation,
                "notes": list(facts.notes),
            }
            for (video, size, digest), facts in sorted(now.items(), key=lambda item: item[0])
        ]
        with storage.atomic_file(storage.join(features, _FILE)) as path:
            pq.write_table(pa.Table.from_pylist(rows, PROBES), path, compression="zstd")
    return now
