"""What the jobs that make people folders share: the schema of a person's file, writing it, one process per core."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.training.material.rendering.units import UNIT_SHAPES

Item = TypeVar("Item")
Result = TypeVar("Result")


def crops_schema() -> pa.Schema:
    """Schema of ``people/<name>.parquet``: one row per crop, units in [0, 1], null where nobody knows (AU23 always)."""
    return pa.schema(
        [
            pa.field("person", pa.int32(), nullable=False),
            pa.field("clip", pa.int32(), nullable=False),
            pa.field("frame", pa.int32(), nullable=False),
            pa.field("time", pa.float64()),
            pa.field("crop", pa.binary(), nullable=False),
            *(pa.field(row.unit, pa.float32()) for row in UNIT_SHAPES),
            *(pa.field(name, pa.float32()) for name in ("yaw", "pitch", "roll")),
            pa.field("shapes", pa.map_(pa.string(), pa.float32())),
            # 51 points (of the 68 without the jaw line), x and y in parts of the crop's edge
            pa.field("landmarks", pa.list_(pa.float32())),
        ]
    )


def write_person(
    output: str, name: str, rows: Sequence[Mapping[str, Any]], metadata: Mapping[bytes, bytes] | None = None
) -> None:
    """Writes ``people/<name>.parquet`` below ``output``, as a whole or not at all."""
    table = pa.Table.from_pylist([dict(row) for row in rows], crops_schema().with_metadata(metadata))
    with storage.atomic_file(storage.join(output, "people", f"{name}.parquet")) as path:
        pq.write_table(table, path, compression="zstd", use_dictionary=False)


def in_processes(
    call: Callable[..., Result], items: Sequence[Item], rest: Sequence[Any], workers: int
) -> Iterator[tuple[Item, Result]]:
    """``call(item, *rest)`` for each item in processes of one thread each; yields them as they end.

    Where one process is enough, it is this one: starting another takes seconds.

    Args:
        items: at least one.
        workers: processes; 0 is one per core.
    """
    count = min(workers or os.cpu_count() or 1, len(items))
    if count == 1:
        for item in items:
            with _one_thread():
                result = call(item, *rest)
            yield item, result
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, context, initializer=_keep_to_one_thread) as pool:
        futures = {pool.submit(call, item, *rest): item for item in items}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@contextmanager
def _one_thread() -> Iterator[None]:
    import cv2
    import torch

    before = torch.get_num_threads(), cv2.getNumThreads()
    _keep_to_one_thread()
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def _keep_to_one_thread() -> None:
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
