"""What Beam counted in a run, on any runner."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class RunMetrics:
    """Empty where a runner gives none.

    Attributes:
        counts: counters by name.
        seconds: by step.
    """

    counts: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def metrics_of(result: Any) -> RunMetrics:
    """The counters of a result of Beam, and its times of steps: distributions ``ms_NAME``."""
    counts: dict[str, int] = defaultdict(int)
    seconds: dict[str, float] = defaultdict(float)
    try:
        found = result.metrics().query()
    except Exception:  # noqa: BLE001 - some engines have none, or none any more
        return RunMetrics()
    for counter in found["counters"]:
        counts[counter.key.metric.name] += counter.result or 0
    for step in found["distributions"]:
        name: str = step.key.metric.name
        if name.startswith("ms_"):
            seconds[name.removeprefix("ms_")] += (step.result.sum or 0) / 1000
    return RunMetrics(dict(counts), dict(seconds))
