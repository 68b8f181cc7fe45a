"""What an output folder says about its run: videos and outcomes, models, warnings, time, figures. Reads, never writes.

Every file but the predictions tables may be missing; what it would have told is then left out of the page.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.prediction.prediction_tables import (
    Listing,
    Part,
    list_parts,
    marks_of_parts,
    part_name,
    read_run,
)
from emobeam.emo_transforms.storage.parquet_files import read_parquet
from emobeam.schemas.records import EmobeamError
from emobeam.schemas.row_keys import match_names
from emobeam.schemas.tasks import TASKS, Task


@dataclass(frozen=True)
class VideoInfo:
    """One video of the run.

    Attributes:
        outcome: ``ok``, ``no_face``, ``partial``, ``failed``, or ``unknown`` where no table of videos tells.
        frames: native frames; ``sampled`` of them were looked at, ``lost`` of those could not be decoded, and
            ``with_face`` show at least one face.
        duration: in s, or None.
        size, digest: fingerprint of the file.
    """

    id: str
    outcome: str = "unknown"
    stage: str = ""
    reason: str = ""
    message: str = ""
    frames: int = 0
    sampled: int = 0
    lost: int = 0
    with_face: int = 0
    duration: float | None = None
    width: int | None = None
    height: int | None = None
    size: int | None = None
    digest: str | None = None


@dataclass(frozen=True)
class Gathered:
    """All but the predictions themselves.

    Attributes:
        output: the folder.
        features: the feature cache it was made from, ``""`` where that isn't there any more.
        videos: sorted by id.
        parts: the predictions tables of these videos by task and video, as far as they can be used.
        listing: all tables of the folder, those of other videos too.
        failed: videos with tables that can't be used, and why.
        faces: rows of ``faces.parquet`` by video.
        run: ``run.json``; empty where there is none.
        extracts: the cache's run records, the oldest first.
        dataset: the cache's ``dataset.json``; may be empty.
        metrics: figures by task (``metrics.json``, or those of ``--truth``).
    """

    output: str
    features: str
    videos: tuple[VideoInfo, ...]
    parts: Mapping[str, Mapping[str, Part]]
    faces: Mapping[str, Sequence[Mapping[str, Any]]]
    listing: Listing
    failed: Mapping[str, str] = field(default_factory=dict)
    run: Mapping[str, Any] = field(default_factory=dict)
    extracts: Sequence[Mapping[str, Any]] = ()
    dataset: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def tasks(self) -> list[Task]:
        """Tasks with predictions, in the order of ``emobeam.schemas.tasks.TASKS``."""
        return [task for name, task in TASKS.items() if self.parts.get(name)]


def gather(output: str, *, only: str = "") -> Gathered:
    """Looks through an output folder.

    Args:
        only: names of videos, separated by commas; all where empty.

    Raises:
        EmobeamError: it is no output folder, no table in it can be used, or ``only`` names no video of it.
    """
    output = output.rstrip("/") or output
    listing = _listing(output)
    parts: Mapping[str, Mapping[str, Part]] = listing.parts
    run = read_run(output) or {}
    features = _features(output, run)
    known = {video.id: video for video in _videos(output)}
    failed = _failed(listing, known)
    for video in {*listing.videos, *failed}:
        known.setdefault(video, VideoInfo(video))
    if only:
        chosen = _chosen(only, sorted(known))
        known = {video: info for video, info in known.items() if video in chosen}
        parts = {task: {v: part for v, part in tables.items() if v in chosen} for task, tables in parts.items()}
        failed = {video: reason for video, reason in failed.items() if video in chosen}
    faces: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in _table(storage.join(output, "faces.parquet")):
        faces[row["video"]].append(row)
    metrics = _json(storage.join(output, "metrics.json")).get("tasks", {})
    return Gathered(
        output,
        features,
        tuple(known[video] for video in sorted(known)),
        parts,
        faces,
        listing,
        failed,
        run,
        _extracts(features),
        _json(storage.join(features, "dataset.json")) if features else {},
        metrics if isinstance(metrics, dict) else {},
    )


def _listing(output: str) -> Listing:
    listing = list_parts(output)
    if listing.parts:
        return listing
    if listing.damaged:
        raise EmobeamError(f"{output}: no table of predictions can be used ({listing.damaged[0].reason})")
    if storage.exists(storage.join(output, "dataset.json")):
        raise EmobeamError(
            f"{output}: a feature cache, in which nothing is predicted; run emobeam predict {output} --output OUT "
            "and report on OUT"
        )
    if storage.exists(storage.join(output, "run.json")):
        raise EmobeamError(f"{output}: holds no predictions of any video; emobeam inspect {output} tells why")
    raise EmobeamError(f"{output}: not an output folder of emobeam annotate or emobeam predict (no predictions in it)")


def _failed(listing: Listing, known: Iterable[str]) -> dict[str, str]:
    """Why tables can't be used, by video; a damaged table tells no more of it than the digest in its name."""
    names = {part_name(video).removesuffix(".parquet"): video for video in known}
    return {names.get(video, video): reason for video, reason in listing.failed.items()}


def _features(output: str, run: Mapping[str, Any]) -> str:
    for place in (str(run.get("features") or ""), storage.join(output, "features")):
        try:
            if place and storage.exists(storage.join(place, "dataset.json")):
                return place
        except Exception:  # noqa: BLE001 - a store that needs other credentials; the page does without the cache
            continue
    return ""


def _videos(output: str) -> list[VideoInfo]:
    rows = _table(storage.join(output, "videos.parquet"))
    names = VideoInfo.__dataclass_fields__
    return [
        VideoInfo(row["video"], **{key: row[key] for key in names if row.get(key) is not None and key != "id"})
        for row in rows
    ]


def _extracts(features: str) -> list[dict[str, Any]]:
    if not features:
        return []
    folder = storage.join(features, "runs")
    records = (_json(storage.join(folder, f"{name}.json")) for name in sorted(storage.names(folder, ".json")))
    return [record for record in records if record]


def _json(uri: str) -> dict[str, Any]:
    if not storage.exists(uri):
        return {}
    data = storage.read_json(uri)
    return data if isinstance(data, dict) else {}


def _table(uri: str) -> list[dict[str, Any]]:
    if not storage.exists(uri):
        return []
    try:
        rows: list[dict[str, Any]] = read_parquet(uri).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise EmobeamError(f"{uri}: can't be read ({error}); run emobeam predict again") from error
    return rows


def _chosen(only: str, videos: Sequence[str]) -> set[str]:
    names = [name.strip() for name in only.split(",") if name.strip()]
    matches = match_names(names, videos)
    if matches.missing or not names:
        raise EmobeamError(f"--only: there is no video called {', '.join(matches.missing) or repr(only)}")
    return {video for video, _ in matches.found.values()}


def seconds_by_step(found: Gathered) -> dict[str, float]:
    """Wall time of all workers by step of stage 1, over all runs, and of stage 2 as a whole, in s."""
    steps: dict[str, float] = defaultdict(float)
    for record in found.extracts:
        for step, value in (record.get("seconds_by_step") or {}).items():
            steps[str(step)] += float(value)
    order = ["probe", "decode", "detect", "align", "embed", "write"]
    sorted_steps = sorted(steps, key=lambda step: (order.index(step) if step in order else len(order), step))
    times = {step: steps[step] for step in sorted_steps}
    if isinstance(found.run.get("seconds"), int | float):
        times["predict"] = float(found.run["seconds"])
    return times


def warnings_of(found: Gathered) -> tuple[list[str], list[str]]:
    """What is untrained (its numbers mean nothing), and all other warnings of the run."""
    untrained = []
    backbone = found.run.get("backbone") or (found.dataset.get("models") or {}).get("backbone") or {}
    if backbone.get("weights") == "untrained":
        untrained.append("backbone")
    heads: Mapping[str, Any] = found.run.get("heads") or {}
    for task, entries in sorted(heads.items()):
        if any(entry.get("weights") == "untrained" for entry in entries):
            untrained.append(f"head of task {task}")
    scores = (figures for figures in found.metrics.values() if isinstance(figures, Mapping))
    told = [text for record in (found.run, *found.extracts[-1:], *scores) for text in record.get("warnings") or []]
    others = [text for text in dict.fromkeys(map(str, told)) if not text.endswith(": untrained")]
    for task, entries in sorted(heads.items()):
        for entry in entries:
            text = f"{entry.get('name')} {entry.get('weights')}".lower()
            if "experimental" in text and not any("experimental" in other and task in other for other in others):
                others.append(f"task {task}: the head {entry.get('name')} is experimental")
    others += [text for task, own in found.parts.items() for text in marks_of_parts(task, own.values()).notes(task)]
    return untrained, others
