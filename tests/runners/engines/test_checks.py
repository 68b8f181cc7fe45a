"""Every message of the checks before a job is sent, from real ports, jars and programs."""

from __future__ import annotations

import json
import os
import shutil
import socket
import socketserver
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

import emobeam
from emobeam.runners.engines import checks, jars
from emobeam.runners.engines.checks import (
    check_engine,
    check_environment,
    check_flink,
    check_places,
    check_port,
    check_spark,
    compare_versions,
    is_this_machine,
    restarts_jobs,
    sized,
    workers_here,
)
from emobeam.runners.engines.jars import check_jar, check_java, check_versions
from emobeam.runners.engines.presets import EngineConfig, WorkerEnvironment, engine_options
from emobeam.runners.own_version import own_code
from emobeam.schemas.records import EmobeamError, UsageError

FLINK = EngineConfig("flink", flink_master="localhost:8081", environment=WorkerEnvironment("process", "true"))
SPARK = EngineConfig("spark", spark_master="spark://localhost:7077", environment=WorkerEnvironment("process", "true"))


def nothing(text: str) -> None:
    raise AssertionError(text)


@contextmanager
def answering(body: bytes) -> Iterator[str]:
    """A server on a free port that answers everything with ``body``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("localhost", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"localhost:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@cache
def _held() -> socket.socket:
    """Held until the end of the process: a port that is let go may be another's a moment later."""
    silent = socket.socket()
    silent.bind(("localhost", 0))
    return silent


def closed_port() -> str:
    """Where nobody listens."""
    return f"localhost:{_held().getsockname()[1]}"


@pytest.mark.parametrize(
    ("settings", "restarts"),
    [
        ([], False),
        ([{"key": "restart-strategy.type", "value": "fixed-delay"}], True),
        ([{"key": "restart-strategy", "value": "off"}], False),
    ],
)
def test_whether_a_cluster_starts_jobs_again(settings: list[dict[str, str]], restarts: bool) -> None:
    with answering(json.dumps(settings).encode()) as place:
        assert restarts_jobs(f"http://{place}") is restarts
    assert restarts_jobs(f"http://{closed_port()}") is None


def overview(slots: int, version: str = "1.20.1") -> bytes:
    return json.dumps({"slots-total": slots, "slots-available": slots, "flink-version": version}).encode()


def test_a_flink_cluster_tells_its_slots() -> None:
    with answering(overview(8)) as place:
        cluster = check_flink(replace(FLINK, flink_master=place, workers=8))
    assert (cluster.slots, cluster.version) == (8, "1.20.1")


def test_more_workers_than_slots_would_wait_for_ever() -> None:
    with answering(overview(2)) as place, pytest.raises(UsageError, match=r"has 2 slots.*ask for 2 at most"):
        check_flink(replace(FLINK, flink_master=place, workers=3))


def test_without_workers_a_flink_job_takes_all_slots() -> None:
    told: list[str] = []
    with answering(overview(6)) as place:
        config = sized(replace(FLINK, flink_master=place), told.append, nothing)
        assert "--parallelism=6" in engine_options(config, "localhost:1")
        assert "6 slots" in told[0]
        few = replace(FLINK, flink_master=place, workers=2)
        assert sized(few, nothing, nothing) == few
    for other in (SPARK, replace(FLINK, flink_master="[local]")):
        assert sized(other, nothing, nothing) == other
    with pytest.raises(UsageError, match="can't be reached"):
        sized(replace(FLINK, flink_master=closed_port()), nothing, nothing)


def test_slots_behind_a_job_server_may_be_unknown() -> None:
    told: list[str] = []
    server = EngineConfig("flink", job_endpoint="js:8099")
    assert sized(server, nothing, told.append) == server
    hidden = replace(server, flink_master=closed_port())
    assert sized(hidden, nothing, told.append) == hidden
    assert len(told) == 2
    assert all("name --workers N" in text for text in told)


def test_workers_that_a_job_server_ignores_are_told() -> None:
    told: list[str] = []
    with answering(b"") as place:
        server = EngineConfig("spark", workers=8, job_endpoint=place)
        check_engine(server, inputs=[], outputs=[], warn=told.append)
    assert any("--workers 8 is not used" in text for text in told)


def test_a_cluster_without_task_managers() -> None:
    with answering(overview(0)) as place, pytest.raises(UsageError, match="no task manager"):
        check_flink(replace(FLINK, flink_master=place))


def test_something_else_than_flink_answers() -> None:
    for body in (b"<html>", b"{}", b"[]"):
        with answering(body) as place, pytest.raises(UsageError, match="not Flink's job manager"):
            check_flink(replace(FLINK, flink_master=place))


def test_something_that_speaks_no_http_answers() -> None:
    class Greeting(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.rfile.readline()
            self.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n")

    with socketserver.TCPServer(("localhost", 0), Greeting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = f"localhost:{server.server_address[1]}"
        with pytest.raises(UsageError, match="not Flink's job manager"):
            check_flink(replace(FLINK, flink_master=place))
        assert restarts_jobs(f"http://{place}") is None
        assert checks.task_manager_hosts(place) == set()
        server.shutdown()


def test_masters_that_are_not_there() -> None:
    with pytest.raises(UsageError, match=r"--flink-master localhost:\d+: can't be reached"):
        check_flink(replace(FLINK, flink_master=closed_port()))
    with pytest.raises(UsageError, match=r"--spark-master localhost:\d+: can't be reached.*7077"):
        check_spark(replace(SPARK, spark_master=f"spark://{closed_port()}"))
    with pytest.raises(UsageError, match="write spark://HOST:7077"):
        check_spark(replace(SPARK, spark_master="localhost:7077"))
    for master in ("yarn", "k8s://https://api:6443", "mesos://m:5050"):
        with pytest.raises(UsageError, match=r"Spark's own clusters only.*--job-endpoint"):
            check_spark(replace(SPARK, spark_master=master))
    with pytest.raises(UsageError, match="write HOST:PORT"):
        check_port("--job-endpoint", "somewhere", "")


def test_a_spark_master_in_reserve_is_enough() -> None:
    with answering(b"") as place:
        check_spark(replace(SPARK, spark_master=f"spark://{closed_port()},{place}"))


def test_no_master_and_no_job_server() -> None:
    with pytest.raises(UsageError, match="needs --flink-master HOST:8081, or --job-endpoint"):
        check_engine(EngineConfig("flink"), inputs=[], outputs=[], warn=nothing)
    with pytest.raises(UsageError, match="needs --spark-master"):
        check_engine(EngineConfig("spark"), inputs=[], outputs=[], warn=nothing)
    absent = EngineConfig("flink", job_endpoint=closed_port(), environment=WorkerEnvironment("process", "true"))
    with pytest.raises(UsageError, match=r"--job-endpoint .*can't be reached.*is a job server running there"):
        check_engine(absent, inputs=[], outputs=[], warn=nothing)


def test_local_paths_and_workers_elsewhere() -> None:
    far = replace(FLINK, flink_master="jobmanager.example.org:8081")
    with pytest.raises(UsageError, match=r"input /data/a.mp4: workers of jobmanager.*--shared-files"):
        check_places(far, ["/data/a.mp4"], ["gs://bucket/out"], False, nothing)
    with pytest.raises(UsageError, match="output out"):
        check_places(far, ["gs://bucket/a.mp4"], ["out"], False, nothing)
    check_places(replace(far, shared_files=True), ["/data/a.mp4"], ["out"], False, nothing)
    check_places(far, ["gs://bucket/a.mp4"], ["s3://bucket/out"], False, nothing)
    check_places(FLINK, ["/data/a.mp4"], ["out"], True, nothing)
    told: list[str] = []
    check_places(FLINK, ["/data/a.mp4"], ["out"], None, told.append)
    assert len(told) == 1
    assert "on other machines can't see this machine's files" in told[0]
    with pytest.raises(UsageError, match="memory://"):
        check_places(FLINK, [], ["memory://out"], True, nothing)


def test_containers_get_no_folders_whatever_is_promised() -> None:
    docker = replace(FLINK, environment=WorkerEnvironment("docker", "image"), shared_files=True)
    with pytest.raises(UsageError, match=r"input /data/a.mp4: containers .*start a pool of workers from the image"):
        check_places(docker, ["/data/a.mp4"], ["gs://bucket/out"], True, nothing)
    with pytest.raises(UsageError, match="output out: containers"):
        check_places(docker, ["/opt/weights/backbone.safetensors"], ["out"], False, nothing)
    check_places(docker, ["/opt/weights/backbone.safetensors"], ["gs://bucket/out"], False, nothing)


def task_managers(*hosts: str) -> bytes:
    """What Flink 1.19 answers, for as much as is read of it."""
    found = [{"id": f"{host}:35001-a8f3", "path": f"pekko.tcp://flink@{host}:35001/user/rpc/t_0"} for host in hosts]
    return json.dumps({"taskmanagers": found}).encode()


def test_where_workers_of_flink_are_is_asked_of_the_cluster() -> None:
    """Its master may be this machine, or look like it through a tunnel, and the workers are elsewhere."""
    this = socket.gethostname()
    for hosts, here in ((("127.0.0.1", this), True), (("127.0.0.1", "node7"), False), (("192.0.2.7",), False)):
        with answering(task_managers(*hosts)) as place:
            assert workers_here(replace(FLINK, flink_master=place)) is here
    with answering(b"<html>") as place:
        assert workers_here(replace(FLINK, flink_master=place)) is None
    with answering(task_managers("node7")) as place, pytest.raises(UsageError, match="can't see this machine's files"):
        check_engine(replace(FLINK, flink_master=place), inputs=["/data/a.mp4"], outputs=["out"], warn=nothing)


def test_where_workers_of_other_engines_are() -> None:
    assert workers_here(SPARK) is True
    assert workers_here(replace(SPARK, spark_master=f"spark://{socket.gethostname()}:7077")) is None
    assert workers_here(replace(SPARK, spark_master="spark://head.example.org:7077")) is False
    assert workers_here(EngineConfig("spark", job_endpoint="localhost:8099")) is None
    assert workers_here(EngineConfig("flink", job_endpoint="js.example.org:8099")) is False
    assert workers_here(replace(FLINK, flink_master="[local]")) is True


def test_which_hosts_are_this_machine() -> None:
    assert all(map(is_this_machine, ["localhost", "127.0.0.1", "127.0.1.1", socket.gethostname()]))
    assert not any(map(is_this_machine, ["jobmanager.example.org", "192.0.2.7", ""]))


def test_workers_that_cannot_start() -> None:
    missing = replace(FLINK, environment=WorkerEnvironment("process", "/nowhere/emobeam-worker"))
    with pytest.raises(UsageError, match="no such program"):
        check_environment(missing, True, nothing)
    pool = replace(FLINK, environment=WorkerEnvironment("external", closed_port()))
    with pytest.raises(UsageError, match=r"can't be reached.*--worker_pool --service_port"):
        check_environment(pool, True, nothing)
    told: list[str] = []
    check_environment(pool, False, nothing)
    check_environment(pool, None, told.append)
    assert "can't be reached" in told[0]
    assert "does no harm if the workers run on other machines" in told[0]
    check_environment(replace(FLINK, environment=WorkerEnvironment("loopback")), True, told.append)
    assert "this machine" in told[1]


def program(folder: Path, text: str) -> WorkerEnvironment:
    path = folder / "emobeam-worker"
    path.write_text(f"#!{sys.executable}\n{text}\n")
    path.chmod(0o755)
    return WorkerEnvironment("process", str(path))


def test_workers_of_another_version(tmp_path: Path) -> None:
    other = program(tmp_path, 'print(\'{"python": "3.9.1", "apache-beam": "2.50.0", "emobeam": "0"}\')')
    with pytest.raises(UsageError, match=r"has python 3\.9\.1, and here it is"):
        check_environment(replace(FLINK, environment=other), True, nothing)
    broken = program(tmp_path, "raise SystemExit('no module named emobeam')")
    with pytest.raises(UsageError, match=r"doesn't start \(no module named emobeam\)"):
        check_environment(replace(FLINK, environment=broken), True, nothing)
    chatty = program(tmp_path, "print(1)")
    with pytest.raises(UsageError, match=r"doesn't start \(nothing\)"):
        check_environment(replace(FLINK, environment=chatty), True, nothing)


def test_workers_out_of_another_checkout(tmp_path: Path) -> None:
    """Two trees of the same version number; one line is enough."""
    package = Path(emobeam.__path__[0])
    other = tmp_path / "checkout" / "emobeam"
    shutil.copytree(package, other, ignore=shutil.ignore_patterns("__pycache__"))
    started = f"import sys; sys.path.insert(0, {str(other.parent)!r})\n"
    worker = program(tmp_path, f"{started}from emobeam.runners.worker_boot import main; main(['--versions'])")
    check_environment(replace(FLINK, environment=worker), True, nothing)
    with open(other / "schemas" / "config.py", "a") as file:
        file.write("# one line more\n")
    with pytest.raises(UsageError, match=rf"has emobeam \S+ \(code \w+\), and here it is .* \(code {own_code()}\)"):
        check_environment(replace(FLINK, environment=worker), True, nothing)


def test_programs_that_give_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Java from a file server that hangs, say."""
    monkeypatch.setattr(jars, "_JAVA_SECONDS", 0.3)
    monkeypatch.setattr(checks, "_VERSIONS_SECONDS", 0.3)
    silent = program(tmp_path, "import time; time.sleep(600)")
    with pytest.raises(EmobeamError, match=rf"^{silent.value} -version: no answer in 0.3 seconds; run it by hand"):
        check_java(silent.value)
    told: list[str] = []
    with pytest.raises(UsageError, match=rf"process:{silent.value} --versions: no answer in 0.3 seconds"):
        check_environment(replace(FLINK, environment=silent), True, nothing)
    check_environment(replace(FLINK, environment=silent), None, told.append)
    assert "does no harm if the workers run on other machines" in told[0]
    Path(silent.value).write_bytes(b"\x7fELF of another machine")
    with pytest.raises(EmobeamError, match=r"-version: can't be started \(Exec format error\)"):
        check_java(silent.value)
    with pytest.raises(UsageError, match=r"--versions: can't be started \(Exec format error\)"):
        check_environment(replace(FLINK, environment=silent), True, nothing)


def test_patches_of_python_may_differ_and_those_of_beam_may_not() -> None:
    ours = {"python": "3.11.7", "apache-beam": "2.77.0", "emobeam": "0.1.0", "code": "ab"}
    compare_versions({**ours, "python": "3.11.9"}, ours, "worker")
    with pytest.raises(UsageError, match=r"apache-beam 2.77.1"):
        compare_versions({**ours, "apache-beam": "2.77.1"}, ours, "worker")
    with pytest.raises(UsageError, match=r"has emobeam 0.1.0 \(code unknown\), and here it is 0.1.0 \(code ab\)"):
        compare_versions({"python": "3.11.7", "apache-beam": "2.77.0", "emobeam": "0.1.0"}, ours, "worker")


def test_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "java"
    old.write_text("#!/bin/sh\necho 'openjdk version \"1.8.0_392\"' >&2\n")
    old.chmod(0o755)
    with pytest.raises(EmobeamError, match="is Java 8; Beam's job servers need 11 or newer"):
        check_java(str(old))
    old.write_text("#!/bin/sh\necho 'openjdk version \"17.0.9\" 2023-10-17' >&2\n")
    assert check_java(str(old)) == str(old)
    monkeypatch.setenv("PATH", os.devnull)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(EmobeamError, match=r"there is none.*install Java 17.*--job-endpoint"):
        check_java()


def jar(path: Path, driver: str, beam: str = "", flink: str = "") -> str:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("META-INF/MANIFEST.MF", f"Main-Class: org.apache.beam.runners.{driver}\r\n")
        archive.writestr("org/apache/beam/sdk/sdk.properties", f"version={beam}\n")
        archive.writestr("META-INF/maven/org.apache.flink/flink-core/pom.properties", f"version={flink}\n")
    return str(path)


def test_jars(tmp_path: Path) -> None:
    with pytest.raises(EmobeamError, match="no such file"):
        check_jar(FLINK, str(tmp_path / "missing.jar"))
    (tmp_path / "half.jar").write_bytes(b"PK\x03\x04 not all of it")
    with pytest.raises(EmobeamError, match="not a jar that can be started"):
        check_jar(FLINK, str(tmp_path / "half.jar"))
    spark = jar(tmp_path / "spark.jar", "spark.SparkJobServerDriver")
    assert check_jar(SPARK, spark) == spark
    with pytest.raises(EmobeamError, match="is not a Beam job server for flink"):
        check_jar(FLINK, spark)


def test_versions_of_jars(tmp_path: Path) -> None:
    path = jar(tmp_path / "flink.jar", "flink.FlinkJobServerDriver", "2.50.0", "1.19.3")
    told: list[str] = []
    check_versions(FLINK, path, "1.19.1", told.append)
    assert "of Beam 2.50.0" in told[0]
    with pytest.raises(EmobeamError, match=r"is for Flink 1.19, and the cluster runs 1.20.1"):
        check_versions(FLINK, path, "1.20.1", told.append)
