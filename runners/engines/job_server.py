"""Beam's job server for Flink and Spark: a Java program between this process and the cluster, for the time of a run."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

from emobeam.emo_transforms.storage.leftovers import scratch_prefix
from emobeam.runners.engines.dataflow import Detached
from emobeam.runners.engines.jars import check_jar, check_java, jar_of
from emobeam.runners.engines.presets import EngineConfig, job_server_command
from emobeam.schemas.records import EmobeamError, UsageError

_START_SECONDS = 120.0
_TAIL = 2000


@contextlib.contextmanager
def job_server(config: EngineConfig, spark_settings: Mapping[str, str] | None = None) -> Iterator[str]:
    """Yields ``HOST:PORT`` of a job server: the one that was named, or one that lives as long as the block.

    Where the block ends by an error of ours, what the server said is kept in a file that the error names. A verbose
    launcher shows it as it comes.

    Args:
        spark_settings: further ones, by name; only a server that is started here takes them.

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
    verbose = logging.getLogger().level <= logging.INFO
    with open(log, "wb") as file:
        output = sys.__stderr__ if verbose and sys.__stderr__ is not None else file
        process = subprocess.Popen(
            job_server_command(config, java, jar, port, str(Path(folder) / "artifacts"), spark_settings or {}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C cancels the job first; the server ends after that
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - calls nothing but prctl
        )
    try:
        _wait_for(process, port, log)
        yield f"localhost:{port}"
    except (Detached, UsageError):
        raise
    except EmobeamError as error:
        if log.stat().st_size:
            error.args = (f"{error}; what Beam's job server said is in {_kept(log)}", *error.args[1:])
        raise
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _kept(log: Path) -> str:
    """A copy of the log that stays."""
    handle, name = tempfile.mkstemp(prefix="emobeam-jobserver-", suffix=".log")
    os.close(handle)
    shutil.copyfile(log, name)
    return name


def _die_with_parent() -> None:
    """On Linux a launcher that is killed takes its job server along (prctl, PR_SET_PDEATHSIG = 1)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def _wait_for(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        if _listens(process, port):
            return
        time.sleep(0.2)
    words = log.read_bytes()[-_TAIL:].decode(errors="replace").strip()
    raise EmobeamError(f"Beam's job server doesn't start; its last words:\n{words}")


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    """Whether the server has its port, and nobody who was quicker to take it: jobs would go to another's cluster."""
    try:
        server = psutil.Process(process.pid)
        family = [server, *server.children(recursive=True)]  # some systems' java is a script around it
        found = [each for member in family for each in member.net_connections("tcp")]
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:  # this system doesn't tell who listens
        with contextlib.suppress(OSError), socket.create_connection(("localhost", port), timeout=1):
            return True
        return False
    return any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in found)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return int(free.getsockname()[1])
