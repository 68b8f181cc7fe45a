"""The job ``inspect``: what a cache, a head, an output folder or annotations hold, and what is wrong with them."""

from __future__ import annotations

from typing import Any

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.inputs.people_folders import people_below
from emobeam.emo_transforms.networks.shipped import SHIPPED, ShippedHead, shipped
from emobeam.pipelines.inspect.cache import describe_cache
from emobeam.pipelines.inspect.labels import describe_labels
from emobeam.pipelines.inspect.output import describe_output
from emobeam.pipelines.inspect.people import describe_people
from emobeam.schemas.records import EmobeamError, UsageError


def describe(path: str, *, rebuild: bool = False, task: str = "", features: str = "") -> dict[str, Any]:
    """Describes a folder as plain JSON data.

    Args:
        rebuild: of a cache: read all footers again and rewrite ``segments.parquet`` and ``videos.parquet``.
        path: folder or URI; ``shipped`` is the head that comes with emobeam.
        task: of annotations: only this one.
        features: of a head: URI of a cache that it should fit.

    Returns:
        ``kind`` (``features``, ``head``, ``output``, ``people``, ``labels``), ``path``, and what there is to tell of
        that kind; ``problems``: what is missing, stale or failed, each with ``level`` (``error``,
        ``warning``, ``note``), ``kind``, ``what``, ``mend`` (a command, or empty) and ``about`` (videos or files).

    Raises:
        EmobeamError: there is nothing of these kinds.
        UsageError: an option belongs to another kind.
    """
    if path == SHIPPED and not storage.exists(path):
        path = str(_shipped(task).folder)
    kind = _kind(path)
    if rebuild and kind != "features":
        raise UsageError(f"--rebuild: {path} is no feature cache; name the folder with dataset.json")
    if features and kind != "head":
        raise UsageError(f"--features: {path} is no head; name the folder with head.json")
    if kind == "features":
        return describe_cache(path, rebuild=rebuild)
    if kind == "output":
        return describe_output(path)
    if kind == "head":
        from emobeam.pipelines.inspect.head import describe_head  # loads torch

        return describe_head(path, features)
    if kind == "people":
        return describe_people(path)
    return describe_labels(path, task)


def _shipped(task: str) -> ShippedHead:
    heads = shipped().heads
    found = heads.get(task) if task else next(iter(heads.values()), None)
    if found is None:
        raise UsageError(f"--task {task}: emobeam comes with no head of it, only of {', '.join(heads) or 'no task'}")
    return found


def _kind(path: str) -> str:
    for name, kind in (("dataset.json", "features"), ("run.json", "output"), ("head.json", "head")):
        if storage.exists(storage.join(path, name)):
            return kind
    if not storage.exists(path):
        raise EmobeamError(f"{path}: no such file or folder")
    parts = [storage.join(path, name) for name in ("shards", "head.safetensors", "predictions")]
    made = {"shards": "extract", "head.safetensors": "train", "predictions": "predict"}
    for part, (name, job) in zip(parts, made.items(), strict=True):
        if storage.exists(part):
            known = {"extract": "dataset.json", "train": "head.json", "predict": "run.json"}[job]
            raise EmobeamError(f"{path}: holds {name} but no {known}; the same emobeam {job} again writes it")
    return "people" if people_below(path) else "labels"
