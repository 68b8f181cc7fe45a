"""Decode functions that misbehave as native decoders do. Named as ``module:function`` in a DecoderConfig.

Each one delivers the first frame of the segment, then fails.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from emobeam.emo_transforms.video.opening import Progress, idle
from emobeam.emo_transforms.video.pyav_decoder import decode_pyav
from emobeam.schemas.config import DecoderConfig
from emobeam.schemas.records import Segment

Frames = Iterator[tuple[int, npt.NDArray[np.uint8]]]


def crash(path: str, segment: Segment, config: DecoderConfig, *, threads: int = 1, progress: Progress = idle) -> Frames:
    """Aborts the process."""
    yield next(iter(decode_pyav(path, segment, config)))
    os.abort()


def hang(path: str, segment: Segment, config: DecoderConfig, *, threads: int = 1, progress: Progress = idle) -> Frames:
    """Never comes back from native code, and holds the interpreter's lock meanwhile."""
    yield next(iter(decode_pyav(path, segment, config)))
    ctypes.PyDLL(None).sleep(1000)


def nod_off(
    path: str, segment: Segment, config: DecoderConfig, *, threads: int = 1, progress: Progress = idle
) -> Frames:
    """Stands still after three frames, the first time that a file is decoded."""
    for count, item in enumerate(decode_pyav(path, segment, config)):
        if count == 3 and not os.path.exists(f"{path}.slept"):
            open(f"{path}.slept", "x").close()
            time.sleep(1000)
        yield item


def fall(path: str, segment: Segment, config: DecoderConfig, *, threads: int = 1, progress: Progress = idle) -> Frames:
    """Is killed from outside after three frames, the first time that a file is decoded."""
    for count, item in enumerate(decode_pyav(path, segment, config)):
        if count == 3 and not os.path.exists(f"{path}.slept"):
            open(f"{path}.slept", "x").close()
            os.kill(os.getpid(), signal.SIGKILL)
        yield item


def eat(path: str, segment: Segment, config: DecoderConfig, *, threads: int = 1, progress: Progress = idle) -> Frames:
    """Takes more and more memory, and keeps saying that it goes on."""
    yield next(iter(decode_pyav(path, segment, config)))
    eaten = []
    while True:
        eaten.append(np.ones(16 << 20, np.uint8))
        progress()
        time.sleep(0.02)


def gulp(path: str, segment: Segment, config: DecoderConfig, *, threads: int = 1, progress: Progress = idle) -> Frames:
    """Asks for far too much memory at once."""
    yield next(iter(decode_pyav(path, segment, config)))
    np.ones(1 << 36, np.uint8)


def stumble(
    path: str, segment: Segment, config: DecoderConfig, *, threads: int = 1, progress: Progress = idle
) -> Frames:
    """Raises something nobody expects."""
    yield next(iter(decode_pyav(path, segment, config)))
    raise ZeroDivisionError("a decoder divided by zero")


def dawdle(
    path: str, segment: Segment, config: DecoderConfig, *, threads: int = 1, progress: Progress = idle
) -> Frames:
    """Slow, but alive: half as long again as the limit of time before the second frame."""
    frames = decode_pyav(path, segment, config)
    yield next(frames)
    enough = time.monotonic() + 1.5 * config.timeout
    while time.monotonic() < enough:
        time.sleep(0.1)
        progress()
    yield from frames


def fill_ring(
    path: str, segment: Segment, config: DecoderConfig, *, threads: int = 1, progress: Progress = idle
) -> Frames:
    """Endless pictures, each filled with its number; as fast as they are taken."""
    for number in range(1, 1 << 20):
        yield number, np.full((segment.height, segment.width, 3), number % 251, np.uint8)
