"""Where a graph on another engine begins and ends: files of tasks, children of Beam workers, files of records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from emobeam.emo_transforms.extraction.beam_records import Ends, LeaveRecords, Redistribute, TaskFiles
from emobeam.emo_transforms.storage.run_mailbox import Exchange
from emobeam.runners.children.settings import LocalConfig
from emobeam.runners.engines.engine_children import OnWorker
from emobeam.runners.engines.presets import EngineConfig, hints_of
from emobeam.runners.worker_progress import Beats

_FILES = {"shards": 64}
"""Files that records are left in, where there may be very many of them."""


def ends_on(
    engine: EngineConfig,
    exchange: Exchange,
    uris: Sequence[str],
    kind: type[Any],
    left: dict[str, type[Any]],
    stall_timeout: float = LocalConfig.stall_timeout,
) -> Ends:
    """The ends of a graph on an engine.

    Args:
        uris: files of tasks in the exchange.
        kind: of the tasks.
        stall_timeout: of children, in s.
        left: gets the kinds of the records that the graph leaves in the exchange, by name.
    """
    beats = Beats(exchange)

    def leave(kind: type[Any], name: str) -> LeaveRecords:
        left[name] = kind
        return LeaveRecords(kind, exchange, name, _FILES.get(name, 16))

    # Beam's Spark runner makes as many pieces of a reshuffle as there were before it: one.
    grouped = engine.runner == "spark"
    return Ends(
        tasks=TaskFiles(list(uris), kind, grouped, beats),
        finder=OnWorker(beats, stall_timeout=stall_timeout),
        spread=lambda kind: Redistribute(kind, grouped),
        leave=leave,
        hints=hints_of(engine),
    )
