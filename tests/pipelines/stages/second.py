"""Stage 1 over the crops of a cache, and what it leaves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from emobeam.emo_transforms.cache.footers import Footer
from emobeam.emo_transforms.cache.shards import read_footer
from emobeam.emo_transforms.cache.stored_crops import config_from, origin_of
from emobeam.emo_transforms.cache.stored_form import as_tensors
from emobeam.emo_transforms.extraction.video_plans import find_videos
from emobeam.pipelines.stages.extract import ExtractRequest, ExtractResult, run_extract
from emobeam.runners.children.pool import LocalPool
from emobeam.schemas.config import BackboneConfig, ExtractConfig
from tests.pipelines.runs import ONE_SECOND, Told, dataset_of, rows

WITH_CROPS = replace(ONE_SECOND, store=("maps", "crops"))
SMALL = ExtractConfig(backbone=BackboneConfig("mobilenetv3_small_050", input_size=96), store=())
"""A classifier that is quick on a CPU; what is stored of it follows from it."""
PLAIN = ("video", "track", "frame", "time", "box", "score", "landmarks")


def extract_from(
    cache: Path, output: Path, pool: LocalPool, config: ExtractConfig = SMALL, *, told: Told | None = None
) -> tuple[ExtractResult, Told]:
    """Stage 1 over the crops of a cache."""
    told = told or Told()
    origin = origin_of([str(cache)])
    dataset = dataset_of(config_from(origin, replace(config, align=origin[0].align)))
    request = ExtractRequest(find_videos([str(cache)]), str(output), dataset, local=pool.config)
    return run_extract(request, told, pool), told


def tables(features: Path) -> dict[tuple[str, int], Any]:
    """The whole table of each segment."""
    index = rows(features / "segments.parquet")
    shards = {(r["video"], r["segment"]): features / "shards" / f"{r['shard']}.parquet" for r in index}
    return {key: as_tensors(pq.read_table(path)) for key, path in shards.items()}


def footers(features: Path) -> dict[tuple[str, int], Footer]:
    index = rows(features / "segments.parquet")
    found = (read_footer(str(features / "shards" / f"{row['shard']}.parquet")) for row in index)
    return {(footer.video, footer.segment): footer for footer in found}
