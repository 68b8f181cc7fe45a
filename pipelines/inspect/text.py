"""A description of ``inspect`` for people, on standard output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from emobeam.emo_transforms.networks.shipped import told_weights
from emobeam.pipelines.console import Terminal, duration_text, size_text
from emobeam.pipelines.inspect.labels import print_labels
from emobeam.pipelines.inspect.people import print_people
from emobeam.schemas.wording import counted

_WIDTH = 16
_NAMED = 10


def print_description(description: Mapping[str, Any]) -> None:
    """Prints a description of :func:`emobeam.pipelines.inspect.describe.describe` as tables, the problems last."""
    if description["kind"] == "labels":
        print_labels(dict(description))
        return
    if description["kind"] == "people":
        print_people(description)
        return
    console = Terminal(soft_wrap=True)
    facts = {"features": _cache_facts, "output": _output_facts, "head": _head_facts}[description["kind"]]
    for key, value in facts(description):
        if value not in ("", None):
            console.print(f"{key:<{_WIDTH}}{value}")
    for task, found in description.get("tasks", {}).items():
        _print_task(console, task, found)
    _print_not_ok(console, description.get("not_ok", []))
    _print_problems(console, description["problems"])


def _cache_facts(told: Mapping[str, Any]) -> list[tuple[str, Any]]:
    config, backbone = told["config"], told["config"]["backbone"]
    sampling, align, detector = config["sampling"], config["align"], config["detector"]
    last = told["runs"][-1] if told["runs"] else {}
    return [
        ("feature cache", told["path"]),
        *_counts(told),
        ("segments", f"{told['segments']} of {sampling['segment_seconds']:g} s"),
        ("faces", f"{told['faces']}" + (f", each in {told['views']} augmented views too" if told["views"] else "")),
        ("clipped values", told["clipped_values"] or ""),
        ("backbone", _backbone(backbone)),
        ("features id", told["features_id"]),
        ("cache id", f"{told['cache_id']}, schema {told['schema_version']}"),
        ("maps", ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in told["map_shapes"].items())),
        ("embedding", told["embedding"] or ""),
        ("scores", f"{told['scores']} {_text(told['score_names'])}" if told["scores"] else ""),
        ("crops", "stored" if "crops" in config["store"] else ""),
        (
            "looked at",
            f"{config['source']}, {_rate(sampling['fps'])}, {config['decoder']['name']}, {detector['name']} "
            f"{detector['mode']} from {detector['min_face']} px, {align['style']} crops"
            if config["source"] == "video"
            else f"{config['source']}, {_rate(sampling['fps'])}, {align['style']} crops",
        ),
        ("engine", f"{config['engine']} on {config['device']}"),
        _bytes(told),
        ("runs", len(told["runs"])),
        ("last run", _run(last)),
    ]


def _backbone(backbone: Mapping[str, Any]) -> str:
    weights = told_weights(backbone["weights"], backbone["weights_sha256"])
    return f"{backbone['name']}, weights {weights}, input {backbone['input_size']} px"


def _output_facts(told: Mapping[str, Any]) -> list[tuple[str, Any]]:
    backbone = told.get("backbone") or {}
    faces = ", ".join(f"{videos} with {count}" for count, videos in told["faces_per_video"].items())
    heads = [
        f"{task}: {', '.join(head['name'] + _weights(head) for head in each)}"
        for task, each in (told.get("heads") or {}).items()
    ]
    scores = ", ".join(
        f"{task} {'undefined' if value is None else f'{value:.4f}'}"
        for task, value in (told.get("scores") or {}).items()
    )
    return [
        ("output", told["path"]),
        *_counts(told),
        ("face stretches", f"{told['face_stretches']}" + (f"; videos by faces: {faces}" if faces else "")),
        ("features", f"{told.get('features')}, id {told.get('features_id')}"),
        ("backbone", f"{backbone.get('name', 'not known')}{_weights(backbone)}"),
        ("heads", "; ".join(heads)),
        ("settings", _text(told.get("config") or {})),
        ("submissions", _text(sorted(told.get("submissions") or {}))),
        ("scores", scores),
        _bytes(told),
        ("last run", _run(told)),
        ("versions", _text(told.get("versions") or {})),
    ]


def _head_facts(told: Mapping[str, Any]) -> list[tuple[str, Any]]:
    seconds = f" ({told['window_seconds']:.2f} s)" if told["window_seconds"] else ""
    inputs = told.get("inputs") or list(told.get("map_shapes") or {})
    trained = f"{counted(told['trained_on'], 'video')}, tuned on {told['tuned_on']}" if told["trained_on"] else ""
    holdout = told["metrics"].get("holdout") if isinstance(told["metrics"], dict) else None
    figures = {key: value for key, value in (holdout or {}).items() if isinstance(value, int | float)}
    return [
        ("head", told["path"]),
        ("name", told["name"]),
        ("task", f"{told['task']}, by {told['scope']}: {', '.join(told['outputs'])}"),
        ("architecture", f"{told['architecture']}, window of {told['window']} frames{seconds}, {_rate(told['rate'])}"),
        ("reads", f"{', '.join(inputs)} of {told['backbone']}, {told['crop_style']} crops"),
        ("features id", told["features_id"]),
        ("weights", f"{told_weights(told['weights'], told['weights_sha256'])}, seed {told['seed']}"),
        ("experimental", _text(told.get("experimental") or ())),
        ("unknown", _text(told.get("unknown") or ())),
        ("parameters", f"{told['parameters']:,}, final layer {told['final_parameters']:,}"),
        ("MACs per frame", f"{told['macs_per_frame']:,.0f}"),
        ("trained on", trained),
        ("hold-out", ", ".join(f"{key} {value:.4g}" for key, value in figures.items())),
        ("thresholds", _text([round(value, 3) for value in told.get("thresholds") or ()])),
        ("smoothing", f"box of {2 * told['smoothing'] + 1} frames" if told.get("smoothing") else ""),
        ("seeds", _text(told["seeds"])),
        _bytes(told),
    ]


def _counts(told: Mapping[str, Any]) -> list[tuple[str, Any]]:
    counts = told["outcomes"]
    order = [name for name in ("ok", "no_face", "partial", "failed") if counts.get(name)]
    outcomes = ", ".join(f"{counts[name]} {name}" for name in order)
    sampled, seen = told["sampled_frames"], told["frames_with_face"]
    share = f", {100 * seen / sampled:.0f} % with a face" if sampled else ""
    lost = f", {told['lost_frames']} lost" if told.get("lost_frames") else ""
    return [
        ("videos", f"{told['videos']}" + (f": {outcomes}" if outcomes else "")),
        ("length", f"{duration_text(told['seconds_of_video'])}, {told['native_frames']:,} frames"),
        ("sampled frames", f"{sampled:,}{share}{lost}"),
    ]


def _bytes(told: Mapping[str, Any]) -> tuple[str, str]:
    parts = sorted(told["bytes_by_part"].items(), key=lambda item: -item[1])
    listed = ", ".join(f"{name} {size_text(size)}" for name, size in parts[:6])
    return "size", f"{size_text(sum(size for _, size in parts))}: {listed}{', ...' if len(parts) > 6 else ''}"


def _run(run: Mapping[str, Any]) -> str:
    if not run:
        return ""
    version = (run.get("versions") or {}).get("emobeam", "")
    return f"{run.get('run', '')}, emobeam {version}, {duration_text(run.get('seconds') or 0.0)}"


def _print_task(console: Console, task: str, found: Mapping[str, Any]) -> None:
    """Distribution of every output of a task."""
    rows = found["rows"]
    sources = ", ".join(f"{name} {100 * count / max(rows, 1):.0f} %" for name, count in found["sources"].items())
    console.print(
        f"\n{task}: {counted(found['tables'], 'table')}, {counted(rows, 'row')}" + (f" ({sources})" if sources else "")
    )
    counts = {name: count for group in found["classes"].values() for name, count in group.items()}
    every = {name: sum(group.values()) for group in found["classes"].values() for name in group}
    table = Table(box=None, pad_edge=False)
    table.add_column("output")
    shares = "highest" if counts else "active" if any("active" in e for e in found["outputs"].values()) else ""
    for title in ("mean", "std", "min", "max", shares):
        table.add_column(title, justify="right", no_wrap=True)
    for output, entry in found["outputs"].items():
        name = f"{output} ({entry['mark']})" if "mark" in entry else output
        if not entry["values"]:
            table.add_row(name, *["-"] * 5)
            continue
        share = ""
        if "active" in entry:
            share = f"{100 * entry['active'] / entry['values']:.1f} %"
        elif output in counts:
            share = f"{counts[output]:,} {100 * counts[output] / every[output]:5.1f} %"
        table.add_row(name, *(f"{entry[key]:.3f}" for key in ("mean", "std", "min", "max")), share)
    console.print(table)


def _print_not_ok(console: Console, entries: Sequence[Mapping[str, Any]]) -> None:
    if entries:
        console.print("")
    order = {"failed": 0, "partial": 1, "no_face": 2}
    ranked = sorted(entries, key=lambda entry: (order[entry["outcome"]], entry["video"]))
    for entry in ranked[:_NAMED]:
        message = f" ({entry['message']})" if entry["message"] else ""
        console.print(f"{entry['outcome']}: {entry['video']}{message}")
    if len(ranked) > _NAMED:
        console.print(f"... and {len(ranked) - _NAMED} more in videos.parquet")


def _print_problems(console: Console, problems: Sequence[Mapping[str, Any]]) -> None:
    console.print("")
    if not any(problem["level"] in ("error", "warning") for problem in problems):
        console.print("nothing is missing, stale or failed")
    order = ("error", "warning", "note")
    for problem in sorted(problems, key=lambda problem: order.index(problem["level"])):
        console.print(f"{problem['level']}: {problem['what']}")
        if problem["mend"]:
            console.print(f"  mend it: {problem['mend']}")


def _weights(entry: Mapping[str, Any]) -> str:
    weights, sha256 = str(entry.get("weights") or ""), str(entry.get("sha256") or "")
    return " (UNTRAINED)" if weights == "untrained" else f", weights {told_weights(weights, sha256)}" if weights else ""


def _rate(rate: float) -> str:
    return f"{rate:g} frames/s" if rate else "every frame"


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    return str(value)
