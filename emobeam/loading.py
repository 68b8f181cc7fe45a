"""Feature caches and predictions as tables of pandas, polars, Arrow or PyTorch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, overload

import pyarrow as pa
import pyarrow.compute as pc

from emobeam.arguments import Place
from emobeam.emo_transforms.cache.columns import array_of, with_points_in_px
from emobeam.emo_transforms.cache.shards import read_rows
from emobeam.emo_transforms.results.exports.gather import (
    OutputFolder,
    clip_rows,
    clip_schema,
    columns_of,
    frame_rows,
    frame_schema,
    open_output,
    read_table,
)
from emobeam.schemas.records import UsageError
from emobeam.schemas.tables import map_column, predictions_schema
from emobeam.schemas.task_form import Task
from emobeam.schemas.tasks import task_named
from emobeam.selection import cache_schema, columns_in, named_videos, select_shards

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

    from emobeam.rows import FeatureRows

_MAP = map_column("")
_BIG = ("crop", "points")


@overload
def load_features(
    features: Place,
    *,
    as_: Literal["pandas"] = "pandas",
    columns: Sequence[str] | None = None,
    videos: str | Sequence[str] | None = None,
) -> pd.DataFrame: ...
@overload
def load_features(
    features: Place,
    *,
    as_: Literal["polars"],
    columns: Sequence[str] | None = None,
    videos: str | Sequence[str] | None = None,
) -> pl.DataFrame: ...
@overload
def load_features(
    features: Place,
    *,
    as_: Literal["arrow"],
    columns: Sequence[str] | None = None,
    videos: str | Sequence[str] | None = None,
) -> pa.Table: ...
@overload
def load_features(
    features: Place,
    *,
    as_: Literal["torch"],
    columns: Sequence[str] | None = None,
    videos: str | Sequence[str] | None = None,
) -> FeatureRows: ...
def load_features(
    features: Place,
    *,
    as_: Literal["pandas", "polars", "arrow", "torch"] = "pandas",
    columns: Sequence[str] | None = None,
    videos: str | Sequence[str] | None = None,
) -> Any:
    """The rows of a feature cache: one per face seen in a frame that was looked at, by video and time.

    Args:
        features: folder or URI of the cache.
        as_: ``pandas``, ``polars`` and ``arrow`` load all of it into memory; ``torch`` gives a data set that streams.
        columns: default: all but ``map_...``, ``points`` and ``crop``, which are big; for ``torch`` all but ``crop``.
        videos: names of videos, matched by unique path suffix; default: all.

    Returns:
        A table, in which a map is a float16 array ``[C, H, W]`` (pandas), an array column (polars) or a
        ``fixed_shape_tensor`` (Arrow); or a :class:`emobeam.FeatureRows`. ``points`` are float32 ``[478, 3]``, in px of
        the frame as shown.

    Raises:
        EmobeamError: no cache there, or a damaged one.
        UsageError: a column or video that isn't there.
    """
    place = os.fspath(features)
    if as_ == "torch":
        from emobeam.rows import FeatureRows

        return FeatureRows(place, columns=columns, videos=videos)
    _check_form(as_, ("pandas", "polars", "arrow", "torch"))
    plain = [name for name in columns_in(place) if name not in _BIG and not name.startswith(_MAP)]
    wanted = columns_in(place, columns) if columns is not None else plain
    in_px = with_points_in_px if "points" in wanted else lambda table: table
    read = [*wanted, *({"box"} - {*wanted} if "points" in wanted else ())]
    schema = cache_schema(place)
    empty = pa.schema([schema.field(name) for name in read]).empty_table()
    tables = (table for shard in select_shards(place, videos) for table in read_rows(shard.uri, read))
    pieces = [in_px(table.select(read).cast(empty.schema)).select(wanted) for table in tables]
    return _as(pa.concat_tables([in_px(empty).select(wanted), *pieces]), as_)


@overload
def load_predictions(
    output: Place,
    *,
    task: str | None = None,
    as_: Literal["pandas"] = "pandas",
    rate: Literal["sampled", "native"] = "native",
    videos: str | Sequence[str] | None = None,
) -> pd.DataFrame: ...
@overload
def load_predictions(
    output: Place,
    *,
    task: str | None = None,
    as_: Literal["polars"],
    rate: Literal["sampled", "native"] = "native",
    videos: str | Sequence[str] | None = None,
) -> pl.DataFrame: ...
@overload
def load_predictions(
    output: Place,
    *,
    task: str | None = None,
    as_: Literal["arrow"],
    rate: Literal["sampled", "native"] = "native",
    videos: str | Sequence[str] | None = None,
) -> pa.Table: ...
def load_predictions(
    output: Place,
    *,
    task: str | None = None,
    as_: Literal["pandas", "polars", "arrow"] = "pandas",
    rate: Literal["sampled", "native"] = "native",
    videos: str | Sequence[str] | None = None,
) -> Any:
    """What ``annotate`` or ``predict`` wrote.

    Args:
        output: the folder.
        task: one task's table; None puts all frame-level tasks side by side, as ``emobeam export --format csv`` does;
            where there are clip-level tasks only, these.
        rate: ``sampled`` keeps the rows in which a face was seen in that very frame; ``native`` keeps every frame.
        videos: names of videos, matched by unique path suffix; default: all.

    Returns:
        Frame-level: ``video``, ``subject``, ``face``, ``frame``, ``time`` (s), a column per output, ``source`` (with
        several tasks ``<task>_source``); clip-level: ``video``, ``subject`` and a column per output. Values are null
        where nothing was seen.

        ``attrs`` of a pandas frame has lists of strings: ``unknown`` (columns of outputs that nobody taught the heads;
        null), ``experimental`` (columns whose values are not to be relied on) and ``weights`` (the heads that made the
        values). Tables of polars and Arrow have no such place.

    Raises:
        EmobeamError: no such predictions, or a damaged table.
        UsageError: an unknown task, rate or video.
    """
    _check_form(as_, ("pandas", "polars", "arrow"))
    if rate not in ("sampled", "native"):
        raise UsageError(f"rate={rate!r}: choose sampled or native")
    found = open_output(os.fspath(output), tasks=[task] if task else ())
    wanted = sorted(named_videos(found.uri, found.videos, videos))
    if task is None and not found.frame_tasks:
        clips = clip_rows(replace(found, videos=tuple(wanted)))
        whole = pa.Table.from_pandas(clips, clip_schema(found.clip_tasks), preserve_index=False)
        return _marked(_as(whole.replace_schema_metadata(None), as_), found, found.clip_tasks)
    if task is None:
        schema = frame_schema(found.frame_tasks)
        rows = [pa.Table.from_pandas(frame_rows(found, v, rate), schema, preserve_index=False) for v in wanted]
        whole = pa.concat_tables([schema.empty_table(), *(table.replace_schema_metadata(None) for table in rows)])
        return _marked(_as(whole, as_), found, found.frame_tasks)
    asked = task_named(task)
    schema = predictions_schema(asked.outputs, clip=asked.scope == "clip")
    tables = [read_table(found.parts[task][video]).cast(schema) for video in wanted if video in found.parts[task]]
    whole = pa.concat_tables([schema.empty_table(), *(table.replace_schema_metadata(None) for table in tables)])
    if rate == "sampled" and asked.scope == "frame":
        whole = whole.filter(pc.equal(whole["source"].cast(pa.string()), "sampled"))
    return _marked(_as(whole.unify_dictionaries(), as_), found, (asked,))


def _marked(table: Any, found: OutputFolder, tasks: Sequence[Task]) -> Any:
    """The table; where it is one of pandas, ``attrs`` say what has to be known of its columns."""
    if not hasattr(table, "attrs"):
        return table
    columns = columns_of(tasks)
    told: dict[str, list[str]] = {"unknown": [], "experimental": [], "weights": []}
    for task in tasks:
        for kind, names in found.marks[task.name].to_json().items():
            told[kind] += [columns[task.name][name] for name in names]
        told["weights"] += [text for text in found.weights[task.name] if text not in told["weights"]]
    table.attrs.update(told)
    return table


def _check_form(as_: str, known: Sequence[str]) -> None:
    if as_ not in known:
        raise UsageError(f"as_={as_!r}: choose one of {', '.join(known)}")


def _as(table: pa.Table, form: str) -> Any:
    if form == "arrow":
        return table
    maps = [name for name in table.column_names if name.startswith(_MAP) or name == "points"]
    arrays = {name: array_of(table, name.removeprefix(_MAP)) for name in maps} if len(table) else {}
    if form == "pandas":
        frame = table.drop_columns(maps).to_pandas()
        for name in maps:
            frame[name] = list(arrays.get(name, ()))
        return frame[table.column_names]
    try:
        import polars as pl
    except ImportError as error:
        raise UsageError("as_='polars': polars isn't installed; pip install polars") from error
    frame = pl.DataFrame(pl.from_arrow(table.drop_columns(maps)))
    for name in maps:
        frame = frame.with_columns(pl.Series(name, arrays[name]) if name in arrays else pl.lit(None).alias(name))
    return frame.select(table.column_names)
