"""The job ``inspect`` on annotations: what the data sets' papers tabulate, for people and programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from emobeam.emo_transforms.abaw.labels.label_statistics import label_statistics, labelled_tasks
from emobeam.emo_transforms.abaw.labels.unlabelled_rows import where_marked
from emobeam.pipelines.console import Terminal
from emobeam.pipelines.inspect.problems import Problem
from emobeam.schemas.records import EmobeamError
from emobeam.schemas.tasks import TASKS, OutputGroup, task_named

_BARS = " ▁▂▃▄▅▆▇█"


def describe_labels(uri: str, task: str = "") -> dict[str, Any]:
    """Describes annotations as plain JSON data.

    Args:
        uri: an annotation root, a task's folder, a partition's folder, or a file.
        task: whose annotations; empty: of all tasks that are found there.

    Returns:
        ``kind`` (``labels``), ``path``, ``problems``, and in ``tasks`` by name the partitions of each, see
        :func:`emobeam.emo_transforms.abaw.labels.label_statistics.label_statistics`.

    Raises:
        EmobeamError: there are no annotations, or they can't be read.
        UsageError: no such task.
    """
    found = [task_named(task)] if task else labelled_tasks(uri)
    if not found:
        raise EmobeamError(f"{uri}: no annotations of {', '.join(TASKS)} found; name the folder or file, and --task")
    lacking: list[str] = []
    tasks = {entry.name: label_statistics(uri, entry, warn=lacking.append) for entry in found}
    problems = [Problem("warning", "missing", text).to_json() for text in dict.fromkeys(lacking)]
    return {"kind": "labels", "path": uri, "tasks": tasks, "problems": problems}


def print_labels(description: dict[str, Any]) -> None:
    """Prints a description of :func:`describe_labels` as tables on standard output."""
    console = Terminal()
    console.width = max(console.width, 130)  # counts and histograms don't wrap well
    for name, parts in description["tasks"].items():
        columns = {part or "all": statistics for part, statistics in parts.items()}
        console.print(f"{name}: {task_named(name).title}, {description['path']}")
        table = Table(box=None, pad_edge=False)
        table.add_column("")
        for part in columns:
            table.add_column(part, justify="right", no_wrap=True)
        for key in ("videos", "subjects", "samples"):
            table.add_row(key, *(_count(entry[key]) for entry in columns.values()))
        table.add_row("hours", *(_hours(entry) for entry in columns.values()))
        for group in task_named(name).groups:
            blocks = [entry["groups"][group.name] for entry in columns.values()]
            table.add_row(f"valid {group.name}", *(_count(block["valid"]) for block in blocks))
            _dropped(table, group, [block["unlabelled"] for block in blocks])
            for output in group.outputs:
                table.add_row(f"  {output}", *(_output(block, output) for block in blocks))
        console.print(table)
        console.print()
    for problem in description["problems"]:
        console.print(f"{problem['level']}: {problem['what']}")


def _dropped(table: Table, group: OutputGroup, blocks: Sequence[Mapping[str, Any]]) -> None:
    """How many rows of each partition don't count, and which outputs hold the marker that says so."""
    if not any(block["rows"] for block in blocks):
        return
    every = len(group.label_columns)
    table.add_row(f"left out {group.name}", *(_count(block["rows"]) for block in blocks))
    if all(where_marked(block["columns"], block["rows"], every) in ("", "all outputs") for block in blocks):
        table.add_row(f"  {group.invalid:g} in all outputs", *(_count(block["rows"]) for block in blocks))
        return
    for column in group.label_columns:
        if any(column in block["columns"] for block in blocks):
            table.add_row(
                f"  {group.invalid:g} in {column}", *(_count(block["columns"].get(column, 0)) for block in blocks)
            )


def _output(block: dict[str, Any], output: str) -> str:
    """What one partition has of one output: a count with its share, or the mean and a small histogram."""
    for key in ("active", "counts"):
        if key in block:
            count = block[key][output]
            return f"{_count(count)} {100 * count / max(block['valid'], 1):5.1f} %"
    if not block["valid"]:
        return "-"
    return f"{block['mean'][output]:.3f} ± {block['std'][output]:.3f} {_bars(block['histogram'][output])}"


def _bars(counts: list[int]) -> str:
    highest = max(*counts, 1)
    return "".join(_BARS[-(-count * (len(_BARS) - 1) // highest)] for count in counts)


def _hours(entry: dict[str, Any]) -> str:
    if entry["hours"] is not None:
        return f"{entry['hours']:.2f}"
    return f"{entry['hours_known']:.2f} and unknown" if entry["hours_known"] else "unknown"


def _count(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"
