"""The job ``inspect`` on people folders: who is in them, how many crops, how often each action unit is there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.table import Table

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.inputs.people_folders import clips_of, people_files, read_columns
from emobeam.pipelines.console import Terminal, duration_text, size_text
from emobeam.schemas.tasks import task_named
from emobeam.schemas.wording import counted

PRESENT = 0.3
"""Activation from which a unit counts as present, as in training."""


def describe_people(uri: str) -> dict[str, Any]:
    """Describes a people folder, or a folder above some, as plain JSON data.

    Returns:
        ``kind`` (``people``), ``path``; ``folders`` by name (``""`` where it is one itself), each with ``people``,
        ``clips``, ``pictures``, ``crops``, ``seconds`` of clips, ``rates`` (frames per second of the clips, each with
        their number), ``units`` (by name ``known`` crops and, where there are any, ``present``: the share of them with
        an activation of 0.3 at least, and ``mean``) and ``bytes``; ``problems``, empty.

    Raises:
        EmobeamError: no people, or a file that can't be read.
    """
    files: dict[str, list[str]] = defaultdict(list)
    for folder, file in people_files(uri):
        files[folder].append(file)
    folders = {folder: _folder(found) for folder, found in files.items()}
    return {"kind": "people", "path": uri, "folders": folders, "problems": []}


def _folder(files: list[str]) -> dict[str, Any]:
    units = task_named("au").outputs
    people: set[str] = set()
    clips = pictures = crops = 0
    seconds, rates = 0.0, defaultdict[str, int](int)
    known, present, total = (np.zeros(len(units)) for _ in range(3))
    for file in files:
        table = read_columns(file, ("person", "clip", "frame", "time", *units))
        values = np.stack([np.asarray(table[unit].to_numpy(), np.float64) for unit in units], axis=1)
        there = ~np.isnan(values)
        known += there.sum(axis=0)
        present += (values >= PRESENT).sum(axis=0)
        total += np.where(there, values, 0).sum(axis=0)
        crops += len(table)
        for clip in clips_of(table, file):
            people.add(clip.person)
            if clip.times is None:
                pictures += 1
                continue
            clips += 1
            if len(clip.times) > 1:
                step = float(np.median(np.diff(clip.times)))
                seconds += float(clip.times[-1] - clip.times[0]) + step
                rates[f"{1 / step:.3g}"] += 1
    return {
        "people": len(people),
        "clips": clips,
        "pictures": pictures,
        "crops": crops,
        "seconds": round(seconds, 3),
        "rates": dict(rates),
        "units": {
            unit: {"known": int(count)}
            | ({"present": round(yes / count, 4), "mean": round(sum_ / count, 4)} if count else {})
            for unit, count, yes, sum_ in zip(units, known.tolist(), present.tolist(), total.tolist(), strict=True)
        },
        "bytes": sum(storage.size(file) for file in files),
    }


def print_people(description: Mapping[str, Any]) -> None:
    """Prints a description of :func:`describe_people` as tables on standard output."""
    console = Terminal(soft_wrap=True)
    for folder, told in description["folders"].items():
        console.print(f"people folder {storage.join(description['path'], folder) if folder else description['path']}")
        clips = f"{counted(told['clips'], 'clip')} ({duration_text(told['seconds'])}"
        rates = " and ".join(f"{rate} frames/s" for rate in told["rates"])
        held = [clips + (f", {rates})" if rates else ")")] if told["clips"] else []
        held += [counted(told["pictures"], "single picture")] if told["pictures"] else []
        people = "1 person" if told["people"] == 1 else f"{told['people']:,} people"
        console.print(f"{people}, {', '.join(held)}, {counted(told['crops'], 'crop')}, {size_text(told['bytes'])}")
        table = Table(box=None, pad_edge=False)
        table.add_column("unit")
        for title in ("known", f"from {PRESENT:g}", "mean"):
            table.add_column(title, justify="right", no_wrap=True)
        for unit, entry in told["units"].items():
            if not entry["known"]:
                table.add_row(unit, "unknown", "-", "-")
                continue
            table.add_row(unit, f"{entry['known']:,}", f"{100 * entry['present']:.1f} %", f"{entry['mean']:.3f}")
        console.print(table)
        console.print()
