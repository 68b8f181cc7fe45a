"""Beam's job server for Flink and Spark: a Java program between this process and the cluster, for the time of a run."""

from __future__ import annotations

import contextlib
import ctypes
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from emo_transforms.scratch import scratch_prefix
from runners.jars import check_jar, check_java, jar_of
from runners.presets import EngineConfig, job_server_command
from schemas.records import EmobeamError

_START_SECONDS = 120.0
_TAIL = 2000


@contextlib.contextmanager
def job_server(config: EngineConfig) -> Iterator[str]:
    """Yields ``HOST:PORT`` of a job server: the one that was named, or one that lives as long as the block.

    Raises:
        EmobeamError: it doesn't start; the message has its last words.
    """
    if config.job_endpoint:
        yield config.job_endpoint
        return
    java = check_java()
    jar = check_jar(config, jar_of(config))
    folder = tempfile.mkdtemp(prefix=scratch_prefix("jobserver"))
    log = Path(folder) / "log"
    port = _free_port()
    with open(log, "wb") as file:
        process = subprocess.Popen(
            job_server_command(config, java, jar, port, str(Path(folder) / "artifacts")),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,  # Ctrl-C cancels the job first; the server ends after that
            preexec_fn=_die_with_parent,
        )
    try:
        _wait_for(process, port, log)
        yield f"localhost:{port}"
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _die_with_parent() -> None:
    """On Linux a launcher that is killed takes its job server along (prctl, PR_SET_PDEATHSIG = 1)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def _wait_for(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection(("localhost", port), timeout=1):
            return
        time.sleep(0.2)
    words = log.read_bytes()[-_TAIL:].decode(errors="replace").strip()
    raise EmobeamError(f"Beam's job server doesn't start; its last words:\n{words}")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return int(free.getsockname()[1])
