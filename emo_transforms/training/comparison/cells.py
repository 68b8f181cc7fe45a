"""What a comparison of heads is made of: its cells, and what is said of several seeds.

A cell is one cache, one architecture, one set of inputs and one recipe; seeds are repetitions within it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from types import MappingProxyType
from typing import Any

from emobeam.emo_transforms.cache.dataset import Dataset
from emobeam.emo_transforms.networks.heads.architectures.tam import LEVELS
from emobeam.emo_transforms.networks.heads.config import USUAL_SIZES
from emobeam.emo_transforms.training.heads.recipe import Recipe, recipe_named
from emobeam.schemas.records import UsageError
from emobeam.schemas.tables import VECTORS
from emobeam.schemas.tasks import Task


@dataclass(frozen=True)
class Kind:
    """An architecture as a comparison names it.

    Attributes:
        architecture, form: fields of the recipe.
        maps: reads nothing but maps.
        scopes: of tasks it is for.
        sized: has the window, the time patch and (where the recipe has none) the hidden layer that are usual for it
            (``heads.config.USUAL_SIZES``) instead of the recipe's.
    """

    architecture: str
    form: str = "clip"
    maps: bool = False
    scopes: tuple[str, ...] = ("frame",)
    sized: bool = False


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "tam-clip": Kind("tam", "clip", maps=True, scopes=("frame", "clip")),
        "tam-frame": Kind("tam", "frame", maps=True),
        "frame": Kind("frame", sized=True),
        "tcn": Kind("tcn", sized=True),
        "clip-statistics": Kind("clip-statistics", scopes=("clip",), sized=True),
    }
)
"""What can be compared. ``tam-clip`` is the published mixer, ``tam-frame`` has a vector for each time patch."""


@dataclass(frozen=True)
class Cell:
    """What is trained with several seeds.

    Attributes:
        cache: label of the cache.
        kind: one of :data:`KINDS`.
        inputs: columns that it reads.
        recipe: complete.
    """

    cache: str
    kind: str
    inputs: tuple[str, ...]
    recipe: Recipe

    @property
    def levels(self) -> int:
        """Number of maps it reads."""
        return len([name for name in self.inputs if name not in VECTORS])

    @property
    def title(self) -> str:
        """For people: ``tam-clip, 3 levels``."""
        return f"{self.kind}, {inputs_text(self.inputs)}"

    @property
    def slug(self) -> str:
        """For names of folders."""
        return f"{self.cache}-{self.kind}-{'+'.join(self.inputs)}"


def inputs_text(inputs: Sequence[str]) -> str:
    """For people: ``2 levels``, or the names of vectors."""
    count = len([name for name in inputs if name not in VECTORS])
    names = [*([f"{count} level{'s' if count > 1 else ''}"] if count else []), *(n for n in inputs if n in VECTORS)]
    return " + ".join(names)


def default_kinds(task: Task) -> tuple[str, ...]:
    """All that fit the scope of a task."""
    return tuple(name for name, kind in KINDS.items() if task.scope in kind.scopes)


def cells_of(
    task: Task,
    caches: Mapping[str, Dataset],
    recipe: str,
    settings: Sequence[str] = (),
    *,
    kinds: Sequence[str] = (),
    levels: Sequence[int] = (1, 2, 3),
) -> tuple[list[Cell], list[str]]:
    """The cells of a comparison, and notes on what was left out.

    A step of every cell sees as many frames: ``batch`` of the recipe means windows of the recipe's length.

    Args:
        caches: by label.
        recipe: name of a recipe or URI of a JSON file.
        settings: ``field=value`` for all, or ``kind.field=value`` for one kind.
        kinds: names of :data:`KINDS`; empty: all that fit the task.
        levels: numbers of maps; what a cache lacks is left out with a note. Of caches without maps the kinds that
            need none read the ``embedding``, else the ``scores``, or what the recipe names.

    Raises:
        UsageError: unknown names, a recipe that makes no sense here, or no cell at all.
    """
    kinds = tuple(kinds) or default_kinds(task)
    general, own = _split(settings, kinds)
    cells: list[Cell] = []
    notes: list[str] = []
    for label, dataset in caches.items():
        for name in kinds:
            if task.scope not in KINDS[name].scopes:
                raise UsageError(
                    f"--architectures {name}: task {task.name} is of {task.scope} scope; choose among "
                    f"{', '.join(default_kinds(task))}"
                )
            base = _recipe(recipe, task, general, own[name], KINDS[name])
            for inputs in _inputs(label, dataset, name, base, levels, notes):
                own_levels = len([column for column in inputs if column not in VECTORS])
                changes: dict[str, Any] = {"levels": own_levels, "inputs": () if KINDS[name].maps else inputs}
                cells.append(Cell(label, name, inputs, replace(base, **changes)))
    if not cells:
        raise UsageError("nothing to compare: " + "; ".join(dict.fromkeys(notes)))
    return cells, list(dict.fromkeys(notes))


def _split(settings: Sequence[str], kinds: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    if unknown := [name for name in kinds if name not in KINDS]:
        raise UsageError(f"--architectures {', '.join(unknown)}: choose among {', '.join(KINDS)}")
    general: list[str] = []
    own: dict[str, list[str]] = {name: [] for name in kinds}
    for setting in settings:
        kind, dot, rest = setting.partition(".")
        if dot and "=" not in kind:
            if kind not in KINDS:
                raise UsageError(f"--set {setting}: no architecture {kind!r}; there are {', '.join(KINDS)}")
            if kind in own:
                own[kind].append(rest)
        else:
            general.append(setting)
    fixed = ("architecture", "form", "levels")
    every = chain(general, *own.values())
    if wrong := [entry for entry in every if entry.split("=")[0].strip() in fixed]:
        raise UsageError(f"--set {wrong[0]}: a comparison chooses this itself; see --architectures and --levels")
    return general, own


def _recipe(name: str, task: Task, general: Sequence[str], own: Sequence[str], kind: Kind) -> Recipe:
    base = recipe_named(name, task.name, general)
    if base.end_to_end:
        raise UsageError(f"recipe {base.name}: trains the backbone, and a comparison is of heads on caches")
    full = recipe_named(name, task.name, [*general, *own])
    said = {entry.split("=")[0].strip() for entry in own}
    changes: dict[str, Any] = {"architecture": kind.architecture, "form": kind.form}
    if kind.sized:
        usual = USUAL_SIZES[kind.architecture]
        changes |= {key: usual[key] for key in ("window", "time_patch") if key not in said}
        if "hidden" not in said and not full.hidden:
            changes["hidden"] = usual["hidden"]
    window = changes.get("window", full.window)
    if "batch" not in said and task.scope == "frame":
        changes["batch"] = max(1, round(base.batch * base.window / window))
    return replace(full, **changes)


def _inputs(
    label: str, dataset: Dataset, kind: str, recipe: Recipe, levels: Sequence[int], notes: list[str]
) -> Iterable[tuple[str, ...]]:
    if dataset.map_shapes and not set(recipe.inputs) & set(VECTORS):
        for count in dict.fromkeys(levels):
            if count not in LEVELS:
                raise UsageError(f"--levels {count}: choose among {', '.join(map(str, LEVELS))}")
            missing = [name for name in LEVELS[count] if name not in dataset.map_shapes]
            if missing:
                notes.append(f"{label}: no {count} levels, the cache lacks {', '.join(missing)}")
            else:
                yield LEVELS[count]
        return
    if KINDS[kind].maps:
        why = "the cache holds none" if not dataset.map_shapes else f"the recipe reads {', '.join(recipe.inputs)}"
        notes.append(f"{label}: no {kind}, it reads maps and {why}")
        return
    held = [name for name in ("embedding", "scores") if getattr(dataset, name)]
    inputs = recipe.inputs or tuple(held[:1])
    if not inputs:
        notes.append(f"{label}: no {kind}, the cache holds neither maps nor vectors")
    elif missing := [name for name in inputs if name not in held and name not in dataset.map_shapes]:
        notes.append(f"{label}: no {kind}, the cache lacks {', '.join(missing)}")
    else:
        yield inputs


def cache_labels(datasets: Sequence[Dataset]) -> list[str]:
    """A short name for each cache: its backbone, with the beginning of an identity where that isn't enough.

    Raises:
        UsageError: one cache is named twice.
    """
    names = [dataset.config.backbone.name for dataset in datasets]
    labels = []
    for name, dataset in zip(names, datasets, strict=True):
        alike = [other for other in datasets if other.config.backbone.name == name]
        same_features = [other for other in alike if other.config.features_id == dataset.config.features_id]
        if len(alike) == 1:
            labels.append(name)
        elif len(same_features) == 1:
            labels.append(f"{name}-{dataset.config.features_id[:6]}")
        else:
            labels.append(f"{name}-{dataset.config.cache_id[:6]}")
    if twice := {label for label in labels if labels.count(label) > 1}:
        raise UsageError(f"two caches were made the same way ({', '.join(sorted(twice))}); name each once")
    return labels


def spread(values: Iterable[float | None]) -> dict[str, float | int | None]:
    """Mean, sample standard deviation, least and largest of the finite values; None where there are none.

    The deviation of one value is None.
    """
    known = [value for value in values if value is not None and math.isfinite(value)]
    return {
        "n": len(known),
        "mean": statistics.fmean(known) if known else None,
        "sd": statistics.stdev(known) if len(known) > 1 else None,
        "min": min(known, default=None),
        "max": max(known, default=None),
    }
