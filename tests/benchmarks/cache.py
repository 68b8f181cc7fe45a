"""What the cache costs, and how fast stage 2 goes over it: ``python -m tests.benchmarks.cache [CLIP...]``.

Maps of real crops, written and read as stage 1 and stage 2 do it (shards of 60 s, zstd), against ``numpy.savez`` and
``numpy.load`` of the same float16 maps. Sizes depend on the weights; name yours with ``--backbone-weights``. Reading
comes from the system's file cache. Stage 2 runs the three-level temporal mixer, reading and writing included.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emobeam.emo_transforms.cache.dataset import Dataset, shard_uri
from emobeam.emo_transforms.cache.shards import ShardWriter, maps_of, read_footer, read_rows
from emobeam.emo_transforms.extraction.segments import Tools, extract_segment
from emobeam.emo_transforms.prediction.video_parts import HeadSpec, PredictTools, load_tools, predict_video
from emobeam.emo_transforms.storage import atomic_file
from emobeam.schemas.predict_config import PredictConfig
from emobeam.schemas.records import VideoFeatures
from emobeam.schemas.tables import feature_schema, map_column
from tests.benchmarks.figures import Figure, Goal, Section, median_figure, ratio_figure
from tests.benchmarks.material import loop_clip, segments_of, standard_clip
from tests.benchmarks.measure import Spent, as_worker, cpus, interleaved, parser, run, stage1_settings, timed, walls

Maps = Mapping[str, NDArray[np.float32]]


def fill(clip: Path, dataset: Dataset, frames: int, folder: Path) -> tuple[VideoFeatures, list[str]]:
    """A cache of a clip, repeated until it has so many sampled frames; the video, and the URIs of its shards."""
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


def compare(
    clip: Path, dataset: Dataset, frames: int, repeats: int, folder: Path
) -> tuple[list[Figure], dict[str, Any]]:
    """Size, speed and stage 2 of one clip's cache."""
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
    heads = load_tools([HeadSpec("au", "untrained")], dataset)
    last = names[-1:]
    spent = interleaved(
        {
            "write": lambda: timed(lambda: write_shards(tables, dataset, written)),
            "save": lambda: timed(lambda: save_numpy(tables, arrays)),
            "read": lambda: timed(lambda: read_shards(uris, names)),
            "load": lambda: timed(lambda: load_numpy(arrays, names)),
            "read last": lambda: timed(lambda: read_shards(uris, last)),
            "predict": lambda: stage2(video, heads, folder),
        },
        repeats,
    )
    sizes = {
        "shards": sum(Path(path).stat().st_size for path in uris),
        "numpy": sum(path.stat().st_size for path in arrays.glob("*.npz")),
    }
    figures = rows_of(count, sizes, spent, video.sampled, names)
    details = {
        "rows": count,
        "sampled": video.sampled,
        "bytes": sizes,
        "cpu_seconds": {name: cpus(runs) for name, runs in spent.items()},
        "wall_seconds": {name: walls(runs) for name, runs in spent.items()},
    }
    return figures, details


def stage2(video: VideoFeatures, heads: PredictTools, features: Path) -> Spent:
    with tempfile.TemporaryDirectory() as output:
        return timed(lambda: predict_video(video, heads, str(features), output, PredictConfig()))


def rows_of(
    count: int, sizes: Mapping[str, int], spent: Mapping[str, Sequence[Spent]], sampled: int, names: Sequence[str]
) -> list[Figure]:
    """Wall clock for reading and writing, which wait for disks; CPU time for stage 2."""

    def per_row(side: str) -> list[float]:
        return [1000 * seconds / count for seconds in walls(spent[side])]

    maps = ", ".join(names)
    rate = [sampled / seconds for seconds in cpus(spent["predict"])]
    return [
        median_figure("cache.write", f"cache, {maps}: write a row", "", "ms", per_row("write"), goal=Goal(at_most=3)),
        median_figure("cache.read", f"cache, {maps}: read a row", "", "ms", per_row("read"), goal=Goal(at_most=2)),
        Figure("cache.size", f"cache, {maps}: a row", "", "kB", sizes["shards"] / count / 1000,
               goal=Goal(at_most=135), note=f"{count} rows"),
        Figure("cache.size.numpy", f"cache, {maps}: bytes", "numpy.savez", "x", sizes["shards"] / sizes["numpy"]),
        ratio_figure("cache.write.numpy", f"cache, {maps}: time to write", "numpy.savez",
                     walls(spent["write"]), walls(spent["save"]), goal=None),
        ratio_figure("cache.read.numpy", f"cache, {maps}: time to read", "numpy.load",
                     walls(spent["read"]), walls(spent["load"]), goal=None),
        median_figure("cache.read.last", f"cache, {names[-1]} alone: read a row", "", "ms", per_row("read last"),
                      goal=None),
        median_figure("stage2.speed", "stage 2, TAM 3 levels, reading included: frames per CPU second", "", "/s",
                      rate, goal=Goal(at_least=400)),
    ]  # fmt: skip


def measure(options: argparse.Namespace) -> Section:
    frames = 24 if options.quick else options.frames
    dataset = stage1_settings(engine=options.engine, weights=options.backbone_weights)
    figures: list[Figure] = []
    details: dict[str, Any] = {}
    for clip in options.clip or [None]:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            taken = clip or standard_clip(folder, times=1 if options.quick else 5)
            found, details[taken.name] = compare(taken, dataset, frames, options.repeats, folder)
            figures += found
    return Section("cache", tuple(figures), details=details)


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parser(__doc__, repeats=5)
    arguments.add_argument("clip", nargs="*", type=Path, help="default: the carphone clip, enlarged and repeated")
    arguments.add_argument("--frames", type=int, default=600, help="sampled frames in the cache (default: 600)")
    arguments.add_argument("--backbone-weights", default="", help="as for emobeam extract")
    run(arguments, measure, argv)


if __name__ == "__main__":
    as_worker(f"tests.benchmarks.{Path(__file__).stem}")
    main()
