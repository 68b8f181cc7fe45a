"""From a head's scores to what a challenge asks for: thresholds, the highest class, compound expressions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from emobeam.schemas.records import UsageError
from emobeam.schemas.tasks import TASKS, Task


def checked_thresholds(task: Task, thresholds: Sequence[float] = ()) -> npt.NDArray[np.float32]:
    """The threshold of each output.

    Args:
        thresholds: one per output (those of outputs that aren't binary are not used), or one per binary output;
            empty: 0.5 for all.

    Returns:
        float32[K] for :func:`decide`. Scores are float32: one of float32(0.7) has to reach a threshold of 0.7.

    Raises:
        UsageError: they don't fit the task.
    """
    binary = np.array([group.kind == "binary" for group in task.groups for _ in group.outputs])
    limits = np.full(len(task.outputs), 0.5, np.float32)
    if not len(thresholds):
        return limits
    if not binary.any():
        raise UsageError(f"task {task.name} has no binary outputs: leave the thresholds out")
    given = np.asarray(thresholds, np.float32)
    if given.shape == limits.shape:
        limits = given
    elif given.shape == (int(binary.sum()),):
        limits[binary] = given
    else:
        kind = "outputs" if binary.all() else "binary outputs"
        raise UsageError(f"task {task.name} has {int(binary.sum())} {kind}, got {len(thresholds)} thresholds")
    if not ((limits[binary] >= 0) & (limits[binary] <= 1)).all():
        raise UsageError(f"thresholds of task {task.name} lie between 0 and 1, got {tuple(thresholds)}")
    return limits


def heads_thresholds(of_heads: Iterable[Sequence[float] | None]) -> Sequence[float]:
    """The thresholds that hold where several heads are averaged: those of the first head that has some, else none.

    The one rule for submissions, events, exports and pictures. For :func:`checked_thresholds`.

    Args:
        of_heads: the thresholds of each head, in the order of the heads; empty or None where it has none.
    """
    return next((given for given in of_heads if given is not None and len(given)), ())


def decide(
    task: Task, values: npt.NDArray[np.float32], limits: npt.NDArray[np.float32] | None = None
) -> npt.NDArray[np.float64]:
    """Turns scores into the label columns of a task.

    Args:
        values: float32[n, K], one column per output, finite.
        limits: from :func:`checked_thresholds`; a binary score of at least this much counts as 1. None: 0.5.

    Returns:
        float64[n, C], one column per ``task.label_columns``: values clipped to their range, binary outputs as 0 or 1,
        class groups as the number of the highest output (of equal ones the first).
    """
    limits = checked_thresholds(task) if limits is None else limits
    parts: list[npt.NDArray[np.float64]] = []
    start = 0
    for group in task.groups:
        stop = start + len(group.outputs)
        block = values[:, start:stop]
        if group.kind == "class":
            parts.append(block.argmax(axis=1)[:, None].astype(np.float64))
        elif group.kind == "binary":
            parts.append((block >= limits[start:stop]).astype(np.float64))
        else:
            parts.append(np.clip(block.astype(np.float64), group.low, group.high))
        start = stop
    return np.concatenate(parts, axis=1)


def with_neutral(task: Task, values: npt.NDArray[np.float32], unknown: Collection[str]) -> npt.NDArray[np.float32]:
    """Gives outputs that nobody taught the heads their neutral value, so that a submission has a number there.

    A class that nobody knows never wins: it gets 0. Rows without a value of any other output are left as they are.

    Args:
        values: float32[n, K].
        unknown: names of such outputs.
    """
    classes = np.array([group.kind == "class" for group in task.groups for _ in group.outputs])
    neutral = np.where(classes, np.float32(0), np.asarray(task.neutral, np.float32))
    columns = np.array([name in unknown for name in task.outputs])
    rows = np.asarray(np.isfinite(values[:, ~columns]).all(axis=1))
    return np.where(rows[:, None] & columns, neutral, values).astype(np.float32)


def compound_from_expressions(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Scores of compound expressions without ever having been trained for them (zero-shot).

    No labels of the compound expression challenge exist to train with. A compound expression scores the mean of the
    probabilities of the two basic expressions it is named after: ``Fearfully_Surprised`` that of Fear and Surprise.
    The decision among the seven is their argmax.

    Args:
        values: float32[n, 8], probabilities in the order of task ``expr``.

    Returns:
        float32[n, 7] in the order of task ``ce``.
    """
    names = TASKS["expr"].outputs
    pairs = [[names.index(one), names.index(other)] for one, other in TASKS["ce"].compounds]
    means: npt.NDArray[np.float32] = values[:, pairs].mean(axis=2, dtype=np.float32)
    return means
