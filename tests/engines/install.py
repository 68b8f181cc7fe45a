"""Brings what the engine tests need into ``.engines/``: job server jars, and the jars of a Flink and a Spark cluster.

``python -m tests.engines.install``; a second call finds everything there. The official job server jar of the Python
SDK's own version is taken where Maven can get it; elsewhere one is put together from Beam's single jars (why, and of
which versions, stands in ``jars/flink-job-server.xml``). Both take the same command line.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENGINES = ROOT / ".engines"
JARS = Path(__file__).resolve().parent / "jars"

FLINK_VERSION = "1.19"
"""Minor version of the cluster; a job server jar is made for one."""

_OFFICIAL = {
    "flink": f"org.apache.beam:beam-runners-flink-{FLINK_VERSION}-job-server",
    "spark": "org.apache.beam:beam-runners-spark-3-job-server",
}
_LIBRARIES = {"flink": ENGINES / "flink" / "lib", "spark": ENGINES / "spark" / "jars"}
_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1"


class NotInstalled(RuntimeError):
    """A tool is missing, or Maven could not get what is needed."""


def job_server_jar(engine: str) -> Path:
    """Where the job server jar of an engine lies once it is installed."""
    return ENGINES / f"{engine}-job-server.jar"


def libraries(engine: str) -> Path:
    """Folder of the jars of a cluster."""
    return _LIBRARIES[engine]


def installed() -> bool:
    """Whether everything is there."""
    return all(stamp(engine).exists() for engine in _OFFICIAL)


def cluster_version(engine: str) -> str:
    """Version of the Flink or Spark that is installed; empty where there is none."""
    pattern = {"flink": r"flink-runtime-([\d.]+)\.jar", "spark": r"spark-core_[\d.]+-([\d.]+)\.jar"}[engine]
    found = [match[1] for path in libraries(engine).glob("*.jar") if (match := re.fullmatch(pattern, path.name))]
    return found[0] if found else ""


def install(*, try_official: bool = True) -> None:
    """Brings what is missing.

    Raises:
        NotInstalled: no Java or Maven, or no way to get the jars.
    """
    for engine in _OFFICIAL:
        if stamp(engine).exists():
            continue
        for tool in ("java", "mvn"):
            if shutil.which(tool) is None:
                raise NotInstalled(f"{tool} is not on PATH; the engine tests need Java 17 and Maven")
        ENGINES.mkdir(exist_ok=True)
        if not (try_official and _official_jar(engine)):
            _built_jar(engine)
        _cluster(engine)
        for old in ENGINES.glob(f".{engine}-*"):
            old.unlink()
        stamp(engine).touch()


def stamp(engine: str) -> Path:
    """A file that says that an engine is installed. Its name stands for all that decides what is fetched or built."""
    given = [version("apache-beam"), _OFFICIAL[engine]]
    given += [(JARS / name).read_text() for name in (f"{engine}.xml", f"{engine}-job-server.xml")]
    return ENGINES / f".{engine}-{hashlib.sha256(chr(0).join(given).encode()).hexdigest()[:16]}"


def _official_jar(engine: str) -> bool:
    """Fetches the job server that the Beam project itself builds; False where the repository doesn't have it."""
    _, name = artifact = _OFFICIAL[engine].split(":")
    beam = version("apache-beam")
    got = _maven(f"{_PLUGIN}:get", f"-Dartifact={':'.join(artifact)}:{beam}", "-Dtransitive=false", check=False)
    if got:
        repository = Path(os.environ.get("MAVEN_REPOSITORY", Path.home() / ".m2" / "repository"))
        jar = repository / "org" / "apache" / "beam" / name / beam / f"{name}-{beam}.jar"
        shutil.copyfile(jar, job_server_jar(engine))
        print(f"{engine}: official job server of Beam {beam}", file=sys.stderr)
    return got


def _built_jar(engine: str) -> None:
    name = f"{engine}-job-server"
    print(f"{engine}: no official job server of this version here; putting one together", file=sys.stderr)
    _maven("-f", str(JARS / f"{name}.xml"), f"-Dengines.dir={ENGINES}", "package")
    build = ENGINES / "build" / name
    (build / f"{name}.jar").replace(job_server_jar(engine))
    shutil.rmtree(build)


def _cluster(engine: str) -> None:
    print(f"{engine}: jars of a cluster", file=sys.stderr)
    shutil.rmtree(libraries(engine), ignore_errors=True)  # jars of another version must not lie beside these
    _maven(
        *("-f", str(JARS / f"{engine}.xml"), f"{_PLUGIN}:copy-dependencies"),
        *("-DincludeScope=runtime", f"-DoutputDirectory={libraries(engine)}"),
    )


def _maven(*arguments: str, check: bool = True) -> bool:
    done = subprocess.run(["mvn", "-q", "-B", *arguments], capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise NotInstalled(f"mvn {' '.join(arguments)} failed:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.returncode == 0


if __name__ == "__main__":
    try:
        install()
    except NotInstalled as error:
        sys.exit(str(error))
