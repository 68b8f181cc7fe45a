"""Batches of windows from the shards: read ahead in threads, shuffled, never more than so many bytes in memory.

Where all rows fit into the memory that is allowed they are read once (:class:`Resident`); else every epoch reads the
shards anew in another order and draws from a buffer (:class:`Streamed`). Either way the batches of an epoch hang on
the seed, the plan and the sizes alone, never on how fast a thread was.
"""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emobeam.emo_transforms.training.heads.row_groups import UNPACKING, Source, read_ahead, reader_count, unit_bytes
from emobeam.emo_transforms.training.heads.window_plans import Plan, Unit
from emobeam.schemas.records import EmobeamError, UsageError

MEGABYTE = 10**6
_ALIVE = 3
"""Batches in memory at one time: one being made, one waiting, one in use."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Windows with their labels.

    Attributes:
        inputs: ``[W, T, ...]`` by name, float16 for maps, float32 for vectors.
        lengths: int64 ``[W]``, real rows of each window; the last one is repeated beyond.
        owner: int64 ``[W]``, the sample each window belongs to; for frame scope 0, 1, 2 ...
        labels: float32 ``[W, T, C]`` (frame scope) or ``[B, C]`` (clip scope), in label form.
        valid: bool ``[W, T, G]`` or ``[B, G]``; padding is not valid.
    """

    inputs: Mapping[str, Tensor]
    lengths: Tensor
    owner: Tensor
    labels: Tensor
    valid: Tensor


class Loader(Protocol):
    """Batches of one epoch after the other."""

    resident: bool

    def steps(self) -> int:
        """Batches of an epoch."""

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from the ``start``-th on, always the same."""


@dataclass(frozen=True)
class LoadConfig:
    """How much is read, and how far ahead.

    Attributes:
        batch: samples (windows, or clips) of a batch.
        fraction: of the batches of an epoch.
        seed: of order and draws.
        buffer_mb: MB of rows and batches in memory, all together.
        readers: threads that read; 0: one per core, at most 16, and no more than the memory allows.
        views: draw one of all views of each window; else the plain one.
        clip_windows: at most so many windows of a clip, drawn anew each epoch; 0: all.
    """

    batch: int
    fraction: float = 1.0
    seed: int = 0
    buffer_mb: int = 1024
    readers: int = 0
    views: bool = False
    clip_windows: int = 0


def make_loader(source: Source, plan: Plan, config: LoadConfig) -> Loader:
    """The loader that suits the sizes: all rows in memory where they fit, else a stream.

    Raises:
        UsageError: the memory allowed is too small for the batches.
        EmobeamError: there is nothing to read.
    """
    if not plan.samples:
        raise EmobeamError("no window holds a valid label: are these the labels of these videos?")
    views = max((len(unit.rows) for unit in plan.units), default=1) if config.views else 1
    total = sum(unit.rows.shape[1] for unit in plan.units) * views * source.row_bytes
    left = config.buffer_mb * MEGABYTE - _ALIVE * _batch_bytes(source, plan, config)
    if total + 4 * max(unit_bytes(source, unit) for unit in plan.units) <= left:
        return Resident(source, plan, config)
    return Streamed(source, plan, config)


class Streamed:
    """Reads the shards in a new order each epoch.

    Samples wait in a buffer of fixed size; a batch is drawn from it at random whenever the next sample has no room.
    """

    resident = False

    def __init__(self, source: Source, plan: Plan, config: LoadConfig) -> None:
        self.source, self.plan, self.config = source, plan, config
        self._batch_bytes = _batch_bytes(source, plan, config)
        allowed = config.buffer_mb * MEGABYTE
        largest = max(unit_bytes(source, unit) for unit in plan.units)
        self._ahead = max(2 * largest, allowed // 8)
        self._readers = max(1, min(reader_count(config.readers), allowed // 4 // (UNPACKING * largest)))
        other = _ALIVE * self._batch_bytes + self._ahead + self._readers * UNPACKING * largest
        rows = (allowed - other) // source.row_bytes
        needed = _batch_rows(plan, config) + max(_sample_rows(plan, config))
        if rows < needed:
            least = other + needed * source.row_bytes
            raise UsageError(
                f"--buffer-mb {config.buffer_mb}: batches of {config.batch} need at least "
                f"{math.ceil(least / MEGABYTE) + 1} MB; allow more, or make them smaller (--set batch=N)"
            )
        self._capacity = int(
            min(rows, sum(_sample_rows(plan, config)) if plan.scope == "clip" else plan.samples * plan.length)
        )

    def steps(self) -> int:
        """Batches of an epoch."""
        return _steps(self.plan, self.config)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Batches of an epoch from number ``start`` on; those before it are drawn all the same."""
        return _in_background(lambda: self._batches(epoch, start))

    def _batches(self, epoch: int, start: int) -> Generator[Batch, None, None]:
        config, plan = self.config, self.plan
        rng = np.random.default_rng([config.seed, epoch])
        store = {
            name: torch.empty((self._capacity, *shape), dtype=_torch_type(self.source, name))
            for name, shape in self.source.shapes.items()
        }
        free = np.arange(self._capacity, dtype=np.int64)[::-1].tolist()
        waiting: list[_Sample] = []
        made, steps = 0, self.steps()
        order = [plan.units[index] for index in rng.permutation(len(plan.units)).tolist()]
        with closing(read_ahead(self.source, order, self._readers, self._ahead)) as reading:
            for unit, arrays in reading:
                for sample, rows in _samples(plan, unit, config, rng):
                    while len(free) < len(rows):
                        batch = _drawn(waiting, config.batch, rng)
                        if made >= start:
                            yield _collated(plan, batch, store)
                        made += 1
                        free += [slot for done in batch for slot in done.slots.tolist()]
                        if made == steps:
                            return
                    slots = np.array([free.pop() for _ in range(len(rows))], np.int64)
                    for name, target in store.items():
                        target[torch.from_numpy(slots)] = torch.from_numpy(arrays[name][rows])
                    waiting.append(sample.at(slots))
        while made < steps:
            batch = _drawn(waiting, config.batch, rng)
            if made >= start:
                yield _collated(plan, batch, store)
            made += 1


class Resident:
    """Reads all rows once and keeps them."""

    resident = True

    def __init__(self, source: Source, plan: Plan, config: LoadConfig) -> None:
        self.source, self.plan, self.config = source, plan, config
        self._store: dict[str, Tensor] = {}
        self._first: list[int] = []

    def steps(self) -> int:
        """Batches of an epoch."""
        return _steps(self.plan, self.config)

    def load(self) -> None:
        """Reads the rows, if they aren't there yet."""
        if self._store:
            return
        views = [len(unit.rows) if self.config.views else 1 for unit in self.plan.units]
        sizes = [unit.rows.shape[1] * count for unit, count in zip(self.plan.units, views, strict=True)]
        self._first = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(int).tolist()
        store = {
            name: torch.empty((sum(sizes), *shape), dtype=_torch_type(self.source, name))
            for name, shape in self.source.shapes.items()
        }
        ahead = max(2 * max(unit_bytes(self.source, unit) for unit in self.plan.units), 64 * MEGABYTE)
        with closing(read_ahead(self.source, self.plan.units, self.config.readers, ahead)) as reading:
            for (unit, arrays), first, count in zip(reading, self._first, views, strict=True):
                rows = unit.rows[:count].reshape(-1)
                for name, target in store.items():
                    target[first : first + len(rows)] = torch.from_numpy(arrays[name][rows])
        self._store = store

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Batches of an epoch from number ``start`` on; the first call reads the rows."""
        self.load()
        return _in_background(lambda: self._batches(epoch, start))

    def _batches(self, epoch: int, start: int) -> Generator[Batch, None, None]:
        plan, config = self.plan, self.config
        rng = np.random.default_rng([config.seed, epoch])
        all_of_them: list[_Sample] = []
        for unit, first in zip(plan.units, self._first, strict=True):
            count, width = (unit.rows.shape[1], len(unit.rows))
            for sample, places in _drawn_samples(plan, unit, config, rng):
                slots = first + (sample.view if config.views and width > 1 else 0) * count + places
                all_of_them.append(sample.at(slots))
        order = rng.permutation(len(all_of_them))
        for step in range(start, self.steps()):
            chosen = order[step * config.batch : (step + 1) * config.batch].tolist()
            yield _collated(plan, [all_of_them[index] for index in chosen], self._store)


@dataclass(frozen=True, eq=False)
class _Sample:
    """A window, or the windows of a clip: places of their rows, and where the labels are.

    Attributes:
        windows: ``[w, T]`` indices into ``slots``.
        slots: places of the sample's own rows in a store.
        rows: ``[w, T]`` positions in the face, for labels of frames.
    """

    face: int
    view: int
    windows: NDArray[np.int64]
    lengths: NDArray[np.int16]
    rows: NDArray[np.int64]
    slots: NDArray[np.int64]

    def at(self, slots: NDArray[np.int64]) -> _Sample:
        return _Sample(self.face, self.view, self.windows, self.lengths, self.rows, slots)


def _drawn_samples(
    plan: Plan, unit: Unit, config: LoadConfig, rng: np.random.Generator
) -> Iterator[tuple[_Sample, NDArray[np.int64]]]:
    """The samples of a unit, each with the places of its rows among the unit's."""
    if plan.scope == "clip":
        chosen = np.arange(len(unit.windows))
        if config.clip_windows and len(chosen) > config.clip_windows:
            chosen = np.sort(rng.choice(len(chosen), config.clip_windows, replace=False))
        groups = [chosen]
    else:
        groups = list(np.arange(len(unit.windows))[:, None])
    views = rng.integers(len(unit.rows), size=len(groups)).tolist() if config.views else [0] * len(groups)
    nothing = np.zeros(0, np.int64)
    for group, view in zip(groups, views, strict=True):
        windows = unit.windows[group]
        places, inside = np.unique(windows, return_inverse=True)
        rows = unit.positions[windows].astype(np.int64)
        inside = inside.reshape(windows.shape).astype(np.int64)
        yield _Sample(unit.face, view, inside, unit.lengths[group], rows, nothing), places.astype(np.int64)


def _samples(
    plan: Plan, unit: Unit, config: LoadConfig, rng: np.random.Generator
) -> Iterator[tuple[_Sample, NDArray[np.int64]]]:
    """As :func:`_drawn_samples`, with places in what was read."""
    for sample, places in _drawn_samples(plan, unit, config, rng):
        yield sample, unit.rows[sample.view][places]


def _drawn(waiting: list[_Sample], count: int, rng: np.random.Generator) -> list[_Sample]:
    """Takes samples out of those that wait, at random."""
    chosen = np.sort(rng.choice(len(waiting), min(count, len(waiting)), replace=False))[::-1].tolist()
    taken = []
    for index in chosen:
        taken.append(waiting[index])
        waiting[index] = waiting[-1]
        waiting.pop()
    return taken


def _collated(plan: Plan, samples: Sequence[_Sample], store: Mapping[str, Tensor]) -> Batch:
    slots = np.concatenate([sample.slots[sample.windows] for sample in samples])
    index = torch.from_numpy(slots.reshape(-1))
    inputs = {name: rows.index_select(0, index).view(*slots.shape, *rows.shape[1:]) for name, rows in store.items()}
    lengths = np.concatenate([sample.lengths for sample in samples]).astype(np.int64)
    owner = np.repeat(np.arange(len(samples)), [len(sample.windows) for sample in samples])
    faces = [plan.faces[sample.face] for sample in samples]
    if plan.scope == "clip":
        labels = np.stack([face.labels[0] for face in faces])
        valid = np.stack([face.valid[0] for face in faces])
    else:
        labels = np.concatenate([face.labels[s.rows] for face, s in zip(faces, samples, strict=True)])
        valid = np.concatenate([face.valid[s.rows] for face, s in zip(faces, samples, strict=True)])
        valid = valid & (np.arange(plan.length) < lengths[:, None])[:, :, None]
    found = (torch.from_numpy(np.ascontiguousarray(array)) for array in (lengths, owner, labels, valid))
    return Batch(inputs, *found)


def _in_background(make: Callable[[], Generator[Batch, None, None]]) -> Iterator[Batch]:
    """The same batches, each made while the one before it is in use."""
    ready: queue.Queue[Any] = queue.Queue(maxsize=1)
    stop = threading.Event()

    def put(item: object) -> bool:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            with closing(make()) as batches:
                for batch in batches:
                    if not put(batch):
                        return
            put(None)
        except BaseException as error:  # noqa: BLE001 - is raised where the batches are taken
            put(error)

    thread = threading.Thread(target=work, name="emobeam-batches", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()


def _torch_type(source: Source, name: str) -> torch.dtype:
    return torch.float32 if source.dtype(name) is np.float32 else torch.float16


def _sample_rows(plan: Plan, config: LoadConfig) -> list[int]:
    """Rows of each sample, at most."""
    if plan.scope != "clip":
        return [plan.length]
    most = config.clip_windows or max(len(unit.windows) for unit in plan.units)
    return [min(len(unit.windows), most) * plan.length for unit in plan.units]


def _batch_rows(plan: Plan, config: LoadConfig) -> int:
    rows = sorted(_sample_rows(plan, config), reverse=True)
    if plan.scope != "clip":
        return min(config.batch, plan.samples) * rows[0]
    return sum(rows[: config.batch])


def _batch_bytes(source: Source, plan: Plan, config: LoadConfig) -> int:
    return _batch_rows(plan, config) * source.row_bytes


def _steps(plan: Plan, config: LoadConfig) -> int:
    """Full batches of an epoch; where there isn't one, a single smaller one."""
    full = plan.samples // config.batch
    return max(1, round(full * config.fraction))
