"""From faces with their crops to the columns of a shard: views, the backbone's outputs, the schema."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from emobeam.emo_transforms.cache.dataset import outputs_in
from emobeam.emo_transforms.cache.shards import ShardWriter
from emobeam.emo_transforms.faces.augmented_views import Augmentation, apply, view_of
from emobeam.emo_transforms.faces.crops import Picture
from emobeam.emo_transforms.networks.backbones import Backbone, embed
from emobeam.schemas.config import ExtractConfig
from emobeam.schemas.records import InputError, Segment
from emobeam.schemas.tables import VECTORS, column_of, feature_schema


@dataclass
class Clock:
    """Wall seconds by step."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        """Adds what the block takes to a step, whether or not it ends well."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] += time.perf_counter() - start


@dataclass(frozen=True)
class FeatureRow:
    """One seen face: its columns, and the crop for the backbone."""

    columns: Mapping[str, Any]
    crop: Picture


def with_views(rows: Iterator[FeatureRow], config: ExtractConfig, clock: Clock) -> Iterator[FeatureRow]:
    """Each row in all its views, the plain one first; without views the rows as they are."""
    drawn: dict[tuple[int, int], Augmentation] = {}
    for row in rows:
        if not config.views:
            yield row
            continue
        yield FeatureRow({**row.columns, "view": 0}, row.crop)
        for view in range(1, config.views + 1):
            track = row.columns["track"]
            if (track, view) not in drawn:
                drawn[track, view] = view_of(row.columns["video"], track, view)
            with clock("align"):
                crop = apply(row.crop, drawn[track, view])
            yield FeatureRow({**row.columns, "view": view, "crop": None}, crop)


def embed_and_write(
    rows: Iterator[FeatureRow],
    segment: Segment,
    config: ExtractConfig,
    backbone: Backbone | None,
    writer: ShardWriter,
    clock: Clock,
) -> None:
    """Writes rows in order, a batch of the backbone at a time.

    Args:
        backbone: None where nothing of it is stored.

    Raises:
        InputError: the backbone gave NaN.
    """
    batch = config.kernel_batch
    pending: list[FeatureRow] = []
    for row in rows:
        pending.append(row)
        if len(pending) == batch:
            _embed_batch(pending, segment, config, backbone, writer, clock)
            pending = []
    if pending:
        _embed_batch(pending, segment, config, backbone, writer, clock)


def _embed_batch(
    rows: list[FeatureRow],
    segment: Segment,
    config: ExtractConfig,
    backbone: Backbone | None,
    writer: ShardWriter,
    clock: Clock,
) -> None:
    columns: dict[str, Any] = {name: [row.columns.get(name) for row in rows] for name in rows[0].columns}
    wanted = outputs_in(config)
    if wanted:
        if backbone is None:
            raise ValueError(f"{', '.join(wanted)} of a backbone shall be stored, and there is none")
        with clock("embed"):
            found = embed(backbone, [row.crop for row in rows], wanted, config.kernel_batch)
        columns.update({column_of(name): values for name, values in found.items()})
    with clock("write"):
        try:
            writer.add(columns)
        except InputError as error:
            text = f"{segment.video.uri}: {error} (segment {segment.index})"
            raise InputError(text, stage=error.stage, reason=error.reason, permanent=error.permanent) from error


def shard_schema(config: ExtractConfig, backbone: Backbone | None) -> pa.Schema:
    """Schema of the shards that a config asks for."""
    shapes = backbone.shapes if backbone is not None else {}
    stored = {name: shapes[name] for name in outputs_in(config)}
    return feature_schema(
        {name: shape for name, shape in stored.items() if name not in VECTORS},
        embedding=stored.get("embedding", (0,))[0],
        scores=stored.get("scores", (0,))[0],
        crop="crops" in config.store,
        images=config.source != "video",
        views=config.views > 0,
    )
