"""Decoding in a child process, so that no file can crash, hang or bloat the worker.

Pictures come through a ring of shared memory slots: the child decodes ahead while slots are free and waits when
there are none. The memory has no name, so nothing is left behind whoever dies first. What the child does is in
:mod:`emobeam.emo_transforms.video.decoding_child`.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.connection import Pipe
from types import TracebackType
from typing import IO, Any, Self
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt
import psutil

from emobeam.emo_transforms.storage.child_imports import same_imports
from emobeam.schemas.config import DecoderConfig
from emobeam.schemas.records import EmobeamError, InputError, Probe, Segment

RING_BYTES = 24 << 20
"""Memory for pictures on their way from the child, unless two of them need more."""

RING_SLOTS = 32

START_SECONDS = 120.0
"""How long a child may take to start; imports can be slow on a shared file system."""

_POLL = 0.05
"""Seconds between two looks at the child while waiting for it."""


class DecoderProcess:
    """A child process that probes and decodes files; started when first needed, again after it had to be killed.

    One that stands still, or is killed from outside, is replaced once, and the new one goes on where it stood.

    Use it as a context manager. Not for several threads at once.

    Args:
        config: decoder and limits. ``timeout`` counts the seconds in which the child gives no sign of life while
            it is waited for; ``memory_mb`` is its resident memory.
        threads: threads of the decoder.
    """

    def __init__(self, config: DecoderConfig, *, threads: int = 1) -> None:
        self.config = config
        self.threads = threads
        self._child: _Child | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the child. A later call starts a new one."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    @property
    def pid(self) -> int | None:
        """Process id of the child, if there is one."""
        return self._child.process.pid if self._child is not None else None

    def probe(self, path: str) -> Probe:
        """Probes a local file: see :func:`emobeam.emo_transforms.video.frames.probe_video`.

        Raises:
            InputError: what ``probe_video`` raises; ``timeout``, ``memory`` or ``crash`` of the child.
        """
        try:
            return self._probed(path)
        except InputError as error:
            if not _may_pass(error):
                raise
        return self._probed(path)

    def _probed(self, path: str) -> Probe:
        child = self._started()
        try:
            child.send(("probe", path))
            answer = self._next(child, path, "probe")
        except BaseException:
            self.close()
            raise
        if isinstance(answer[1], EmobeamError | InputError):
            raise answer[1]
        probe: Probe = answer[1]
        return probe

    def frames(self, path: str, segment: Segment) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
        """Decodes the sampled frames of a segment: see :func:`emobeam.emo_transforms.video.frames.decode_frames`.

        Yields:
            Frame number and upright RGB picture uint8 [H, W, 3], which is the caller's to keep.

        Raises:
            InputError: what ``decode_frames`` raises; ``timeout``, ``memory`` or ``crash`` of the child.
        """
        left = segment
        try:
            for number, picture in self._decoded(path, segment):
                left = replace(segment, sampled=tuple(each for each in left.sampled if each > number))
                yield number, picture
            return
        except InputError as error:
            if not _may_pass(error):
                raise
        yield from self._decoded(path, left)

    def _decoded(self, path: str, segment: Segment) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
        child = self._started()
        finished = False
        try:
            slot_bytes = max(segment.width * segment.height * 3, 1)
            slots = max(2, min(RING_SLOTS, RING_BYTES // slot_bytes))
            ring = child.ring(slots * slot_bytes)
            child.send(("frames", path, segment, slots, slot_bytes))
            while True:
                message = self._next(child, path, "decode")
                if message[0] == "done":
                    finished = True
                    break
                _, number, slot, shape = message
                picture = np.frombuffer(ring, np.uint8, int(np.prod(shape)), slot * slot_bytes).reshape(shape).copy()
                child.send(("free", slot))
                yield number, picture
        finally:
            # A child in the middle of something nobody wants any more is not worth talking to.
            if not finished:
                self.close()
        if message[1] is not None:
            raise message[1]

    def _started(self) -> _Child:
        if self._child is not None and self._child.process.poll() is not None:
            self.close()
        if self._child is None:
            self._child = _Child(self.config, self.threads)
        return self._child

    def _next(self, child: _Child, path: str, stage: str) -> tuple[Any, ...]:
        """The next message that is more than a sign of life."""
        deadline = time.monotonic() + self.config.timeout
        while True:
            resident = child.resident_mb()
            if resident > self.config.memory_mb:
                raise InputError(
                    f"{path}: decoding takes {resident} MB, more than the limit of {self.config.memory_mb} MB",
                    stage=stage,
                    reason="memory",
                    permanent=False,  # the limit may be another one next time
                )
            try:
                if child.connection.poll(_POLL):
                    message: tuple[Any, ...] = child.connection.recv()
                    if message[0] != "alive":
                        return message
                    deadline = time.monotonic() + self.config.timeout
            except (EOFError, OSError) as error:
                raise child.death(path, stage) from error
            if time.monotonic() > deadline:
                raise InputError(
                    f"{path}: no progress in {self.config.timeout:g} s",
                    stage=stage,
                    reason="timeout",
                    permanent=False,
                )


def _may_pass(error: InputError) -> bool:
    """Whether a new child is worth a try: a disk that was sick for a moment or a laptop that slept says nothing of the
    file, nor does who was killed from outside.
    """
    return error.reason == "timeout" or (error.reason == "crash" and not error.permanent)


class Decoders:
    """Decoding processes that several of their users have in common: one for each config, while somebody holds it."""

    def __init__(self) -> None:
        self._held: WeakValueDictionary[DecoderConfig, DecoderProcess] = WeakValueDictionary()

    def get(self, config: DecoderConfig) -> DecoderProcess:
        """The process of this config."""
        found = self._held.get(config)
        if found is None:
            found = self._held[config] = DecoderProcess(config)
        return found


class _Child:
    """The running child: its process, the connection to it, and the memory shared with it."""

    def __init__(self, config: DecoderConfig, threads: int) -> None:
        self.connection, theirs = Pipe()
        self._memory = _unnamed_memory()
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (closed in kill)
        self._ring: mmap.mmap | None = None
        environment = {**os.environ, **same_imports()}
        handles = (theirs.fileno(), self._memory)
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "emobeam.emo_transforms.video.decoding_child", *map(str, handles)],
            pass_fds=handles,
            stdin=subprocess.PIPE,  # never written to: it ends when this process does
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            env=environment,
            process_group=0,  # Ctrl-C in the terminal is for the parent
        )
        theirs.close()
        self._status = psutil.Process(self.process.pid)
        self.send((config, threads))
        try:
            started = self.connection.poll(START_SECONDS) and self.connection.recv() == ("ready",)
        except (EOFError, OSError):
            started = False
        if not started:
            why = self._last_words()
            self.kill()
            raise EmobeamError(f"the decoding process doesn't start{why}; check the installation of PyAV and numpy")

    def send(self, message: tuple[Any, ...]) -> None:
        with contextlib.suppress(OSError):  # it is dead; reading from it tells why
            self.connection.send(message)

    def ring(self, size: int) -> mmap.mmap:
        """Shared memory of at least ``size`` bytes."""
        if self._ring is None or len(self._ring) < size:
            os.ftruncate(self._memory, size)
            self._ring = mmap.mmap(self._memory, size)
        return self._ring

    def resident_mb(self) -> int:
        try:
            return int(self._status.memory_info().rss) >> 20
        except psutil.Error:
            return 0

    def death(self, path: str, stage: str) -> InputError:
        """What to say of a child that broke the connection."""
        code = self.process.wait()
        how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        message = f"{path}: the decoder crashed ({how}){self._last_words()}"
        # Killed from outside, most likely because the machine ran out of memory: that says nothing of the file.
        return InputError(message, stage=stage, reason="crash", permanent=code != -signal.SIGKILL)

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return f": {lines[-1]}" if lines else ""

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.connection.close()
        self._errors.close()
        # Pictures handed out are copies, so nothing points into the ring any more.
        self._ring = None
        os.close(self._memory)


def _unnamed_memory() -> int:
    """A file descriptor of memory that vanishes with the last process that holds it."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("emobeam-frames")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
