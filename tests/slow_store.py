"""A store that answers late: the files of this machine under ``slow://``, each opening after a pause."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.local import LocalFileSystem


class SlowStore(LocalFileSystem):  # type: ignore[misc]
    """Local files as an object store gives them: by ranges, one request each.

    Attributes:
        latency: seconds from a request for content until the answer.
        opened: how often content was asked for, by path.
        most: requests that were on their way at the same time, at most.
        alone: requests that came while no other was on its way.
    """

    protocol = "slow"
    latency: ClassVar[float] = 0.0
    opened: ClassVar[Counter[str]] = Counter()
    most: ClassVar[int] = 0
    alone: ClassVar[int] = 0
    _now: ClassVar[int] = 0
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "auto_mkdir": True})

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(each) for each in path]
        return LocalFileSystem._strip_protocol(str(path).removeprefix("slow://"))

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        place = self._strip_protocol(path)
        with self._lock:
            SlowStore.opened[place] += 1
            SlowStore.alone += SlowStore._now == 0
            SlowStore._now += 1
            SlowStore.most = max(SlowStore.most, SlowStore._now)
        try:
            time.sleep(self.latency)
            data: bytes = super().cat_file(place, start=start, end=end, **options)
            return data
        finally:
            with self._lock:
                SlowStore._now -= 1


@contextmanager
def slow_store(latency: float) -> Iterator[type[SlowStore]]:
    """The store, with nothing asked of it yet."""
    fsspec.register_implementation("slow", SlowStore, clobber=True)
    SlowStore.latency, SlowStore.opened, SlowStore.most, SlowStore.alone = latency, Counter(), 0, 0
    try:
        yield SlowStore
    finally:
        SlowStore.latency = 0.0
