"""A run on another engine: sends the job, watches it, ends it when it is told to."""

from __future__ import annotations

import logging
import platform
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions

from emo_transforms.exchange import Exchange
from runners.beats import Heard, hear
from runners.checks import sized
from runners.dataflow import Detached, job_link, mending
from runners.jars import minor
from runners.job_server import job_server
from runners.local import RunStopped
from runners.presets import EngineConfig, engine_options
from schemas.records import EmobeamError, UsageError

_POLL = 1.0
_HEAR_EVERY = 3.0
_NO_SIGN = 300.0
_CANCEL_SECONDS = 60.0

_LOST = re.compile(
    r"ExecutorLostFailure|Lost executor|executor \S+ (?:was )?lost|FetchFailed|"
    r"heartbeat of taskmanager|heartbeat\b.{0,80}timed out|no longer reachable|"
    r"task ?manager\b.{0,80}(?:lost|shut ?down|shutting down|disconnected|released|terminated)|"
    r"RemoteTransportException|LocalTransportException|PartitionNotFoundException|PartitionConnectionException|"
    r"Connection (?:unexpectedly closed|reset|refused)|NoResourceAvailableException|"
    # What Beam says in Java when a Python worker goes away: its side of gRPC ends.
    r"CANCELLED: client cancelled|CANCELLED: call already cancelled|Multiplexer hanging up|"
    r"Process died with exit code|SDK (?:harness|worker)\b.{0,80}(?:exited|disconnected|died)|"
    r"lost contact with the service|worker\b.{0,40} lost contact",
    flags=re.IGNORECASE,
)
"""What engines say when a machine or process went away."""

_FINAL = re.compile(
    # Python's own errors would come again; the others are people's doing.
    r"Traceback|failed in state CANCELLED|JobCancellationException|Job was cancell?ed|killed via|: KILLED|been KILLED|"
    r"cancelled (?:because|as part of)",
)


class WorkersLost(RunStopped):
    """The engine gave the job up because it lost workers; sent again, it goes on where it ended."""


@dataclass(frozen=True)
class RemoteResult:
    """What Beam's metrics say in the end; empty where the engine gives none.

    Attributes:
        counts: counters by name.
        seconds: by step.
    """

    counts: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def run_remotely(
    build: Callable[[Any], None],
    config: EngineConfig,
    beam_args: Sequence[str],
    exchange: Exchange,
    on_heard: Callable[[Heard], None],
    say: Callable[[str], None],
    warn: Callable[[str], None],
) -> RemoteResult:
    """Runs a graph on an engine and returns when it has ended.

    Args:
        build: applies all steps to a pipeline.
        on_heard: told every few seconds what the workers have left in the exchange.

    Raises:
        Detached: the job is sent, and nobody shall wait for it.
        RunStopped: the job failed, was cancelled elsewhere, or no worker gave a sign for ``config.patience`` seconds.
        UsageError: a template that nobody leaves to itself, or a cluster that can't be asked for its slots.
    """
    config = sized(config, say, warn)
    # Dataflow is a service: there is no job server to start.
    with nullcontext("") if config.runner == "dataflow" else job_server(config) as endpoint:
        options = PipelineOptions([*engine_options(config, endpoint), *beam_args])
        template = options.view_as(GoogleCloudOptions).template_location
        if config.dataflow is not None and template and not config.dataflow.detach:
            raise UsageError("after --: --template_location writes a template and runs nothing; add --detach")
        pipeline = beam.Pipeline(options=options)
        build(pipeline)
        # Beam would tell every log line of the engine again.
        with _Quieter(logging.CRITICAL):
            job = _Job(pipeline, config)
            if not job.sent:
                raise Detached("the template is written; the next run settles what its jobs leave")
            if config.dataflow is not None:
                say(f"watch it at {job_link(config.dataflow, job.id)}")
                if config.dataflow.detach:
                    raise Detached("the job is sent; once it has ended, the same command settles what it left")
            _watch(job, config, exchange, on_heard, warn)
            return job.metrics()


class _Job:
    """A job that runs, with a thread that waits for its end."""

    def __init__(self, pipeline: Any, config: EngineConfig) -> None:
        self._error: BaseException | None = None
        self._state = ""
        try:
            self._result = pipeline.run()
        except EmobeamError:
            raise
        except Exception as error:
            raise RunStopped(f"the job can't be sent to {config.runner}: {told_of(str(error))}") from error
        self._config = config
        self.sent: bool = getattr(self._result, "has_job", True)
        """Whether there is a job; else only a template was written."""
        self._thread = threading.Thread(target=self._wait, daemon=True)
        if self.sent:
            self._thread.start()

    @property
    def id(self) -> str:
        """The engine's name of the job, where it gives one."""
        job_id = getattr(self._result, "job_id", "")
        return str(job_id() if callable(job_id) else job_id)

    def _wait(self) -> None:
        try:
            self._state = str(self._result.wait_until_finish())
        except BaseException as error:
            self._error = error

    def ended(self, seconds: float) -> bool:
        """Waits a moment; whether the job has ended."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def check(self, begun: bool) -> None:
        """Raises where the job ended otherwise than well; ``begun``: workers had given signs."""
        if self._error is None and self._state in ("DONE", "DRAINED"):
            return
        text = str(self._error) if self._error is not None else f"the job ended as {self._state}"
        advice = mending(text) if self._config.dataflow is not None else ""
        told = told_of(text) + (f"; {advice}" if advice else "")
        lost = begun and not advice and self._state != "CANCELLED" and lost_workers(text)
        kind = WorkersLost if lost else RunStopped
        raise kind(f"{self._config.runner}: {told}; what is done stays done, the same command goes on from there")

    def cancel(self, warn: Callable[[str], None]) -> None:
        """Ends the job on the engine, and waits until it has."""
        try:
            self._result.cancel()
        except Exception as error:
            warn(f"the job could not be cancelled ({told_of(str(error))}); look after it on the engine")
        self._thread.join(_CANCEL_SECONDS)

    def metrics(self) -> RemoteResult:
        """Counters and times of steps."""
        counts: dict[str, int] = defaultdict(int)
        seconds: dict[str, float] = defaultdict(float)
        try:
            found = self._result.metrics().query()
        except Exception:  # some engines have none, or none any more
            return RemoteResult()
        for counter in found["counters"]:
            counts[counter.key.metric.name] += counter.result or 0
        for step in found["distributions"]:
            name: str = step.key.metric.name
            if name.startswith("ms_"):
                seconds[name.removeprefix("ms_")] += (step.result.sum or 0) / 1000
        return RemoteResult(dict(counts), dict(seconds))


def _watch(
    job: _Job,
    config: EngineConfig,
    exchange: Exchange,
    on_heard: Callable[[Heard], None],
    warn: Callable[[str], None],
) -> None:
    began = last_sign = last_told = time.monotonic()
    last_heard = 0.0
    signs = 0
    queued = config.runner == "dataflow"  # hours may pass there before anything begins
    others: set[str] = set()
    try:
        while not job.ended(_POLL):
            now = time.monotonic()
            if now - last_heard < _HEAR_EVERY:
                continue
            last_heard = now
            heard = hear(exchange)
            on_heard(heard)
            if heard.signs != signs:
                signs, last_sign = heard.signs, now
            _compare_pythons(heard, others, warn)
            quiet = now - last_sign
            if quiet > config.patience > 0 and (signs or not queued):
                raise RunStopped(
                    f"{config.runner}: no sign of any worker for {quiet / 60:.0f} minutes; {_where(config)}; "
                    "--patience SECONDS waits longer"
                )
            if quiet > _NO_SIGN and now - last_told > _NO_SIGN:
                last_told = now
                what = "no worker has begun" if not heard.workers else "no worker has said anything"
                warn(f"{what} for {(now - max(last_sign, began)) / 60:.0f} minutes; {_where(config)}")
    except BaseException:
        job.cancel(warn)
        raise
    heard = hear(exchange)
    on_heard(heard)
    job.check(heard.workers > 0)


def _compare_pythons(heard: Heard, told: set[str], warn: Callable[[str], None]) -> None:
    """Tells once of every machine whose workers run another minor version of Python."""
    for host, version in heard.pythons.items():
        if host not in told and minor(version) != minor(platform.python_version()):
            told.add(host)
            warn(
                f"{host}: workers run Python {version}, and here it is {platform.python_version()}; what one of them "
                "writes the other may not read: install the same minor version"
            )


def lost_workers(text: str) -> bool:
    """Whether a job failed because machines or processes went away, which need not come again.

    What isn't known is taken for final: a job that people end must not come back.
    """
    return _LOST.search(text) is not None and _FINAL.search(text) is None


def _where(config: EngineConfig) -> str:
    if config.runner == "flink":
        return f"look at http://{config.master.removeprefix('http://')} for free slots, and at the task managers' logs"
    if config.runner == "spark":
        return "look at the master's web page for free cores, and at the executors' logs"
    return "look at the job's page for quota and worker logs"


def told_of(text: str) -> str:
    """The telling part of what Java and Python say about a failure: the innermost Python error."""
    ours = re.findall(r"(?:RunStopped|OutputError|EmobeamError|UsageError): (.+?)(?: \[while running|\\n|\n|$)", text)
    if ours:
        return str(ours[-1]).strip()
    python = re.findall(r"^\s*(?:[\w.]+(?:Error|Exception)): .+$", text, flags=re.MULTILINE)
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return (python or lines or ["no reason given"])[-1 if python else 0][:1500].strip()


class _Quieter:
    """Silences the root logger for a while, unless it is verbose."""

    def __init__(self, level: int) -> None:
        self._level = level

    def __enter__(self) -> None:
        root = logging.getLogger()
        self._before = root.level
        if self._before > logging.INFO:
            root.setLevel(self._level)

    def __exit__(self, *error: object) -> None:
        logging.getLogger().setLevel(self._before)
