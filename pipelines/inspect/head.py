"""``inspect`` of a head's folder."""

from __future__ import annotations

from typing import Any

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.cache.dataset import read_dataset
from emobeam.emo_transforms.networks.heads.config import HeadConfig, config_from_json, config_to_json
from emobeam.emo_transforms.networks.heads.folder import (
    BACKBONE_FILE,
    CARD_FILE,
    CONFIG_FILE,
    WEIGHTS_FILE,
    check_head,
)
from emobeam.emo_transforms.networks.heads.prepared_heads import PreparedHead, ReadyRun, load_prepared_head
from emobeam.pipelines.console import command
from emobeam.pipelines.inspect.problems import Problem, extract_command, run_records
from emobeam.schemas.plain_json import parsed
from emobeam.schemas.records import EmobeamError

_LONG = ("trained_on", "tuned_on", "metrics", "provenance")


def describe_head(path: str, features: str = "") -> dict[str, Any]:
    """A head as plain data; see :func:`emobeam.pipelines.inspect.describe.describe`.

    Args:
        features: URI of a cache: does the head fit it?
    """
    uri = storage.join(path, CONFIG_FILE)
    try:
        config = config_from_json(storage.read_bytes(uri))
    except EmobeamError as error:
        raise EmobeamError(f"{uri}: {error}") from error
    data = parsed(config_to_json(config))
    head, problems = _files(path, config)
    problems += [*_untrained(path, config), *_fit(path, config, head, features)]
    return {
        "kind": "head",
        "path": path,
        **{key: value for key, value in data.items() if key not in _LONG},
        "weights_sha256": head.weights_sha256 if head is not None else "",
        "window_seconds": config.window_seconds,
        **_cost(config, head),
        "trained_on": len(config.trained_on),
        "tuned_on": len(config.tuned_on),
        "metrics": data.get("metrics") or {},
        "provenance": data.get("provenance") or {},
        "seeds": sorted(_seeds(path), key=lambda name: (len(name), name)),
        "bytes_by_part": storage.sizes_below(path),
        "problems": [problem.to_json() for problem in problems],
    }


def _seeds(path: str) -> list[str]:
    fs, root = storage.file_system(storage.join(path, "seeds"))
    if not fs.exists(root):
        return []
    return [str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in fs.ls(root, detail=False)]


_COST = ("parameters", "final_parameters", "macs_per_frame")


def _cost(config: HeadConfig, head: PreparedHead | ReadyRun | None) -> dict[str, Any]:
    """What it costs, also of a head whose tensors can't be read."""
    if isinstance(head, PreparedHead):
        return {name: head.facts[name] for name in _COST}
    if head is not None:
        return dict.fromkeys(_COST, 0)  # the backbone's own scores
    from emobeam.emo_transforms.networks.heads.architectures.costs import describe  # loads torch

    cost = describe(config)
    return {name: getattr(cost, name) for name in _COST}


def _files(path: str, config: HeadConfig) -> tuple[PreparedHead | ReadyRun | None, list[Problem]]:
    """The head, None where it can't be read, and what is wrong with the files."""
    problems: list[Problem] = []
    head = None
    again = _train(path, config)
    try:
        head = load_prepared_head(path)
    except EmobeamError as error:
        kind = "damaged" if storage.exists(storage.join(path, WEIGHTS_FILE)) else "missing"
        problems.append(Problem("error", kind, str(error), again))
    backbone = config.provenance.get("backbone")
    if isinstance(backbone, dict):
        file = str(backbone.get("file", BACKBONE_FILE))
        if not storage.exists(storage.join(path, file)):
            what = f"{file}, the backbone that was trained with the head, is missing; copy the head again"
            problems.append(Problem("error", "missing", what, again))
    if config.provenance and not storage.exists(storage.join(path, CARD_FILE)):
        problems.append(Problem("note", "missing", f"the model card {CARD_FILE} is missing; copy the head again"))
    if storage.exists(storage.join(path, ".training")):
        what = "a run of training was broken off here; the same command goes on where it ended"
        problems.append(Problem("warning", "missing", what, again))
    return head, problems


def _train(path: str, config: HeadConfig) -> str:
    """The command that trained it, as far as the head tells; words in capitals stand for what it doesn't."""
    about = config.provenance
    features, labels = str(about.get("features") or "FEATURES"), str(about.get("labels") or "LABELS")
    return command("train", features, "--task", config.task, "--labels", labels, "--output", path)


def _untrained(path: str, config: HeadConfig) -> list[Problem]:
    if config.weights != "untrained":
        return []
    what = "the head is untrained: its values mean nothing"
    return [Problem("warning", "untrained", what, _train(f"{path.rstrip('/')}-trained", config))]


def _fit(path: str, config: HeadConfig, head: PreparedHead | ReadyRun | None, features: str) -> list[Problem]:
    if not features or head is None:
        return []
    dataset = read_dataset(features)
    try:
        warnings = check_head(head, dataset.offer)
    except EmobeamError as error:
        fresh = extract_command(f"{features.rstrip('/')}-{config.task}", dataset.config, run_records(features))
        own = config.provenance.get("backbone")
        file = own.get("file", BACKBONE_FILE) if isinstance(own, dict) else ""
        weights = storage.join(path, str(file)) if file else "FILE"
        mend = f"{fresh} --backbone {config.backbone} --backbone-weights {weights}"
        return [Problem("error", "unfit", f"doesn't fit {features}: {error}", mend)]
    return [Problem("warning", "unfit", text) for text in warnings]
