"""``head.json``: the description of a head, and its checks."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from types import MappingProxyType
from typing import Any

from emobeam.schemas.plain_json import parsed
from emobeam.schemas.records import EmobeamError
from emobeam.schemas.tables import VECTORS

HEAD_VERSION = 1
"""Version of the layout of a head's folder."""

ACTIVATIONS = ("none", "tanh", "sigmoid", "softmax", "clip")

ARCHITECTURES = ("tam", "tcn", "frame", "clip-statistics", "ready")
"""What there is; ``emobeam.emo_transforms.networks.heads.architectures.registry`` builds them."""

LEVELS: Mapping[int, tuple[str, ...]] = MappingProxyType({1: ("s32",), 2: ("s16", "s32"), 3: ("s8", "s16", "s32")})
"""The maps a ``tam`` of one, two or three levels reads, finest first."""

STATISTICS = ("mean", "std", "min", "max")
"""What a head of clip scope may take over the frames or windows of a video."""

USUAL_SIZES: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "tam": {"window": 8, "time_patch": 4, "hidden": 0},
        "tcn": {"window": 48, "time_patch": 1, "hidden": 0},
        "frame": {"window": 1, "time_patch": 1, "hidden": 128},
        "clip-statistics": {"window": 1, "time_patch": 1, "hidden": 64},
    }
)
"""Sizes of an architecture where nobody says otherwise, for new heads, recipes and comparisons alike.

48 frames are 8 s at 6 per second: most of a window of ``tcn`` lies beyond its reach of 31 frames. Heads of one frame
have a hidden layer, so that they aren't weak for being linear.
"""

_LATER = (
    "inputs",
    "vector_lengths",
    "hidden",
    "dropout",
    "kernel",
    "dilations",
    "causal",
    "statistics",
    "indices",
    "unknown",
    "experimental",
)
"""Keys that came after the first heads; ``head.json`` holds them where they say something."""


@dataclass(frozen=True)
class HeadConfig:
    """``head.json``: all that is needed to rebuild a head and to know what it may be used on.

    Attributes:
        name: for people; predictions are traced back to it.
        task: name of the task, see ``emobeam.schemas.tasks``.
        outputs: name of each output, in order.
        scope: ``frame`` or ``clip`` (one set of values for a whole video).
        activation: ``none``, ``tanh``, ``sigmoid``, ``softmax`` or ``clip`` (to -1 and 1); or one for each group of
            outputs with the length of the group: ``tanh:2,softmax:8,sigmoid:12``.
        features_id: identity of the features it was made for.
        map_shapes: ``(C, H, W)`` of each map it reads, as the cache stores it.
        architecture: ``tam``, ``tcn``, ``frame``, ``clip-statistics`` or ``ready``.
        form: of ``tam``: ``clip`` (one vector per window, copied to its frames) or ``frame``.
        levels: number of maps read.
        window: sampled frames that it sees at once; 1 where each frame is judged by itself.
        time_patch: of ``tam``: sampled frames of a token.
        dim: width of the tokens of ``tam``, of the layers of ``tcn``.
        final_channels: channels after the final layer; 0: the layer isn't part of the head.
        inputs: names of the maps and vectors it reads, in order; left empty, the maps of ``map_shapes``.
        vector_lengths: length of each vector it reads.
        hidden: width of a layer before the output layer; 0: there is none.
        dropout: in training, of what enters the output layers.
        kernel: of ``tcn``: taps of a convolution in time.
        dilations: of ``tcn``: distance in frames between the taps, block by block.
        causal: of ``tcn``: no value depends on later frames.
        statistics: of clip scope: what is taken over the windows of a video.
        indices: of ``ready``: which of the backbone's scores each output is; -1: the backbone knows no such class.
        rate: sampled frames per second it was made for; 0 is the native rate.
        crop_style: how faces were cropped, as in ``AlignConfig.style``.
        backbone: name of the backbone.
        thresholds: of each output, or empty.
        smoothing: half-width of the box filter over its outputs in sampled frames; 0 is none.
        unknown: outputs that nobody taught: no label of theirs was in the training; null in tables.
        experimental: outputs whose values are given with a warning: they were taught, but measured too weak to rely on.
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
    inputs: tuple[str, ...] = ()
    vector_lengths: dict[str, int] = field(default_factory=dict)
    hidden: int = 0
    dropout: float = 0.3
    kernel: int = 3
    dilations: tuple[int, ...] = (1, 2, 4, 8)
    causal: bool = True
    statistics: tuple[str, ...] = ("mean", "std")
    indices: tuple[int, ...] = ()
    rate: float = 6.0
    crop_style: str = "square"
    backbone: str = "mobilenetv4_conv_small"
    thresholds: tuple[float, ...] = ()
    smoothing: int = 0
    unknown: tuple[str, ...] = ()
    experimental: tuple[str, ...] = ()
    weights: str = "untrained"
    seed: int = 0
    metrics: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    trained_on: tuple[str, ...] = ()
    tuned_on: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.inputs:
            object.__setattr__(self, "inputs", tuple(sorted(self.map_shapes, key=_stride)))

    @property
    def maps(self) -> tuple[str, ...]:
        """Names of the maps among ``inputs``."""
        return tuple(name for name in self.inputs if name not in VECTORS)

    @property
    def window_seconds(self) -> float:
        """What a window spans in seconds, at the rate the head was made for; 0 at the native rate, which varies."""
        return self.window / self.rate if self.rate else 0.0


def config_to_json(config: HeadConfig) -> str:
    """The text of ``head.json``."""
    data = asdict(config)
    plain = asdict(HeadConfig("", "", (), "", "", "", config.map_shapes))
    for key in _LATER:
        if data[key] == plain[key]:
            del data[key]
    return json.dumps(data, indent=2) + "\n"


def config_from_json(text: str | bytes) -> HeadConfig:
    """The inverse of :func:`config_to_json`.

    Raises:
        EmobeamError: not JSON, unknown or missing keys, values of the wrong type or that make no sense together.
    """
    try:
        data = parsed(text)
    except ValueError as error:
        raise EmobeamError(f"not JSON ({error})") from error
    if not isinstance(data, dict):
        raise EmobeamError("not a JSON object")
    version = data.get("schema_version")
    if version != HEAD_VERSION:
        raise EmobeamError(f"schema_version is {version!r}, this program reads {HEAD_VERSION}")
    types = {f.name: str(f.type) for f in fields(HeadConfig)}
    known = {name: text.split("[")[0] for name, text in types.items()}
    if unknown := sorted(set(data) - set(known)):
        raise EmobeamError(f"unknown keys: {', '.join(unknown)}")
    kinds: dict[str, Any] = {"str": str, "int": int, "float": (int, float), "tuple": list, "dict": dict, "bool": bool}
    for key, value in data.items():
        if not isinstance(value, kinds[known[key]]) or (isinstance(value, bool) and known[key] != "bool"):
            raise EmobeamError(f"{key} is {value!r}, expected a {known[key]}")
        inner = kinds[each[1]] if (each := _TUPLE.match(types[key])) else object
        if isinstance(value, list) and not all(isinstance(item, inner) for item in value):
            raise EmobeamError(f"{key} is {value!r}, expected a list of {each[1] if each else 'values'}")
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
        (
            config.architecture in ARCHITECTURES,
            f"unknown architecture {config.architecture!r}; there are {', '.join(ARCHITECTURES)}",
        ),
        (count > 0, "no outputs"),
        (len(config.thresholds) in {0, count}, f"{len(config.thresholds)} thresholds for {count} outputs"),
        (config.smoothing >= 0, f"smoothing is {config.smoothing}, expected 0 or more"),
        (config.levels == maps, f"levels is {config.levels}, map_shapes names {maps}"),
        (min(sizes) > 0, "window, time_patch, dim and map_shapes must be positive"),
        (config.hidden >= 0, f"hidden is {config.hidden}, expected 0 or more"),
        (0 <= config.dropout < 1, f"dropout is {config.dropout}, expected at least 0 and less than 1"),
    ]
    _raise_first(checks)
    _check_sizes(config)
    activation_groups(config.activation, count)
    _check_marks(config)
    _check_inputs(config)
    _check_architecture(config)


_MOST = {
    "window": 4096,
    "time_patch": 4096,
    "dim": 8192,
    "final_channels": 8192,
    "hidden": 8192,
    "kernel": 1024,
    "smoothing": 1 << 20,
}
"""Far above what any head needs: the network is made by these numbers before its weights are looked at."""

_MOST_VALUES = 1 << 24
"""Values of one map or vector."""

_TUPLE = re.compile(r"tuple\[(str|int|float), \.\.\.\]")


def _check_sizes(config: HeadConfig) -> None:
    large = [name for name, most in _MOST.items() if getattr(config, name) > most]
    values = [*(math.prod(shape) for shape in config.map_shapes.values()), *config.vector_lengths.values()]
    checks = [
        (
            not large,
            "".join(f"{name} is {getattr(config, name)}, expected at most {_MOST[name]}" for name in large[:1]),
        ),
        (
            all(isinstance(count, int) and count <= _MOST_VALUES for count in values),
            f"map_shapes or vector_lengths beyond {_MOST_VALUES} values",
        ),
        (
            len(config.dilations) <= 64 and all(each <= _MOST["window"] for each in config.dilations),
            f"dilations is {list(config.dilations)}, expected at most 64 of at most {_MOST['window']}",
        ),
        (0 <= config.rate < 100_000, f"rate is {config.rate}, expected frames per second"),
    ]
    _raise_first(checks)


def _check_marks(config: HeadConfig) -> None:
    for key, names in (("unknown", config.unknown), ("experimental", config.experimental)):
        strange = [str(name) for name in names if name not in config.outputs]
        checks = [
            (not strange, f"{key} names {', '.join(strange)}; the outputs are {', '.join(config.outputs)}"),
            (len(set(names)) == len(names), f"{key} is {list(names)}, expected different names"),
        ]
        _raise_first(checks)
    both = [name for name in config.unknown if name in config.experimental]
    _raise_first([(not both, f"{', '.join(both)}: both unknown and experimental")])
    _raise_first([(len(config.unknown) < len(config.outputs), "all outputs are unknown")])


def _check_inputs(config: HeadConfig) -> None:
    vectors = [name for name in config.inputs if name in VECTORS]
    lengths = config.vector_lengths
    whole = all(isinstance(n, int) and n > 0 for n in lengths.values())
    checks = [
        (
            len(set(config.inputs)) == len(config.inputs) > 0,
            f"inputs is {list(config.inputs)}, expected different names",
        ),
        (set(config.maps) == set(config.map_shapes), f"inputs names {list(config.inputs)}, map_shapes others"),
        (set(vectors) == set(lengths), f"inputs names {list(config.inputs)}, vector_lengths {sorted(lengths)}"),
        (whole, f"vector_lengths is {lengths}, expected whole numbers above 0"),
        (set(config.statistics) <= set(STATISTICS), f"statistics is {list(config.statistics)}, there are {STATISTICS}"),
        (len(config.statistics) > 0, "statistics is empty"),
    ]
    _raise_first(checks)


def _check_architecture(config: HeadConfig) -> None:
    name, scope = config.architecture, config.scope
    scopes = {"tam": ("frame", "clip"), "clip-statistics": ("clip",)}.get(name, ("frame",))
    alone = name in ("frame", "clip-statistics", "ready")
    taps = [config.kernel, *config.dilations]
    length = config.vector_lengths.get("scores", 0)
    checks = [
        (name == "tam" or scope in scopes, f"there is no {name} head of scope {scope!r}; its scope is {scopes[0]!r}"),
        (name != "tam" or not config.vector_lengths, "a tam head reads maps alone"),
        (not alone or config.window == 1, f"window is {config.window}, a {name} head has windows of 1 frame"),
        (all(isinstance(n, int) and n > 0 for n in taps), "kernel and dilations must be whole numbers above 0"),
        (
            name != "tcn" or config.causal or config.kernel % 2 == 1,
            f"kernel is {config.kernel}, where causal is false it must be odd",
        ),
        ((name == "ready") == bool(config.indices), f"a {name} head has {len(config.indices)} indices"),
        (
            name != "ready" or (config.inputs == ("scores",) and len(config.indices) == len(config.outputs)),
            "a ready head reads scores and has an index for each output",
        ),
        (
            all(isinstance(index, int) and -1 <= index < length for index in config.indices),
            f"indices is {list(config.indices)}, there are {length} scores",
        ),
    ]
    _raise_first(checks)


def _raise_first(checks: Sequence[tuple[bool, str]]) -> None:
    for fine, problem in checks:
        if not fine:
            raise EmobeamError(problem)


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


def _stride(name: str) -> tuple[int, str]:
    """Sorts maps from fine to coarse."""
    return int(name[1:]) if name[1:].isdigit() else 0, name
