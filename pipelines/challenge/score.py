"""The job ``score``: labels and predictions -> the challenge's figure, on the screen and in ``metrics.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.abaw.labels.unlabelled_rows import unlabelled_text
from emobeam.emo_transforms.abaw.scoring.fitted_videos import FittedVideos, fitted_by
from emobeam.emo_transforms.abaw.scoring.scores import score
from emobeam.emo_transforms.networks.heads.config import HeadConfig, config_from_json
from emobeam.pipelines.console import Terminal, Ui
from emobeam.schemas.post_config import PostConfig, post_from_json
from emobeam.schemas.records import EmobeamError, UsageError
from emobeam.schemas.tasks import Task, task_named
from emobeam.schemas.wording import counted

METRICS_VERSION = 1
"""Version of the layout of ``metrics.json``: ``{"schema_version", "tasks": {task: figures}}``."""

MAIN_EDITION = 8


def run_score(
    task: Task,
    truth: str,
    predictions: Sequence[str],
    *,
    ui: Ui,
    edition: int = 0,
    partition: str = "",
    post: str = "",
    gate: str = "",
    head: str = "",
    fitted: FittedVideos | None = None,
    thresholds: Sequence[float] = (),
    output: str = "",
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Scores predictions and writes the figures; see :func:`emobeam.emo_transforms.abaw.scoring.scores.score`.

    Args:
        ui: told of what makes the figure mean less than it seems to.
        edition: ABAW edition; 0 is 8 where that has the task, else the latest.
        post: JSON file of ``emobeam tune``.
        head: folder of the head that made the predictions, for its thresholds and the videos it was fitted on; without
            it the latter are those of the heads that ``run.json`` names.
        fitted: the same, where the caller has the heads.
        output: folder for ``metrics.json``, where figures of other tasks are kept. Default: the output of
            ``emobeam predict`` if that is what ``predictions`` names, else nothing is written.

    Raises:
        EmobeamError, UsageError: see there.
    """
    known = read_description(head, task, "--head") if head else None
    told: list[str] = []

    def warn(text: str) -> None:
        told.append(text)
        ui.warn(text)

    result = score(
        task,
        edition_of(task, edition),
        truth,
        predictions,
        warn=warn,
        partition=partition,
        post=read_post(post) if post else None,
        gate=gate,
        thresholds=thresholds or (known.thresholds if known else ()),
        fitted=fitted_by([known]) if known else fitted,
        resamples=resamples,
        seed=seed,
    )
    data = {**result.data, "warnings": told}
    destination = output or _own_output(predictions)
    if destination:
        write_metrics(destination, task.name, data)
    return data


def read_description(head: str, task: Task, option: str) -> HeadConfig:
    """The description of a head of a task; raises :class:`UsageError` where it is none, or another task's."""
    uri = storage.join(head, "head.json")
    if not storage.exists(uri):
        raise UsageError(f"{option}: there is no {uri}")
    known = config_from_json(storage.read_bytes(uri))
    if known.task != task.name:
        raise UsageError(f"{option} {head}: made for task {known.task}, not {task.name}")
    return known


def edition_of(task: Task, edition: int) -> int:
    """The edition asked for, else 8 where it has the task, else the latest; :class:`UsageError` where there is none."""
    if not edition:
        return MAIN_EDITION if MAIN_EDITION in task.editions else max(task.editions)
    task.forms_of(edition)
    return edition


def read_post(uri: str) -> PostConfig:
    """Reads a file of ``emobeam tune``; raises :class:`EmobeamError` naming it where it is no such file."""
    if not storage.exists(uri):
        raise EmobeamError(f"{uri}: no such file; write one with emobeam tune")
    try:
        return post_from_json(storage.read_json(uri))
    except EmobeamError as error:
        text = str(error)
        raise EmobeamError(text if text.startswith(uri) else f"{uri}: {text}") from error


def write_metrics(output: str, task: str, figures: Mapping[str, Any]) -> str:
    """Puts a task's figures into ``metrics.json`` beside those of other tasks; returns where that is."""
    uri = storage.join(output, "metrics.json")
    tasks: dict[str, Any] = {}
    if storage.exists(uri):
        held = storage.read_json(uri)
        if not isinstance(held, dict) or held.get("schema_version") != METRICS_VERSION:
            raise EmobeamError(f"{uri}: not a metrics.json of this version; remove it and score again")
        tasks = held["tasks"]
    storage.write_record(uri, {"schema_version": METRICS_VERSION, "tasks": tasks | {task: dict(figures)}})
    return uri


def _own_output(predictions: Sequence[str]) -> str:
    first = predictions[0]
    return first if len(predictions) == 1 and storage.exists(storage.join(first, "predictions")) else ""


def print_score(data: Mapping[str, Any], console: Console | None = None, *, per_video: bool = False) -> None:
    """Prints figures for people.

    Args:
        data: what :func:`run_score` returned.
        per_video: list all videos, the worst first.
    """
    console = console or Terminal(markup=True, highlight=True)
    interval, units = data["interval"], data["units"]
    spread = f"  [{interval['low']:.4f}, {interval['high']:.4f}]" if interval else ""
    console.print(f"[bold]{data['task']}[/bold], ABAW{data['edition']}: {data['measure']}")
    console.print(f"[bold]{data['score']:.4f}[/bold]{spread}", highlight=False)
    if interval:
        console.print(f"  95 % bootstrap over {units['count']} {units['of']}, {interval['resamples']} resamples")
    for text in of_what(data):
        console.print(f"  {text}", style="red" if "no evidence" in text else None, highlight=False, markup=False)
    if data.get("unknown"):
        text = f"{', '.join(data['unknown'])}: no values (unknown to the head), counted as neutral"
        console.print(text, highlight=False)
    console.print(_outputs_table(data))
    _print_rows(data, console)
    if per_video:
        console.print(_videos_table(data))
    console.print(_published_table(data))


def of_what(data: Mapping[str, Any]) -> list[str]:
    """Which labels a figure is of, and whether the heads have seen them: a few words each."""
    told = [f"labels: partition {' and '.join(filter(None, data['partitions'])) or 'not known'}"]
    for key, verb in (("tuned_on_this_data", "tuned"), ("trained_on_this_data", "trained")):
        if data.get(key):
            told.append(
                f"{verb} on this data: {data[key]['videos']} of the labelled videos; this figure is no evidence"
            )
    told += [f"trained or tuned on this data? not known: {why}" for why in data["fitted"]["unknown"]]
    return told if len(told) > 1 else [*told, "not trained or tuned on this data"]


def _outputs_table(data: Mapping[str, Any]) -> Table:
    columns = {"all valid rows": data["all_valid_rows"], "rows with a face": data["valid_rows_with_face"]}
    columns["at thresholds"] = data["at_thresholds"]
    shown = {title: figures for title, figures in columns.items() if figures}
    table = Table("output", *shown)
    for name, group in data["all_valid_rows"]["groups"].items():
        for output in group["outputs"]:
            table.add_row(output, *(_text(f["groups"][name]["outputs"][output]) for f in shown.values()))
        table.add_row(f"[bold]{name}[/bold]", *(_text(f["groups"][name]["score"]) for f in shown.values()))
        table.add_row("  rows", *(str(f["groups"][name]["rows"]) for f in shown.values()), end_section=True)
    if "average_precision" in data["all_valid_rows"]:
        table.add_row("average precision", *(_text(f.get("average_precision")) for f in shown.values()))
    return table


def _print_rows(data: Mapping[str, Any], console: Console) -> None:
    rows, videos = data["rows"], data["videos"]
    console.print(
        f"{counted(rows['valid'], 'valid row')} of {rows['truth']:,}: {rows['own']} with a prediction of their own, "
        f"{rows['interpolated']} interpolated, {rows['nearest']} from the nearest frame, {rows['neutral']} neutral",
        highlight=False,
    )
    dropped = unlabelled_text(task_named(data["task"]), data["unlabelled"], rows["truth"])
    if dropped:
        console.print(f"  not counted: {dropped}", highlight=False)
    for kind, counts in (("row", rows), ("video", videos)):
        for what, text in (("missing", "labelled, not predicted"), ("surplus", "predicted, not labelled")):
            if counts[what]:
                named = escape(", ".join(counts.get(f"{what}_first", [])))
                console.print(
                    f"  {counted(counts[what], kind)} {text}" + (f": {named}" if named else ""), highlight=False
                )


def _videos_table(data: Mapping[str, Any]) -> Table:
    table = Table("video", "valid rows", "own", data["task"])
    for row in sorted(data["per_video"], key=lambda row: (row["score"] is None, row["score"] or 0.0)):
        table.add_row(escape(row["video"]), str(row["valid"]), str(row["own"]), _text(row["score"]))
    return table


def _published_table(data: Mapping[str, Any]) -> Table:
    table = Table("published", "", "ABAW", "on", "score", "source")
    for entry in data["published"]:
        source = entry["source"] + (f" ({entry['note']})" if entry["note"] else "")
        edition = str(entry["edition"])
        table.add_row(entry["role"], entry["system"], edition, entry["split"], _text(entry["score"]), source)
    return table


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
