"""How a job is watched, and what is said of one that failed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from emo_transforms.exchange import Exchange
from runners import remote
from runners.beam_options import check_beam_args
from runners.beats import Beats
from runners.local import RunStopped
from runners.presets import EngineConfig
from runners.remote import told_of
from schemas.records import UsageError

FLINK = EngineConfig("flink", flink_master="jm:8081", patience=0.0)

JAVA = """Pipeline BeamApp-x failed in state FAILED: java.lang.RuntimeException: Error received from SDK harness for
instruction 5: Traceback (most recent call last):
  File "runners/local.py", line 1, in _handle
    raise RunStopped(data["message"])
runners.local.RunStopped: /out/shards/x.parquet: can't be written (No space left on device) [while running 'Extract']
	at org.apache.beam.runners.fnexecution.control.FnApiControlClient$ResponseStreamObserver
"""


class Standing:
    """A job that never ends by itself."""

    def __init__(self) -> None:
        self.cancelled = False

    def ended(self, seconds: float) -> bool:
        return False

    def cancel(self, warn: Callable[[str], None]) -> None:
        self.cancelled = True


def watch(job: Standing, config: EngineConfig, exchange: Exchange, warned: list[str]) -> None:
    remote._watch(job, config, exchange, lambda heard: None, warned.append)  # type: ignore[arg-type]


def test_a_job_without_any_sign_is_cancelled_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_HEAR_EVERY", 0.0)
    job = Standing()
    with pytest.raises(RunStopped, match=r"flink: no sign of any worker.*http://jm:8081 for free slots"):
        watch(job, FLINK, Exchange(str(tmp_path)), [])
    assert job.cancelled


def test_a_job_whose_workers_never_start_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_HEAR_EVERY", 0.0)
    monkeypatch.setattr(remote, "_NO_SIGN", 0.0)
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


def test_control_c_cancels_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_HEAR_EVERY", 0.0)
    Beats(Exchange(str(tmp_path)))("frames", {"frames": 1})
    job = Standing()

    def interrupt(heard: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        remote._watch(job, FLINK, Exchange(str(tmp_path)), interrupt, lambda text: None)  # type: ignore[arg-type]
    assert job.cancelled


def test_the_telling_part_of_a_failure() -> None:
    assert told_of(JAVA) == "/out/shards/x.parquet: can't be written (No space left on device)"
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
    command = [sys.executable, "-m", "runners.boot"]
    told = subprocess.run([*command, "--versions"], capture_output=True, text=True, check=True)
    assert json.loads(told.stdout)["python"].startswith(f"{sys.version_info[0]}.{sys.version_info[1]}.")
    idle = subprocess.run(command, capture_output=True, text=True, check=False)
    assert idle.returncode == 2
    assert "--worker_pool" in idle.stderr
