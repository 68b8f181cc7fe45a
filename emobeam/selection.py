"""Which shards and columns of a feature cache are meant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from emobeam.emo_transforms.cache.dataset import read_dataset, shard_uri
from emobeam.emo_transforms.cache.index import make_index
from emobeam.schemas.records import UsageError
from emobeam.schemas.row_keys import match_names
from emobeam.schemas.tables import feature_schema


@dataclass(frozen=True)
class Shard:
    """One shard: of which video, where, and how many rows it has (of the plain view)."""

    video: str
    uri: str
    rows: int


def cache_schema(features: str) -> pa.Schema:
    """Arrow schema of the rows of a cache; raises :class:`EmobeamError` where there is none."""
    dataset = read_dataset(features)
    return feature_schema(
        dataset.map_shapes,
        embedding=dataset.embedding,
        scores=dataset.scores,
        crop="crops" in dataset.config.store,
        images=dataset.config.source != "video",
        mesh=dataset.mesh,
    )


def columns_in(features: str, columns: Sequence[str] | None = None) -> list[str]:
    """Names of columns, all or the given ones; :class:`UsageError` where the cache lacks one."""
    known = cache_schema(features).names
    if columns is None:
        return list(known)
    if isinstance(columns, str):
        columns = [columns]
    if unknown := [name for name in columns if name not in known]:
        raise UsageError(f"{features}: has no column {', '.join(unknown)}; it has {', '.join(known)}")
    return list(columns)


def select_shards(features: str, videos: str | Sequence[str] | None = None) -> list[Shard]:
    """Shards of some videos, or of all, by video and time; of a file that has changed, those of one content."""
    views = 1 + read_dataset(features).config.views
    segments, table = make_index(features)
    content = {row["video"]: (row["size"], row["digest"]) for row in table.to_pylist()}
    wanted = named_videos(features, sorted(content), videos)
    return [
        Shard(row["video"], shard_uri(features, row["shard"]), row["rows"] // views)
        for row in segments
        if row["video"] in wanted and content[row["video"]] == (row["size"], row["digest"])
    ]


def named_videos(place: str, known: Sequence[str], videos: str | Sequence[str] | None) -> set[str]:
    """The videos that names mean, by unique path suffix; all of them for None.

    Raises:
        UsageError: there is no video of such a name.
        EmobeamError: several fit a name equally well.
    """
    if videos is None:
        return set(known)
    matches = match_names([videos] if isinstance(videos, str) else videos, known)
    if matches.missing:
        raise UsageError(f"{place}: has no video called {', '.join(matches.missing)}")
    return {video for video, _ in matches.found.values()}
