"""The Java side of Flink and Spark runs: Java itself, and the jar of Beam's job server."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shutil
import subprocess
import urllib.request
import zipfile
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

from emobeam.runners.engines.presets import EngineConfig
from emobeam.schemas.records import EmobeamError

OLDEST_JAVA = 11
NEWEST_TRIED_JAVA = 17

SPARK_PAGE = 8080
"""Port of a Spark master's page where nobody has set another."""

_JAVA_SECONDS = 60.0
_PAGE_SECONDS = 3.0
_PAGE_BYTES = 1 << 20

_DRIVER = {"flink": "FlinkJobServerDriver", "spark": "SparkJobServerDriver"}


def check_java(java: str = "") -> str:
    """The Java that will run the job server: ``java``, else that of JAVA_HOME, else the first on the path.

    Raises:
        EmobeamError: there is none, it is too old, or it gives no answer.
    """
    home = os.environ.get("JAVA_HOME", "")
    found = java or (str(Path(home) / "bin" / "java") if home else "") or shutil.which("java") or ""
    if not found or not shutil.which(found):
        raise EmobeamError(
            f"Flink and Spark are reached through Java, and there is none ({found or 'java'}); install Java "
            f"{NEWEST_TRIED_JAVA} (PATH or JAVA_HOME), or name a job server elsewhere: --job-endpoint HOST:PORT"
        )
    told = asked([found, "-version"], _JAVA_SECONDS)
    version = re.search(r'version "(?:1\.)?(\d+)', told.stderr + told.stdout)
    if version is None or int(version[1]) < OLDEST_JAVA:
        said = version[1] if version else (told.stderr.strip().splitlines() or ["nothing"])[0]
        raise EmobeamError(
            f"{found}: is Java {said}; Beam's job servers need {OLDEST_JAVA} or newer (17 is well tried)"
        )
    return found


def asked(command: Sequence[str], seconds: float) -> subprocess.CompletedProcess[str]:
    """What a program says of itself; one that gives no answer in so many seconds is ended.

    Raises:
        EmobeamError: it can't be started, or gives no answer.
    """
    line = " ".join(command)
    try:
        return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=seconds)
    except subprocess.TimeoutExpired as error:
        raise EmobeamError(
            f"{line}: no answer in {seconds:g} seconds; run it by hand, and if it is slow to start, run this again"
        ) from error
    except OSError as error:
        raise EmobeamError(f"{line}: can't be started ({error.strerror or error})") from error


def check_jar(config: EngineConfig, jar: str) -> str:
    """A job server's jar for this engine.

    Raises:
        EmobeamError: there is none, it is damaged, or of another engine.
    """
    option = "--job-server-jar"
    if not Path(jar).is_file():
        raise EmobeamError(f"{option} {jar}: no such file")
    try:
        with zipfile.ZipFile(jar) as archive:
            manifest = archive.read("META-INF/MANIFEST.MF").decode(errors="replace").replace("\r\n ", "")
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise EmobeamError(f"{option} {jar}: not a jar that can be started ({error}); fetch it again") from error
    if _DRIVER[config.runner] not in manifest:
        raise EmobeamError(
            f"{option} {jar}: is not a Beam job server for {config.runner} (no {_DRIVER[config.runner]} in it); "
            f"the right one is org.apache.beam:beam-runners-{config.runner}-...-job-server"
        )
    return jar


_BEAM_TELLS = ("org/apache/beam/sdk/sdk.properties",)
_ENGINE_TELLS = (
    ".flink-runtime.version.properties",
    *(f"META-INF/maven/org.apache.flink/flink-{part}/pom.properties" for part in ("runtime", "core", "clients")),
    "spark-version-info.properties",
)
"""Files in a jar that tell the version of Flink or Spark in it; the first that there is counts."""


def versions_in(jar: str) -> tuple[str, str]:
    """The versions of Beam, and of Flink or Spark, in a jar; ``""`` where it doesn't tell."""
    with zipfile.ZipFile(jar) as archive:
        beam, engine = _first_version(archive, _BEAM_TELLS), _first_version(archive, _ENGINE_TELLS)
    named = re.search(r"flink-(\d+\.\d+)-job-server", Path(jar).name)
    return beam, engine or (named[1] if named else "")


def _first_version(archive: zipfile.ZipFile, names: Sequence[str]) -> str:
    for name in names:
        try:
            text = archive.read(name).decode(errors="replace")
        except KeyError:
            continue
        found = re.search(r"^(?:project\.)?version=(\S+)", text, flags=re.MULTILINE)
        if found and "@" not in found[1] and "$" not in found[1]:
            return found[1]
    return ""


def check_versions(config: EngineConfig, jar: str, cluster_version: str, warn: Callable[[str], None]) -> None:
    """Jar against cluster and against Beam here.

    Args:
        cluster_version: what Flink's cluster says of itself; a Spark master is asked here.
        warn: told of another Beam, of another Spark, and of a jar that can't be compared with the cluster.

    Raises:
        EmobeamError: the jar is for another minor version of Flink; such jobs die of unreadable messages, or hang.
    """
    beam, engine = versions_in(jar)
    if config.runner == "spark":
        _check_spark_version(config, jar, engine, warn)
    elif cluster_version and not engine:
        warn(f"{jar}: doesn't tell which Flink it is for, and the cluster runs {cluster_version}; they must agree")
    elif cluster_version and minor(cluster_version) != minor(engine):
        raise EmobeamError(
            f"{jar}: is for Flink {minor(engine)}, and the cluster runs {cluster_version}; take the jar for "
            f"{minor(cluster_version)} (--flink-version {minor(cluster_version)} or --job-server-jar)"
        )
    here = metadata.version("apache-beam")
    if beam and minor(beam) != minor(here):
        warn(f"the job server is of Beam {beam}, and Beam here is {here}; equal versions are what is tried best")


def _check_spark_version(config: EngineConfig, jar: str, inside: str, warn: Callable[[str], None]) -> None:
    # The page that tells the version may be another master's, so a difference is told and not refused.
    cluster = "" if config.embedded else spark_version(config.spark_master)
    if cluster and inside and minor(cluster) != minor(inside):
        warn(
            f"{jar}: has Spark {inside} inside, and the master's page says {cluster}; executors of another minor "
            f"version end with InvalidClassException: take a cluster of Spark {minor(inside)}, or name a job server "
            "for the cluster's (--job-server-jar)"
        )


def spark_version(master: str, port: int = SPARK_PAGE) -> str:
    """The version that the page of a standalone master shows; ``""`` where there is none at this port.

    Args:
        master: ``spark://HOST:PORT``; of several the first that shows a page counts.
        port: of the page.
    """
    for place in master.removeprefix("spark://").split(","):
        host = urlsplit(f"//{place}").hostname or ""
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
            with urllib.request.urlopen(url, timeout=_PAGE_SECONDS) as answer:
                page = answer.read(_PAGE_BYTES).decode(errors="replace")
            found = re.search(r'class="version"[^>]*>\s*(\d+\.\d+[^\s<]*)', page)
            if found and "Spark Master at " in page:
                return found[1]
    return ""


def minor(version: str) -> str:
    """The first two numbers of a version: ``2.1`` of ``2.1.3``."""
    return ".".join(version.split(".")[:2])


def jar_of(config: EngineConfig) -> str:
    """Path of the job server's jar: the named one, or Beam's own from Maven Central (kept in Beam's cache).

    Raises:
        EmobeamError: it can't be fetched.
    """
    from apache_beam.utils.subprocess_server import JavaJarServer

    named = config.job_server_jar
    if named and "://" not in named:
        return str(Path(named).expanduser())
    target = f":runners:flink:{config.flink_version}:job-server:shadowJar"
    if config.runner == "spark":
        target = ":runners:spark:3:job-server:shadowJar"
    url = named or JavaJarServer.path_to_beam_jar(target)
    try:
        return str(JavaJarServer.local_jar(url))
    except Exception as error:
        raise EmobeamError(
            f"{url}: the job server can't be fetched ({error}); download it elsewhere and name it: --job-server-jar JAR"
        ) from error
