"""Recipes of pretraining: all that decides how a backbone is trained, but the data and the seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any

from emobeam.schemas.records import UsageError


@dataclass(frozen=True)
class PretrainRecipe:
    """How a backbone is trained. Every field can be set by ``--set name=value``.

    Attributes:
        name: for people.
        input_size: edge of the square input in px.
        batch: images of a step.
        head_epochs: epochs in which the new output layer alone trains (none from an untrained start).
        epochs: epochs in which everything trains, after those.
        head_lr, lr: learning rates of the two stages.
        lr_min: where the cosine ends.
        schedule: of the second stage: ``cosine`` or ``constant``; the first one is constant.
        warmup_epochs: of the second stage, linear from 0.
        optimiser: ``adamw`` or ``adam``.
        beta1, beta2, weight_decay: of it; biases and norms aren't decayed.
        smoothing: of class labels.
        class_weights: by training counts n: ``none``, ``sqrt`` (1/sqrt n) or ``inverse`` (1/n).
        va_weight: of the sum of 1 - CCC of valence and arousal beside the classes.
        va_rows: with fewer labelled rows in a batch the squared error takes the place of 1 - CCC, which is noise there.
        dropout, drop_path: of the network.
        ema: decay of the moving average of the weights, which is what is kept; 0: none. It warms up.
        augment: ``none`` (resized alone), ``faces`` (see ``.faces.augmented_views``) or ``imagenet`` (RandAugment and
            random resized crops, as timm's own recipe).
        erase: probability that a rectangle of 2 to 20 % of the picture is filled with the mean colour.
        sam: radius of sharpness-aware minimisation; 0: none. Doubles the cost.
        holdout: share of the training images that selects the best epoch.
        patience: epochs without a better figure that end training; 0: never.
        precision: ``float32`` or ``bf16`` (autocast).
        norms: of batch norms, with crops of people alone: ``batch`` (statistics of each batch) or ``frozen`` (those of
            the crops as they are, measured once, at the start: for going on at another size or rate).
    """

    name: str = "emobeam"
    input_size: int = 224
    batch: int = 256
    head_epochs: int = 2
    epochs: int = 15
    head_lr: float = 1e-3
    lr: float = 3e-4
    lr_min: float = 1e-6
    schedule: str = "cosine"
    warmup_epochs: float = 1.0
    optimiser: str = "adamw"
    beta1: float = 0.9
    beta2: float = 0.999
    weight_decay: float = 0.05
    smoothing: float = 0.1
    class_weights: str = "sqrt"
    va_weight: float = 0.5
    va_rows: int = 128
    dropout: float = 0.2
    drop_path: float = 0.05
    ema: float = 0.999
    augment: str = "faces"
    erase: float = 0.25
    sam: float = 0.0
    holdout: float = 0.05
    patience: int = 0
    precision: str = "float32"
    norms: str = "batch"


_EMOBEAM = PretrainRecipe()
_AUTHORS = PretrainRecipe(
    name="authors",
    input_size=112,
    batch=1024,
    head_epochs=0,
    epochs=2400,
    lr=1e-3,  # .002 per 4096 images, scaled by the root, as timm does for Adam and its kin
    lr_min=0.0,
    warmup_epochs=5.0,
    beta1=0.6,
    beta2=0.995,
    weight_decay=0.06,
    class_weights="none",
    dropout=0.25,
    drop_path=0.0,
    ema=0.99995,
    augment="imagenet",
    precision="bf16",
)
_HSEMOTION = PretrainRecipe(
    name="hsemotion",
    batch=48,
    head_epochs=3,
    epochs=6,
    lr=1e-4,
    schedule="constant",
    warmup_epochs=0.0,
    optimiser="adam",
    weight_decay=0.0,
    class_weights="inverse",
    va_rows=2,
    dropout=0.0,
    drop_path=0.0,
    ema=0.0,
    augment="none",
    erase=0.0,
    sam=0.05,
)

_UNITS = PretrainRecipe(
    name="units",
    input_size=128,
    batch=64,
    head_epochs=0,
    epochs=30,
    lr=2e-3,
    dropout=0.1,
    drop_path=0.0,
    erase=0.15,
)

PRETRAIN_RECIPES: Mapping[str, PretrainRecipe] = MappingProxyType(
    {"emobeam": _EMOBEAM, "authors": _AUTHORS, "hsemotion": _HSEMOTION, "units": _UNITS}
)
"""The named recipes.

* ``emobeam``: two stages, AdamW with cosine, mild changes that leave action units readable, half of the crops reduced
  to 112 px and back, as the crops of the challenges are.
* ``authors``: what the authors of "Lightweight Models for Emotional Analysis in Video" published: timm's ImageNet
  recipe of MobileNetV4-small, from scratch at 112 px, up to 2400 epochs.
* ``hsemotion``: the HSEmotion family (Savchenko 2022): Adam within sharpness-aware minimisation, no augmentation,
  classes weighted by 1/n.
* ``units``: for crops of people with action units: from scratch at 128 px, all layers at once. A second run of fewer
  epochs starts from the first at 224 px.
"""

_CHOICES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "schedule": ("cosine", "constant"),
        "optimiser": ("adamw", "adam"),
        "class_weights": ("none", "sqrt", "inverse"),
        "augment": ("none", "faces", "imagenet"),
        "precision": ("float32", "bf16"),
        "norms": ("batch", "frozen"),
    }
)
_BELOW_ONE = ("smoothing", "dropout", "drop_path", "ema", "erase", "holdout", "beta1", "beta2")


def pretrain_recipe(name: str, settings: Sequence[str] = ()) -> PretrainRecipe:
    """The recipe of that name with ``field=value`` settings.

    Raises:
        UsageError: unknown recipe or field, or a value that makes no sense.
    """
    if name not in PRETRAIN_RECIPES:
        raise UsageError(f"--recipe {name}: choose one of {', '.join(PRETRAIN_RECIPES)}")
    base = PRETRAIN_RECIPES[name]
    values: dict[str, Any] = {}
    known = {entry.name for entry in fields(PretrainRecipe)} - {"name"}
    for setting in settings:
        key, sign, text = (part.strip() for part in setting.partition("="))
        if not sign or key not in known:
            raise UsageError(f"--set {setting}: expected field=value with one of {', '.join(sorted(known))}")
        kind = type(getattr(base, key))
        try:
            values[key] = kind(text)
        except ValueError:
            raise UsageError(
                f"--set {setting}: expected {'a number' if kind is not int else 'a whole number'}"
            ) from None
    recipe = replace(base, **values)
    _check(recipe)
    return recipe


def _check(recipe: PretrainRecipe) -> None:
    for key, choices in _CHOICES.items():
        if getattr(recipe, key) not in choices:
            raise UsageError(f"recipe: {key} is {getattr(recipe, key)!r}, expected one of {', '.join(choices)}")
    for entry in fields(PretrainRecipe):
        value = getattr(recipe, entry.name)
        if isinstance(value, (int, float)) and not 0 <= value < math.inf:
            raise UsageError(f"recipe: {entry.name} is {value}, expected a number from 0")
    for key in _BELOW_ONE:
        if getattr(recipe, key) >= 1:
            raise UsageError(f"recipe: {key} is {getattr(recipe, key)}, expected less than 1")
    if recipe.batch < 2 or recipe.input_size < 32 or recipe.head_epochs + recipe.epochs < 1:
        raise UsageError("recipe: batch must be 2 or more, input_size 32 or more, and there must be an epoch")


def learning_rate(recipe: PretrainRecipe, stage: str, step: int, steps_per_epoch: int) -> float:
    """The rate of a step.

    Args:
        stage: ``head`` or ``all``.
        step: counted from the start of the stage.
    """
    if stage == "head":
        return recipe.head_lr
    warmup = round(recipe.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return recipe.lr * (step + 1) / warmup
    if recipe.schedule == "constant":
        return recipe.lr
    share = (step - warmup) / max(recipe.epochs * steps_per_epoch - warmup, 1)
    return recipe.lr_min + (recipe.lr - recipe.lr_min) * (1 + math.cos(math.pi * min(share, 1.0))) / 2
