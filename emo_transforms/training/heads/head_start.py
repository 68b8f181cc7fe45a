"""The head that training begins with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from emobeam.emo_transforms.cache.dataset import Dataset
from emobeam.emo_transforms.networks.heads.architectures.module import HeadModule
from emobeam.emo_transforms.networks.heads.architectures.registry import build
from emobeam.emo_transforms.networks.heads.architectures.tam import LEVELS, can_cut
from emobeam.emo_transforms.networks.heads.config import STATISTICS, HeadConfig, check_config
from emobeam.emo_transforms.training.heads.recipe import Recipe
from emobeam.schemas.records import EmobeamError, UsageError
from emobeam.schemas.tables import VECTORS
from emobeam.schemas.tasks import Task

SINGLE_FRAME = ("frame", "clip-statistics")
"""Architectures that judge each frame by itself: their windows are one frame."""


def head_config(task: Task, dataset: Dataset, recipe: Recipe, seed: int, *, final_channels: int = 960) -> HeadConfig:
    """The description of the head that a recipe asks for, untrained as yet.

    Raises:
        UsageError: the cache lacks what it reads, or sizes don't go together.

    Where the recipe leaves open which maps are read, a mixer takes as many as their sizes allow, see
    :func:`skipped_levels`.
    """
    lengths = {name: int(getattr(dataset, name, 0)) for name in VECTORS}
    held = _held(dataset)
    inputs = _inputs(recipe, held)
    if missing := [name for name in inputs if name not in held]:
        raise UsageError(
            f"recipe {recipe.name} reads {', '.join(inputs)}, the cache holds {', '.join(held) or 'neither'} and lacks "
            f"{', '.join(missing)}; extract with --maps or --store so that it has them, or --set inputs=... --levels N"
        )
    maps = [name for name in inputs if name not in VECTORS]
    config = HeadConfig(
        name=f"{task.name}-{recipe.architecture}{len(maps) if recipe.architecture == 'tam' else ''}-{recipe.name}",
        task=task.name,
        outputs=task.outputs,
        scope=task.scope,
        activation=task.activation,
        features_id=dataset.offer.features_of(inputs),
        map_shapes={name: dataset.map_shapes[name] for name in maps},
        architecture=recipe.architecture,
        form=recipe.form,
        levels=len(maps),
        window=1 if recipe.architecture in SINGLE_FRAME else recipe.window,
        time_patch=recipe.time_patch,
        final_channels=final_channels if "s32" in maps else 0,
        rate=dataset.config.sampling.fps,
        crop_style=dataset.config.crop_style,
        backbone=dataset.config.backbone.name,
        inputs=inputs,
        vector_lengths={name: lengths[name] for name in inputs if name in VECTORS},
        hidden=recipe.hidden,
        dropout=recipe.dropout,
        causal=recipe.causal,
        statistics=STATISTICS if recipe.architecture == "clip-statistics" else ("mean", "std"),
        seed=seed,
    )
    try:
        check_config(config)
    except EmobeamError as error:
        raise UsageError(f"recipe {recipe.name}: {error}") from error
    return config


def start_module(config: HeadConfig, final: Mapping[str, Tensor] | None = None) -> HeadModule:
    """The module of a config with seeded random weights; torch's own random state is left alone.

    Args:
        final: tensors of the backbone's final layer to start from.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        module = build(config)
    if final is not None and module.final is not None:
        module.final.load_timm(final)
    return module


def reads_final_layer(recipe: Recipe, dataset: Dataset) -> bool:
    """Whether the head has the backbone's final layer in it, and it starts from the backbone's weights."""
    return recipe.final_start == "backbone" and "s32" in _inputs(recipe, _held(dataset))


def skipped_levels(recipe: Recipe, dataset: Dataset) -> str:
    """What to say where a recipe reads as many levels as it can, and the sizes of the maps allow fewer than there are.

    Empty where nothing is left out, and where the recipe itself says what it reads.
    """
    held = _held(dataset)
    taken = _inputs(recipe, held)
    most = next((names for names in _MOST_FIRST if set(names) <= set(held)), ())
    if recipe.inputs or recipe.levels or not set(taken) < set(most):
        return ""
    sizes = ", ".join(f"{name} {height}x{width}" for name, (_, height, width) in dataset.map_shapes.items())
    return (
        f"reads {', '.join(taken)} alone of the maps in the cache ({sizes}): the others can't be cut into the patches "
        "of map s32; crops of 128 or 224 px (a multiple of 32) would give maps that can"
    )


_MOST_FIRST = tuple(LEVELS[count] for count in sorted(LEVELS, reverse=True))


def _held(dataset: Dataset) -> dict[str, tuple[int, ...]]:
    """Shapes of all that a head may read."""
    vectors = {name: (int(getattr(dataset, name, 0)),) for name in VECTORS if getattr(dataset, name, 0)}
    return {**{name: tuple(shape) for name, shape in dataset.map_shapes.items()}, **vectors}


def _inputs(recipe: Recipe, held: Mapping[str, Sequence[int]]) -> tuple[str, ...]:
    if recipe.inputs:
        return recipe.inputs
    if recipe.architecture in ("tam", "tcn") or "embedding" not in held:
        if recipe.levels:
            return LEVELS[recipe.levels]
        there = (names for names in _MOST_FIRST if set(names) <= set(held))
        return next((names for names in there if recipe.architecture != "tam" or can_cut(names, held)), LEVELS[1])
    return ("embedding",)
