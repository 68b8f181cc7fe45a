from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from emobeam.runners.worker_pool import WorkerPool, address
from tests.pipelines.runs import gone, wait_for


@pytest.fixture
def engine() -> Iterator[socket.socket]:
    """A port that an engine process listens on."""
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        listener.listen()
        yield listener


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    made = WorkerPool(lambda request: [sys.executable, "-c", "import time; time.sleep(600)"], look_every=0.1)
    yield made
    made.close()


def request(engine: socket.socket, worker_id: str = "1-1") -> Any:
    endpoint = SimpleNamespace(url=f"localhost:{engine.getsockname()[1]}")
    return SimpleNamespace(worker_id=worker_id, control_endpoint=endpoint)


def test_stopping_a_worker_leaves_another_of_the_same_id_alone(pool: WorkerPool, engine: socket.socket) -> None:
    for _ in range(2):
        assert not pool.StartWorker(request(engine), None).error
    first, second = pool.workers()
    pool.StopWorker(request(engine), None)
    time.sleep(0.5)
    assert pool.workers() == [first, second]


def test_a_worker_whose_engine_is_gone_ends(
    pool: WorkerPool, engine: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emobeam.runners.worker_pool._GRACE", 0.2)
    pool.StartWorker(request(engine), None)
    (pid,) = pool.workers()
    process = psutil.Process(pid)
    time.sleep(0.5)
    assert pool.workers() == [pid]
    engine.close()
    wait_for(lambda: pool.workers() == [])
    assert gone([process])


def test_closing_ends_all(pool: WorkerPool, engine: socket.socket) -> None:
    for number in range(3):
        pool.StartWorker(request(engine, f"{number}-1"), None)
    processes = [psutil.Process(pid) for pid in pool.workers()]
    assert len(processes) == 3
    pool.close()
    assert gone(processes)


def test_a_program_that_is_missing_is_told_to_the_engine(engine: socket.socket, tmp_path: Path) -> None:
    command: Callable[[Any], list[str]] = lambda request: [str(tmp_path / "missing")]  # noqa: E731
    broken = WorkerPool(command)
    try:
        assert "missing" in broken.StartWorker(request(engine), None).error
        assert broken.workers() == []
    finally:
        broken.close()


def listening(process: subprocess.Popen[bytes]) -> set[str]:
    found = psutil.Process(process.pid).net_connections("tcp")
    # gRPC's sockets take both kinds of addresses and show the older kind as mapped.
    return {each.laddr.ip.removeprefix("::ffff:") for each in found if each.status == psutil.CONN_LISTEN}


@pytest.mark.parametrize(
    ("given", "addresses"),
    [([], {"127.0.0.1"}), pytest.param(["--host=0.0.0.0"], {"0.0.0.0", "::"}, marks=pytest.mark.thorough)],
)
def test_a_pool_is_open_to_its_own_machine_only_unless_told(given: list[str], addresses: set[str]) -> None:
    """Whoever reaches it can run programs there."""
    command = [sys.executable, "-m", "emobeam.runners.worker_boot", "--worker_pool", "--service_port=0", *given]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: bool(listening(process)))
        assert listening(process) <= addresses
    finally:
        process.terminate()
        process.wait(120)


def test_addresses_of_both_kinds() -> None:
    assert address("0.0.0.0", 5) == "0.0.0.0:5"
    assert address("::", 5) == "[::]:5"
