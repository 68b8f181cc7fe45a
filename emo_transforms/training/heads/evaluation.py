"""A head on the hold-out: the challenge's own figure on sampled frames, and what is tuned there."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emobeam.emo_transforms.abaw.decisions import decide
from emobeam.emo_transforms.abaw.scoring.measures import (
    Measure,
    group_score,
    measure_of,
    merged,
    per_output,
    sums_of,
    task_score,
)
from emobeam.emo_transforms.abaw.scoring.partial_sums import MomentSums
from emobeam.emo_transforms.abaw.scoring.tuning import DECISION, THRESHOLDS
from emobeam.emo_transforms.networks.heads.architectures.module import HeadModule
from emobeam.emo_transforms.networks.heads.head import activate
from emobeam.emo_transforms.prediction.smoothing import GAP_TOLERANCE, box_mean
from emobeam.emo_transforms.training.heads.row_groups import Source, gathered, read_ahead
from emobeam.emo_transforms.training.heads.samples import PRESENT, LabelledFace, hold_activations, present
from emobeam.emo_transforms.training.heads.window_plans import Plan, Unit
from emobeam.schemas.records import EmobeamError
from emobeam.schemas.tasks import Task

HALF_WINDOWS = (0, 1, 2, 3, 5, 8, 12, 20)
"""Half-widths of the box filter that are tried, in sampled frames."""

USUAL_WINDOW = 8
"""Frames of a window up to which whole batches are run."""

_AHEAD = 256 * 10**6


@dataclass(frozen=True)
class Tuned:
    """What was chosen on the hold-out, and the figures there.

    Attributes:
        score: the challenge's figure with the choices, ``untuned``: at thresholds of 0.5 without smoothing.
        outputs: figure of each output with the choices, of those that the hold-out has labels of.
        thresholds: one per output, empty where none were chosen.
        smoothing: half-width in sampled frames.
        correlations: Pearson's r of each output with labels that say how active it is, smoothed as chosen.
    """

    score: float
    untuned: float
    outputs: Mapping[str, float]
    thresholds: tuple[float, ...] = ()
    smoothing: int = 0
    correlations: Mapping[str, float] = field(default_factory=dict)

    def described(self, held: Sequence[LabelledFace]) -> dict[str, Any]:
        """The figures as ``head.json`` holds them."""
        found: dict[str, Any] = {
            "score": self.score,
            "untuned": self.untuned,
            "outputs": dict(self.outputs),
            "videos": len(held),
            "rows": sum(map(len, held)),
        }
        return found | ({"correlations": dict(self.correlations)} if self.correlations else {})


def predict_logits(
    module: HeadModule, source: Source, plan: Plan, *, batch: int = 64, device: str = "cpu", readers: int = 0
) -> dict[int, Tensor]:
    """Logits of the faces of an evaluation plan: ``[n, K]`` of each row, or ``[1, K]`` of a clip, on the CPU.

    Windows go through the module in eval mode, ``batch`` at a time (fewer of long ones); those of a streaming head go
    on where the ones before them in their run ended, as in stage 2.
    """
    batch = max(1, min(batch, batch * USUAL_WINDOW // plan.length))
    if module.streams and plan.scope == "frame":
        return _streamed(module, source, plan, batch, device, readers)
    found: dict[int, Tensor] = {}
    with _evaluating(module), closing(read_ahead(source, plan.units, readers, _AHEAD)) as reading:
        for unit, arrays in reading:
            parts = []
            for start in range(0, len(unit.windows), batch):
                inputs = gathered(unit, arrays, unit.windows[start : start + batch])
                on_device = {name: values.to(device).float() for name, values in inputs.items()}
                parts.append(module.vectors(on_device) if plan.scope == "clip" else module(on_device))
            results = torch.cat(parts)
            if plan.scope == "clip":
                lengths = torch.from_numpy(unit.lengths.astype(np.int64)).to(device)
                found[unit.face] = module.pool(results, lengths).float().cpu().reshape(1, -1)
                continue
            _put(found, plan, unit, results)
    return found


def _streamed(
    module: HeadModule, source: Source, plan: Plan, batch: int, device: str, readers: int
) -> dict[int, Tensor]:
    """As ``windows.run_stream``: the state of a face is kept from window to window, and between units."""
    found: dict[int, Tensor] = {}
    states: dict[int, tuple[Tensor, ...]] = {}
    last: dict[int, int] = {}
    """Row at which the run of a face may go on: its last one, where its last window was full."""
    with _evaluating(module), closing(read_ahead(source, plan.units, readers, _AHEAD)) as reading:
        for unit, arrays in reading:
            time = plan.faces[unit.face].time
            results = []
            for part in _runs(unit, time, plan):
                first = int(unit.positions[unit.windows[part[0], 0]])
                before = last.get(unit.face)
                state = states.get(unit.face) if _goes_on(time, before, first, plan.gap) else None
                for start in range(0, len(part), batch):
                    inputs = gathered(unit, arrays, unit.windows[part[start : start + batch]])
                    # Windows of a run lie side by side, so together they are one long window.
                    joint = {name: each.flatten(0, 1)[None].to(device).float() for name, each in inputs.items()}
                    logits, state = module.stream(joint, state)
                    results.append(logits.reshape(-1, plan.length, logits.shape[-1]))
                    states[unit.face] = state
                full = int(unit.lengths[part[-1]]) == plan.length
                last[unit.face] = int(unit.positions[unit.windows[part[-1], -1]]) if full else -1
            _put(found, plan, unit, torch.cat(results))
    return found


def _runs(unit: Unit, time: NDArray[np.float64], plan: Plan) -> list[NDArray[np.int64]]:
    """The windows of a unit, put together where each goes on from the one before."""
    ends = unit.positions[unit.windows[np.arange(len(unit.windows)), unit.lengths.astype(np.int64) - 1]]
    firsts = unit.positions[unit.windows[:, 0]]
    full = unit.lengths == plan.length
    cuts = [
        index
        for index in range(1, len(unit.windows))
        if not (full[index - 1] and _goes_on(time, int(ends[index - 1]), int(firsts[index]), plan.gap))
    ]
    return list(np.split(np.arange(len(unit.windows)), cuts))


def _goes_on(time: NDArray[np.float64], last: int | None, first: int, gap: float) -> bool:
    if last is None or last < 0 or first != last + 1:
        return False
    return bool(time[first] - time[last] <= gap + GAP_TOLERANCE)


def _put(found: dict[int, Tensor], plan: Plan, unit: Unit, results: Tensor) -> None:
    """Puts the logits ``[W, T, K]`` of a unit's windows to their rows."""
    logits = results.float().cpu()
    if unit.face not in found:
        found[unit.face] = torch.full((len(plan.faces[unit.face]), logits.shape[-1]), math.nan)
    real = torch.arange(plan.length) < torch.from_numpy(unit.lengths.astype(np.int64))[:, None]
    positions = torch.from_numpy(unit.positions[unit.windows].astype(np.int64))
    found[unit.face][positions[real]] = logits[real]


def values_of(logits: Mapping[int, Tensor], activation: str) -> dict[int, NDArray[np.float32]]:
    """Activated values of each face."""
    return {face: activate(each, activation).numpy() for face, each in logits.items()}


def holdout_score(task: Task, faces: Sequence[LabelledFace], values: Mapping[int, NDArray[np.float32]]) -> float:
    """The challenge's figure without smoothing at thresholds of 0.5, of labels that are activations at 0.3.

    Raises:
        EmobeamError: a group of outputs has no label on the hold-out.
    """
    measure = measure_of(task)
    usual = [usual_limit(task, faces)] * len(task.outputs)
    score = float(task_score(measure, _sums(task, measure, faces, values, usual)))
    if not math.isfinite(score):
        raise EmobeamError(
            "the hold-out has no valid label for some outputs of the task; hold more out (--holdout 0.2), or name it "
            "with --holdout FILE"
        )
    return score


def holdout_figures(
    task: Task,
    faces: Sequence[LabelledFace],
    logits: Mapping[int, Tensor],
    activation: str,
    loss_of: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Mapping[str, Tensor]]],
) -> dict[str, float]:
    """``score``, see :func:`holdout_score`, and ``loss``, over all held-out rows.

    Args:
        logits: ``[n, K]`` by index of the face.
        loss_of: of logits, labels and what of them is valid; see ``losses.TaskLoss``.
    """
    score = holdout_score(task, faces, values_of(logits, activation))
    order = sorted(logits)
    with torch.inference_mode():
        loss, _ = loss_of(
            torch.cat([logits[index] for index in order]),
            torch.cat([torch.from_numpy(faces[index].labels) for index in order]),
            torch.cat([torch.from_numpy(faces[index].valid) for index in order]),
        )
    return {"score": score, "loss": float(loss)}


def usual_limit(task: Task, faces: Sequence[LabelledFace]) -> float:
    """The threshold where none was chosen: 0.5, or :data:`PRESENT` where labels say how active an output is."""
    return PRESENT if hold_activations(task, faces) else DECISION


def tune_on(
    task: Task,
    faces: Sequence[LabelledFace],
    values: Mapping[int, NDArray[np.float32]],
    *,
    gap: float,
    thresholds: bool,
    smoothing: bool,
) -> Tuned:
    """Chooses the half-width of the smoothing, and for each yes-or-no output a threshold, by the task's measure.

    Of equal figures the shorter filter wins, then the threshold nearer to 0.5.

    Args:
        values: activated, by index of the face.
        gap: s beyond which nothing is smoothed over.
    """
    measure = measure_of(task)
    usual = (usual_limit(task, faces),) * len(task.outputs)
    untuned = holdout_score(task, faces, values)
    found: list[tuple[float, int, tuple[float, ...]]] = []
    for half in HALF_WINDOWS if smoothing and task.scope == "frame" else (0,):
        smooth = _smoothed(faces, values, half, gap)
        limits = _best_limits(task, measure, faces, smooth) if thresholds else ()
        score = float(task_score(measure, _sums(task, measure, faces, smooth, limits or usual)))
        found.append((score, half, limits))
    score, half, limits = max(found, key=lambda each: each[0])
    chosen = _smoothed(faces, values, half, gap)
    sums = _sums(task, measure, faces, chosen, limits or usual)
    outputs = {
        name: float(value)
        for group in measure.groups
        for name, value in zip(group.outputs, per_output(group, sums[group.name]).tolist(), strict=True)
        if math.isfinite(value)
    }
    correlations = _correlations(task, measure, faces, chosen) if hold_activations(task, faces) else {}
    return Tuned(score, untuned, outputs, limits, half, correlations)


def _correlations(
    task: Task, measure: Measure, faces: Sequence[LabelledFace], values: Mapping[int, NDArray[np.float32]]
) -> dict[str, float]:
    """Pearson's r of yes-or-no outputs with activations, over all rows that have a label of them."""
    found: dict[str, float] = {}
    for place, group in enumerate(measure.groups):
        if group.kind != "binary":
            continue
        rows = {index: faces[index].valid[:, place] for index in sorted(values)}
        truth = np.concatenate([faces[index].labels[own, group.labels] for index, own in rows.items()])
        said = np.concatenate([values[index][own, group.scores] for index, own in rows.items()])
        for column, name in enumerate(group.outputs):
            known = ~np.isnan(truth[:, column])
            if known.sum() > 1:
                sums = MomentSums.of(truth[known, column : column + 1], said[known, column : column + 1])
                found[name] = float(sums.pearson()[0])
    return found


def _best_limits(
    task: Task, measure: Measure, faces: Sequence[LabelledFace], values: Mapping[int, NDArray[np.float32]]
) -> tuple[float, ...]:
    yes_or_no = [group for group in measure.groups if group.kind in {"binary", "two_classes"}]
    if not yes_or_no:
        return ()
    tried = sorted({DECISION, *THRESHOLDS}, key=lambda limit: (abs(limit - DECISION), limit))
    figures: dict[str, list[Any]] = {group.name: [] for group in yes_or_no}
    for limit in tried:
        sums = _sums(task, measure, faces, values, [limit] * len(task.outputs))
        for group in yes_or_no:
            own = sums[group.name]
            alone = group.kind == "two_classes"
            figures[group.name].append([float(group_score(measure, group, own))] if alone else per_output(group, own))
    limits = [DECISION] * len(task.outputs)
    for group in yes_or_no:
        chosen = np.stack(figures[group.name]).argmax(axis=0)  # the first of equals
        for place, index in zip(range(group.scores.start, group.scores.stop), chosen.tolist(), strict=True):
            limits[place] = tried[index]
    return tuple(limits)


def _smoothed(
    faces: Sequence[LabelledFace], values: Mapping[int, NDArray[np.float32]], half: int, gap: float
) -> Mapping[int, NDArray[np.float32]]:
    if not half:
        return values
    return {index: box_mean(own, faces[index].time, half, gap) for index, own in values.items()}


def _sums(
    task: Task,
    measure: Measure,
    faces: Sequence[LabelledFace],
    values: Mapping[int, NDArray[np.float32]],
    limits: Sequence[float] | None,
) -> dict[str, Any]:
    at = None if limits is None else np.asarray(limits, np.float32)
    return merged(
        [
            sums_of(measure, present(task, faces[index].labels), faces[index].valid, decide(task, own, at))
            for index, own in sorted(values.items())
        ]
    )


@contextmanager
def _evaluating(module: HeadModule) -> Iterator[None]:
    """Eval mode without gradients; what was training is training afterwards."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for part, training in modes.items():
            part.training = training
