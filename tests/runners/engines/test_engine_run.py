"""How a job is watched, and what is said of one that failed."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from emobeam.emo_transforms.storage.run_mailbox import Exchange
from emobeam.pipelines.stopping import Stops
from emobeam.runners import worker_progress
from emobeam.runners.beam_options import check_beam_args
from emobeam.runners.children.settings import RunStopped
from emobeam.runners.engines import engine_run
from emobeam.runners.engines.dataflow import DataflowConfig, Detached
from emobeam.runners.engines.engine_run import lost_workers, run_remotely, told_of
from emobeam.runners.engines.presets import EngineConfig
from emobeam.runners.worker_boot import versions
from emobeam.runners.worker_progress import Beats
from emobeam.schemas.records import UsageError

FLINK = EngineConfig("flink", flink_master="jm:8081", patience=0.001)

JAVA = """Pipeline BeamApp-x failed in state FAILED: java.lang.RuntimeException: Error received from SDK harness for
instruction 5: Traceback (most recent call last):
  File "runners/children/pool.py", line 1, in _handle
    raise RunStopped(data["message"])
emobeam.runners.children.settings.RunStopped: /out/x.parquet: can't be written (No space left) [while running 'Extract']
	at org.apache.beam.runners.fnexecution.control.FnApiControlClient$ResponseStreamObserver
"""


class Standing:
    """A job that never ends by itself."""

    over = False

    def __init__(self) -> None:
        self.cancelled = False

    def ended(self, seconds: float) -> bool:
        return False

    def cancel(self, warn: Callable[[str], None]) -> None:
        self.cancelled = True


def watch(job: Standing, config: EngineConfig, exchange: Exchange, warned: list[str]) -> None:
    with engine_run._ended_with_us(job, warned.append):  # type: ignore[arg-type]
        engine_run._watch(job, config, exchange, lambda heard: None, warned.append)  # type: ignore[arg-type]


def test_a_job_without_any_sign_is_cancelled_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_progress, "_HEAR_EVERY", 0.0)
    job = Standing()
    with pytest.raises(RunStopped, match=r"flink: no sign of any worker.*http://jm:8081 for free slots"):
        watch(job, FLINK, Exchange(str(tmp_path)), [])
    assert job.cancelled


def test_a_job_whose_workers_never_start_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_progress, "_HEAR_EVERY", 0.0)
    monkeypatch.setattr(engine_run, "_NO_SIGN", 0.0)
    warned: list[str] = []
    with pytest.raises(RunStopped):
        watch(
            Standing(),
            EngineConfig("spark", spark_master="spark://m:7077", patience=0.05),
            Exchange(str(tmp_path)),
            warned,
        )
    assert "no worker has begun" in warned[0]
    assert "free cores" in warned[0]


class Ending(Standing):
    """A job that ends after a number of looks; a worker gives a sign at each, or every other."""

    def __init__(self, looks: int, beats: Beats | None = None) -> None:
        super().__init__()
        self.looks = looks
        self.beats = beats

    def ended(self, seconds: float) -> bool:
        time.sleep(0.05)
        self.looks -= 1
        if self.beats is not None:
            self.beats("frames", {"frames": 0})
            assert self.beats.flush(60)  # on a busy machine the next look could come before the sign
        return self.looks < 0

    def check(self, begun: bool) -> None:
        assert begun == (self.beats is not None)


def begun(folder: Path) -> Exchange:
    exchange = Exchange(str(folder))
    exchange.begin()
    return exchange


DATAFLOW = EngineConfig(
    "dataflow", dataflow=DataflowConfig("lab", "europe-west4", "gs://lab-affect/tmp", "image"), patience=0.2
)


def test_a_long_video_is_no_standstill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Signs count, though no frame does: stage 2 tells its frames at the end of a video."""
    monkeypatch.setattr(worker_progress, "_HEAR_EVERY", 0.0)
    exchange = begun(tmp_path)
    job = Ending(40, Beats(exchange, interval=0.0))
    watch(job, replace(FLINK, patience=1.0), exchange, [])
    assert not job.cancelled


def test_a_job_of_dataflow_may_wait_for_its_first_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_progress, "_HEAR_EVERY", 0.0)
    exchange = begun(tmp_path)
    job = Ending(8)
    watch(job, DATAFLOW, exchange, [])
    assert not job.cancelled
    worker = Beats(exchange)
    worker("frames", {"frames": 1})
    assert worker.flush(60)
    standing = Standing()
    with pytest.raises(RunStopped, match="--patience"):
        watch(standing, DATAFLOW, exchange, [])
    assert standing.cancelled


def test_no_patience_named_is_patience_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_progress, "_HEAR_EVERY", 0.0)
    job = Ending(4)
    watch(job, replace(FLINK, patience=0.0), begun(tmp_path), [])
    assert not job.cancelled


def test_workers_of_another_python_are_told_of_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_progress, "_HEAR_EVERY", 0.0)
    exchange = begun(tmp_path)
    beat = {"signs": 1, "versions": {**versions(), "python": "3.9.1", "apache-beam": "2.60.0"}, "host": "node7"}
    exchange.put("progress", "a.json", json.dumps(beat).encode())
    warned: list[str] = []
    watch(Ending(4, Beats(exchange)), replace(FLINK, patience=60.0), exchange, warned)
    assert len(warned) == 2
    assert "node7: workers run Python 3.9.1" in warned[0]
    assert "node7: workers run Beam 2.60.0" in warned[1]


def test_workers_of_another_emobeam_end_the_run(tmp_path: Path) -> None:
    exchange = begun(tmp_path)
    beat = {"signs": 1, "versions": {**versions(), "emobeam": "9.9", "code": "0" * 16}, "host": "node7"}
    exchange.put("progress", "a.json", json.dumps(beat).encode())
    job = Standing()
    with pytest.raises(RunStopped, match=r"node7: workers run emobeam 9\.9 \(code 0{16}\).*same version"):
        watch(job, replace(FLINK, patience=60.0), exchange, [])
    assert job.cancelled


def test_the_same_code_under_another_name_is_the_same_emobeam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that was built without git, or at a commit that changed the documentation alone."""
    monkeypatch.setattr(worker_progress, "_HEAR_EVERY", 0.0)
    exchange = begun(tmp_path)
    beat = {"signs": 1, "versions": {**versions(), "emobeam": "9.9"}, "host": "node7"}
    exchange.put("progress", "a.json", json.dumps(beat).encode())
    warned: list[str] = []
    watch(Ending(4, Beats(exchange)), replace(FLINK, patience=60.0), exchange, warned)
    assert warned == []


def test_a_store_that_fails_costs_the_progress_and_not_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a silence counted that nobody could have heard."""
    monkeypatch.setattr(worker_progress, "_HEAR_EVERY", 0.0)
    job = Ending(8)
    warned: list[str] = []
    watch(job, replace(FLINK, patience=0.1), Exchange("nowhere://bucket/exchange"), warned)
    assert not job.cancelled
    assert len(warned) == 1
    assert "the job goes on" in warned[0]


LOST = [
    "Job aborted due to stage failure: ExecutorLostFailure (executor 1 exited caused by one of the running tasks)",
    "java.util.concurrent.TimeoutException: Heartbeat of TaskManager with id 10.0.0.5:41-3 timed out.",
    "TaskManager with id 10.0.0.5:41-3 is no longer reachable.",
    "RemoteTransportException: Connection unexpectedly closed by remote task manager",
    "Pipeline x failed in state FAILED: io.grpc.StatusRuntimeException: CANCELLED: client cancelled",
    "java.lang.IllegalStateException: Process died with exit code 137",
]
FINAL = [
    "Pipeline x failed in state FAILED: JobCancellationException: Job was cancelled.",
    "Pipeline x failed in state CANCELLED: CANCELLED: client cancelled",
    "Job aborted due to stage failure: Job 0 cancelled because killed via the Web UI",
    "Master removed our application: KILLED; ExecutorLostFailure",
    "Error from SDK: Traceback (most recent call last): ValueError; ExecutorLostFailure",
    "java.lang.OutOfMemoryError: Java heap space",
    "the job ended as FAILED",
]


@pytest.mark.parametrize("text", LOST)
def test_lost_workers_are_a_reason_to_go_on(text: str) -> None:
    assert lost_workers(text)


@pytest.mark.parametrize("text", FINAL)
def test_what_people_end_does_not_come_back(text: str) -> None:
    assert not lost_workers(text)


class Template:
    """What Beam's runner for Dataflow returns where it has only written a template."""

    has_job = False

    def job_id(self) -> str:
        raise AttributeError("'NoneType' object has no attribute 'id'")

    def wait_until_finish(self) -> str:
        raise OSError("Failed to get the Dataflow job id.")


def test_a_template_is_written_and_that_is_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A real one would look for credentials and buckets first.
    monkeypatch.setattr(engine_run, "pipeline_without_folder", lambda runner, options: SimpleNamespace(run=Template))
    nothing = lambda heard: None  # noqa: E731
    said: list[str] = []
    assert DATAFLOW.dataflow is not None
    detached = replace(DATAFLOW, dataflow=replace(DATAFLOW.dataflow, detach=True))
    args = ["--template_location=gs://lab-affect/t"]
    with pytest.raises(Detached, match="the template is written"):
        run_remotely(nothing, detached, args, begun(tmp_path), nothing, said.append, said.append)
    assert said == []
    with pytest.raises(UsageError, match="add --detach"):
        run_remotely(nothing, DATAFLOW, args, begun(tmp_path), nothing, said.append, said.append)


def control_c(heard: object) -> None:
    raise KeyboardInterrupt


def sigterm(heard: object) -> None:
    signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("interrupt", [control_c, sigterm])
def test_control_c_and_sigterm_cancel_the_job(
    interrupt: Callable[[object], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_progress, "_HEAR_EVERY", 0.0)
    job = Standing()
    with pytest.raises(KeyboardInterrupt), Stops().heard(), engine_run._ended_with_us(job, print):  # type: ignore[arg-type]
        engine_run._watch(job, FLINK, Exchange(str(tmp_path)), interrupt, lambda text: None)  # type: ignore[arg-type]
    assert job.cancelled


class Distant:
    """A job whose engine can't be reached for a while: ``states`` are its answers, "" stands for none.

    Like Beam's results it raises when the wait breaks off, whatever the job does.
    """

    has_job = True

    def __init__(self, states: list[str], cancels_in_vain: int = 0) -> None:
        self.states = states
        self.cancels_in_vain = cancels_in_vain
        self.cancels = 0

    def wait_until_finish(self) -> str:
        raise AssertionError("Job did not reach to a terminal state after waiting indefinitely.")

    @property
    def state(self) -> str:
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if not state:
            raise ConnectionError("no route to the engine")
        return state

    def cancel(self) -> None:
        self.cancels += 1
        if self.cancels <= self.cancels_in_vain:
            raise ConnectionError("no route to the engine")
        self.states = ["CANCELLED"]

    def metrics(self) -> object:
        raise NotImplementedError


def send(result: object, folder: Path, monkeypatch: pytest.MonkeyPatch, warned: list[str]) -> None:
    """Runs a job whose engine answers as ``result`` does; what real ones answer is in tests/engines."""
    monkeypatch.setattr(
        engine_run, "pipeline_without_folder", lambda runner, options: SimpleNamespace(run=lambda: result)
    )
    monkeypatch.setattr(engine_run, "_ASK_FIRST", 0.01)
    monkeypatch.setattr(engine_run, "_POLL", 0.01)
    monkeypatch.setattr(engine_run, "_CANCEL_PAUSES", (0.0, 0.01, 0.01))
    config = EngineConfig("spark", job_endpoint="js:8099", patience=60.0)
    run_remotely(lambda pipeline: None, config, [], begun(folder), lambda heard: None, warned.append, warned.append)


def test_a_wait_that_breaks_off_is_not_the_end_of_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Distant(["RUNNING", "", "", "RUNNING", "DONE"])
    send(job, tmp_path, monkeypatch, [])
    assert (job.states, job.cancels) == (["DONE"], 0)
    with pytest.raises(RunStopped, match="the job ended as FAILED"):
        send(Distant(["RUNNING", "FAILED"]), tmp_path, monkeypatch, [])
    with pytest.raises(RunStopped, match="Job did not reach"):
        send(Distant(["FAILED"]), tmp_path, monkeypatch, [])


def test_a_job_that_cannot_be_asked_any_more_is_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_run, "_OUT_OF_TOUCH", 0.05)
    warned: list[str] = []
    job = Distant([""], cancels_in_vain=2)
    with pytest.raises(RunStopped, match="Job did not reach"):
        send(job, tmp_path, monkeypatch, warned)
    assert (job.cancels, warned) == (3, [])
    lost = Distant([""], cancels_in_vain=9)
    with pytest.raises(RunStopped):
        send(lost, tmp_path, monkeypatch, warned)
    assert (lost.cancels, len(warned)) == (3, 1)
    assert "look after it on the engine" in warned[0]


def test_a_job_server_that_died_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as silent:
        silent.bind(("localhost", 0))  # nobody listens there as long as it is held
        job = engine_run._Job(SimpleNamespace(run=lambda: Distant([""])), FLINK, f"localhost:{silent.getsockname()[1]}")
        job.send()
        assert job.ended(60.0)
    assert not job.over


def test_an_interrupt_while_a_job_is_sent_cancels_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Distant(["RUNNING"])
    interrupted = threading.Event()

    def run() -> Distant:
        signal.raise_signal(signal.SIGINT)  # heard by the main thread
        interrupted.wait(0.5)
        return job

    monkeypatch.setattr(engine_run, "_POLL", 0.01)
    monkeypatch.setattr(engine_run, "_ASK_FIRST", 0.01)
    sending = engine_run._Job(SimpleNamespace(run=run), FLINK)

    def wait() -> None:
        sending.send()
        interrupted.wait(10)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's & leaves it ignored
    try:
        with pytest.raises(KeyboardInterrupt), engine_run._ended_with_us(sending, print):
            wait()
    finally:
        signal.signal(signal.SIGINT, before)
    assert (job.cancels, job.states) == (1, ["CANCELLED"])
    assert sending.over


def test_a_job_that_cannot_be_sent_says_why() -> None:
    def run() -> None:
        raise ConnectionError("refused")

    with pytest.raises(RunStopped, match="the job can't be sent to flink: refused"):
        engine_run._Job(SimpleNamespace(run=run), FLINK).send()


def test_the_telling_part_of_a_failure() -> None:
    assert told_of(JAVA) == "/out/x.parquet: can't be written (No space left)"
    assert (
        told_of("Traceback\n  File x\nImportError: No module named y\n\tat org.apache")
        == "ImportError: No module named y"
    )
    assert told_of("java.io.IOException: gone\n\tat a\n\tat b") == "java.io.IOException: gone"
    assert told_of("") == "no reason given"


def test_what_may_follow_the_two_hyphens() -> None:
    check_beam_args(["--environment_cache_millis=1000", "--object_reuse=true"], "flink")
    with pytest.raises(UsageError, match="--parallelism is set by emobeam"):
        check_beam_args(["--parallelism=4"], "flink")
    with pytest.raises(UsageError, match="--environment_type is set by emobeam"):
        check_beam_args(["--environment_type=DOCKER"], "spark")
    with pytest.raises(UsageError, match="Beam has no option --object_reuse"):
        check_beam_args(["--object_reuse=true"], "direct")
    with pytest.raises(UsageError, match="Beam has no option"):
        check_beam_args(["--parallelsm"], "flink")


def test_the_worker_program_tells_its_versions_and_what_it_is_for() -> None:
    command = [sys.executable, "-m", "emobeam.runners.worker_boot"]
    told = subprocess.run([*command, "--versions"], capture_output=True, text=True, check=True)
    assert json.loads(told.stdout)["python"].startswith(f"{sys.version_info[0]}.{sys.version_info[1]}.")
    idle = subprocess.run(command, capture_output=True, text=True, check=False)
    assert idle.returncode == 2
    assert "--worker_pool" in idle.stderr
