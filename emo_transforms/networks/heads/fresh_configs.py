"""Descriptions of fresh heads: what fits a cache, or selects from a backbone's own scores. Nothing is built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from emobeam.emo_transforms.networks.heads.config import (
    LEVELS,
    STATISTICS,
    USUAL_SIZES,
    HeadConfig,
    check_config,
    map_shape,
)
from emobeam.emo_transforms.networks.heads.offer import Offer
from emobeam.schemas.records import EmobeamError, UsageError
from emobeam.schemas.tables import VECTORS
from emobeam.schemas.task_form import Task
from emobeam.schemas.tasks import TASKS, task_named

_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "tam": {},
    "tcn": {"window": USUAL_SIZES["tcn"]["window"]},
    "frame": {"window": 1, "hidden": USUAL_SIZES["frame"]["hidden"], "dropout": 0.0},
    "clip-statistics": {
        "window": 1,
        "hidden": USUAL_SIZES["clip-statistics"]["hidden"],
        "dropout": 0.0,
        "statistics": STATISTICS,
    },
    "ready": {"window": 1, "dropout": 0.0},
}
"""Where an architecture's usual values are others than those of :class:`HeadConfig`."""

_PREFERRED = {
    "tcn": ("s8", "s16", "s32", "embedding", "scores"),
    "frame": ("embedding", "s32", "scores"),
    "clip-statistics": ("scores", "embedding", "s32"),
    "ready": ("scores",),
}
"""What an architecture reads where nobody says: the first of these that there is; of ``tcn``, all maps."""


def new_config(
    task: Task,
    offer: Offer,
    *,
    architecture: str = "tam",
    inputs: Sequence[str] = (),
    levels: int | None = None,
    seed: int = 0,
    **options: Any,
) -> HeadConfig:
    """The description of a fresh head that fits a cache.

    Args:
        task: its outputs, scope and activations are those of the head.
        offer: what the cache offers.
        architecture: one of ``config.ARCHITECTURES``.
        inputs: names of the maps and vectors to read; empty: what the architecture reads best of what there is.
        levels: of ``tam`` instead of ``inputs``: 1, 2 or 3; None takes as many as the maps allow.
        options: other fields of :class:`HeadConfig`: ``form``, ``window``, ``time_patch``, ``dim``, ``hidden``,
            ``dropout``, ``kernel``, ``dilations``, ``causal``, ``statistics``, ``indices``, ``final_channels``,
            ``name``, ``activation``. Left out, they have the architecture's usual values.

    Raises:
        EmobeamError: the cache lacks what the head would read, or the options don't go together.
        UsageError: an unknown architecture.
    """
    if architecture not in _DEFAULTS:
        raise UsageError(f"unknown architecture {architecture!r}; there are {', '.join(_DEFAULTS)}")
    if architecture == "tam" and not inputs:
        inputs = levels_of(levels, offer)
    inputs = tuple(inputs) or _preferred(architecture, offer)
    _check_offer(architecture, inputs, offer)
    maps = [name for name in inputs if name not in VECTORS]
    kind = f"tam{len(maps)}" if architecture == "tam" else architecture
    values: dict[str, Any] = {
        "name": f"{task.name}-{kind}-untrained",
        "activation": task.activation,
        **_DEFAULTS[architecture],
        **options,
    }
    config = HeadConfig(
        task=task.name,
        outputs=task.outputs,
        scope=task.scope,
        features_id=offer.features_of(inputs),
        map_shapes={name: map_shape(offer.map_shapes[name]) for name in maps},
        architecture=architecture,
        levels=len(maps),
        inputs=inputs,
        vector_lengths={name: offer.vectors[name] for name in inputs if name in VECTORS},
        rate=offer.rate,
        crop_style=offer.crop_style,
        backbone=offer.backbone,
        seed=seed,
        **values,
    )
    check_config(config)
    return config


def ready_config(task: Task, offer: Offer) -> HeadConfig:
    """The head that takes a task's outputs from a backbone's own scores by their names; it has no weights.

    Class groups go through softmax over the classes chosen, values are clipped to their range of -1 to 1. Of the
    expressions ``Other`` may be unknown to the backbone: it gets 0.

    Raises:
        EmobeamError: the cache holds no scores, or they aren't those of the task.
    """
    places = {_plain(name): index for index, name in enumerate(offer.score_names)}
    indices = [places.get(_plain(name), -1) for name in task.outputs]
    unknown = [name for name, index in zip(task.outputs, indices, strict=True) if index < 0 and name != "Other"]
    if unknown or task.scope != "frame" or not offer.vectors.get("scores"):
        held = ", ".join(offer.score_names) or ("unnamed scores" if offer.vectors.get("scores") else "no scores")
        raise EmobeamError(
            f"task {task.name} can't be read off the scores of {offer.backbone}: the cache holds {held};"
            " name a trained head (--head) or make one with emobeam train"
        )
    groups = [("clip" if g.activation == "tanh" else g.activation, len(g.outputs)) for g in task.groups]
    activation = groups[0][0] if len(groups) == 1 else ",".join(f"{name}:{length}" for name, length in groups)
    return new_config(
        task,
        offer,
        architecture="ready",
        indices=tuple(indices),
        activation=activation,
        name=f"{task.name}-{offer.backbone}-ready",
        weights="untrained" if offer.backbone_weights == "untrained" else f"scores of {offer.backbone}",
    )


def dropped_scores(config: HeadConfig, offer: Offer) -> str:
    """What to warn of where classes are chosen from a backbone's own scores: those that the task hasn't, and lacks.

    The softmax is over the classes chosen, so what the backbone would have given to another one goes to these.

    Returns:
        A sentence, ``""`` where every class of the one is a class of the other.
    """
    group = next((group for group in task_named(config.task).groups if group.kind == "class"), None)
    if config.architecture != "ready" or group is None:
        return ""
    names = {_plain(name) for task in TASKS.values() for name in task.outputs}
    dropped = [name for name in offer.score_names if _plain(name) not in names]
    lacking = [name for name, index in zip(config.outputs, config.indices, strict=True) if index < 0]
    parts = [
        *(
            [f"its class {', '.join(dropped)} is dropped before the softmax, so such faces get other classes"]
            * bool(dropped)
        ),
        *([f"{', '.join(lacking)} is unknown to it and never chosen"] * bool(lacking)),
    ]
    return f"task {config.task} is read off the scores of {offer.backbone}: {'; '.join(parts)}" if parts else ""


def has_ready_head(task: Task, offer: Offer) -> bool:
    """Whether a task's outputs are among the backbone's own scores, see :func:`ready_config`."""
    try:
        ready_config(task, offer)
    except EmobeamError:
        return False
    return True


def untrained_config(task: Task, offer: Offer) -> HeadConfig:
    """The usual head of a task for a cache, with seeded random weights: for tests, demonstrations and plumbing.

    Raises:
        EmobeamError: the cache holds nothing that a head reads.
    """
    if "s32" in offer.map_shapes:
        return new_config(task, offer)
    return new_config(task, offer, architecture="frame" if task.scope == "frame" else "clip-statistics")


def levels_of(levels: int | None, offer: Offer) -> tuple[str, ...]:
    """The maps of a ``tam`` of so many levels, of as many as there are where that is None; EmobeamError: missing."""
    if levels is None:
        levels = max((n for n, names in LEVELS.items() if set(names) <= set(offer.map_shapes)), default=1)
    needed = LEVELS.get(levels)
    if needed is None:
        raise EmobeamError(f"a head has 1, 2 or 3 levels, not {levels}")
    if missing := [name for name in needed if name not in offer.map_shapes]:
        text = f"a head of {levels} levels reads the maps {','.join(needed)}; {','.join(missing)} missing"
        if offer.vectors:
            text += (
                f" (the cache holds {','.join(offer.vectors)}: architecture frame, tcn or clip-statistics reads them)"
            )
        raise EmobeamError(text)
    return needed


def _preferred(architecture: str, offer: Offer) -> tuple[str, ...]:
    there = [name for name in _PREFERRED[architecture] if name in offer.map_shapes or name in offer.vectors]
    maps = tuple(name for name in there if name in offer.map_shapes)
    if architecture == "tcn" and maps:
        return maps
    if not there:
        raise EmobeamError(
            f"a {architecture} head reads one of {', '.join(_PREFERRED[architecture])}; the cache holds"
            f" {', '.join([*offer.map_shapes, *offer.vectors]) or 'nothing that heads read'}"
        )
    return (there[0],)


def _check_offer(architecture: str, inputs: Sequence[str], offer: Offer) -> None:
    if missing := [name for name in inputs if name not in offer.map_shapes and name not in offer.vectors]:
        held = ",".join([*offer.map_shapes, *offer.vectors]) or "nothing that heads read"
        raise EmobeamError(f"a {architecture} head of {','.join(inputs)}: the cache lacks {','.join(missing)} ({held})")


def _plain(name: str) -> str:
    """Names of classes differ between data sets in case and word form: happy and Happiness are one."""
    lower = name.strip().lower()
    return _SYNONYMS.get(lower, lower)


_SYNONYMS = {
    "angry": "anger",
    "disgusted": "disgust",
    "fearful": "fear",
    "happy": "happiness",
    "sad": "sadness",
    "surprised": "surprise",
}
