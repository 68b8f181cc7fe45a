"""What a run of stage 2 left behind, and ``run.json``, which keeps it: weights, settings, counts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.abaw.submissions.writing import SubmissionReport
from emobeam.emo_transforms.cache.dataset import Dataset
from emobeam.emo_transforms.networks.heads.output_quality import Marks
from emobeam.emo_transforms.networks.shipped import told_weights
from emobeam.emo_transforms.prediction.predict_job import HeadSpec
from emobeam.emo_transforms.prediction.prediction_tables import read_run
from emobeam.emo_transforms.prediction.video_parts import PredictTools
from emobeam.pipelines.challenge.submit import submission_data
from emobeam.pipelines.run_origin import machine, new_run_id, versions
from emobeam.pipelines.stages.output_folder import Settled
from emobeam.pipelines.stages.predict_request import PredictRequest
from emobeam.runners.beam_metrics import RunMetrics
from emobeam.schemas.config import BackboneConfig, to_json
from emobeam.schemas.records import EmobeamError


@dataclass(frozen=True)
class PredictResult:
    """What a run left behind.

    Attributes:
        videos: rows of ``videos.parquet`` that the run is about.
        rows: of the predictions tables by task, those of earlier runs included.
        untrained: tasks whose values come from an untrained head.
        submissions: report by task.
        figures: what ``metrics.json`` says by task, where labels were given.
        failed: videos that could not be predicted, with the reason.
        notes: what is worth saying of the people in the videos, a line each.
        weights: what made the values: ``backbone``, and ``heads`` by task, each with name, weights and digest.
        marks: by task, outputs that are unknown to the heads, or experimental.
        refused: by task, why a submission that was asked for was not written.
    """

    videos: pa.Table
    rows: Mapping[str, int]
    untrained: tuple[str, ...]
    submissions: Mapping[str, SubmissionReport]
    figures: Mapping[str, Mapping[str, Any]]
    failed: Mapping[str, str]
    seconds: float
    notes: tuple[str, ...] = ()
    weights: Mapping[str, Any] = field(default_factory=dict)
    marks: Mapping[str, Marks] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def scores(self) -> dict[str, float | None]:
        """The challenge's figure by task."""
        return {task: data["score"] for task, data in self.figures.items()}

    @property
    def fine(self) -> bool:
        """Whether every video of the cache has tables, and every submission says something in most of its rows."""
        neutral = any(report.mostly_neutral for report in self.submissions.values())
        return not (self.failed or self.refused or neutral)

    @property
    def some_failed(self) -> bool:
        """Whether any input had failed or was damaged when the cache was made."""
        return bool({"failed", "partial"} & set(self.videos["outcome"].to_pylist()))


def write_record(
    request: PredictRequest,
    dataset: Dataset,
    specs: Sequence[HeadSpec],
    tools: PredictTools,
    result: PredictResult,
    settled: Settled,
    warnings: Sequence[str],
    metrics: RunMetrics,
) -> None:
    """Writes ``run.json``. What it says of other tasks (heads, submissions) stays in it as long as their files do.

    Outcomes, rows and subjects are those of all that the folder holds.
    """
    uri = storage.join(request.output, "run.json")
    backbone = dataset.config.backbone
    random = {untrained_warning(task): f"task {task}: untrained" for task in result.untrained}
    record = {
        "run": new_run_id(),
        "job": request.caller.job,
        "features": request.features,
        "features_id": dataset.config.features_id,
        "cache_id": dataset.config.cache_id,
        "backbone": weights_data(backbone),
        "heads": _earlier(request.output, "heads", "predictions", tools.heads) | _heads(specs, tools),
        "marks": {task: marks.to_json() for task, marks in result.marks.items() if marks},
        "config": to_json(request.config),
        "edition": request.edition or None,
        "warnings": [*(text for text in warnings if text not in random), *random.values()],
        "outcomes": dict(Counter(settled.videos["outcome"].to_pylist())),
        "not_predicted": dict(result.failed),
        "rows": dict(settled.rows),
        "subjects": sorted(
            {name for own in settled.listing.parts.values() for p in own.values() for name in p.subjects}
        ),
        "submissions": _earlier(request.output, "submissions", "submission", result.submissions)
        | {
            task: {**submission_data(report), "weights": _told(tools, task)}
            for task, report in result.submissions.items()
        },
        "scores": result.scores,
        "runner": request.engine.runner if request.engine else "direct",
        "machine": machine(),
        "versions": versions(),
        "seconds": round(result.seconds, 3),
        "counters": dict(sorted(metrics.counts.items())),
    }
    storage.write_record(uri, record)


def untrained_warning(task: str) -> str:
    """What people are told of a task whose head is random."""
    return f"task {task}: an untrained head (seeded, random) is used, and its values mean NOTHING"


def weights_data(backbone: BackboneConfig) -> dict[str, str]:
    """Which weights of a backbone made features, as plain JSON data."""
    return {"name": backbone.name, "weights": backbone.weights, "sha256": backbone.weights_sha256}


def heads_data(tools: PredictTools) -> dict[str, list[dict[str, str]]]:
    """The same of the heads, by task."""
    keys = ("name", "weights", "sha256")
    return {task: [dict(zip(keys, head, strict=True)) for head in tools.identity(task)] for task in tools.heads}


def _told(tools: PredictTools, task: str) -> list[str]:
    """Weights of the heads of a task, for people who find a submission and ask what made it."""
    return [told_weights(head["weights"], head["sha256"]) for head in heads_data(tools)[task]]


def _heads(specs: Sequence[HeadSpec], tools: PredictTools) -> dict[str, list[dict[str, Any]]]:
    uris: dict[str, list[str]] = defaultdict(list)
    for spec in specs:
        uris[spec.task].append(spec.uri)
    return {
        task: [
            {**known, "uri": uri, "thresholds": list(head.config.thresholds)}
            for known, uri, head in zip(told, uris[task], tools.heads[task], strict=True)
        ]
        for task, told in heads_data(tools).items()
    }


def _earlier(output: str, key: str, folder: str, now: Collection[str]) -> dict[str, Any]:
    """What an earlier record says by task, of tasks that are told anew, or still have files below a folder."""
    try:
        held = (read_run(output) or {}).get(key) or {}
    except EmobeamError:  # it is about to be written anew
        return {}
    return {
        task: entries
        for task, entries in held.items()
        if task in now or storage.sizes_below(storage.join(output, folder, task))
    }


def weights_line(data: Mapping[str, Any]) -> str:
    """What made the values, in a line.

    Args:
        data: ``backbone``, and ``heads`` by task, each with ``weights`` and ``sha256``.
    """
    backbone = data.get("backbone") or {"name": "none"}
    parts = [] if backbone["name"] == "none" else [f"backbone {backbone['name']}, {_named(backbone)}"]
    parts += [f"{task} {' and '.join(map(_named, heads))}" for task, heads in (data.get("heads") or {}).items()]
    return "; ".join(parts) or "none"


def _named(entry: Mapping[str, Any]) -> str:
    return told_weights(str(entry.get("weights") or "weights not known"), str(entry.get("sha256") or ""))
