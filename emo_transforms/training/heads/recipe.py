"""Recipes: all that decides how a head is trained, but the data and the seed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from types import MappingProxyType
from typing import Any, Literal

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.networks.heads.config import USUAL_SIZES
from emobeam.schemas.records import EmobeamError, UsageError


@dataclass(frozen=True)
class Recipe:
    """How a head is trained. Every field can be set by ``--set name=value`` or in a JSON file.

    Attributes:
        name: for people; ``+`` at its end says that something was set otherwise than the recipe of that name has it.
        end_to_end: the backbone trains too, from stored crops (see ``training.end_to_end``).
        architecture: of the head.
        inputs: columns it reads, where the architecture leaves a choice; empty: its own.
        levels: maps a mixer reads, 1 to 3; 0: as many as the cache allows.
        form: ``clip`` (one vector per window) or ``frame``.
        window: sampled frames of a window, T. With another architecture than the recipe's, ``window``, ``time_patch``
            and ``hidden`` are that architecture's usual ones where they aren't set, and ``batch`` is as many frames.
            A ``tcn`` learns from windows by themselves, each from zeros at its start, while it predicts whole
            runs: let windows be well longer than the 31 frames that it sees.
        time_patch: frames of a patch of a mixer.
        hidden: width of a layer before the output layer; 0: there is none.
        dropout: of what enters the output layers.
        causal: of ``tcn``: no value depends on later frames.
        stride: sampled frames between the starts of two training windows; 0: side by side.
        window_gap: seconds without a row beyond which a window ends.
        drop_invalid: rows without any valid label are left out before windows are cut (as the published code
            does, but never across ``window_gap``); else they stay in their window and are masked.
        optimiser: ``adamw`` or ``adam``.
        lr, weight_decay: of it.
        schedule: of the learning rate, by step: ``restarts`` (cosine annealing with warm restarts every
            ``restart_steps``), ``cosine`` (to ``lr_min`` at the end of the last epoch) or ``constant``.
        restart_steps, lr_min, warmup_steps: of it; during the warm-up, at most a tenth of all steps, the rate grows
            linearly from 0.
        clip_norm: largest norm of all gradients together; 0: no limit.
        batch: windows of a step, for frame-level tasks.
        clip_batch: videos of a step, for clip-level tasks.
        clip_windows: at most so many windows of a video in a step, drawn anew each epoch; 0: all.
        epochs: at most.
        fraction: of the batches, drawn anew each epoch.
        patience: epochs without a better hold-out figure that end training; 0: never.
        precision: ``float32`` or ``bf16`` (autocast).
        au_loss: of yes-or-no outputs: ``focal`` or ``bce``.
        alpha, gamma: of the focal losses.
        smoothing: of class labels.
        kl_share: share of the Kullback-Leibler part in the loss of classes, the rest is focal cross-entropy.
        mse_weight: of the squared error beside Pearson's r.
        pos_weight: of "yes" in ``bce``; 0: negatives over positives among the training labels, at most 100.
        class_weights: of classes by their training counts n: ``none``, ``sqrt`` (1/sqrt n) or ``inverse`` (1/n).
        final_start: the backbone's final layer in the head starts from the weights of the cache's ``backbone`` or
            at ``random``.
        final_layer: it is left to ``train`` or ``frozen``.
        final_norm: its batch norm uses statistics of the batch (``batch``) or those of the backbone (``fixed``).
        holdout: fraction of the training rows that select and tune, never trained on; 0: none.
        holdout_seed: of the cut, the same for all seeds.
        tune_thresholds: thresholds of yes-or-no outputs are chosen on the hold-out; else they stay 0.5.
        tune_smoothing: so is the half-width of the box filter over time; else there is none.
        views: train on all augmented views that the cache holds (``all``) or on the plain one alone (``plain``).
    """

    name: str = "paper"
    end_to_end: bool = False
    architecture: str = "tam"
    inputs: tuple[str, ...] = ()
    levels: int = 0
    form: str = "clip"
    window: int = 8
    time_patch: int = 4
    hidden: int = 0
    dropout: float = 0.3
    causal: bool = True
    stride: int = 0
    window_gap: float = 0.5
    drop_invalid: bool = True
    optimiser: str = "adamw"
    lr: float = 5e-4
    weight_decay: float = 2e-5
    schedule: str = "restarts"
    restart_steps: int = 2000
    lr_min: float = 1e-6
    warmup_steps: int = 0
    clip_norm: float = 0.0
    batch: int = 128
    clip_batch: int = 32
    clip_windows: int = 16
    epochs: int = 10
    fraction: float = 0.5
    patience: int = 3
    precision: str = "float32"
    au_loss: str = "focal"
    alpha: float = 0.75
    gamma: float = 2.0
    smoothing: float = 0.1
    kl_share: float = 0.2
    mse_weight: float = 0.1
    pos_weight: float = 0.0
    class_weights: str = "none"
    final_start: str = "backbone"
    final_layer: str = "train"
    final_norm: str = "batch"
    holdout: float = 0.1
    holdout_seed: int = 0
    tune_thresholds: bool = False
    tune_smoothing: bool = False
    views: str = "all"


_PAPER = Recipe()
_EMOBEAM = replace(
    _PAPER,
    name="emobeam",
    drop_invalid=False,
    schedule="cosine",
    warmup_steps=100,
    clip_norm=1.0,
    fraction=1.0,
    class_weights="sqrt",
    final_norm="fixed",
    tune_thresholds=True,
    tune_smoothing=True,
)
_HSEMOTION = replace(
    _PAPER,
    name="hsemotion",
    architecture="frame",
    inputs=("embedding",),
    window=1,
    time_patch=1,
    hidden=128,
    dropout=0.0,
    optimiser="adam",
    lr=1e-3,
    weight_decay=0.0,
    schedule="constant",
    batch=256,
    clip_batch=512,
    clip_windows=0,
    fraction=1.0,
    au_loss="bce",
    smoothing=0.0,
    gamma=0.0,
    alpha=1.0,
    kl_share=0.0,
    mse_weight=0.0,
    class_weights="inverse",
    tune_thresholds=True,
    tune_smoothing=True,
)

RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "paper": _PAPER,
        "emobeam": _EMOBEAM,
        "authors": replace(_PAPER, name="authors", end_to_end=True, levels=1, window_gap=86400.0),  # steps over any gap
        "hsemotion": _HSEMOTION,
        "soft": replace(_EMOBEAM, name="soft", au_loss="bce", pos_weight=1.0),
    }
)
"""The named recipes.

* ``paper``: "Lightweight Models for Emotional Analysis in Video" (Nguyen, Nguyen & Huynh, ABAW8 2025), in the
  words of the paper: the backbone frozen but for its final layer, so that the cache is all that is read.
  Hyper-parameters are those that were published with it.
* ``emobeam``: the same model with what costs nothing at inference: unlabelled frames keep their place in time,
  the final layer's statistics stay those of the backbone, thresholds and smoothing come from the hold-out.
  Measured on generated caches alone (36 clips of 64 rows to train on, a quarter of the labels missing, heavy noise;
  ``tam`` of 3 levels, 15 epochs, 3 seeds; CCC on 12 other clips): where only motion tells the label 0.979 +- 0.001
  against 0.931 +- 0.010 of ``paper``, where every frame does 0.990 +- 0.002 against 0.972 +- 0.004. About half of that
  is ``fraction`` (``paper`` with all batches: 0.961 and 0.981); leaving unlabelled rows out cost 0.007 and 0.001;
  schedule, warm-up, ``clip_norm`` and ``final_norm`` made no difference beyond that between seeds. Real videos may say
  otherwise: ``emobeam compare`` tells. With an untrained backbone take ``final_norm=batch``.
* ``authors``: the published code, which trains the backbone too (from stored crops); one level of maps, as in the
  run behind the paper's 0.5441. In float32, where that run was bf16-mixed: ``precision=bf16`` does the same.
* ``soft``: ``emobeam`` for labels that say how active a unit is (people folders): plain cross-entropy, so that an
  output comes to mean the activation itself; thresholds come from the hold-out, where 0.3 counts as present.
* ``hsemotion``: small heads on one frame's embedding or class scores (Savchenko, ABAW6 and ABAW8).
"""

_PER_TASK: Mapping[tuple[str, str], Mapping[str, Any]] = MappingProxyType(
    {
        ("hsemotion", "va"): {"inputs": ("scores",), "hidden": 0, "batch": 1024},
        ("hsemotion", "au"): {"batch": 512, "epochs": 5},
        ("hsemotion", "emi"): {
            "architecture": "clip-statistics",
            "inputs": ("scores",),
            "hidden": 64,
            "epochs": 20,
        },
        ("hsemotion", "ah"): {"inputs": ("scores",), "hidden": 64, "lr": 5e-4, "batch": 512},
        ("hsemotion", "ah-video"): {
            "architecture": "clip-statistics",
            "inputs": ("scores",),
            "hidden": 64,
            "lr": 5e-4,
        },
    }
)

_CHOICES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "optimiser": ("adamw", "adam"),
        "schedule": ("restarts", "cosine", "constant"),
        "precision": ("float32", "bf16"),
        "au_loss": ("focal", "bce"),
        "class_weights": ("none", "sqrt", "inverse"),
        "final_start": ("backbone", "random"),
        "final_layer": ("train", "frozen"),
        "final_norm": ("batch", "fixed"),
        "views": ("all", "plain"),
        "form": ("clip", "frame"),
    }
)
_POSITIVE = ("window", "time_patch", "lr", "restart_steps", "batch", "clip_batch", "epochs")
_FRACTIONS = ("alpha", "smoothing", "kl_share")

Kind = Literal["bool", "int", "float", "str", "tuple"]


def recipe_named(name: str, task: str, settings: Sequence[str] = ()) -> Recipe:
    """The recipe a user asks for.

    Args:
        name: of a recipe, or the URI of a JSON file: an object with fields of :class:`Recipe`, and ``base`` for
            the recipe that gives the others (``paper`` where there is none).
        task: name of the task; some recipes differ between tasks.
        settings: ``field=value``, which win.

    Raises:
        UsageError: unknown recipe or field, or a value that makes no sense.
        EmobeamError: the file can't be read.
    """
    values: dict[str, Any] = {}
    if name not in RECIPES:
        if not name.endswith(".json"):
            raise UsageError(f"--recipe {name}: choose one of {', '.join(RECIPES)}, or name a .json file")
        values = _file_values(name)
        name = values.pop("base", "paper")
        if name not in RECIPES:
            raise UsageError(f"--recipe: unknown base {name!r}; choose one of {', '.join(RECIPES)}")
    base, from_file = replace(RECIPES[name], **_PER_TASK.get((name, task), {})), dict(values)
    for setting in settings:
        key, sign, text = setting.partition("=")
        if not sign:
            raise UsageError(f"--set {setting}: expected field=value")
        values[key.strip()] = _parsed(key.strip(), text.strip())
    recipe = _changed(base, values)
    check_recipe(recipe)
    named = any(setting.partition("=")[0].strip() == "name" for setting in settings)
    known = _changed(base, from_file) if "name" in from_file else base
    return recipe if named or recipe == known else replace(recipe, name=f"{recipe.name.rstrip('+')}+")


def _changed(base: Recipe, values: Mapping[str, Any]) -> Recipe:
    """With other values, and the usual sizes of an architecture that isn't the base's where nobody says otherwise."""
    try:
        said = {key: _checked(key, value) for key, value in values.items()}
    except ValueError as error:
        raise UsageError(f"recipe: {error}") from error
    recipe = replace(base, **said)
    if recipe.architecture == base.architecture:
        return recipe
    usual = USUAL_SIZES.get(recipe.architecture, {})
    changes: dict[str, Any] = {key: size for key, size in usual.items() if key not in said}
    if "batch" not in said:
        window = changes.get("window", recipe.window)
        changes["batch"] = max(1, round(base.batch * base.window / max(window, 1)))
    return replace(recipe, **changes)


def recipe_to_json(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain JSON data."""
    data: dict[str, Any] = json.loads(json.dumps(asdict(recipe)))
    return data


def check_recipe(recipe: Recipe) -> None:
    """Raises :class:`UsageError` where a value makes no sense."""
    for key, known in _CHOICES.items():
        if getattr(recipe, key) not in known:
            raise UsageError(f"recipe: {key} is {getattr(recipe, key)!r}, expected one of {', '.join(known)}")
    for entry in fields(Recipe):
        value = getattr(recipe, entry.name)
        if isinstance(value, (int, float)) and (value != value or value < 0):
            raise UsageError(f"recipe: {entry.name} is {value}, expected a number from 0")
    for key in _POSITIVE:
        if getattr(recipe, key) <= 0:
            raise UsageError(f"recipe: {key} is {getattr(recipe, key)}, expected more than 0")
    for key in _FRACTIONS:
        if getattr(recipe, key) > 1:
            raise UsageError(f"recipe: {key} is {getattr(recipe, key)}, expected 0 to 1")
    if not 0 < recipe.fraction <= 1:
        raise UsageError(f"recipe: fraction is {recipe.fraction}, expected more than 0, at most 1")
    if recipe.holdout >= 1:
        raise UsageError(f"recipe: holdout is {recipe.holdout}, expected less than 1")
    if recipe.stride > recipe.window:
        raise UsageError(f"recipe: a stride of {recipe.stride} leaves rows between windows of {recipe.window} out")
    if recipe.levels > 3:
        raise UsageError(f"recipe: levels is {recipe.levels}, expected 1, 2 or 3 (0: as many as the cache allows)")


def window_length(text: str, rate: float, time_patch: int) -> int:
    """Frames of a window from what a user writes: ``8``, or ``1.5s`` at the rate of the cache.

    Seconds are rounded to the nearest multiple of ``time_patch`` frames, at least one.

    Args:
        rate: sampled frames per second; 0 is the native rate.

    Raises:
        UsageError: neither; or seconds where the rate is that of each video.
    """
    try:
        if not text.endswith("s"):
            if int(text) <= 0:
                raise ValueError
            return int(text)
        seconds = float(text[:-1])
        if not 0 < seconds < float("inf"):
            raise ValueError
    except ValueError:
        raise UsageError(f"--window {text}: expected a number of frames, or seconds such as 1.5s") from None
    if not rate:
        raise UsageError(f"--window {text}: this cache holds native frame rates; give the window in frames")
    return max(1, round(seconds * rate / time_patch)) * time_patch


def _kinds() -> dict[str, Kind]:
    found: dict[str, Kind] = {}
    for entry in dataclasses.fields(Recipe):
        found[entry.name] = str(entry.type).split("[")[0]  # type: ignore[assignment]
    return found


def _parsed(key: str, text: str) -> Any:
    """The value of ``--set``: as its field's type asks."""
    kind = _kinds().get(key)
    if kind is None:
        raise UsageError(f"--set {key}: a recipe has no such field; it has {', '.join(_kinds())}")
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    try:
        match kind:
            case "bool":
                return words[text.lower()]
            case "tuple":
                return tuple(part.strip() for part in text.split(",") if part.strip())
            case "int":
                return int(text)
            case "float":
                return float(text)
            case _:
                return text
    except (KeyError, ValueError):
        raise UsageError(f"--set {key}={text}: expected a value of type {kind}") from None


def _checked(key: str, value: Any) -> Any:
    kind = _kinds().get(key)
    if kind is None:
        raise ValueError(f"no field {key!r}; there are {', '.join(_kinds())}")
    if kind == "tuple" and isinstance(value, (list, tuple)) and all(isinstance(entry, str) for entry in value):
        return tuple(value)
    if kind == "float" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    wanted: dict[str, type] = {"bool": bool, "int": int, "float": float, "str": str}
    if kind == "tuple" or type(value) is not wanted[kind]:
        raise ValueError(f"{key} is {value!r}, expected a value of type {kind}")
    return value


def _file_values(uri: str) -> dict[str, Any]:
    try:
        data = storage.read_json(uri)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise EmobeamError(f"--recipe {uri}: no such file") from error
    if not isinstance(data, dict):
        raise EmobeamError(f"--recipe {uri}: expected a JSON object with fields of a recipe")
    return dict(data)
