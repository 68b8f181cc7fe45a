"""``inspect`` of a feature cache."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.cache.dataset import Dataset, read_dataset, shard_uri
from emobeam.emo_transforms.cache.failures import read_failures
from emobeam.emo_transforms.cache.index import make_index, read_index, rebuild_index
from emobeam.emo_transforms.cache.shards import read_footer
from emobeam.emo_transforms.storage.parquet_files import read_parquet
from emobeam.pipelines.console import command
from emobeam.pipelines.inspect.problems import Problem, extract_command, named, run_records
from emobeam.schemas.records import EmobeamError
from emobeam.schemas.tables import VIDEOS


def describe_cache(path: str, *, rebuild: bool) -> dict[str, Any]:
    """A cache as plain data; see :func:`emobeam.pipelines.inspect.describe.describe`."""
    dataset = read_dataset(path)
    runs = run_records(path)
    again = extract_command(path, dataset.config, runs)
    damaged = _damaged(path, thorough=rebuild)
    if rebuild:
        rebuild_index(path, trust=False, without=damaged)
    segments, table = _last_index(path) if damaged and not rebuild else make_index(path, without=damaged)
    videos = table.to_pylist()
    written = storage.read_json(storage.join(path, "dataset.json"))
    problems = [
        *_damage(path, damaged, again),
        *([] if damaged else _stale_index(path, segments, table)),
        *_videos(videos, path, again),
        *_identity(dataset, written, path),
    ]
    return {
        "kind": "features",
        "path": path,
        **{key: value for key, value in dataset.to_json().items() if key != "config"},
        "cache_id": written.get("cache_id"),
        "config": dataset.to_json()["config"],
        "untrained": dataset.config.backbone.untrained,
        "outcomes": dict(Counter(video["outcome"] for video in videos)),
        "videos": len(videos),
        "segments": len(segments),
        "native_frames": sum(row["frames"] for row in segments),
        "sampled_frames": sum(row["sampled"] for row in segments),
        "frames_with_face": sum(row["with_face"] for row in segments),
        "lost_frames": sum(row["lost"] for row in segments),
        "faces": sum(row["rows"] for row in segments) // (1 + dataset.config.views),
        "views": dataset.config.views,
        "clipped_values": sum(row["clipped"] for row in segments),
        "bytes": sum(row["bytes"] for row in segments),
        "bytes_by_part": storage.sizes_below(path),
        "seconds_of_video": round(sum(video["duration"] or 0.0 for video in videos), 3),
        "runs": [_run(run) for run in runs],
        "not_ok": [
            {key: video[key] for key in ("video", "outcome", "stage", "reason", "message")}
            for video in videos
            if video["outcome"] != "ok"
        ],
        "problems": [problem.to_json() for problem in problems],
    }


def _run(run: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("run", "inputs", "workers", "outcomes", "segments_of_this_run", "seconds", "seconds_by_step", "versions")
    return {key: run[key] for key in keys if key in run}


def _damaged(path: str, *, thorough: bool) -> dict[str, str]:
    """Shards that the index doesn't know, whose footer can't be read or can't be that of their rows, and why."""
    sizes = storage.sizes(storage.join(path, "shards"), ".parquet")
    known = {} if thorough else {row["shard"]: row["bytes"] for row in read_index(path)}
    found = {}
    for shard, size in sorted(sizes.items()):
        if known.get(shard) == size:
            continue
        try:
            read_footer(shard_uri(path, shard))
        except EmobeamError as error:
            found[shard] = str(error).removeprefix(f"{shard_uri(path, shard)}: ").partition("; remove it")[0]
    return found


def _damage(path: str, damaged: Mapping[str, str], again: str) -> list[Problem]:
    if not damaged:
        return []
    files = [shard_uri(path, shard) for shard in damaged]
    remove = ""
    if storage.is_local(path):
        remove = shlex.join(["rm", "--", *(str(storage.local_path(file)) for file in files)]) + " && "
    why = next(iter(damaged.values()))
    what = f"{len(damaged)} shards are damaged: {named(files)} ({why}); remove them and extract again"
    return [Problem("error", "damaged", what, remove + again, tuple(files))]


def _last_index(path: str) -> tuple[list[dict[str, Any]], pa.Table]:
    """What the tables beside the shards said before one of these was damaged."""
    try:
        table = read_parquet(storage.join(path, "videos.parquet"))
    except (pa.ArrowException, OSError):
        table = VIDEOS.empty_table()
    return read_index(path), table


def _stale_index(path: str, segments: Sequence[Mapping[str, Any]], table: pa.Table) -> list[Problem]:
    """Whether the tables beside the shards say what the shards say."""
    there = {row["shard"] for row in read_index(path)}
    ours = {row["shard"] for row in segments}
    try:
        written = read_parquet(storage.join(path, "videos.parquet"))
        older = table.column_names[: written.num_columns]  # version 0.1 wrote the first columns alone
        same = written.column_names == older and written.equals(table.select(older))
    except (FileNotFoundError, pa.ArrowException, OSError):
        same = False
    if there == ours and same:
        return []
    parts = [
        *([f"{len(ours - there)} shards are not in it"] if ours - there else []),
        *([f"{len(there - ours)} shards of it are gone"] if there - ours else []),
    ]
    what = f"the index is stale ({', '.join(parts) or 'videos.parquet differs from the shards'})"
    return [Problem("warning", "stale", what, command("inspect", path, "--rebuild"))]


def _videos(videos: Sequence[Mapping[str, Any]], path: str, again: str) -> list[Problem]:
    """Segments that are missing, failures that pass, and damage that stays."""
    permanent: dict[str, bool] = {}
    for failure in read_failures(path).values():
        permanent[failure.video] = permanent.get(failure.video, True) and failure.permanent
    missing = [row for row in videos if row["reason"] == "incomplete"]
    failed = [row for row in videos if row["outcome"] in ("failed", "partial") and row["reason"] != "incomplete"]
    passing = [row["video"] for row in failed if not permanent.get(row["video"], True)]
    staying = [row for row in failed if permanent.get(row["video"], True)]
    problems = []
    if missing:
        count = sum(row["segments"] - row["segments_done"] for row in missing)
        names = tuple(row["video"] for row in missing)
        what = f"{count} segments of {len(missing)} videos have no shard: {named(names)}"
        problems.append(Problem("error", "missing", what, again, names))
    if passing:
        what = f"{len(passing)} videos failed for reasons that may pass, and are tried again: {named(passing)}"
        problems.append(Problem("error", "failed", what, again, tuple(passing)))
    for outcome, level, rest in (
        ("failed", "error", "replace the files and extract again, or leave them out"),
        ("partial", "warning", "what could be read is in the cache; replace the files to have more"),
    ):
        names = tuple(row["video"] for row in staying if row["outcome"] == outcome)
        if names:
            kind = "are damaged for good" if outcome == "failed" else "are damaged in places"
            text = f"{len(names)} videos {kind}: {named(names)}; {rest}"
            problems.append(Problem(level, "failed", text, again, names))  # type: ignore[arg-type]
    return problems


def _identity(dataset: Dataset, written: Mapping[str, Any], path: str) -> list[Problem]:
    problems = []
    if written.get("cache_id") != dataset.config.cache_id:
        what = (
            "another revision of emobeam's stage 1 made this cache: it can be trained on and predicted from, but "
            "extract adds nothing to it; for more videos, extract all of them into another folder"
        )
        problems.append(Problem("note", "stale", what))
    if dataset.config.backbone.untrained:
        fresh = extract_command(f"{path.rstrip('/')}-trained", dataset.config, run_records(path))
        what = "the backbone is untrained: features mean nothing; name weights (emobeam models lists some)"
        problems.append(Problem("warning", "untrained", what, f"{fresh} --backbone-weights FILE"))
    return problems
