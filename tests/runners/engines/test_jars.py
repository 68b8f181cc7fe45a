"""Which Flink or Spark a job server's jar is for, and the pages of Spark masters, from real files and ports."""

from __future__ import annotations

import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import metadata
from pathlib import Path

import pytest

from emobeam.runners.engines import jars
from emobeam.runners.engines.jars import check_versions, spark_version, versions_in
from emobeam.runners.engines.presets import EngineConfig
from emobeam.schemas.records import EmobeamError

FLINK = EngineConfig("flink", flink_master="localhost:8081")

# As they stand in the jars of Flink 1.19.3 and Spark 3.5.0, and in one of Flink whose parts were put together.
FLINK_TELLS = {
    ".flink-runtime.version.properties": "# a licence\n\nproject.version=1.19.3\nscala.binary.version=2.12\n"
}
SPARK_TELLS = {"spark-version-info.properties": "version=3.5.0\nuser=ubuntu\nbranch=HEAD\n"}
POM_TELLS = {"META-INF/maven/org.apache.flink/flink-core/pom.properties": "artifactId=flink-core\nversion=1.20.1\n"}

PAGE = (
    "<!DOCTYPE html><html><head><title>Spark Master at spark://head:7077</title></head><body><h3><a href='/'>"
    '<img src="/static/spark-logo-77x50px-hd.png"/><span class="version" style="margin-right: 15px;">{}</span></a>'
    "Spark Master at spark://head:7077</h3></body></html>"
)


def nothing(text: str) -> None:
    raise AssertionError(text)


def jar(path: Path, files: Mapping[str, str], beam: str = "2.77.0") -> str:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("org/apache/beam/sdk/sdk.properties", f"version={beam}\n")
        for name, text in files.items():
            archive.writestr(name, text)
    return str(path)


@contextmanager
def page(text: str) -> Iterator[int]:
    """A server on loopback that shows one page; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("name", "files", "version"),
    [
        ("job-server.jar", FLINK_TELLS, "1.19.3"),
        ("job-server.jar", POM_TELLS, "1.20.1"),
        ("job-server.jar", {**POM_TELLS, **FLINK_TELLS}, "1.19.3"),
        ("job-server.jar", SPARK_TELLS, "3.5.0"),
        ("job-server.jar", {}, ""),
        ("beam-runners-flink-1.18-job-server-2.77.0.jar", {}, "1.18"),
        ("beam-runners-flink-1.18-job-server-2.77.0.jar", FLINK_TELLS, "1.19.3"),
        ("job-server.jar", {".flink-runtime.version.properties": "project.version=${project.version}\n"}, ""),
    ],
)
def test_the_engine_in_a_jar(tmp_path: Path, name: str, files: Mapping[str, str], version: str) -> None:
    assert versions_in(jar(tmp_path / name, files)) == ("2.77.0", version)


def test_a_jar_that_was_put_together_is_checked_against_the_cluster(tmp_path: Path) -> None:
    path = jar(tmp_path / "flink-job-server.jar", FLINK_TELLS, metadata.version("apache-beam"))
    check_versions(FLINK, path, "1.19.1", nothing)
    with pytest.raises(EmobeamError, match=r"is for Flink 1\.19, and the cluster runs 1\.20\.0.*--flink-version 1\.20"):
        check_versions(FLINK, path, "1.20.0", nothing)


def test_a_jar_that_tells_nothing_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    path = jar(tmp_path / "flink-job-server.jar", {}, metadata.version("apache-beam"))
    check_versions(FLINK, path, "1.20.0", told.append)
    assert ["doesn't tell which Flink" in text for text in told] == [True]


def test_the_page_of_a_spark_master() -> None:
    with page(PAGE.format("3.4.1")) as port:
        assert spark_version("spark://127.0.0.1:7077", port) == "3.4.1"
        assert spark_version("spark://127.0.0.1:7077,127.0.0.1:7078", port) == "3.4.1"
        assert spark_version("spark://:7077", port) == ""
    assert spark_version("spark://127.0.0.1:7077", port) == "", "nothing listens there any more"
    with page(PAGE.format("3.4.1").replace("Spark Master", "Spark Worker")) as port:
        assert spark_version("spark://127.0.0.1:7077", port) == ""
    with page("<html>anything</html>") as port:
        assert spark_version("spark://127.0.0.1:7077", port) == ""


def test_another_spark_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = jar(tmp_path / "spark-job-server.jar", SPARK_TELLS, metadata.version("apache-beam"))
    spark = EngineConfig("spark", spark_master="spark://127.0.0.1:7077")
    told: list[str] = []
    asked = jars.spark_version
    for shown, warnings in (("3.4.1", 1), ("3.5.3", 0)):
        with page(PAGE.format(shown)) as port:
            monkeypatch.setattr(jars, "spark_version", lambda master, at=port: asked(master, at))
            told.clear()
            check_versions(spark, path, "", told.append)
            assert len(told) == warnings, told
            local = EngineConfig("spark", spark_master="local[2]")
            check_versions(local, path, "", nothing)
    monkeypatch.setattr(jars, "spark_version", lambda master: "4.0.0")
    check_versions(spark, path, "", told.append)
    assert "has Spark 3.5.0 inside, and the master's page says 4.0.0" in told[0]
