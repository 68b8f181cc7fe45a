"""A folder that Hugging Face ``datasets`` loads: Parquet files, and a data card that says what they are.

``datasets.load_dataset(FOLDER, "frames")`` reads it as it lies, offline; the same folder can be pushed to a hub.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from emobeam.emo_transforms.networks.heads.output_quality import Marks
from emobeam.schemas.task_form import Task

_ROWS_PER_FILE = 2_000_000

_TYPES = {pa.string(): "string", pa.int16(): "int16", pa.int32(): "int32", pa.float32(): "float32"}
_TYPES[pa.float64()] = "float64"

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


@dataclass(frozen=True)
class Configuration:
    """One table of the data set.

    Attributes:
        name: ``frames`` or ``clips``.
        schema: of its Parquet files.
        rows: how many there are.
        bytes: size of its files.
    """

    name: str
    schema: pa.Schema
    rows: int
    bytes: int


def write_configuration(
    folder: Path,
    name: str,
    schema: pa.Schema,
    tables: Iterable[pa.Table],
    *,
    split: str,
    rows_per_file: int = _ROWS_PER_FILE,
) -> Configuration:
    """Writes ``data/<name>/<split>-00000.parquet`` and so on; a new file begins before a table that would overfill one.

    Args:
        tables: all of ``schema``, one video's at a time.
    """
    place = folder / "data" / name
    place.mkdir(parents=True)
    writer: pq.ParquetWriter | None = None
    rows = files = in_file = 0
    try:
        for table in tables:
            if writer is None or (in_file and in_file + len(table) > rows_per_file):
                if writer is not None:
                    writer.close()
                writer = pq.ParquetWriter(place / f"{split}-{files:05d}.parquet", schema, compression="zstd")
                files, in_file = files + 1, 0
            writer.write_table(table)
            rows, in_file = rows + len(table), in_file + len(table)
        if writer is None:
            writer = pq.ParquetWriter(place / f"{split}-{files:05d}.parquet", schema, compression="zstd")
    finally:
        if writer is not None:
            writer.close()
    return Configuration(name, schema, rows, sum(path.stat().st_size for path in place.iterdir()))


@dataclass(frozen=True)
class CardFacts:
    """What the data card tells of how the data came about.

    Attributes:
        title: of the data set.
        tasks: whose outputs it holds.
        videos: how many.
        rate: ``sampled`` or ``native``.
        split: name of the only split.
        run: ``run.json`` of the predictions.
        extraction: ``config`` of ``dataset.json`` of the cache; empty where it isn't at hand.
        thresholds: by task, of its yes-or-no outputs.
        warnings: what the tables and their runs have to warn of.
        marks: by task, outputs that are unknown to the heads, or experimental.
    """

    title: str
    tasks: Sequence[Task]
    videos: int
    rate: str
    split: str
    run: Mapping[str, Any]
    extraction: Mapping[str, Any]
    thresholds: Mapping[str, Mapping[str, float]]
    warnings: Sequence[str] = ()
    marks: Mapping[str, Marks] = field(default_factory=dict)


def data_card(configurations: Sequence[Configuration], facts: CardFacts) -> str:
    """The text of ``README.md``: YAML for programs, then prose for people."""
    front = {
        "license": "unknown",
        "pretty_name": facts.title,
        "tags": ["affective-computing", "facial-expressions", "machine-generated", "emobeam"],
        "annotations_creators": ["machine-generated"],
        "size_categories": [_size_category(sum(each.rows for each in configurations))],
        "configs": [
            {
                "config_name": each.name,
                "data_files": [{"split": facts.split, "path": f"data/{each.name}/{facts.split}-*.parquet"}],
                **({"default": True} if index == 0 else {}),
            }
            for index, each in enumerate(configurations)
        ],
        "dataset_info": [_info(each, facts.split) for each in configurations],
    }
    text = yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=120)
    return f"---\n{text}---\n\n{_prose(configurations, facts)}"


def _info(configuration: Configuration, split: str) -> dict[str, Any]:
    features = [{"name": field.name, "dtype": _TYPES[field.type]} for field in configuration.schema]
    return {
        "config_name": configuration.name,
        "features": features,
        "splits": [{"name": split, "num_bytes": configuration.bytes, "num_examples": configuration.rows}],
        "download_size": configuration.bytes,
        "dataset_size": configuration.bytes,
    }


def _size_category(rows: int) -> str:
    return next((name for limit, name in _SIZES if rows < limit), "n>1M")


def _prose(configurations: Sequence[Configuration], facts: CardFacts) -> str:
    run = facts.run
    untrained = [text for text in facts.warnings if "untrained" in text]
    backbone = run.get("backbone", {})
    if backbone.get("weights") == "untrained":
        untrained.append("backbone: untrained")
    parts = [f"# {facts.title}", ""]
    if untrained:
        parts += [
            (
                f"> **Untrained networks made these values: {'; '.join(dict.fromkeys(untrained))}.** The numbers mean "
                "nothing. They show the form of the data and serve no other purpose."
            ),
            "",
        ]
    parts += [
        (
            f"Estimates of facial affect in {facts.videos} videos, made by programs, not by people. No pictures are "
            "included; the videos have their own owners and terms."
        ),
        "",
        "## What is in it",
        "",
        *_contents(configurations, facts),
        "## How it was made",
        "",
        *_making(facts),
        "## Limits",
        "",
        *_LIMITS,
        "## Licence",
        "",
        (
            "Not decided: `unknown` stands in the metadata until whoever publishes this data sets a licence. It "
            "depends on the terms of the videos, on the consent of the people in them, and on the terms of the weights "
            "named above, some of which forbid commercial use."
        ),
        "",
    ]
    return "\n".join(parts)


def _contents(configurations: Sequence[Configuration], facts: CardFacts) -> list[str]:
    lines = ["```python", "from datasets import load_dataset", ""]
    lines += [f'{each.name} = load_dataset("PATH", "{each.name}", split="{facts.split}")' for each in configurations]
    lines += ["```", ""]
    for each in configurations:
        what = "a row per face and frame" if each.name == "frames" else "a row per video and subject"
        lines.append(f"- `{each.name}`: {each.rows} rows, {what}.")
    lines += ["", "| column | meaning |", "|---|---|", "| `video` | id: path below the collection, without extension |"]
    lines.append("| `subject` | who in the video was asked for, where names or a table said; else empty |")
    if any(each.name == "frames" for each in configurations):
        rows = (
            "frames in which the face was looked at"
            if facts.rate == "sampled"
            else "every native frame, with what lies between the frames looked at"
        )
        lines += [
            "| `face` | 0 is the main face of the video |",
            f"| `frame` | native frame, from 1 by presentation time; here: {rows} |",
            "| `time` | s from the first frame; null where unknown |",
            (
                "| `<task>_source` | `sampled`: a face seen in this very frame; `interpolated` between two; `nearest` "
                "to one; `absent`: nothing seen, values are null |"
            ),
        ]
    lines += [f"| {', '.join(f'`{name}`' for name in task.outputs)} | {_meaning(task)} |" for task in facts.tasks]
    for name, limits in facts.thresholds.items():
        if limits:
            texts = ", ".join(f"{output} {limit:g}" for output, limit in limits.items())
            lines += ["", f"Thresholds of `{name}` above which an output counts as present: {texts}."]
    for task, marks in facts.marks.items():
        lines += [line for text in marks.notes(task) for line in ("", f"{text[0].upper()}{text[1:]}.")]
    return [*lines, ""]


def _meaning(task: Task) -> str:
    texts = []
    for group in task.groups:
        if group.kind == "value":
            texts.append(f"estimates from {group.low:g} to {group.high:g}")
        elif group.kind == "class":
            texts.append("probabilities of classes, which add up to 1")
        else:
            texts.append("estimates of presence or activation, no intensities")
    return f"`{task.name}`, {task.title}: {'; '.join(texts)}"


def _making(facts: CardFacts) -> list[str]:
    run, extraction = facts.run, facts.extraction
    lines = [f"By emobeam {run.get('versions', {}).get('emobeam', '')}".rstrip()]
    lines[0] += f", run `{run.get('run', 'unknown')}`:"
    lines.append("")
    if extraction:
        sampling, detector = extraction["sampling"], extraction["detector"]
        rate = f"at {sampling['fps']:g} frames per second" if sampling["fps"] else "in every frame"
        lines.append(
            f"- faces: {detector['name']} ({detector['mode']}) {rate}, kept above a score of {detector['keep']:g}"
        )
    backbone = run.get("backbone", {})
    if backbone:
        lines.append(
            f"- backbone: {backbone['name']}, weights {backbone['weights']} (sha256 `{backbone['sha256'][:16]}`)"
        )
    for task in facts.tasks:
        for head in run.get("heads", {}).get(task.name, ()):
            lines.append(
                f"- `{task.name}`: head {head['name']}, weights {head['weights']} (sha256 `{head['sha256'][:16]}`)"
            )
    identities = [f"{key} `{run[key]}`" for key in ("features_id", "cache_id") if key in run]
    if identities:
        lines.append(f"- identities: {', '.join(identities)}")
    versions = [f"{name} {version}" for name, version in sorted(run.get("versions", {}).items())]
    if versions:
        lines.append(f"- versions: {', '.join(versions)}")
    lines += [f"- warning: {text}" for text in dict.fromkeys(facts.warnings)]
    return [*lines, ""]


_LIMITS = [
    (
        "- Expressions are not feelings. An action unit, a class or a point of valence and arousal describes how a "
        "face looks to annotators of the training data, not what a person feels, thinks or intends."
    ),
    (
        "- Not for decisions about people: not for hiring, schooling, policing, credit, insurance, diagnosis or lie "
        "detection. In the European Union, systems that infer emotions at work and in education are prohibited but for "
        "medical and safety reasons (Regulation (EU) 2024/1689, article 5)."
    ),
    (
        "- Accuracy differs between people, ages, skin tones, light, pose and occlusion, and was not measured on these "
        "videos unless the run says so."
    ),
    "- Speech moves the lips: AU25 and AU26 while somebody speaks are no expression by themselves.",
    "- Values of neighbouring frames depend on each other (windows, interpolation): count videos or people instead.",
    "- Faces can identify people; ids of videos and traces of behaviour may, too.",
    "",
]
