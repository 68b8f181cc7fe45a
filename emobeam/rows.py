"""The rows of a feature cache for PyTorch, streamed: one row group in memory at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from emobeam.emo_transforms.cache.columns import with_points_in_px
from emobeam.emo_transforms.cache.shards import read_rows
from emobeam.schemas.tables import map_column
from emobeam.selection import columns_in, select_shards


class FeatureRows(IterableDataset[dict[str, Any]]):
    """Rows of a feature cache in the order of videos and time, each a dict by column.

    Maps are float16 tensors ``[C, H, W]``, ``box`` float32 ``[4]`` and ``landmarks`` float32 ``[10]`` in px, vectors
    float32 ``[L]``, ``points`` float32 ``[478, 3]`` in px of the frame as shown; a box, landmarks, time or score that
    the cache doesn't hold (folders of crops) is NaN. Numbers and texts are plain Python. Workers of a ``DataLoader``
    share the shards among them, each shard goes to one.

    Args:
        features: folder or URI of the cache.
        columns: default: all but ``crop``.
        videos: names of videos, matched by unique path suffix; default: all.

    Raises:
        EmobeamError: no cache, or a damaged one.
        UsageError: a column or video that isn't there.
    """

    def __init__(
        self,
        features: str | os.PathLike[str],
        *,
        columns: Sequence[str] | None = None,
        videos: str | Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.features = os.fspath(features)
        known = columns_in(self.features)
        self.columns = columns_in(self.features, columns or [name for name in known if name != "crop"])
        self._read = [*self.columns, *({"box"} - {*self.columns} if "points" in self.columns else ())]
        self.shards = select_shards(self.features, videos)

    def __len__(self) -> int:
        """Number of rows, by the footers."""
        return sum(shard.rows for shard in self.shards)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        mine = self.shards[worker.id :: worker.num_workers] if worker else self.shards
        for shard in mine:
            for table in read_rows(shard.uri, self._read):
                rows = with_points_in_px(table) if "points" in self.columns else table
                columns = {name: _values(rows, name) for name in self.columns}
                for index in range(len(table)):
                    yield {name: values[index] for name, values in columns.items()}


_LENGTHS = {"box": 4, "landmarks": 10}


def _values(table: Any, name: str) -> Any:
    """A column as something that gives a row's value by its index."""
    column = table[name]
    if name.startswith(map_column("")) or name == "points":
        chunk = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        return torch.from_numpy(chunk.to_numpy_ndarray().copy())
    values = column.to_pylist()
    if name in ("time", "score", "points_score"):
        return [float("nan") if value is None else value for value in values]
    if name in _LENGTHS:
        values = [[float("nan")] * _LENGTHS[name] if value is None else value for value in values]
        return torch.from_numpy(np.array(values, np.float32).reshape(-1, _LENGTHS[name]))
    if name in ("embedding", "scores", "shapes"):
        return torch.from_numpy(np.array(values, np.float32))
    return values
