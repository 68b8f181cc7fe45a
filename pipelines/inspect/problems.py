"""What ``inspect`` finds missing, stale or failed, and the command that mends it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.networks.shipped import SHIPPED, UNTRAINED, shipped
from emobeam.pipelines.console import command
from emobeam.schemas.config import ExtractConfig
from emobeam.schemas.options import options_of
from emobeam.schemas.predict_config import PredictConfig
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
        """All fields, for ``emobeam inspect --json``."""
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
    usual = _usual_config(config)
    parts = [*inputs, "--output", features]
    for field in options_of(ExtractConfig):
        value = field.of(config)
        # Nothing stands for no map at all, where the backbone gives none.
        if field.path[0] not in config.idle and value != field.of(usual) and value != ():
            parts += [field.flag, field.written(value)]
    return command("extract", *parts)


def _usual_config(config: ExtractConfig) -> ExtractConfig:
    """What ``extract`` takes of the same input where no option is written."""
    usual = ExtractConfig()
    return replace(
        usual,
        backbone=replace(usual.backbone, weights=_usual_weights(config.backbone.name)),
        sampling=usual.sampling if config.source == "video" else replace(usual.sampling, fps=0.0),
        engine="auto" if _chosen(config.engine, config.device) else config.engine,
    )


def _chosen(engine: str, device: str) -> bool:
    """Whether somebody asked for the engine: ``auto`` takes OpenVINO on a CPU, and names one that suits it."""
    return engine == "torch" and device == "cpu"


def predict_command(run: Mapping[str, Any], features: str, output: str, more: Sequence[str] = ()) -> str:
    """The command that makes a folder of predictions again, as far as ``run.json`` tells; with ``more`` options.

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
    values = {field.path[-1]: config.get(field.path[-1], field.default) for field in options_of(PredictConfig)}
    usual = "auto" if _chosen(config.get("engine", ""), values["device"]) else values["engine"]
    for field in options_of(PredictConfig):
        value = values[field.path[-1]]
        if value != (usual if field.path[-1] == "engine" else field.default):
            parts += [field.flag, field.written(value)]
    return command("predict", *parts, *more)


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


def changed_at(uri: str) -> float:
    """When a file was last written, in s since 1970; 0 where it is missing or the store doesn't tell."""
    fs, path = storage.file_system(uri)
    try:
        return float(fs.modified(path).timestamp())
    except (FileNotFoundError, NotImplementedError, AttributeError):
        return 0.0
