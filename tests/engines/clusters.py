"""A Flink and a Spark standalone cluster on loopback, with Python workers in processes of their own.

Each is a few JVMs with small heaps that end with the block that started them, or with the process if that is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.engines.install import JARS, job_server_jar, libraries

HOST = "127.0.0.1"
WORKERS = 2

_OPENED = (
    "java.base/java.lang",
    "java.base/java.net",
    "java.base/java.io",
    "java.base/java.nio",
    "java.base/java.util",
)
_OPENED_MORE = ("java.base/sun.nio.ch", "java.base/java.lang.invoke", "java.base/java.util.concurrent")
_OPENS = [f"--add-opens={package}=ALL-UNNAMED" for package in (*_OPENED, *_OPENED_MORE)]
_START_TIMEOUT = 300.0
"""Generous: the machine may have other things to do. Nothing that works waits that long."""

_MARK = "EMOBEAM_TEST_CLUSTER"


def free_ports(count: int) -> list[int]:
    """Different ports that nothing listens on."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((HOST, 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def wait_for(what: str, ready: Callable[[], bool], timeout: float = _START_TIMEOUT) -> None:
    """Returns when ``ready`` says so; raises :class:`TimeoutError` that names ``what``."""
    end = time.monotonic() + timeout
    while not ready():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: waited in vain for {timeout:.0f} s")
        time.sleep(0.1)


def get_json(url: str, seconds: float = 5.0) -> Any:
    """What a REST endpoint says; None while it doesn't answer within ``seconds``."""
    try:
        with urllib.request.urlopen(url, timeout=seconds) as answer:
            return json.load(answer)
    except (http.client.HTTPException, OSError, ValueError):
        return None


def answer_of(url: str, timeout: float = _START_TIMEOUT) -> Any:
    """As :func:`get_json`, but asks until there is an answer: silence must not look like an empty list.

    Raises:
        TimeoutError: nothing answered in ``timeout`` seconds.
    """
    end = time.monotonic() + timeout
    while (told := get_json(url, seconds=30)) is None:
        if time.monotonic() > end:
            raise TimeoutError(f"{url}: no answer for {timeout:.0f} s")
        time.sleep(0.5)
    return told


def _die_with_parent() -> None:
    """A pytest that is killed leaves no JVM behind (Linux: PR_SET_PDEATHSIG)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


@dataclass
class Cluster:
    """Daemons by name, and where their engine is found.

    Attributes:
        engine: ``flink`` or ``spark``.
        master: what ``--flink-master`` or ``--spark-master`` takes.
        web: address of the REST interface.
        folder: logs and configuration.
        daemons: master, workers (``worker0``, ``worker1``), a pool of Python workers where there is one.
    """

    engine: str
    master: str
    web: str
    folder: Path
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    commands: dict[str, tuple[list[str], dict[str, str]]] = field(default_factory=dict)

    def start(self, name: str, command: Sequence[str], **environment: str) -> None:
        """Starts a daemon; its output goes to ``NAME.log``."""
        self.commands[name] = (list(command), environment)
        with open(self.folder / f"{name}.log", "ab") as log:
            self.daemons[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env={**os.environ, "OMP_NUM_THREADS": "1", _MARK: str(self.folder), **environment},
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    def kill(self, name: str) -> None:
        """``kill -9`` of a daemon."""
        self.daemons[name].kill()
        self.daemons[name].wait()

    def restart(self, name: str) -> None:
        """Starts a daemon that was killed once more."""
        command, environment = self.commands[name]
        self.start(name, command, **environment)

    def processes(self) -> list[psutil.Process]:
        """All processes that any daemon started, also those whose parent is dead; oldest first."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(_MARK) == str(self.folder) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return sorted(found, key=lambda process: process.create_time())

    def python_workers(self) -> list[psutil.Process]:
        """The processes that run Beam's Python harness now, oldest first."""
        found = []
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                if "apache_beam.runners.worker.sdk_worker_main" in process.cmdline():
                    found.append(process)
        return found

    def with_children(self) -> list[tuple[psutil.Process, list[psutil.Process]]]:
        """Python workers that have started processes of their own, with those; oldest first."""
        found = []
        for worker in self.python_workers():
            with contextlib.suppress(psutil.NoSuchProcess):
                if children := worker.children(recursive=True):
                    found.append((worker, children))
        return found

    def workers_alive(self) -> int:
        """Task managers or workers the master knows."""
        if self.engine == "flink":
            overview = get_json(f"{self.web}/overview") or {}
            return int(overview.get("taskmanagers", 0))
        state = get_json(f"{self.web}/json/") or {}
        return sum(worker["state"] == "ALIVE" for worker in state.get("workers", ()))

    def jobs(self) -> dict[str, str]:
        """State of every job by id, those that have ended included; raises TimeoutError where the engine is silent."""
        if self.engine == "flink":
            return {job["id"]: job["status"] for job in answer_of(f"{self.web}/jobs")["jobs"]}
        state = answer_of(f"{self.web}/json/")
        return {app["id"]: app["state"] for app in (*state["activeapps"], *state["completedapps"])}

    def running_jobs(self) -> list[str]:
        """Ids of the jobs that have not ended."""
        ended = ("FINISHED", "FAILED", "CANCELED", "KILLED")
        return [job for job, state in self.jobs().items() if state not in ended]

    def cancel(self, job: str) -> None:
        """Ends a job of Flink, as its web page does."""
        request = urllib.request.Request(f"{self.web}/jobs/{job}?mode=cancel", method="PATCH")
        with urllib.request.urlopen(request) as answer:
            assert answer.status == 202

    def calm_down(self) -> None:
        """Brings back daemons that are dead, and ends jobs and Python workers that should have ended."""
        for name in [name for name, daemon in self.daemons.items() if "worker" in name and daemon.poll() is not None]:
            self.restart(name)
        with contextlib.suppress(TimeoutError):
            for job in self.running_jobs() if self.engine == "flink" else ():  # those of Spark end with their driver
                with contextlib.suppress(OSError):
                    self.cancel(job)
            wait_for("the end of all jobs", lambda: not self.running_jobs(), 60)
        for process in self.python_workers():
            with contextlib.suppress(psutil.Error):
                process.kill()
        wait_for(f"all of {self.engine}", lambda: self.workers_alive() == WORKERS)

    def logs(self, lines: int = 40) -> str:
        """The last lines of all logs, for a test that failed."""
        parts = []
        for path in sorted(self.folder.glob("*.log")):
            tail = path.read_text(errors="replace").splitlines()[-lines:]
            parts += [f"--- {path.name}", *tail]
        return "\n".join(parts)

    def close(self) -> None:
        """Ends all daemons with all that they started."""
        processes = self.processes()
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, timeout=10)
        for daemon in self.daemons.values():
            daemon.wait(timeout=10)


def _java(main: str, classes: Path, heap: str, *arguments: str) -> list[str]:
    log = f"-Dlog4j2.configurationFile={JARS / 'log4j2.properties'}"
    flags = [f"-Xmx{heap}", "-Xms64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", log, *_OPENS]
    return ["java", *flags, "-cp", f"{classes}/*", main, *arguments]


def start_pool(cluster: Cluster) -> str:
    """Starts a pool of Python workers for ``external`` environments; returns its ``HOST:PORT``."""
    (port,) = free_ports(1)
    cluster.start(
        "python-pool", [sys.executable, "-m", "emobeam.runners.worker_boot", "--worker_pool", f"--service_port={port}"]
    )

    def listening() -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex((HOST, port)) == 0

    wait_for("the pool of Python workers", listening)
    return f"localhost:{port}"


@contextmanager
def _ends(cluster: Cluster) -> Iterator[Cluster]:
    try:
        yield cluster
    except TimeoutError as error:
        error.add_note(cluster.logs())
        raise
    finally:
        cluster.close()


@contextmanager
def flink_cluster(folder: Path, *, slots: int = 2) -> Iterator[Cluster]:
    """One job manager and two task managers of ``slots`` slots each."""
    rpc, rest = free_ports(2)
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "jobmanager.rpc.address": HOST,
        "jobmanager.rpc.port": rpc,
        "rest.address": HOST,
        "rest.bind-address": HOST,
        "rest.port": rest,
        "taskmanager.host": HOST,
        "io.tmp.dirs": str(folder),
        # Beam's own option has no effect on batch jobs: without this a lost worker ends the job.
        "restart-strategy.type": "fixed-delay",
        # Shorter than docs/engines.md says: the first restart meets the dead task manager, and Flink then forgets a
        # Python worker, which has to leave by itself.
        "restart-strategy.fixed-delay.attempts": 4,
        "restart-strategy.fixed-delay.delay": "2 s",
        "taskmanager.load-balance.mode": "SLOTS",  # both task managers have work, however little there is
        # In ms, as in docs/engines.md. A machine that has other things to do is not dead for that.
        "heartbeat.interval": 1000,
        "heartbeat.timeout": 20000,
    }
    (folder / "config.yaml").write_text("".join(f"{key}: {value}\n" for key, value in settings.items()))
    cluster = Cluster("flink", f"{HOST}:{rest}", f"http://{HOST}:{rest}", folder)
    memory = {
        "taskmanager.cpu.cores": "1.0",
        "taskmanager.numberOfTaskSlots": slots,
        "taskmanager.memory.framework.heap.size": "128m",
        "taskmanager.memory.framework.off-heap.size": "64m",
        "taskmanager.memory.task.heap.size": "384m",
        "taskmanager.memory.task.off-heap.size": "0b",
        "taskmanager.memory.network.min": "64m",
        "taskmanager.memory.network.max": "64m",
        "taskmanager.memory.managed.size": "64m",
        "taskmanager.memory.jvm-metaspace.size": "256m",
        "taskmanager.memory.jvm-overhead.min": "64m",
        "taskmanager.memory.jvm-overhead.max": "64m",
    }
    given = [part for key, value in memory.items() for part in ("-D", f"{key}={value}")]
    runtime, lib = "org.apache.flink.runtime", libraries("flink")
    with _ends(cluster):
        main = f"{runtime}.entrypoint.StandaloneSessionClusterEntrypoint"
        cluster.start("master", _java(main, lib, "512m", "--configDir", str(folder)))
        for number in range(WORKERS):
            main = f"{runtime}.taskexecutor.TaskManagerRunner"
            name = ("-D", f"taskmanager.resource-id=worker{number}")
            cluster.start(f"worker{number}", _java(main, lib, "512m", "--configDir", str(folder), *given, *name))
        wait_for("the Flink cluster", lambda: cluster.workers_alive() == WORKERS)
        yield cluster


_SPARK_CLEANUP = [f"-Dspark.worker.cleanup.{key}" for key in ("enabled=true", "interval=60", "appDataTtl=60")]
"""Each executor copies the job server's jar, 250 MB; without this the copies of all jobs stay and fill the disk."""


@contextmanager
def spark_cluster(folder: Path, *, cores: int = 2) -> Iterator[Cluster]:
    """One master and two workers of ``cores`` cores each; a job takes one core of each unless it asks for more."""
    port, web, *pages = free_ports(2 + WORKERS)
    home, jars = libraries("spark").parent, libraries("spark")
    folder.mkdir(parents=True, exist_ok=True)
    cluster = Cluster("spark", f"spark://{HOST}:{port}", f"http://{HOST}:{web}", folder)
    environment = {
        "SPARK_HOME": str(home),
        "SPARK_LOCAL_IP": HOST,
        "SPARK_LOCAL_DIRS": str(folder / "local"),
        "SPARK_SCALA_VERSION": "2.12",  # else it is read off the folders of a build
    }
    deploy = "org.apache.spark.deploy"
    with _ends(cluster):
        command = _java(f"{deploy}.master.Master", jars, "512m", "--host", HOST, "--port", str(port))
        command += ["--webui-port", str(web)]
        command.insert(1, f"-Dspark.deploy.defaultCores={WORKERS}")
        cluster.start("master", command, **environment)
        wait_for("the Spark master", lambda: get_json(f"{cluster.web}/json/") is not None)
        for number in range(WORKERS):
            options = ["--host", HOST, "--cores", str(cores), "--memory", "2g", "--webui-port", str(pages[number])]
            options += ["--work-dir", str(folder / f"worker{number}")]
            command = _java(f"{deploy}.worker.Worker", jars, "256m", *options, cluster.master)
            command[1:1] = _SPARK_CLEANUP
            cluster.start(f"worker{number}", command, **environment)
        wait_for("the Spark cluster", lambda: cluster.workers_alive() == WORKERS)
        yield cluster


CLUSTERS = {"flink": flink_cluster, "spark": spark_cluster}


def running(cluster: Cluster, environment: str = "process", workers: int = WORKERS) -> list[str]:
    """Options of ``emobeam`` that send a job to a cluster whose workers see the same files."""
    return [
        *("--runner", cluster.engine, f"--{cluster.engine}-master", cluster.master),
        *("--job-server-jar", str(job_server_jar(cluster.engine)), "--workers", str(workers)),
        *("--worker-environment", environment, "--shared-files"),
    ]
