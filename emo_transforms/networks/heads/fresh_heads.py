"""Fresh heads: seeded random weights that fit a cache, or a selection of a backbone's own scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from emobeam.emo_transforms.networks.heads.architectures.registry import build
from emobeam.emo_transforms.networks.heads.config import HeadConfig, check_config, map_shape
from emobeam.emo_transforms.networks.heads.fresh_configs import (
    levels_of,
    new_config,
    ready_config,
    untrained_config,
)
from emobeam.emo_transforms.networks.heads.head import Head
from emobeam.emo_transforms.networks.heads.offer import Offer
from emobeam.emo_transforms.networks.weights_digest import tensors_sha256
from emobeam.schemas.task_form import Task


def new_head(task: Task, offer: Offer, *, final: Mapping[str, Tensor] | None = None, **options: Any) -> Head:
    """A head with seeded random weights that fits a cache: the start of training.

    The same arguments give the same bytes; torch's global random state is left alone.

    Args:
        final: tensors of the backbone's own final layer (``blocks[4].state_dict()``) to start from.
        options: see :func:`.heads.fresh_configs.new_config`, also for what is raised.
    """
    config = new_config(task, offer, **options)
    if final is not None and "s32" in config.map_shapes and "final_channels" not in options:
        config = new_config(task, offer, **options, final_channels=_channels(final))
    return seeded_head(config, final)


def ready_head(task: Task, offer: Offer) -> Head:
    """The head of :func:`.heads.fresh_configs.ready_config`; it has no weights."""
    return seeded_head(ready_config(task, offer))


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
    needed = levels_of(levels, Offer(features_id, map_shapes))
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
    return seeded_head(config, final)


def untrained_for(task: Task, offer: Offer) -> Head:
    """The head of :func:`.heads.fresh_configs.untrained_config`."""
    return seeded_head(untrained_config(task, offer))


def seeded_head(config: HeadConfig, final: Mapping[str, Tensor] | None = None) -> Head:
    """The head of a description with random weights of its seed; ``final`` as in :func:`new_head`."""
    check_config(config)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        module = build(config).eval()
    if final is not None and module.final is not None:
        module.final.load_timm(final)
    return Head(config, module, tensors_sha256(module.state_dict()))


def _channels(final: Mapping[str, Tensor]) -> int:
    return next((tensor.shape[0] for tensor in final.values() if tensor.ndim == 4), 960)
