"""What the cache costs, and how fast stage 2 goes over it: ``python -m tests.benchmarks.cache [CLIP...]``.

Maps of real crops, written and read as stage 1 and stage 2 do it (shards of 60 s, zstd), against ``numpy.savez`` and
``numpy.load`` of the same float16 maps. Sizes depend on the weights; name yours with ``--backbone-weights``. Reading
comes from the system's file cache. Stage 2 runs the three-level temporal mixer, reading and writing included.
"""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from emo_transforms.cache import Dataset, shard_uri
from emo_transforms.extraction import Tools, extract_segment
from emo_transforms.predict import HeadSpec, PredictTools, load_tools, predict_video
from emo_transforms.shards import ShardWriter, maps_of, read_footer, read_rows
from emo_transforms.storage import atomic_file
from pipelines.extract import resolve_config
from schemas.config import BackboneConfig, ExtractConfig, PredictConfig
from schemas.records import VideoFeatures
from schemas.tables import feature_schema, map_column
from tests.benchmarks.measure import (
    Spent,
    interleaved,
    loop_clip,
    machine,
    parser,
    ratio,
    segments_of,
    standard_clip,
    table,
    timed,
)

Maps = Mapping[str, NDArray[np.float32]]


def fill(clip: Path, dataset: Dataset, frames: int, folder: Path) -> tuple[VideoFeatures, list[str]]:
    """A cache of a clip, repeated until it has so many sampled frames; the video, and the URIs of its shards."""
    torch.set_num_threads(1)
    tools = Tools(dataset.config)
    assert tools.decoder is not None
    try:
        once = sum(len(segment.sampled) for segment in segments_of(clip, dataset.config, tools.decoder))
        long = loop_clip(clip, folder / "long.mp4", times=math.ceil(frames / once))
        segments = segments_of(long, dataset.config, tools.decoder)
        records = [extract_segment(segment, tools, str(folder)) for segment in segments]
    finally:
        tools.close()
    shards = tuple(segment.shard for segment, record in zip(segments, records, strict=True) if record.rows)
    sampled = sum(record.sampled for record in records)
    return VideoFeatures(long.stem, shards, sampled=sampled), [shard_uri(str(folder), shard) for shard in shards]


def write_shards(
    tables: Sequence[tuple[str, Mapping[str, list[object]], Maps]], dataset: Dataset, folder: Path
) -> None:
    """Writes rows as stage 1 does: a kernel batch at a time, synced and renamed."""
    batch = dataset.config.kernel_batch
    for uri, columns, maps in tables:
        with atomic_file(str(folder / Path(uri).name)) as path:
            writer = ShardWriter(path, feature_schema(dataset.map_shapes))
            for start in range(0, len(columns["frame"]), batch):
                piece = slice(start, start + batch)
                rows = {name: values[piece] for name, values in columns.items()}
                writer.add(rows | {map_column(name): values[piece] for name, values in maps.items()})
            writer.close(read_footer(uri))


def save_numpy(tables: Sequence[tuple[str, Mapping[str, list[object]], Maps]], folder: Path) -> None:
    for uri, _, maps in tables:
        arrays: dict[str, Any] = {name: values.astype(np.float16) for name, values in maps.items()}
        np.savez(folder / f"{Path(uri).stem}.npz", **arrays)


def read_shards(uris: Sequence[str], names: Sequence[str]) -> int:
    """Reads maps, a row group at a time; returns the bytes they take."""
    columns = [map_column(name) for name in names]
    return sum(maps_of(rows, name).nbytes for uri in uris for rows in read_rows(uri, columns) for name in names)


def load_numpy(folder: Path, names: Sequence[str]) -> int:
    total = 0
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as arrays:
            total += sum(arrays[name].nbytes for name in names)
    return total


def measure(clip: Path, dataset: Dataset, frames: int, repeats: int, folder: Path) -> str:
    """Size, speed and stage 2 of one clip's cache, as tables."""
    names = list(dataset.map_shapes)
    video, uris = fill(clip, dataset, frames, folder)
    plain = list(feature_schema({}).names)
    tables = []
    for uri in uris:
        groups = list(read_rows(uri))
        columns = {name: [value for group in groups for value in group[name].to_pylist()] for name in plain}
        maps = {name: np.concatenate([maps_of(g, name) for g in groups]).astype(np.float32) for name in names}
        tables.append((uri, columns, maps))
    count = sum(len(columns["frame"]) for _, columns, _ in tables)
    written, arrays = folder / "written", folder / "numpy"
    written.mkdir()
    arrays.mkdir()
    heads = load_tools([HeadSpec("au")], dataset)
    last = names[-1:]
    spent = interleaved(
        {
            "write": lambda: timed(lambda: write_shards(tables, dataset, written)),
            "save": lambda: timed(lambda: save_numpy(tables, arrays)),
            "read": lambda: timed(lambda: read_shards(uris, names)),
            "load": lambda: timed(lambda: load_numpy(arrays, names)),
            "read last": lambda: timed(lambda: read_shards(uris, last)),
            "load last": lambda: timed(lambda: load_numpy(arrays, last)),
            "predict": lambda: stage2(video, heads, folder),
        },
        repeats,
    )
    sizes = [sum(Path(path).stat().st_size for path in paths) for paths in (uris, arrays.glob("*.npz"))]
    return report(f"{clip.name}: {count} rows, {video.sampled} sampled frames", count, sizes, spent, video, names)


def stage2(video: VideoFeatures, heads: PredictTools, features: Path) -> Spent:
    with tempfile.TemporaryDirectory() as output:
        return timed(lambda: predict_video(video, heads, str(features), output, PredictConfig()))


def report(
    title: str,
    count: int,
    sizes: Sequence[int],
    spent: Mapping[str, Sequence[Spent]],
    video: VideoFeatures,
    names: Sequence[str],
) -> str:
    def row(label: str, ours: str, theirs: str) -> list[str]:
        walls = [[one.wall for one in spent[name]] for name in (ours, theirs)]
        cells = [f"{1000 * statistics.median(wall) / count:.2f}" for wall in walls]
        return [label, *cells, ratio(*walls)]

    rows = [
        ["bytes per row", *(f"{size / count:.0f}" for size in sizes), f"{sizes[0] / sizes[1]:.2f}"],
        row("write, ms per row", "write", "save"),
        row(f"read {', '.join(names)}, ms per row", "read", "load"),
        row(f"read {names[-1]} alone, ms per row", "read last", "load last"),
    ]
    first = table(title, ["", "shards", "numpy", "shards / numpy"], rows)
    predict = spent["predict"]
    rows = [
        ["sampled frames/s, wall clock", f"{video.sampled / statistics.median(one.wall for one in predict):.0f}"],
        ["sampled frames/s of CPU time", f"{video.sampled / statistics.median(one.cpu for one in predict):.0f}"],
        [
            "reading the maps, share of it",
            ratio([one.wall for one in spent["read"]], [one.wall for one in predict]),
        ],
    ]
    return first + "\n" + table("Stage 2, three levels, one head, one core", ["", ""], rows)


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parser(__doc__, repeats=5)
    arguments.add_argument("--frames", type=int, default=600, help="sampled frames in the cache (default: 600)")
    arguments.add_argument("--backbone-weights", default="untrained", help="as for emobeam extract")
    options = arguments.parse_args(argv)
    print(machine())
    dataset = resolve_config(ExtractConfig(backbone=BackboneConfig(weights=options.backbone_weights)))
    for clip in options.clip or [None]:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            print(measure(clip or standard_clip(folder), dataset, options.frames, options.repeats, folder), flush=True)


if __name__ == "__main__":
    main()
