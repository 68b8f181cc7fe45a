"""A child process of a pool: takes work from its standard input, and knows nothing of Beam.

Its argument is EVENTS_FD; messages on standard input are pickled with a length before them: ``("job", number, job)``,
``("drop", number)`` and ``("do", number, elements)``. What happens is told as JSON lines on the file descriptor
``EVENTS_FD``. When standard input ends, the launcher is gone and the process goes at once: files are only ever renamed
into place.
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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.extraction.child_work import Report
from emobeam.emo_transforms.storage.lean_imports import arrow_without_pandas
from emobeam.emo_transforms.video.decoding_process import Decoders
from emobeam.schemas.records import EmobeamError, UsageError


@dataclass(frozen=True)
class PipeReporter:
    """Tells the launcher what happens."""

    fd: int

    def __call__(self, event: str, data: Mapping[str, Any]) -> None:
        """Writes one line of JSON into the pipe."""
        line = memoryview((json.dumps({"event": event, **data}) + "\n").encode())
        while line:
            line = line[os.write(self.fd, line) :]


def packed(message: Any) -> bytes:
    """One message for a child."""
    data = pickle.dumps(message)
    return struct.pack("<Q", len(data)) + data


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
        except Exception:  # noqa: BLE001 - a thread that ends in silence would leave a child that waits for ever
            _die()


def main() -> None:
    """Works until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig()
    arrow_without_pandas()
    report = PipeReporter(int(sys.argv[1]))
    inbox: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, inbox), daemon=True).start()
    opened: dict[int, Callable[[Any, Report], None]] = {}
    decoders = Decoders()
    while True:
        data = inbox.get()
        try:
            _treat(pickle.loads(data), opened, decoders, report)
        except EmobeamError as error:
            report("fatal", {"message": str(error)[:2000], "usage": isinstance(error, UsageError)})
        except Exception:  # noqa: BLE001 - unpacking a job runs imports and constructors, which may raise anything
            _die()


def _treat(
    message: tuple[Any, ...], opened: dict[int, Callable[[Any, Report], None]], decoders: Decoders, report: Report
) -> None:
    what, number, *rest = message
    if what == "drop":
        opened.pop(number, None)
    elif what == "job":
        opened[number] = rest[0].open(decoders)
        report("ready", {})
    else:
        for element in rest[0]:
            opened[number](element, report)
        report("idle", {})


def _die() -> NoReturn:
    """Ends the process with the exception as its last words, at once: an orderly exit would wait for standard input."""
    traceback.print_exc()
    sys.stderr.flush()
    os._exit(1)


if __name__ == "__main__":
    main()
