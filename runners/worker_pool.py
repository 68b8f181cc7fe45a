"""A pool that starts Python workers for the engine processes of one machine: ``emobeam-worker --worker_pool``.

Beam's own pool knows its workers by the id that an engine process gives them, and every engine process counts from 1.
With two of them on a machine (two task managers, two executors, two jobs at once) one stops the worker of the other,
which then waits for ever. Here a worker ends when the engine process it belongs to lets go of it or dies.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

import grpc
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc
from apache_beam.utils import thread_pool_executor

_LOOK_EVERY = 5.0
_GRACE = 10.0

LOOPBACK = "127.0.0.1"
"""Where a pool listens unless it is told otherwise: engine processes of the same machine, or pod, reach it."""


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    control: str
    stop_by: float = float("inf")


class WorkerPool(beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolServicer):  # type: ignore[misc]
    """Beam's pool service.

    Attributes:
        command: from an engine's request to what starts a worker for it.
    """

    def __init__(self, command: Callable[[Any], list[str]], look_every: float = _LOOK_EVERY) -> None:
        self.command = command
        self._look_every = look_every
        self._workers: list[_Worker] = []
        self._lock = threading.Lock()
        self._closed = threading.Event()
        threading.Thread(target=self._look, daemon=True).start()

    def StartWorker(self, request: Any, context: Any) -> Any:
        """Starts a process; an engine that asks again, because its worker died, gets another one."""
        try:
            process = subprocess.Popen(self.command(request), stdin=subprocess.DEVNULL, stdout=sys.stderr)
        except OSError as error:
            return beam_fn_api_pb2.StartWorkerResponse(error=f"no worker can be started: {error}")
        with self._lock:
            self._workers.append(_Worker(process, request.control_endpoint.url))
        return beam_fn_api_pb2.StartWorkerResponse()

    def StopWorker(self, request: Any, context: Any) -> Any:
        """Nothing to do: the engine has closed the connection before, and that ends a worker."""
        return beam_fn_api_pb2.StopWorkerResponse()

    def workers(self) -> list[int]:
        """Process ids of the workers that live."""
        with self._lock:
            return [worker.process.pid for worker in self._workers if worker.process.poll() is None]

    def close(self) -> None:
        """Ends all workers."""
        self._closed.set()
        with self._lock:
            workers, self._workers = self._workers, []
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            _end(worker.process, _GRACE)

    def _look(self) -> None:
        """Ends workers whose engine process no longer listens and that have not noticed."""
        while not self._closed.wait(self._look_every):
            with self._lock:
                self._workers = [worker for worker in self._workers if worker.process.poll() is None]
                workers = list(self._workers)
            for worker in workers:
                if _listens(worker.control):
                    worker.stop_by = float("inf")
                elif worker.stop_by == float("inf"):
                    worker.stop_by = time.monotonic() + _GRACE
                elif time.monotonic() > worker.stop_by:
                    worker.process.terminate()
                    _end(worker.process, _GRACE)


def address(host: str, port: int) -> str:
    """Where gRPC listens; addresses of IPv6 stand in brackets."""
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def _listens(endpoint: str) -> bool:
    place = urlsplit(f"//{endpoint}")
    try:
        with socket.create_connection((place.hostname or "localhost", place.port or 0), timeout=5):
            return True
    except (ConnectionError, socket.gaierror):
        return False
    except OSError:  # slow, not gone
        return True


def _end(process: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def serve(port: int, program: str, host: str = LOOPBACK) -> None:
    """Serves until the process is told to end; then all workers end.

    Args:
        host: address to listen on. Whoever reaches it can start processes here that run what he sends: there is no
            authentication in Beam's protocol.
        program: an executable that takes what Beam's containers take (``--id``, ``--control_endpoint``, ...).
    """

    def command(request: Any) -> list[str]:
        return [
            program,
            f"--id={request.worker_id}",
            f"--logging_endpoint={request.logging_endpoint.url}",
            f"--artifact_endpoint={request.artifact_endpoint.url}",
            f"--provision_endpoint={request.provision_endpoint.url}",
            f"--control_endpoint={request.control_endpoint.url}",
        ]

    ended = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        ended.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    pool = WorkerPool(command)
    server = grpc.server(thread_pool_executor.shared_unbounded_instance())
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
    try:
        server.add_insecure_port(address(host, port))
    except RuntimeError as error:
        raise SystemExit(f"{host}, port {port} can't be had ({error}); choose another --service_port") from error
    server.start()
    print(f"a pool of Python workers listens on {host}, port {port}", file=sys.stderr)
    try:
        ended.wait()
    finally:
        server.stop(0)
        with contextlib.suppress(Exception):  # the pool ends in any case
            pool.close()
