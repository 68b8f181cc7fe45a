"""A worker process of a local run: takes slices of work from its standard input, runs each as a Beam pipeline.

Its argument is EVENTS_FD; messages on standard input are pickled with a length before them: a job, or
a list of elements for the job that came last. What happens is told as JSON lines on the file descriptor
``EVENTS_FD``. When standard input ends, the launcher is gone and the process goes at once: files are only ever
renamed into place.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import queue
import signal
import struct
import sys
import threading
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn, Protocol

from emobeam.emo_transforms import storage
from emobeam.runners.beam_noise import quieten
from emobeam.schemas.records import EmobeamError


class Job(Protocol):
    """What a worker does with a slice of elements: build a Beam pipeline over them and run it."""

    def run(self, elements: list[Any], reporter: PipeReporter) -> None:
        """Raises :class:`EmobeamError` where the whole run has to stop."""


@dataclass(frozen=True)
class PipeReporter:
    """Tells the launcher what happens; picklable within the process.

    A line stays below the size up to which writes to a pipe are atomic.
    """

    fd: int

    def __call__(self, event: str, data: Mapping[str, Any]) -> None:
        """Writes one line of JSON into the pipe."""
        os.write(self.fd, (json.dumps({"event": event, **data}) + "\n").encode())


def send(stream: BinaryIO, message: Any) -> None:
    """Writes one message for a worker."""
    data = pickle.dumps(message)
    stream.write(struct.pack("<Q", len(data)) + data)
    stream.flush()


def _receive(stream: BinaryIO) -> bytes:
    header = stream.read(8)
    if len(header) < 8:
        raise EOFError
    (length,) = struct.unpack("<Q", header)
    data = stream.read(length)
    if len(data) < length:
        raise EOFError
    return data


def _listen(stream: BinaryIO, inbox: queue.Queue[bytes]) -> None:
    # Messages stay packed here: what unpacking a job imports may take long, and the launcher may end meanwhile.
    while True:
        try:
            inbox.put(_receive(stream))
        except EOFError:
            storage.discard_unfinished()
            os._exit(0)
        except Exception:  # noqa: BLE001 - a thread that ends in silence would leave a worker that waits for ever
            _die()


def main() -> None:
    """Works until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig()
    quieten()
    reporter = PipeReporter(int(sys.argv[1]))
    inbox: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, inbox), daemon=True).start()
    job: Job | None = None
    while True:
        data = inbox.get()
        try:
            message = pickle.loads(data)
        except Exception:  # noqa: BLE001 - unpacking a job runs imports and constructors, which may raise anything
            _die()
        if not isinstance(message, list):
            job = message
            reporter("ready", {})
            continue
        if job is None:
            raise RuntimeError("work came before the job that it belongs to")
        try:
            job.run(message, reporter)
        except Exception as error:  # noqa: BLE001 - Beam wraps what a step raises in classes of its own; _cause looks inside
            ours = _cause(error)
            if ours is None:
                _die()
            text, _, _ = str(ours).partition(" [while running '")  # Beam adds the name of its step
            reporter("fatal", {"message": text[:2000]})
        else:
            reporter("idle", {})


def _die() -> NoReturn:
    """Ends the process with the exception as its last words, at once: an orderly exit would wait for standard input."""
    traceback.print_exc()
    sys.stderr.flush()
    os._exit(1)


def _cause(error: BaseException) -> EmobeamError | None:
    """The error of ours inside what Beam makes of it."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, EmobeamError):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


if __name__ == "__main__":
    main()
