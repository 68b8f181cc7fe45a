"""The job ``inspect``: what a feature cache or an output folder holds, for people and programs."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from emo_transforms import storage
from emo_transforms.cache import read_dataset
from emo_transforms.index import make_index, rebuild_index
from pipelines.console import duration_text, size_text
from pipelines.labels import describe_labels, print_labels
from schemas.records import EmobeamError


def describe(path: str, *, rebuild: bool = False, task: str = "") -> dict[str, Any]:
    """Describes a folder as plain JSON data.

    Args:
        rebuild: of a cache: read all footers again and rewrite ``segments.parquet`` and ``videos.parquet``.
        task: of annotations: only this one.

    Raises:
        EmobeamError: there is neither a feature cache, nor an output folder, nor annotations.
    """
    if storage.exists(storage.join(path, "dataset.json")):
        return _describe_cache(path, rebuild=rebuild)
    if storage.exists(storage.join(path, "run.json")):
        return _describe_output(path)
    if not storage.exists(path):
        raise EmobeamError(f"{path}: no such file or folder")
    return describe_labels(path, task)


def _describe_cache(path: str, *, rebuild: bool) -> dict[str, Any]:
    dataset = read_dataset(path)
    if rebuild:
        rebuild_index(path, trust=False)
    segments, table = make_index(path)
    videos = table.to_pylist()
    return {
        "kind": "features",
        "path": path,
        **{key: value for key, value in dataset.to_json().items() if key != "config"},
        "config": dataset.to_json()["config"],
        "untrained": dataset.config.backbone.untrained,
        "outcomes": dict(Counter(video["outcome"] for video in videos)),
        "videos": len(videos),
        "segments": len(segments),
        "sampled_frames": sum(row["sampled"] for row in segments),
        "lost_frames": sum(row["lost"] for row in segments),
        "faces": sum(row["rows"] for row in segments) // (1 + dataset.config.views),
        "views": dataset.config.views,
        "clipped_values": sum(row["clipped"] for row in segments),
        "bytes": sum(row["bytes"] for row in segments),
        "seconds_of_video": round(sum(video["duration"] or 0.0 for video in videos), 3),
        "not_ok": [
            {key: video[key] for key in ("video", "outcome", "stage", "reason", "message")}
            for video in videos
            if video["outcome"] != "ok"
        ],
    }


def _describe_output(path: str) -> dict[str, Any]:
    run = storage.read_json(storage.join(path, "run.json"))
    fs, faces = storage.file_system(storage.join(path, "faces.parquet"))
    with fs.open(faces, "rb") as file:
        stretches = pq.read_table(file).num_rows
    return {"kind": "output", "path": path, **run, "face_stretches": stretches}


def print_description(description: dict[str, Any]) -> None:
    """Prints a description as a table on standard output."""
    if description["kind"] == "labels":
        print_labels(description)
        return
    table = Table(show_header=False, box=None, pad_edge=False)
    for key, value in description.items():
        if key in ("not_ok", "config"):
            continue
        if key == "bytes":
            value = size_text(value)
        elif key == "seconds_of_video":
            key, value = "video", duration_text(value)
        table.add_row(key.replace("_", " "), _text(value))
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(table)
    for entry in description.get("not_ok", []):
        console.print(f"{entry['outcome']}: {entry['video']}" + (f" ({entry['message']})" if entry["message"] else ""))
    if any(entry["outcome"] in ("failed", "partial") for entry in description.get("not_ok", [])):
        console.print("the same emobeam extract again tries what may succeed; damage that stays is not tried again")


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return (
            "x".join(map(str, value)) if all(isinstance(item, int) for item in value) else ", ".join(map(_text, value))
        )
    return str(value)
