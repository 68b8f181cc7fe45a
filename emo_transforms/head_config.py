"""``head.json``: the description of a head, and its checks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from schemas.records import EmobeamError

HEAD_VERSION = 1
"""Version of the layout of a head's folder."""

ACTIVATIONS = ("none", "tanh", "sigmoid", "softmax")


@dataclass(frozen=True)
class HeadConfig:
    """``head.json``: all that is needed to rebuild a head and to know what it may be used on.

    Attributes:
        name: for people; predictions are traced back to it.
        task: name of the task, see ``schemas.tasks``.
        outputs: name of each output, in order.
        scope: ``frame`` or ``clip`` (one set of values for a whole video).
        activation: ``none``, ``tanh``, ``sigmoid`` or ``softmax``; or one for each group of outputs with the length of
            the group: ``tanh:2,softmax:8,sigmoid:12``.
        features_id: identity of the features it was made for.
        map_shapes: ``(C, H, W)`` of each map it reads, as the cache stores it.
        architecture: ``tam``.
        form: ``clip`` (one vector per window, copied to its frames) or ``frame``.
        levels: number of maps read.
        window, time_patch: in sampled frames.
        dim: width of tokens.
        final_channels: channels after the final layer; 0: the layer isn't part of the head.
        rate: sampled frames per second it was made for; 0 is the native rate.
        crop_style: how faces were cropped, as in ``AlignConfig.style``.
        backbone: name of the backbone.
        thresholds: of each output, or empty.
        smoothing: half-width of the box filter over its outputs in sampled frames; 0 is none.
        weights: ``untrained`` or where the weights came from.
        seed: of the initialisation.
        metrics, provenance: plain JSON data, for people and reports.
        trained_on, tuned_on: ids of the videos used.
    """

    name: str
    task: str
    outputs: tuple[str, ...]
    scope: str
    activation: str
    features_id: str
    map_shapes: dict[str, tuple[int, int, int]]
    schema_version: int = HEAD_VERSION
    architecture: str = "tam"
    form: str = "clip"
    levels: int = 3
    window: int = 8
    time_patch: int = 4
    dim: int = 256
    final_channels: int = 960
    rate: float = 6.0
    crop_style: str = "square"
    backbone: str = "mobilenetv4_conv_small"
    thresholds: tuple[float, ...] = ()
    smoothing: int = 0
    weights: str = "untrained"
    seed: int = 0
    metrics: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    trained_on: tuple[str, ...] = ()
    tuned_on: tuple[str, ...] = ()


def config_to_json(config: HeadConfig) -> str:
    """The text of ``head.json``."""
    return json.dumps(asdict(config), indent=2) + "\n"


def config_from_json(text: str | bytes) -> HeadConfig:
    """The inverse of :func:`config_to_json`.

    Raises:
        EmobeamError: not JSON, unknown or missing keys, values of the wrong type or that make no sense together.
    """
    try:
        data = json.loads(text)
    except ValueError as error:
        raise EmobeamError(f"not JSON ({error})") from error
    if not isinstance(data, dict):
        raise EmobeamError("not a JSON object")
    version = data.get("schema_version")
    if version != HEAD_VERSION:
        raise EmobeamError(f"schema_version is {version!r}, this program reads {HEAD_VERSION}")
    known = {f.name: str(f.type).split("[")[0] for f in fields(HeadConfig)}
    if unknown := sorted(set(data) - set(known)):
        raise EmobeamError(f"unknown keys: {', '.join(unknown)}")
    kinds: dict[str, Any] = {"str": str, "int": int, "float": (int, float), "tuple": list, "dict": dict}
    for key, value in data.items():
        if not isinstance(value, kinds[known[key]]):
            raise EmobeamError(f"{key} is {value!r}, expected a {known[key]}")
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
    try:
        if "map_shapes" in values:
            values["map_shapes"] = {name: map_shape(shape) for name, shape in values["map_shapes"].items()}
        config = HeadConfig(**values)
    except (TypeError, ValueError) as error:
        raise EmobeamError(str(error).replace("HeadConfig.__init__() ", "")) from error
    check_config(config)
    return config


def check_config(config: HeadConfig) -> None:
    """Raises EmobeamError where the parts of a config contradict each other."""
    count, maps = len(config.outputs), len(config.map_shapes)
    sizes = [config.window, config.time_patch, config.dim, *(n for shape in config.map_shapes.values() for n in shape)]
    checks = [
        (config.architecture == "tam", f"unknown architecture {config.architecture!r}; there is tam"),
        (count > 0, "no outputs"),
        (len(config.thresholds) in {0, count}, f"{len(config.thresholds)} thresholds for {count} outputs"),
        (config.smoothing >= 0, f"smoothing is {config.smoothing}, expected 0 or more"),
        (config.levels == maps, f"levels is {config.levels}, map_shapes names {maps}"),
        (min(sizes) > 0, "window, time_patch, dim and map_shapes must be positive"),
    ]
    for fine, problem in checks:
        if not fine:
            raise EmobeamError(problem)
    activation_groups(config.activation, count)


def activation_groups(activation: str, count: int) -> list[tuple[str, int]]:
    """The activations of groups of outputs and the lengths of the groups, in order.

    Raises:
        EmobeamError: an unknown activation, or groups that don't add up to ``count`` outputs.
    """
    groups = []
    for part in activation.split(","):
        name, _, length = part.partition(":")
        if name not in ACTIVATIONS or not (length or str(count)).isdigit():
            raise EmobeamError(f"unknown activation {part!r}; there are {', '.join(ACTIVATIONS)}")
        groups.append((name, int(length or count)))
    if sum(length for _, length in groups) != count:
        raise EmobeamError(f"the activation {activation!r} does not fit {count} outputs")
    return groups


def map_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    """``(C, H, W)`` as a tuple of plain integers; raises ValueError for another number of axes."""
    channels, height, width = (int(n) for n in shape)
    return channels, height, width
