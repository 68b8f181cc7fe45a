"""A person's own baseline: what the outputs read while the face is at rest, taken away from every value.

Faces at rest read differently: strong brows look like AU4, a mouth with raised corners like AU12. Baltrusaitis, Mahmoud
and Robinson (2015), Cross-dataset learning and person-specific normalisation for automatic action unit detection
(FG), take the median over a person's recording as the neutral face, on the ground that most frames are near it;
OpenFace's later post-processing takes a low quantile of each output instead, which holds where a unit is active for
most of the time. Where a stretch is known to be neutral, its median needs neither assumption.

With ``scale`` ``standardise`` what is left is divided by 1.4826 times the median absolute deviation over the same
time, which is robust to the very activity it should measure (Leys et al. 2013, Journal of Experimental Social
Psychology 49, 764-766).

Outputs of a class group (expressions) are left as they are: they are shares of one whole, and taking something away
from each would choose other winners.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from emobeam.emo_transforms.results.studies.face_series import Trace
from emobeam.emo_transforms.results.studies.persons import Persons, Remaining
from emobeam.emo_transforms.results.studies.spans import Spans, overlap
from emobeam.emo_transforms.results.studies.weighted_figures import quantile, robust_spread
from emobeam.schemas.records import UsageError
from emobeam.schemas.task_form import Task

Floats = NDArray[np.float64]
Method = Literal["none", "median", "quantile"]
Scale = Literal["subtract", "standardise"]


@dataclass(frozen=True)
class BaselineConfig:
    """How baselines are made.

    Attributes:
        method: ``none``, ``median`` or ``quantile``, over the time a person was seen.
        quantile: of ``quantile``, in (0, 1).
        scale: ``subtract``, or ``standardise``: also divide by the robust spread.
        segments: URI of the file of neutral stretches; ``""``: all the time the person was seen.
    """

    method: Method = "none"
    quantile: float = 0.1
    scale: Scale = "subtract"
    segments: str = ""

    def check(self) -> None:
        """Raises :class:`UsageError` where the settings make no sense."""
        if self.method == "none" and (self.segments or self.scale != "subtract"):
            raise UsageError("--baseline-segments and --baseline-scale need a --baseline other than none")
        if not 0 < self.quantile < 1:
            raise UsageError(f"--baseline-quantile is {self.quantile}, expected a number between 0 and 1")

    @property
    def text(self) -> str:
        """For tables: ``median``, ``quantile 0.1, standardised, neutral stretches``."""
        if self.method == "none":
            return "none"
        parts = [self.method if self.method == "median" else f"quantile {self.quantile:g}"]
        parts += ["standardised"] if self.scale == "standardise" else []
        parts += ["neutral stretches"] if self.segments else []
        return ", ".join(parts)


@dataclass(frozen=True)
class Baselines:
    """Baselines of all people.

    Attributes:
        level: by person, ``[K]``; 0 for outputs that are left as they are.
        spread: by person, ``[K]`` what values are divided by; 1 where they aren't.
        seconds: by person, how long they were seen in the time the baseline is taken from.
        without: people of whom nothing was seen then; their values become NaN.
    """

    level: Mapping[str, Floats] = field(default_factory=dict)
    spread: Mapping[str, Floats] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    without: tuple[str, ...] = ()

    def applied(self, trace: Trace, names: list[str], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The values of a trace above the baseline of the person of each row (see :meth:`Persons.of`)."""
        values = trace.values.astype(np.float64)
        for index, name in enumerate(names):
            mine = rows == index
            if name in self.level:
                values[mine] = (values[mine] - self.level[name]) / self.spread[name]
            elif name in self.without:
                values[mine] = np.nan
        return values.astype(np.float32)


def make_baselines(
    task: Task,
    read: Callable[[str], Iterable[Trace]],
    videos: Iterable[str],
    persons: Persons,
    config: BaselineConfig,
    neutral: Spans | None = None,
) -> Baselines:
    """Baselines of everybody in the videos, over all videos of a person; each value counts as long as it was shown.

    What is kept of a person goes as soon as the last of their videos is done, so that memory doesn't grow with the
    number of people. A spread of 0 (a value that never changed) makes the person's standardised values of that output
    NaN.

    Args:
        read: the traces of a video, nothing where it can't be read.
        videos: ids of all videos that are to be read, in any order.
        neutral: stretches to take them from; None: all the time.
    """
    if config.method == "none":
        return Baselines()
    values: dict[str, list[NDArray[np.float32]]] = defaultdict(list)
    weights: dict[str, list[Floats]] = defaultdict(list)
    found: dict[str, _Baseline] = {}
    remaining = Remaining(persons, videos)
    for video in remaining.order:
        seen: set[str] = set()
        for trace in read(video):
            shown = trace.shown
            if neutral is not None:
                intervals = [(span.start, span.end) for span in neutral.of(*trace.key)]
                shown = overlap(trace.times, trace.ends, intervals)
            shown = np.where(np.isnan(trace.values).all(axis=1), 0.0, shown)
            names, rows = persons.of(trace)
            for index, name in enumerate(names):
                if not name:
                    continue
                held = (rows == index) & (shown > 0)
                values[name].append(trace.values[held])
                weights[name].append(shown[held])
                seen.add(name)
        for name in remaining.done(video, seen):
            if name in values:
                found[name] = _baseline(task, config, values.pop(name), weights.pop(name))
    known = {name: found[name] for name in sorted(found) if found[name].level is not None}
    return Baselines(
        {name: each.level for name, each in known.items() if each.level is not None},
        {name: each.spread for name, each in known.items() if each.spread is not None},
        {name: found[name].seconds for name in sorted(found)},
        tuple(name for name in sorted(found) if found[name].level is None),
    )


@dataclass(frozen=True, eq=False)
class _Baseline:
    """Of one person; without a level where nothing was seen of them."""

    seconds: float
    level: Floats | None = None
    spread: Floats | None = None


def _baseline(
    task: Task, config: BaselineConfig, values: Sequence[NDArray[np.float32]], weights: Sequence[Floats]
) -> _Baseline:
    seen, weight = np.concatenate(values), np.concatenate(weights)
    seconds = float(weight.sum())
    if not seconds > 0:
        return _Baseline(seconds)
    q = 0.5 if config.method == "median" else config.quantile
    kept = np.array([group.kind == "class" for group in task.groups for _ in group.outputs])
    levels, spreads = np.zeros(len(kept)), np.ones(len(kept))
    for k in np.flatnonzero(~kept):
        held = ~np.isnan(seen[:, k])  # an output that nobody taught the head has no value, and no baseline
        column = seen[held, k].astype(np.float64)
        levels[k] = quantile(column, weight[held], q)
        if config.scale == "standardise":
            spread = robust_spread(column, weight[held])
            spreads[k] = spread if spread > 0 else np.nan
    return _Baseline(seconds, levels, spreads)
