"""Fresh heads: seeded random weights that fit a cache, or a selection of a backbone's own scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from emobeam.emo_transforms.networks.heads.architectures.registry import build
from emobeam.emo_transforms.networks.heads.architectures.tam import LEVELS
from emobeam.emo_transforms.networks.heads.config import (
    STATISTICS,
    USUAL_SIZES,
    HeadConfig,
    check_config,
    map_shape,
)
from emobeam.emo_transforms.networks.heads.head import Head
from emobeam.emo_transforms.networks.heads.offer import Offer
from emobeam.emo_transforms.networks.weights_digest import tensors_sha256
from emobeam.schemas.records import EmobeamError, UsageError
from emobeam.schemas.tables import VECTORS
from emobeam.schemas.task_form import Task

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


def new_head(
    task: Task,
    offer: Offer,
    *,
    architecture: str = "tam",
    inputs: Sequence[str] = (),
    levels: int | None = None,
    final: Mapping[str, Tensor] | None = None,
    seed: int = 0,
    **options: Any,
) -> Head:
    """A head with seeded random weights that fits a cache: the start of training.

    The same arguments give the same bytes; torch's global random state is left alone.

    Args:
        task: its outputs, scope and activations are those of the head.
        offer: what the cache offers.
        architecture: one of ``config.ARCHITECTURES``.
        inputs: names of the maps and vectors to read; empty: what the architecture reads best of what there is.
        levels: of ``tam`` instead of ``inputs``: 1, 2 or 3; None takes as many as the maps allow.
        final: tensors of the backbone's own final layer (``blocks[4].state_dict()``) to start from.
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
        inputs = _levels(levels, offer)
    inputs = tuple(inputs) or _preferred(architecture, offer)
    _check_offer(architecture, inputs, offer)
    maps = [name for name in inputs if name not in VECTORS]
    if final is not None and "s32" in maps:
        options.setdefault("final_channels", _channels(final))
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
        features_id=offer.features_id,
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
    return _fresh(config, final)


def ready_head(task: Task, offer: Offer) -> Head:
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
    return new_head(
        task,
        offer,
        architecture="ready",
        indices=tuple(indices),
        activation=activation,
        name=f"{task.name}-{offer.backbone}-ready",
        weights="untrained" if offer.backbone_weights == "untrained" else f"scores of {offer.backbone}",
    )


def untrained_head(
    task_name: str,
    outputs: Sequence[str],
    scope: str,
    activation: str,
    features_id: str,
    map_shapes: Mapping[str, Sequence[int]],
    *,
    levels: int | None = None,
    form: str = "clip",
    window: int = 8,
    time_patch: int = 4,
    rate: float = 6.0,
    crop_style: str = "square",
    backbone: str = "mobilenetv4_conv_small",
    final_channels: int = 960,
    final: Mapping[str, Tensor] | None = None,
    seed: int = 0,
) -> Head:
    """A TAM with seeded random weights, for any outputs; :func:`new_head` makes the heads of tasks.

    Args:
        map_shapes: maps of the cache; those a head doesn't read are ignored.
        levels: 1, 2 or 3; None takes as many as the maps allow.
        final: tensors of the backbone's own final layer (``blocks[4].state_dict()``) to start from.
    """
    needed = _levels(levels, Offer(features_id, map_shapes))
    config = HeadConfig(
        name=f"{task_name}-tam{len(needed)}-untrained",
        task=task_name,
        outputs=tuple(outputs),
        scope=scope,
        activation=activation,
        features_id=features_id,
        map_shapes={name: map_shape(map_shapes[name]) for name in needed},
        form=form,
        levels=len(needed),
        window=window,
        time_patch=time_patch,
        rate=rate,
        crop_style=crop_style,
        backbone=backbone,
        final_channels=final_channels,
        seed=seed,
    )
    return _fresh(config, final)


def has_ready_head(task: Task, offer: Offer) -> bool:
    """Whether a task's outputs are among the backbone's own scores, see :func:`ready_head`."""
    try:
        ready_head(task, offer)
    except EmobeamError:
        return False
    return True


def untrained_for(task: Task, offer: Offer) -> Head:
    """The usual head of a task for a cache, with seeded random weights: for tests, demonstrations and plumbing.

    Raises:
        EmobeamError: the cache holds nothing that a head reads.
    """
    if "s32" in offer.map_shapes:
        return new_head(task, offer)
    return new_head(task, offer, architecture="frame" if task.scope == "frame" else "clip-statistics")


def _fresh(config: HeadConfig, final: Mapping[str, Tensor] | None) -> Head:
    check_config(config)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        module = build(config).eval()
    if final is not None and module.final is not None:
        module.final.load_timm(final)
    return Head(config, module, tensors_sha256(module.state_dict()))


def _levels(levels: int | None, offer: Offer) -> tuple[str, ...]:
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


def _channels(final: Mapping[str, Tensor]) -> int:
    return next((tensor.shape[0] for tensor in final.values() if tensor.ndim == 4), 960)


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
