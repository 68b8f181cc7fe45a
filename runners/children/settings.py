"""How many children, how patient, and what their processes are given; by what a run ends that can't go on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated

from emobeam.schemas.options import Option, Section
from emobeam.schemas.records import EmobeamError

ALLOCATOR = {
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "134217728",
}
"""Environment of a worker. One pool keeps its memory low; big arrays that come and go with every frame stay mapped,
instead of being asked of the system anew. What the user has set goes first."""


class RunStopped(EmobeamError):
    """The run can't go on (disk full, children that don't start); what is done stays done."""


@dataclass(frozen=True)
class LocalConfig:
    """How many processes, and how patient.

    Attributes:
        workers: processes.
        threads: torch threads of each.
        stall_timeout: seconds without any sign of life of an element after which its process is killed.
        start_timeout: the same for a process that starts and loads what a job needs.
        jobs: that a process keeps loaded, those that came last.
        verbose: let processes write to standard error.
    """

    workers: int = 1
    threads: int = 1
    stall_timeout: Annotated[
        float,
        Option(
            "A worker that gives no sign of life for so long is replaced; what it was at is tried once more.",
            Section.MACHINES,
            metavar="SECONDS",
            least=1,
        ),
    ] = 900.0
    start_timeout: float = 300.0
    jobs: int = 1
    verbose: bool = False


def local_config(
    workers: int, *, verbose: bool = False, stall_timeout: float = LocalConfig.stall_timeout
) -> LocalConfig:
    """``workers`` processes (0: one per core), the cores divided among them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = workers or cores
    return LocalConfig(workers=count, threads=max(1, cores // count), stall_timeout=stall_timeout, verbose=verbose)
