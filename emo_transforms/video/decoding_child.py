"""The child's side of :mod:`.video.decoding_process`; its arguments are CONNECTION and MEMORY.

Imports neither torch nor Beam, so that it starts in a fraction of a second.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import resource
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection

import numpy as np

from emobeam.emo_transforms.video.frames import decode_frames, probe_video
from emobeam.emo_transforms.video.opening import input_error
from emobeam.schemas.config import DecoderConfig
from emobeam.schemas.records import EmobeamError, InputError, Segment

_ALIVE_EVERY = 0.5
"""Seconds between two signs of life."""


def main(connection: Connection, memory: int) -> None:
    """Answers requests until the parent is gone."""
    _die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    config, threads = connection.recv()
    _limit_memory(config.memory_mb)
    signs = _Signs(connection)
    connection.send(("ready",))
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        if request[0] == "probe":
            path = request[1]
            try:
                connection.send(("probe", probe_video(path, config, progress=signs.give)))
            except Exception as problem:  # noqa: BLE001 - every decoder has its own; the parent gets it
                connection.send(("probe", _told(problem, path, "probe")))
        elif request[0] == "frames":
            _, path, segment, slots, slot_bytes = request
            error: Exception | None = None
            try:
                _decode(connection, memory, config, threads, path, segment, slots, slot_bytes, signs)
            except Exception as problem:  # noqa: BLE001 - as above
                error = _told(problem, path, "decode")
            connection.send(("done", error))


def _told(problem: Exception, path: str, stage: str) -> Exception:
    return problem if isinstance(problem, EmobeamError) else input_error(problem, path, stage)


def _decode(
    connection: Connection,
    memory: int,
    config: DecoderConfig,
    threads: int,
    path: str,
    segment: Segment,
    slots: int,
    slot_bytes: int,
    signs: _Signs,
) -> None:
    free = list(range(slots))
    with mmap.mmap(memory, slots * slot_bytes) as ring:
        for number, picture in decode_frames(path, segment, config, threads=threads, progress=signs.give):
            if picture.nbytes > slot_bytes:
                size = f"{picture.shape[1]}x{picture.shape[0]}"
                message = f"{path}: frame {number} is {size} px instead of {segment.width}x{segment.height}"
                raise InputError(message, stage="decode", reason="damaged", permanent=True)
            while not free or connection.poll():
                free.append(connection.recv()[1])
            slot = free.pop()
            at = slot * slot_bytes
            ring[at : at + picture.nbytes] = np.ascontiguousarray(picture).data.cast("B")
            connection.send(("frame", number, slot, picture.shape))
        while len(free) < slots:  # pictures the parent has yet to copy
            free.append(connection.recv()[1])


class _Signs:
    """Tells the parent now and then that work goes on."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._last = time.monotonic()

    def give(self) -> None:
        now = time.monotonic()
        if now - self._last > _ALIVE_EVERY:
            self._connection.send(("alive",))
            self._last = now


def _die_with_parent() -> None:
    """Ends this process when the parent is gone, even in native code that never comes back.

    Nobody writes to standard input; it is closed when the parent dies, however it dies. (The death signal Linux
    offers for this comes already when the *thread* ends that started the process.)
    """

    def wait() -> None:
        while os.read(0, 1):
            pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()
    if hasattr(fcntl, "F_SETSIG"):  # Linux: the thread above needs the interpreter's lock, the signal doesn't
        fcntl.fcntl(0, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)


def _limit_memory(memory_mb: int) -> None:
    """A ceiling for what grows faster than the parent looks: twice its limit, on top of what is there."""
    if sys.platform == "linux":
        with open("/proc/self/statm") as file:
            data_pages = int(file.read().split()[5])
        ceiling = data_pages * mmap.PAGESIZE + (2 * memory_mb << 20)
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        if hard == resource.RLIM_INFINITY or ceiling < hard:
            resource.setrlimit(resource.RLIMIT_DATA, (ceiling, hard))


if __name__ == "__main__":
    main(Connection(int(sys.argv[1])), int(sys.argv[2]))
