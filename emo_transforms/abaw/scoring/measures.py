"""What each challenge measures: which sums a video contributes, and what they amount to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from emobeam.emo_transforms.abaw.scoring.partial_sums import ApCurve, BinarySums, ConfusionSums, MomentSums
from emobeam.schemas.tasks import Task

Sums = MomentSums | BinarySums | ConfusionSums | ApCurve
VideoSums = Mapping[str, Sums]
"""Sums of one video by the name of what they are for; see :func:`sums_of`."""

Kind = Literal["ccc", "pearson", "binary", "classes", "two_classes"]


@dataclass(frozen=True)
class Group:
    """Outputs that are measured alike (see ``.schemas.tasks.OutputGroup``); MTL has three groups, other tasks one.

    Attributes:
        name: the group's.
        kind: ``ccc``, ``pearson``: real values; ``binary``: yes or no per output; ``classes``: one label out of
            several; ``two_classes``: yes or no, where "no" is a class with its own F1.
        outputs: names of what gets a figure of its own.
        labels: its columns in label form (one number per value, yes-or-no or class).
        scores: its columns in a predictions table (for ``classes`` one per class).
    """

    name: str
    kind: Kind
    outputs: tuple[str, ...]
    labels: slice
    scores: slice


@dataclass(frozen=True)
class Measure:
    """The measure of one task: the sum over groups of the mean over their outputs.

    Attributes:
        title: for people.
        weighted: F1 of two classes is averaged by how often they are true.
        precision: average precision is told as well.
    """

    title: str
    groups: tuple[Group, ...]
    weighted: bool = False
    precision: bool = False


_SPECIAL: Mapping[str, Kind] = MappingProxyType(
    {"emi": "pearson", "ah": "two_classes", "ah-video": "two_classes", "vd": "two_classes"}
)
_USUAL: Mapping[str, Kind] = MappingProxyType({"value": "ccc", "binary": "binary", "class": "classes"})
_TITLES: Mapping[Kind, str] = MappingProxyType(
    {
        "ccc": "mean CCC of {}",
        "pearson": "mean Pearson's r of {} outputs",
        "binary": "mean F1 of {} outputs",
        "classes": "macro F1 of {} classes",
        "two_classes": "macro F1 of both classes",
    }
)


def measure_of(task: Task) -> Measure:
    """How a task is scored: CCC of values, F1 of the rest, but Pearson's r for EMI and both classes' F1 for AH and VD.

    AH at frame level (ABAW8) weights both classes by their frequency; at video level (ABAW10, 11) it doesn't, and the
    average precision is told as well.
    """
    groups: list[Group] = []
    label = score = 0
    for group in task.groups:
        kind = _SPECIAL.get(task.name, _USUAL[group.kind])
        labels, scores = len(group.label_columns), len(group.outputs)
        outputs = ("no", "yes") if kind == "two_classes" else group.outputs
        places = slice(label, label + labels), slice(score, score + scores)
        groups.append(Group(group.name, kind, outputs, *places))
        label, score = label + labels, score + scores
    names = [" and ".join(g.outputs) if g.kind == "ccc" else str(len(g.outputs)) for g in groups]
    title = " + ".join(_TITLES[group.kind].format(name) for group, name in zip(groups, names, strict=True))
    if task.name == "ah":
        return Measure("F1 of both classes weighted by their frequency", tuple(groups), weighted=True)
    return Measure(title, tuple(groups), precision=task.name == "ah-video")


def sums_of(
    measure: Measure,
    truth: NDArray[Any],
    valid: NDArray[np.bool_],
    labels: NDArray[Any],
    *,
    positive: NDArray[Any] | None = None,
) -> dict[str, Sums]:
    """The sums of one video: one entry per group under its name, and ``AP`` where it is measured.

    Args:
        truth, labels: ``[n, K]`` in label form.
        valid: ``[n, G]`` rows that count for each group; of a yes-or-no output not those whose truth is NaN.
        positive: ``[n]`` score of "yes" where average precision is wanted and known.
    """
    sums: dict[str, Sums] = {}
    for index, group in enumerate(measure.groups):
        rows = valid[:, index]
        actual, said = truth[rows, group.labels], labels[rows, group.labels]
        if group.kind in {"ccc", "pearson"}:
            sums[group.name] = MomentSums.of(actual, said)
        elif group.kind == "binary":
            sums[group.name] = BinarySums.of(actual, said)
        else:
            sums[group.name] = ConfusionSums.of(actual[:, 0], said[:, 0], len(group.outputs))
    if measure.precision and positive is not None:
        rows = valid[:, 0]
        sums["AP"] = ApCurve.of(truth[rows, 0], positive[rows])
    return sums


def merged(parts: Sequence[VideoSums]) -> dict[str, Sums]:
    """The sums of all videos together; the order of the parts changes nothing beyond rounding (1e-9)."""
    everywhere = [name for name in parts[0] if all(name in part for part in parts)]
    total = {name: parts[0][name] for name in everywhere}
    for part in parts[1:]:
        for name in everywhere:
            total[name] = total[name] + part[name]  # type: ignore[operator]
    return total


def per_output(group: Group, sums: Sums) -> NDArray[np.float64]:
    """The figure of each output of a group, ``[..., outputs]``."""
    if isinstance(sums, MomentSums):
        return sums.ccc() if group.kind == "ccc" else sums.pearson()
    if isinstance(sums, ApCurve):
        raise TypeError(f"{', '.join(group.outputs)}: an average precision has no figure of each output")
    return sums.f1()


def group_score(measure: Measure, group: Group, sums: Sums) -> NDArray[np.float64]:
    """The figure of a group, ``[...]``."""
    if measure.weighted and isinstance(sums, ConfusionSums):
        return sums.weighted_f1()
    if isinstance(sums, BinarySums):
        return sums.mean_f1()
    return np.asarray(per_output(group, sums).mean(axis=-1))


def task_score(measure: Measure, sums: VideoSums) -> NDArray[np.float64]:
    """The challenge's figure, ``[...]``; NaN where a group has no row."""
    return np.asarray(sum(group_score(measure, group, sums[group.name]) for group in measure.groups))


def bootstrap(
    measure: Measure, parts: Sequence[VideoSums], units: Sequence[str], *, resamples: int = 1000, seed: int = 0
) -> tuple[float, float] | None:
    """95 % percentile interval of the challenge's figure when whole units are drawn anew (Efron 1979).

    Args:
        parts: sums of each video.
        units: what each video belongs to; videos of one unit are drawn together.

    Returns:
        Both ends, or None where there are fewer than two units.
    """
    names = sorted(set(units))
    if len(names) < 2 or resamples < 1:
        return None
    position = {name: index for index, name in enumerate(names)}
    draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    weights = draws[:, [position[unit] for unit in units]].astype(np.float64)
    drawn = {group.name: _weighted([part[group.name] for part in parts], weights) for group in measure.groups}
    scores = task_score(measure, drawn)
    scores = scores[np.isfinite(scores)]
    if not len(scores):
        return None
    low, high = np.quantile(scores, [0.025, 0.975])
    return float(low), float(high)


def _weighted(parts: Sequence[Any], weights: NDArray[np.float64]) -> Sums:
    """Sums of one kind, each taken as often as its weights say."""
    drawn: Sums = type(parts[0]).weighted(parts, weights)
    return drawn
