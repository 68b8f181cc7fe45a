"""What each engine is started with: from a few named settings to the options that are right for this workload.

The workload: few small records between the steps, and one step that works minutes on an element in processes of its
own. So: one Python worker per engine process (its slots share it, see ``engine_children``), blocking exchanges where
the engine has a choice, and restarts, because every unit of work is written as a whole and only once.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from emobeam.runners.engines.dataflow import OWNED as DATAFLOW_OWNED
from emobeam.runners.engines.dataflow import DataflowConfig, dataflow_options, heavy_step_hints
from emobeam.schemas.options import Option, Section
from emobeam.schemas.records import UsageError

ENGINES = ("flink", "spark", "dataflow")
_CLUSTERS = ("flink", "spark")

RETRIES = 4
"""How often Spark may do a task again; Flink's restarts are a setting of its cluster."""

_OPENED = ("java.nio", "java.util", "java.lang", "java.lang.invoke", "java.net", "java.util.concurrent", "sun.nio.ch")
"""Packages of ``java.base`` that Flink and Spark reach into; since Java 17 they have to be opened to them."""

_PORTABLE_OWNED = (
    *("runner", "job_endpoint", "flink_master", "flink_version", "flink_job_server_jar", "flink_submit_uber_jar"),
    *("parallelism", "spark_master_url", "spark_job_server_jar", "spark_submit_uber_jar"),
    *("environment_type", "environment_config", "output_executable_path", "save_main_session"),
    *("direct_num_workers", "direct_running_mode"),
)


@dataclass(frozen=True)
class WorkerEnvironment:
    """How an engine gets its Python workers.

    Attributes:
        kind: ``process``, ``external``, ``docker`` or ``loopback``.
        value: command, address of the worker pool, or image.
    """

    kind: str
    value: str = ""


@dataclass(frozen=True)
class EngineConfig:
    """Another engine than this machine, and what is needed to reach it.

    Attributes:
        runner: ``flink``, ``spark`` or ``dataflow``.
        workers: segments worked on at a time (Flink: parallelism, Spark: cores), for Dataflow machines at most;
            0: all slots of Flink's cluster (see ``emobeam.runners.engines.checks.sized``), else what the engine gives.
        flink_master: ``HOST:PORT`` of the job manager's REST interface, or ``[local]``.
        flink_version: decides which job server jar is fetched where none is named.
        spark_master: ``spark://HOST:PORT``, or ``local[N]``.
        job_server_jar: path or URL; empty: Beam's own is fetched from Maven Central.
        job_endpoint: ``HOST:PORT`` of a job server that runs already.
        environment: where Python workers come from.
        shared_files: local paths mean the same on all workers.
        patience: seconds without a sign of any worker after which the run gives up, 0: never. Dataflow may let a
            job wait for hours before its first worker begins, so there it counts from the first sign.
    """

    runner: Annotated[
        str,
        Option("Engine; direct is this machine.", Section.MACHINES, unset="direct", choices=("direct", *ENGINES)),
    ]
    workers: Annotated[
        int,
        Option(
            "direct: processes, 0 is one per core; Flink: parallelism, 0 is all slots; Spark: cores, Dataflow: "
            "machines at most, 0 leaves it to the engine.",
            Section.MACHINES,
            least=0,
        ),
    ] = 0
    flink_master: Annotated[
        str, Option("REST of the cluster.", Section.CLUSTERS, metavar="HOST:PORT", runners=("flink",))
    ] = ""
    flink_version: Annotated[
        str,
        Option(
            "Which job server is fetched where none is named.", Section.CLUSTERS, metavar="VERSION", runners=("flink",)
        ),
    ] = "1.20"
    spark_master: Annotated[
        str, Option("The cluster.", Section.CLUSTERS, metavar="spark://HOST:PORT", runners=("spark",))
    ] = ""
    job_server_jar: Annotated[
        str,
        Option(
            "Beam's job server for Flink or Spark.",
            Section.CLUSTERS,
            metavar="JAR",
            told="fetched from Maven Central",
            place=True,
            runners=_CLUSTERS,
        ),
    ] = ""
    job_endpoint: Annotated[
        str,
        Option(
            "A job server that runs already; then neither jar nor Java is needed here.",
            Section.CLUSTERS,
            metavar="HOST:PORT",
            runners=_CLUSTERS,
        ),
    ] = ""
    environment: Annotated[
        WorkerEnvironment,
        Option(
            "Flink, Spark: process[:COMMAND], external:HOST:PORT, docker:IMAGE or loopback.",
            Section.CLUSTERS,
            name="worker_environment",
            metavar="HOW",
            unset="",
            runners=_CLUSTERS,
        ),
    ] = WorkerEnvironment("loopback")
    shared_files: Annotated[
        bool, Option("Local paths mean the same on all workers.", Section.MACHINES, runners=_CLUSTERS)
    ] = False
    dataflow: DataflowConfig | None = None
    patience: Annotated[
        float,
        Option(
            "Engines: without a sign of any worker for so long a run gives up; 0: never.",
            Section.MACHINES,
            metavar="SECONDS",
            least=0,
        ),
    ] = 3600.0

    @property
    def master(self) -> str:
        """The address of the cluster."""
        return self.flink_master if self.runner == "flink" else self.spark_master

    @property
    def embedded(self) -> bool:
        """The engine runs inside of the job server, for tries and tests."""
        inside = re.fullmatch(r"\[local\]|\[auto\]|local(\[.*\])?", self.master)
        return inside is not None or self.job_endpoint == "embed"


def check_master(config: EngineConfig) -> None:
    """Raises :class:`UsageError` where nobody has said which cluster of Flink or Spark is meant."""
    if config.runner != "dataflow" and not (config.master or config.job_endpoint):
        example = "--flink-master HOST:8081" if config.runner == "flink" else "--spark-master spark://HOST:7077"
        raise UsageError(f"--runner {config.runner} needs {example}, or --job-endpoint HOST:PORT of a job server")


def worker_environment(text: str, *, embedded: bool) -> WorkerEnvironment:
    """Reads ``process[:COMMAND]``, ``external:HOST:PORT``, ``docker:IMAGE`` or ``loopback``.

    Args:
        embedded: the engine runs on this machine; then nothing need be named.

    Raises:
        UsageError: it is something else, or missing.
    """
    if not text and embedded:
        return WorkerEnvironment("loopback")
    kind, _, value = text.partition(":")
    if kind == "process":
        return WorkerEnvironment(kind, value or default_command())
    if kind == "loopback" and not value:
        return WorkerEnvironment(kind)
    if kind in ("external", "docker") and value:
        return WorkerEnvironment(kind, value)
    what = f"{text!r} is none of" if text else "a cluster needs to know where its Python workers come from: name one of"
    raise UsageError(
        f"--worker-environment: {what} process[:COMMAND] (emobeam installed on every worker), external:HOST:PORT "
        "(worker pools that run beside every worker), docker:IMAGE, loopback (this process; for tries)"
    )


def default_command() -> str:
    """The program that starts a Python worker, beside this Python; the same path is expected on every worker."""
    return str(Path(sys.executable).parent / "emobeam-worker")


def engine_options(config: EngineConfig, endpoint: str = "") -> list[str]:
    """Beam's options for an engine.

    Args:
        endpoint: ``HOST:PORT`` of the job server, for Flink and Spark.
    """
    if config.runner == "dataflow":
        if config.dataflow is None:
            raise UsageError("--runner dataflow needs --project, --region, --temp-location and --image")
        return dataflow_options(config.dataflow, config.workers)
    options = [
        "--runner=PortableRunner",
        f"--job_endpoint={endpoint or config.job_endpoint}",
        *_environment_options(config.environment),
        # One Python process per engine process: its work is done by children, one for each slot.
        "--sdk_worker_parallelism=1",
        # Beam would stage a list of the installed packages, which workers on other machines may not find.
        "--experiments=disable_logging_submission_environment",
    ]
    if config.runner == "flink":
        options += [
            # A job server takes its own master for [auto], and waits for ever on an empty one.
            f"--flink_master={_with_scheme(config.flink_master) or '[auto]'}",
            # Planning ends before work begins, and its results outlive a failure of the work.
            "--execution_mode_for_batch=BATCH",
        ]
        if config.workers:
            options.append(f"--parallelism={config.workers}")
    elif config.spark_master:
        options.append(f"--spark_master_url={config.spark_master}")
    return options


def _environment_options(environment: WorkerEnvironment) -> list[str]:
    if environment.kind == "process":
        command = json.dumps({"command": environment.value})
        return ["--environment_type=PROCESS", f"--environment_config={command}"]
    options = [f"--environment_type={environment.kind.upper()}"]
    return options + ([f"--environment_config={environment.value}"] if environment.value else [])


def _with_scheme(master: str) -> str:
    # Flink's client takes HOST:PORT; Beam's Java side wants to know whether REST is encrypted.
    return master if master.startswith(("[", "http://", "https://")) or not master else f"http://{master}"


def job_server_command(
    config: EngineConfig,
    java: str,
    jar: str,
    port: int,
    artifacts: str,
    spark_settings: Mapping[str, str] | None = None,
) -> list[str]:
    """The command that starts Beam's job server for an engine, from its jar.

    Args:
        port: of the job service; the other ports are any free ones.
        artifacts: local folder for staged files.
        spark_settings: by name; they count before those of this preset.
    """
    opened = [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENED]
    master = ["--flink-master", _with_scheme(config.flink_master)]
    properties: list[str] = []
    if config.runner == "spark":
        master = ["--spark-master-url", config.spark_master]
        settings = {**_spark_settings(config, opened), **(spark_settings or {})}
        properties = [f"-D{name}={value}" for name, value in settings.items()]
    ports = ["--job-port", str(port), "--artifact-port", "0", "--expansion-port", "0"]
    return [java, *opened, *properties, "-jar", jar, *master, *ports, "--artifacts-dir", artifacts]


def _spark_settings(config: EngineConfig, opened: Sequence[str]) -> dict[str, str]:
    """Settings of Spark; the driver is the job server itself."""
    settings = {
        "spark.task.maxFailures": str(RETRIES),
        "spark.stage.maxConsecutiveAttempts": str(2 * RETRIES),
        "spark.executor.extraJavaOptions": " ".join(opened),
        "spark.locality.wait": "0s",  # the data are elsewhere anyway
        "spark.app.name": "emobeam",
    }
    if config.workers and not config.embedded:
        settings["spark.cores.max"] = str(config.workers)
    if config.workers:
        # Twice as many pieces as cores, so that long ones even out.
        settings["spark.default.parallelism"] = str(2 * config.workers)
    return settings


def split_spark_settings(args: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Takes ``--spark.NAME=VALUE`` out of what follows ``--``: settings of Spark by name, and the rest.

    They are properties of the job server, which is the driver (``SparkConf`` reads those of its own process).

    Raises:
        UsageError: one that emobeam sets.
    """
    settings, rest = {}, []
    for arg in args:
        found = SPARK_SETTING.fullmatch(arg)
        if found is None:
            rest.append(arg)
        elif found[1] in _SPARK_OWNED:
            raise UsageError(f"after --: {found[1]} is set by emobeam; {_SPARK_OWNED[found[1]]}")
        else:
            settings[found[1]] = found[2]
    return settings, rest


SPARK_SETTING = re.compile(r"--(spark\.[A-Za-z0-9_.-]+)=(.*)", re.DOTALL)

_SPARK_OWNED = {
    "spark.master": "name it --spark-master",
    "spark.cores.max": "name it --workers",
    "spark.executor.extraJavaOptions": "set spark.executor.defaultJavaOptions instead",
}


def hints_of(config: EngineConfig) -> dict[str, str]:
    """Resource hints of the one heavy step; only Dataflow goes by them."""
    return heavy_step_hints(config.dataflow) if config.dataflow is not None else {}


def owned_options(runner: str) -> tuple[str, ...]:
    """Options of Beam that a preset sets, and which therefore may not follow ``--``."""
    if runner == "dataflow":
        return DATAFLOW_OWNED
    return _PORTABLE_OWNED
