"""What ``inspect`` finds missing, stale or failed, and the command that mends it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.networks.shipped import SHIPPED, UNTRAINED, shipped
from emobeam.pipelines.console import command
from emobeam.schemas.config import ExtractConfig, SamplingConfig
from emobeam.schemas.records import EmobeamError

Level = Literal["error", "warning", "note"]

_SHOWN = 5


@dataclass(frozen=True)
class Problem:
    """One thing that is not as it should be.

    Attributes:
        level: ``error``: something is missing or broken; ``warning``: results may mislead; ``note``: good to know.
        kind: one word for programs: ``missing``, ``stale``, ``failed``, ``damaged``, ``untrained``, ``unfit``,
            ``marked`` (outputs that are unknown to the head, or experimental).
        what: one sentence.
        mend: the command that mends it, ``""`` where none does.
        about: videos or files it is about.
    """

    level: Level
    kind: str
    what: str
    mend: str = ""
    about: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"about": list(self.about)}


def named(names: Iterable[str]) -> str:
    """The first few of many names, for a sentence."""
    every = list(names)
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return ", ".join(every[:_SHOWN]) + more


def run_records(features: str) -> list[dict[str, Any]]:
    """Records of all runs on a cache, oldest first; damaged ones are left out."""
    folder = storage.join(features, "runs")
    records = []
    for name in sorted(storage.names(folder, ".json")):
        try:
            record = storage.read_json(storage.join(folder, f"{name}.json"))
        except EmobeamError:
            continue
        if isinstance(record, dict):
            records.append(record)
    return records


def extract_command(features: str, config: ExtractConfig, runs: Sequence[Mapping[str, Any]]) -> str:
    """The command that goes on with a cache: its inputs as they were named, its settings where they aren't defaults."""
    inputs = list(dict.fromkeys(text for run in runs for text in run.get("inputs") or ())) or ["INPUT"]
    parts = [*inputs, "--output", features]
    usual = ExtractConfig()
    stored = bool(config.origin.cache_id)
    if config.source != "video" and not stored:
        parts += ["--crops", config.source]
    flags: list[tuple[str, object, object]] = []
    if not stored:
        rate = usual.sampling.fps if config.source == "video" else 0.0
        sampling = SamplingConfig(fps=rate)
        flags += [
            ("--fps", config.sampling.fps or "native", rate or "native"),
            ("--segment-seconds", config.sampling.segment_seconds, sampling.segment_seconds),
            ("--crops-fps", config.sampling.crops_fps, sampling.crops_fps),
        ]
        if config.source == "video":
            flags += [
                ("--decoder", config.decoder.name, usual.decoder.name),
                ("--decode-timeout", config.decoder.timeout, usual.decoder.timeout),
                ("--decode-memory", config.decoder.memory_mb, usual.decoder.memory_mb),
                ("--stream", config.decoder.stream, usual.decoder.stream),
                ("--min-face", config.detector.min_face, usual.detector.min_face),
                ("--min-score", config.detector.keep, usual.detector.keep),
                ("--detector", config.detector.mode, usual.detector.mode),
            ]
    if config.backbone.name != "none":
        flags += [
            ("--backbone", config.backbone.name, usual.backbone.name),
            ("--backbone-weights", config.backbone.weights, _usual_weights(config.backbone.name)),
            ("--input-size", config.backbone.input_size, usual.backbone.input_size),
        ]
    if config.source == "video":
        flags += [
            ("--align", config.align.style, usual.align.style),
            ("--margin", config.align.margin, usual.align.margin),
        ]
    flags += [
        ("--views", config.views, usual.views),
        ("--device", config.device, usual.device),
    ]
    if config.maps:
        flags.append(("--maps", ",".join(config.maps), ",".join(usual.maps)))
    flags.append(("--store", ",".join(config.store), ",".join(usual.store)))
    for flag, value, default in flags:
        if value != default:
            parts += [flag, f"{value:g}" if isinstance(value, float) else str(value)]
    parts += ["--engine", "torch"] if config.engine == "torch" and config.device == "cpu" else []
    return command("extract", *parts)


def predict_command(run: Mapping[str, Any], features: str, output: str) -> str:
    """The command that makes a folder of predictions again, as far as ``run.json`` tells.

    Where it doesn't say where a head lies, a word in capitals stands for its folder.
    """
    parts = [features, "--output", output]
    every = run.get("heads") or {}
    random = any(head.get("weights") == UNTRAINED for heads in every.values() for head in heads)
    for task, heads in every.items():
        for head in heads:
            parts += ["--head", name] if (name := _named_head(task, head, random=random)) else []
        parts += ["--task", task]
    config = run.get("config") or {}
    usual = {"faces": "main", "max_gap": 0.5, "window_gap": 0.5, "stride": 0}
    for key, default in usual.items():
        if config.get(key, default) != default:
            parts += [f"--{key.replace('_', '-')}", f"{config[key]}"]
    return command("predict", *parts)


def _named_head(task: str, head: Mapping[str, Any], *, random: bool) -> str:
    """What ``--head`` says of a head, ``""`` where it is there without being named.

    Args:
        random: other heads are untrained; where those are asked for, all have to be named.
    """
    uri, weights = str(head.get("uri") or ""), str(head.get("weights") or "")
    if uri == SHIPPED:
        return SHIPPED if random else ""
    if weights == UNTRAINED:
        return uri or UNTRAINED
    return uri or ("" if weights.startswith("scores of ") else f"HEAD_{head.get('name', task)}")


def _usual_weights(backbone: str) -> str:
    """The weights that extract takes of a backbone where none are named, see ``.networks.backbones.named``."""
    found = shipped()
    return found.name if backbone == found.architecture else UNTRAINED


def sizes_below(folder: str) -> dict[str, int]:
    """Bytes by first path component below a folder (files of the folder itself by their name)."""
    fs, root = storage.file_system(folder)
    found: dict[str, int] = {}
    for path, info in fs.find(root, detail=True).items():
        part = str(path).removeprefix(str(root).rstrip("/")).lstrip("/").partition("/")[0]
        found[part] = found.get(part, 0) + int(info.get("size") or 0)
    return dict(sorted(found.items()))


def changed_at(uri: str) -> float:
    """When a file was last written, in s since 1970; 0 where it is missing or the store doesn't tell."""
    fs, path = storage.file_system(uri)
    try:
        return float(fs.modified(path).timestamp())
    except (FileNotFoundError, NotImplementedError, AttributeError):
        return 0.0
