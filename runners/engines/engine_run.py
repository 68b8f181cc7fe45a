"""A run on another engine: sends the job, watches it, ends it when it is told to."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions
from apache_beam.runners.runner import PipelineState

from emobeam.emo_transforms.storage.run_mailbox import Exchange
from emobeam.runners.beam_metrics import RunMetrics, metrics_of
from emobeam.runners.beam_noise import only_critical, readers_end_in_silence
from emobeam.runners.beam_pipeline import pipeline_without_folder
from emobeam.runners.children.settings import RunStopped
from emobeam.runners.engines.checks import sized
from emobeam.runners.engines.dataflow import Detached, job_link, mending
from emobeam.runners.engines.job_server import job_server
from emobeam.runners.engines.presets import EngineConfig, engine_options, split_spark_settings
from emobeam.runners.engines.worker_reports import Workers
from emobeam.runners.worker_progress import Heard
from emobeam.schemas.records import EmobeamError, UsageError

_POLL = 1.0
_NO_SIGN = 300.0
_CANCEL_SECONDS = 60.0
_CANCEL_PAUSES = (0.0, 2.0, 5.0, 15.0)
_ASK_FIRST = 1.0
_ASK_SLOWEST = 60.0
_OUT_OF_TOUCH = 600.0
"""Seconds without an answer after which an engine is not asked any more how a job is."""

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


def run_remotely(
    build: Callable[[Any], None],
    config: EngineConfig,
    beam_args: Sequence[str],
    exchange: Exchange,
    on_heard: Callable[[Heard], None],
    say: Callable[[str], None],
    warn: Callable[[str], None],
) -> RunMetrics:
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
    settings, beam_args = split_spark_settings(beam_args) if config.runner == "spark" else ({}, list(beam_args))
    if settings and config.job_endpoint:
        raise UsageError(f"after --: {min(settings)} belongs to the job server, and --job-endpoint names one that runs")
    server = nullcontext("") if config.runner == "dataflow" else job_server(config, settings)
    with readers_end_in_silence(), server as endpoint:
        options = PipelineOptions([*engine_options(config, endpoint), *beam_args])
        template = options.view_as(GoogleCloudOptions).template_location
        if config.dataflow is not None and template and not config.dataflow.detach:
            raise UsageError("after --: --template_location writes a template and runs nothing; add --detach")
        pipeline = pipeline_without_folder(None, options)
        build(pipeline)
        # Beam would tell every log line of the engine again.
        with only_critical():
            job = _Job(pipeline, config, "" if config.job_endpoint else endpoint)
            with _ended_with_us(job, warn):
                job.send()
                if not job.sent:
                    raise Detached("the template is written; the next run settles what its jobs leave")
                if config.dataflow is not None:
                    say(f"watch it at {job_link(config.dataflow, job.id)}")
                    if config.dataflow.detach:
                        raise Detached("the job is sent; once it has ended, the same command settles what it left")
                _watch(job, config, exchange, on_heard, warn)
            return job.metrics()


class _Job:
    """A job that runs, with a thread that sends it and waits for its end.

    Attributes:
        over: the engine said that it has ended, well or not.
        sent: whether there is a job; else only a template was written, or nothing yet.

    Args:
        server: ``HOST:PORT`` of the job server that the launcher has started for it, if it has.
    """

    def __init__(self, pipeline: Any, config: EngineConfig, server: str = "") -> None:
        self._pipeline = pipeline
        self._config = config
        self._server = server
        self._result: Any = None
        self._error: BaseException | None = None
        self._state = ""
        self._answered = threading.Event()
        self._cancelled = threading.Event()
        self.over = False
        self.sent = False
        self._thread = threading.Thread(target=self._send_and_wait, daemon=True, name="job")

    def send(self) -> None:
        """Sends it, and waits until the engine has taken it.

        Not in this thread: if the wait is interrupted the job may be there in a moment, and has to be cancelled then.

        Raises:
            RunStopped: the engine doesn't take it.
        """
        self._thread.start()
        while not self._answered.wait(_POLL):
            pass
        if self._result is not None:
            return
        error = self._error
        if isinstance(error, Exception) and not isinstance(error, EmobeamError):
            raise RunStopped(f"the job can't be sent to {self._config.runner}: {told_of(str(error))}") from error
        raise error if error is not None else RunStopped(f"{self._config.runner} has taken the job without an answer")

    @property
    def id(self) -> str:
        """The engine's name of the job, where it gives one."""
        job_id = getattr(self._result, "job_id", "")
        return str(job_id() if callable(job_id) else job_id)

    def _send_and_wait(self) -> None:
        try:
            result = self._pipeline.run()
            self.sent = getattr(result, "has_job", True)
            self._result = result
        except BaseException as error:  # noqa: BLE001 - send raises it, in the thread of the run
            self._error = error
        finally:
            self._answered.set()
        if self.sent:
            self._wait()

    def _wait(self) -> None:
        try:
            self._state = str(self._result.wait_until_finish())
            self.over = True
        except BaseException as error:  # noqa: BLE001 - check raises what it means, in the thread of the run
            self._error = error
            self._ask()

    def _ask(self) -> None:
        """The wait broke off: by the job's end, or by trouble between here and the engine, which goes on without us."""
        pause, answered, first = _ASK_FIRST, time.monotonic(), True
        while True:
            try:
                state = str(self._result.state)
                answered = time.monotonic()
            except Exception:  # noqa: BLE001 - every engine's client has errors of its own
                state = ""
            if PipelineState.is_terminal(state):
                self.over = True
                if not first or state == PipelineState.DONE:  # else the error says more
                    self._error, self._state = None, state
                return
            if not state and (self._cancelled.is_set() or self._server_is_gone()):
                return
            if time.monotonic() - answered > _OUT_OF_TOUCH:
                return
            first = False
            self._cancelled.wait(pause)
            if self._cancelled.is_set():
                time.sleep(_ASK_FIRST)
            pause = min(2 * pause, _ASK_SLOWEST)

    def _server_is_gone(self) -> bool:
        """Whether the job server of this run has ended: another one knows nothing of the job."""
        if not self._server:
            return False
        host, _, port = self._server.rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
        return False

    def ended(self, seconds: float) -> bool:
        """Waits a moment; whether the job has ended, or can't be asked any more."""
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
        """Ends the job on the engine, and waits until it has; one that is just being sent, as soon as it is there."""
        self._cancelled.set()
        if not self._answered.wait(_CANCEL_SECONDS if self._thread.is_alive() else 0):
            warn("whether the engine has taken the job can't be told; look after it there")
        if not self.sent or self.over:
            return
        for last, pause in enumerate(_CANCEL_PAUSES, 1 - len(_CANCEL_PAUSES)):
            time.sleep(pause)
            try:
                self._result.cancel()
                break
            except Exception as error:  # noqa: BLE001 - every engine's client has errors of its own
                if self.over:
                    return
                if not last:
                    warn(f"the job could not be cancelled ({told_of(str(error))}); look after it on the engine")
        self._thread.join(_CANCEL_SECONDS)

    def metrics(self) -> RunMetrics:
        """Counters and times of steps."""
        return metrics_of(self._result)


@contextmanager
def _ended_with_us(job: _Job, warn: Callable[[str], None]) -> Iterator[None]:
    """Where the block is left by an error or an interrupt the job is cancelled, unless it is over or detached."""
    try:
        yield
    except Detached:
        raise
    except BaseException:
        if not job.over:
            job.cancel(warn)
        raise


def _watch(
    job: _Job,
    config: EngineConfig,
    exchange: Exchange,
    on_heard: Callable[[Heard], None],
    warn: Callable[[str], None],
) -> None:
    began = last_sign = last_told = time.monotonic()
    last_heard = 0.0
    queued = config.runner == "dataflow"  # hours may pass there before anything begins
    workers = Workers(exchange, on_heard, warn)
    while not job.ended(_POLL):
        if time.monotonic() - last_heard < workers.pause:
            continue
        before = workers.heard.signs
        known = workers.listen()
        now = last_heard = time.monotonic()
        if not known or workers.heard.signs != before:  # silence counts only while it can be heard
            last_sign = now
        workers.compare()
        quiet = now - last_sign
        if quiet > config.patience > 0 and (workers.heard.signs or not queued):
            raise RunStopped(
                f"{config.runner}: no sign of any worker for {quiet / 60:.0f} minutes; {_where(config)}; "
                "--patience SECONDS waits longer"
            )
        if quiet > _NO_SIGN and now - last_told > _NO_SIGN:
            last_told = now
            what = "no worker has begun" if not workers.heard.workers else "no worker has said anything"
            warn(f"{what} for {(now - max(last_sign, began)) / 60:.0f} minutes; {_where(config)}")
    workers.listen()
    job.check(workers.heard.workers > 0)
    workers.compare()


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
