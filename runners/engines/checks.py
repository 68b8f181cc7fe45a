"""What can be known before a job is sent to another engine, told at once instead of by a job that waits for ever."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import re
import shutil
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from emobeam.emo_transforms import storage
from emobeam.runners.engines.dataflow import IN_THE_IMAGE, check_dataflow
from emobeam.runners.engines.jars import asked, check_jar, check_java, check_versions, jar_of
from emobeam.runners.engines.presets import EngineConfig, WorkerEnvironment, check_master
from emobeam.runners.engines.worker_reports import differences
from emobeam.schemas.plain_json import parsed
from emobeam.schemas.records import EmobeamError, UsageError

_TIMEOUT = 10.0
_VERSIONS_SECONDS = 120.0
_LOOPBACK = re.compile(r"localhost$|127\.|\[?::1\]?$|0\.0\.0\.0$")


@dataclass(frozen=True)
class Cluster:
    """What a cluster says of itself; 0 and ``""`` where it says nothing."""

    slots: int = 0
    free: int = 0
    version: str = ""
    restarts: bool | None = None


def check_engine(
    config: EngineConfig, *, inputs: Sequence[str], outputs: Sequence[str], warn: Callable[[str], None]
) -> Cluster:
    """All checks that belong to an engine.

    Args:
        inputs: files and folders that workers read.
        outputs: folders that workers write.
        warn: told what may be a mistake.

    Raises:
        UsageError, EmobeamError: naming what is missing or wrong, and what to do.
    """
    if config.runner == "dataflow":
        if config.dataflow is None:
            raise UsageError("--runner dataflow needs --project, --region, --temp-location and --image")
        check_dataflow(config.dataflow, inputs=inputs, outputs=outputs)
        return Cluster()
    check_master(config)
    here = workers_here(config)
    check_places(config, inputs, outputs, here, warn)
    check_environment(config, here, warn)
    if config.job_endpoint:
        if config.job_endpoint != "embed":
            check_port("--job-endpoint", config.job_endpoint, "is a job server running there?")
        if config.runner == "spark" and config.workers:
            warn(
                f"--workers {config.workers} is not used: a job server that runs already has its own number of cores "
                "(spark.cores.max, set where it was started)"
            )
        return Cluster()
    cluster = Cluster()
    if not config.embedded:
        cluster = check_flink(config) if config.runner == "flink" else check_spark(config)
        if cluster.restarts is False:
            warn(
                "the cluster has no restart strategy (restart-strategy.type in Flink's configuration): whenever it "
                "loses a worker the job ends and is sent again from here"
            )
    check_java()
    check_versions(config, check_jar(config, jar_of(config)), cluster.version, warn)
    return cluster


def check_flink(config: EngineConfig) -> Cluster:
    """Asks a job manager how it is.

    Raises:
        UsageError: it can't be reached, isn't Flink, or has fewer slots than are asked for.
    """
    url = _url(config.flink_master)
    where = f"--flink-master {config.flink_master}"
    try:
        with urllib.request.urlopen(f"{url}/overview", timeout=_TIMEOUT) as answer:
            data = parsed(answer.read())
        slots, free, version = int(data["slots-total"]), int(data["slots-available"]), str(data["flink-version"])
        cluster = Cluster(slots, free, version, restarts_jobs(url))
    except (KeyError, TypeError, ValueError, http.client.HTTPException) as error:
        raise UsageError(
            f"{where}: what answers there is not Flink's job manager; name its REST port, 8081 by default"
        ) from error
    except (OSError, urllib.error.URLError) as error:
        reason = getattr(error, "reason", error)
        raise UsageError(
            f"{where}: can't be reached ({reason}); name HOST:PORT of the job manager's REST interface"
        ) from error
    if not cluster.slots:
        raise UsageError(f"{where}: the cluster has no task manager; start one, or look why they don't register")
    if config.workers > cluster.slots:
        raise UsageError(
            f"--workers {config.workers}: the cluster at {config.flink_master} has {cluster.slots} slots, and a "
            f"job that wants more waits for ever; ask for {cluster.slots} at most, or start more task managers"
        )
    return cluster


def _url(flink_master: str) -> str:
    return (flink_master if "://" in flink_master else f"http://{flink_master}").rstrip("/")


def sized(config: EngineConfig, say: Callable[[str], None], warn: Callable[[str], None]) -> EngineConfig:
    """Names the parallelism of a Flink job where nobody did; a job server that isn't told takes 1.

    Args:
        say: told how many slots are taken.
        warn: told where the slots can't be known.

    Raises:
        UsageError: see :func:`check_flink`.
    """
    if config.runner != "flink" or config.workers or config.embedded:
        return config
    try:
        slots = check_flink(config).slots if config.flink_master else 0
    except UsageError:
        if not config.job_endpoint:  # else the job server may see a cluster that can't be seen from here
            raise
        slots = 0
    if not slots:
        warn(
            f"how many slots the cluster behind {config.job_endpoint} has can't be seen from here, and its job server "
            "may work on one segment at a time; name --workers N"
        )
        return config
    say(f"the cluster has {slots} slots, and all are taken; --workers N takes fewer")
    return replace(config, workers=slots)


def restarts_jobs(url: str) -> bool | None:
    """Whether a cluster starts jobs again; None where it doesn't tell. Flink 1 asks for it in its own configuration."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, http.client.HTTPException):
        with urllib.request.urlopen(f"{url.rstrip('/')}/jobmanager/config", timeout=_TIMEOUT) as answer:
            settings = {str(each["key"]): str(each["value"]) for each in parsed(answer.read())}
        kind = settings.get("restart-strategy.type", settings.get("restart-strategy", "none"))
        return kind.lower() not in ("none", "off", "disable")
    return None


def check_spark(config: EngineConfig) -> Cluster:
    """Whether a Spark master takes connections; raises :class:`UsageError` where it doesn't."""
    found = re.fullmatch(r"spark://(.+)", config.spark_master)
    if not found:
        if config.spark_master.startswith(("yarn", "k8s://", "mesos://")):
            raise UsageError(
                f"--spark-master {config.spark_master}: Beam's job server knows Spark's own clusters only "
                "(spark://HOST:7077); start a job server that knows yours and name it: --job-endpoint HOST:PORT"
            )
        raise UsageError(f"--spark-master {config.spark_master}: write spark://HOST:7077, or local[N] for a try")
    places = found[1].split(",")
    errors = []
    for place in places:
        try:
            check_port("--spark-master", place, "")
            return Cluster()
        except UsageError as error:
            errors.append(str(error))
    raise UsageError(f"{errors[0]} name host and port of the master, 7077 by default (the web page's port is another)")


def check_port(option: str, place: str, advice: str) -> None:
    """Whether something listens at ``HOST:PORT``; raises :class:`UsageError` where nothing does."""
    split = urlsplit(f"//{place}")
    try:
        host, port = split.hostname or "", split.port or 0
    except ValueError:
        host, port = "", 0
    if not host or not port:
        raise UsageError(f"{option} {place}: write HOST:PORT")
    try:
        socket.create_connection((host, port), timeout=_TIMEOUT).close()
    except OSError as error:
        raise UsageError(
            f"{option} {place}: can't be reached ({error.strerror or error}); {advice}".rstrip("; ")
        ) from error


def is_this_machine(host: str) -> bool:
    """Whether a host's name or address is this machine's."""
    if _LOOPBACK.match(host) or host in (socket.gethostname(), socket.getfqdn()):
        return True
    with contextlib.suppress(ValueError, OSError):
        family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))  # only addresses of this machine can be had
            return True
    return False


def task_manager_hosts(master: str) -> set[str]:
    """Where the task managers of a Flink cluster run, as they told it; empty where that can't be had."""
    url = _url(master)
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, http.client.HTTPException):
        with urllib.request.urlopen(f"{url}/taskmanagers", timeout=_TIMEOUT) as answer:
            found = parsed(answer.read())["taskmanagers"]
        return {urlsplit(str(each["path"])).hostname or "" for each in found}
    return set()


def workers_here(config: EngineConfig) -> bool | None:
    """Whether all workers of a cluster run on this machine; None where that can't be known from here.

    The address of the master says little of it: it may be one of many machines, or the end of a tunnel.
    """
    if config.embedded:
        return True
    place = config.master or config.job_endpoint
    host = urlsplit(place if "://" in place else f"//{place}").hostname or ""
    if config.flink_master:
        hosts = task_manager_hosts(config.flink_master)
        if hosts:
            return all(map(is_this_machine, hosts))
    elif config.spark_master and _LOOPBACK.match(host):
        return True
    return None if is_this_machine(host) else False


def check_places(
    config: EngineConfig,
    inputs: Sequence[str],
    outputs: Sequence[str],
    here: bool | None,
    warn: Callable[[str], None],
) -> None:
    """Local paths mean nothing to workers on other machines or in containers.

    Args:
        here: see :func:`workers_here`; where that isn't known a local path is only warned of.

    Raises:
        UsageError: such a path, where nobody promised that it is shared.
    """
    for uri in (*inputs, *outputs):
        if uri.startswith("memory://"):
            raise UsageError(f"{uri}: memory:// lives in one process only, and workers are processes of their own")
    places = [("input", uri) for uri in inputs] + [("output", uri) for uri in outputs]
    places = [(kind, uri) for kind, uri in places if storage.is_local(uri)]
    if config.environment.kind == "docker":
        for kind, uri in places:
            if kind == "input" and uri.startswith(IN_THE_IMAGE):
                continue
            raise UsageError(
                f"{kind} {uri}: containers that the engine starts (docker:{config.environment.value}) get no folders; "
                "name a bucket (gs://, s3://), or start a pool of workers from the image with the folder in it, and "
                "name it --worker-environment external:localhost:50000 (docs/engines.md, Workers)"
            )
        return
    if not places or here or config.shared_files:
        return
    kind, uri = places[0]
    who = f"workers of {config.master or config.job_endpoint}"
    advice = "name a bucket (gs://, s3://), or a path that is mounted everywhere, and say so with --shared-files"
    if here is None:
        warn(f"{kind} {uri}: {who} that run on other machines can't see this machine's files; {advice}")
        return
    raise UsageError(f"{kind} {uri}: {who} can't see this machine's files; {advice}")


def check_environment(config: EngineConfig, here: bool | None, warn: Callable[[str], None]) -> None:
    """Where Python workers come from, as far as it can be seen from here.

    Args:
        here: see :func:`workers_here`; where that isn't known everything is only warned of.

    Raises:
        UsageError: the command isn't there, the pool doesn't answer, or their Python or Beam is another one.
    """
    if config.environment.kind == "loopback" and not config.embedded:
        warn("--worker-environment loopback: all work is done by processes of this machine, not of the cluster")
    if here is False:
        return
    try:
        _check_environment_here(config.environment)
    except UsageError as error:
        if here:
            raise
        warn(f"{error}; that does no harm if the workers run on other machines")


def _check_environment_here(environment: WorkerEnvironment) -> None:
    if environment.kind == "external":
        check_port(
            "--worker-environment external:",
            environment.value,
            "start one beside every worker: emobeam-worker --worker_pool --service_port=PORT",
        )
    if environment.kind == "process":
        if not shutil.which(environment.value):
            raise UsageError(
                f"--worker-environment process:{environment.value}: no such program; install emobeam there "
                "(it brings emobeam-worker), or name another command"
            )
        _check_worker_versions(environment.value)


def _check_worker_versions(command: str) -> None:
    """Asks our own worker program for its versions; others are left alone."""
    if Path(command).name != "emobeam-worker":
        return
    from emobeam.runners.worker_boot import versions

    try:
        told = asked([command, "--versions"], _VERSIONS_SECONDS)
    except EmobeamError as error:
        raise UsageError(f"--worker-environment process:{error}") from error
    try:
        theirs = dict(parsed(told.stdout))
    except (ValueError, TypeError):
        last = (told.stderr.strip().splitlines() or ["nothing"])[-1]
        raise UsageError(f"--worker-environment process:{command}: doesn't start ({last})") from None
    compare_versions(theirs, versions(), command)


def compare_versions(theirs: Mapping[str, str], ours: Mapping[str, str], where: str) -> None:
    """Python must agree in its minor version, Beam and emobeam wholly; raises :class:`UsageError` where they don't."""
    for name, (there, here) in differences(theirs, ours).items():
        raise UsageError(f"{where}: has {name} {there}, and here it is {here}; install the same on workers")
