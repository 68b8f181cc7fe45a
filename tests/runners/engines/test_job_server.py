"""The job server's log: a program in Java's place listens where the job server would, and says a few words."""

from __future__ import annotations

import logging
import re
import socket
import sys
import zipfile
from pathlib import Path

import pytest

from emobeam.runners.children.settings import RunStopped
from emobeam.runners.engines.dataflow import Detached
from emobeam.runners.engines.job_server import job_server
from emobeam.runners.engines.presets import EngineConfig
from emobeam.schemas.records import EmobeamError

_JAVA = f"""#!{sys.executable}
import socket, sys, time
if "-version" in sys.argv:
    sys.exit(print('openjdk version "17.0.9"', file=sys.stderr))
print("words of the job server", file=sys.stderr, flush=True)
if "-Dspark.fail=yes" in sys.argv:
    sys.exit(1)
with socket.create_server(("localhost", int(sys.argv[sys.argv.index("--job-port") + 1]))):
    time.sleep(60)
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EngineConfig:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").write_text(_JAVA)
    (tmp_path / "bin" / "java").chmod(0o755)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    jar = tmp_path / "server.jar"
    with zipfile.ZipFile(jar, "w") as archive:
        archive.writestr("META-INF/MANIFEST.MF", "Main-Class: org.apache.beam.runners.spark.SparkJobServerDriver\r\n")
    return EngineConfig("spark", spark_master="spark://m:7077", job_server_jar=str(jar))


def left(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "tmp").iterdir()]


def test_what_it_said_stays_where_the_run_fails(config: EngineConfig, tmp_path: Path) -> None:
    with (
        pytest.raises(RunStopped, match="the job failed; what Beam's job server said is in ") as failed,
        job_server(config),
    ):
        raise RunStopped("the job failed")
    (name,) = left(tmp_path)
    assert str(failed.value).endswith(name)
    assert (tmp_path / "tmp" / name).read_text() == "words of the job server\n"


def test_nothing_stays_of_a_run_that_ends_well_or_is_left_to_itself(config: EngineConfig, tmp_path: Path) -> None:
    with job_server(config) as endpoint:
        assert re.fullmatch(r"localhost:\d+", endpoint)
    with pytest.raises(Detached), job_server(config):
        raise Detached("sent")
    with pytest.raises(KeyboardInterrupt), job_server(config):
        raise KeyboardInterrupt
    assert left(tmp_path) == []


def test_one_that_does_not_start_tells_its_last_words(config: EngineConfig) -> None:
    with (
        pytest.raises(EmobeamError, match=r"doesn't start; its last words:\nwords of the job server"),
        job_server(config, {"spark.fail": "yes"}),
    ):
        raise AssertionError("it didn't start")


def test_one_that_answers_in_its_place_is_another(config: EngineConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that was free a moment ago may be another run's now."""
    with socket.create_server(("localhost", 0)) as other:
        monkeypatch.setattr("emobeam.runners.engines.job_server._free_port", lambda: other.getsockname()[1])
        with pytest.raises(EmobeamError, match=r"doesn't start; its last words:(?s:.*)in use"), job_server(config):
            raise AssertionError("it didn't start")


def test_a_verbose_launcher_shows_what_it_says(
    config: EngineConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open(tmp_path / "shown", "w") as shown:
        monkeypatch.setattr(sys, "__stderr__", shown)
        monkeypatch.setattr(logging.getLogger(), "level", logging.INFO)
        with job_server(config):
            pass
    assert (tmp_path / "shown").read_text() == "words of the job server\n"
