"""What is said at the end of a run: read by a person in five seconds, or by a program as JSON."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.networks.shipped import shipped
from emobeam.pipelines.challenge.score import of_what
from emobeam.pipelines.challenge.submit import rows_text
from emobeam.pipelines.console import command, duration_text
from emobeam.pipelines.printing import echo
from emobeam.pipelines.stages.annotate import AnnotateResult
from emobeam.pipelines.stages.extract import ExtractResult
from emobeam.pipelines.stages.run_record import PredictResult, weights_data, weights_line
from emobeam.schemas.config import NO_BACKBONE, BackboneConfig
from emobeam.schemas.wording import counted

_NAMED = 5


def extract_summary(result: ExtractResult, features: str) -> dict[str, Any]:
    """The summary of stage 1 as plain data."""
    return {
        "videos": _outcomes(result.videos),
        "not_ok": _not_ok(result.videos),
        "frames": _total(result.videos, "sampled"),
        "faces": _total(result.videos, "rows") // (1 + result.views),
        "seconds": round(result.seconds, 1),
        "features": features,
        "record": storage.join(features, "runs", f"{result.run_id}.json") if result.run_id else "",
        "untrained": ["backbone"] if result.untrained else [],
        "weights": {"backbone": weights_data(result.backbone)},
        "seconds_of_video": _seconds(result.videos),
        "next": _next(result.videos, features, _after_extract(result.backbone, features)),
    }


def predict_summary(result: PredictResult, output: str) -> dict[str, Any]:
    """The summary of stage 2 as plain data."""
    return {
        "videos": _outcomes(result.videos),
        "not_ok": _not_ok(result.videos)
        + [{"video": video, "outcome": "not predicted", "message": text} for video, text in result.failed.items()],
        "rows": dict(result.rows),
        "seconds": round(result.seconds, 1),
        "predictions": {task: storage.join(output, "predictions", task) for task in result.rows},
        "submissions": {task: report.destination for task, report in result.submissions.items()},
        "submission_rows": {
            task: {key: getattr(report, key) for key in ("rows", "exact", "nearest", "neutral")}
            for task, report in result.submissions.items()
        },
        "not_submitted": dict(result.refused),
        "scores": result.scores,
        "scored": {task: of_what(data) for task, data in result.figures.items()},
        "record": storage.join(output, "run.json"),
        "untrained": [f"head of task {task}" for task in result.untrained],
        "weights": dict(result.weights),
        "marks": {task: marks.to_json() for task, marks in result.marks.items() if marks},
        "notes": [*result.notes, *(text for task, marks in result.marks.items() for text in marks.notes(task))],
        "seconds_of_video": _seconds(result.videos),
        "next": _next(result.videos, output, command("report", output), bool(result.failed)),
    }


def annotate_summary(result: AnnotateResult, output: str, features: str) -> dict[str, Any]:
    """The summary of both stages as plain data."""
    first, second = extract_summary(result.extract, features), predict_summary(result.predict, output)
    return {
        **first,
        **second,
        "seconds": round(result.extract.seconds + result.predict.seconds, 1),
        "untrained": first["untrained"] + second["untrained"],
    }


def show(summary: dict[str, Any], *, as_json: bool, quiet: bool) -> None:
    """Prints a summary on standard output."""
    if as_json:
        echo(json.dumps(summary, indent=2, ensure_ascii=False))
    elif not quiet:
        echo("\n".join(_lines(summary)))


def _lines(summary: dict[str, Any]) -> list[str]:
    counts = ", ".join(f"{count} {outcome}" for outcome, count in summary["videos"].items()) or "no videos"
    head = f"{counts} ({duration_text(summary['seconds_of_video'])} of video) in {duration_text(summary['seconds'])}"
    if "frames" in summary:
        head += f"; {counted(summary['frames'], 'frame')} looked at, {counted(summary['faces'], 'face')}"
    lines = [head]
    damaged = [entry for entry in summary["not_ok"] if entry["outcome"] != "no_face"]
    for entry in damaged[:_NAMED]:
        lines.append(f"  {entry['outcome']}: {entry['video']}" + (f" ({entry['message']})" if entry["message"] else ""))
    if len(damaged) > _NAMED:
        lines.append(f"  ... and {len(damaged) - _NAMED} more; all are in videos.parquet")
    lines += summary.get("notes", [])
    for task, folder in summary.get("predictions", {}).items():
        lines.append(f"predictions {task}: {folder} ({counted(summary['rows'][task], 'row')})")
    for task, destination in summary.get("submissions", {}).items():
        lines.append(f"submission {task}: {destination}, {rows_text(**summary['submission_rows'][task])}")
    for task, value in summary.get("scores", {}).items():
        lines.append(f"score {task}: {'undefined' if value is None else f'{value:.4f}'} (metrics.json has it in full)")
        lines += [f"  {text}" for text in summary["scored"][task]]
    if "features" in summary:
        lines.append(f"features: {summary['features']}")
    lines.append(f"weights: {weights_line(summary['weights'])}")
    if summary["record"]:
        lines.append(f"record of the run: {summary['record']}")
    if summary["untrained"]:
        lines.append(f"UNTRAINED: {', '.join(summary['untrained'])}; these values mean nothing")
        lines += [f"  {line}" for line in _remedies(summary)]
    lines += [f"{why}: {line}" for why, line in summary["next"].items()]
    return lines


_PUBLISHED = "enet_b0_8_va_mtl"
_GIVES = ("va", "expr")
"""A published backbone, and the tasks that its own scores answer without a head."""


def _remedies(summary: dict[str, Any]) -> list[str]:
    """How values come about that mean something."""
    tasks = [text.rpartition(" ")[2] for text in summary["untrained"] if text != "backbone"]
    lines = []
    if "backbone" in summary["untrained"]:
        lines.append(f"backbone: leave --backbone and --backbone-weights out for {shipped().name}, or name weights")
    if mine := [task for task in tasks if task in shipped().heads]:
        lines.append(f"{', '.join(mine)}: leave --head out for {shipped().name}, which comes with emobeam")
    if given := [task for task in tasks if task in _GIVES]:
        fetch = command("models", "fetch", _PUBLISHED, "--accept-licence")
        lines.append(f"{', '.join(given)}: {fetch}, then --backbone-weights {_PUBLISHED}; emobeam models lists others")
    if tasks:
        lines.append(f"{', '.join(tasks)}: or train a head of your own (emobeam train) and name it with --head")
    return lines


def _after_extract(backbone: BackboneConfig, features: str) -> str:
    """What goes on with a cache: a backbone first, where it holds crops alone."""
    if backbone.name == NO_BACKBONE.name:
        return command("extract", features, "--output", "FEATURES")
    return command("predict", features, "--output", "OUT")


def _next(videos: pa.Table, place: str, line: str, failed: bool = False) -> dict[str, str]:
    """What to do now: the next command by what it is for."""
    outcomes = set(videos["outcome"].to_pylist())
    found = {}
    if failed or outcomes & {"failed", "partial"}:
        found["what can be mended"] = command("inspect", place)
    if outcomes & {"ok", "partial", "no_face"}:
        found["look at it" if " report " in line else "next"] = line
    return found


def _seconds(videos: pa.Table) -> float:
    return round(sum(value or 0.0 for value in videos["duration"].to_pylist()), 3)


def _outcomes(videos: pa.Table) -> dict[str, int]:
    counts = dict.fromkeys(("ok", "no_face", "partial", "failed"), 0)
    for outcome in videos["outcome"].to_pylist():
        counts[outcome] += 1
    return {outcome: count for outcome, count in counts.items() if count}


def _not_ok(videos: pa.Table) -> list[dict[str, Any]]:
    order = {"failed": 0, "partial": 1, "no_face": 2}
    rows = [row for row in videos.to_pylist() if row["outcome"] in order]
    rows.sort(key=lambda row: (order[row["outcome"]], row["video"]))
    return [{key: row[key] for key in ("video", "outcome", "stage", "reason", "message")} for row in rows]


def _total(videos: pa.Table, column: str) -> int:
    return sum(videos[column].to_pylist())
