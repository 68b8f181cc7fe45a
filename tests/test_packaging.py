"""The package as others get it: built, installed, and used where folders of the user have the names of its parts."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from emobeam.emo_transforms.storage.child_imports import same_imports
from emobeam.runners.own_version import LINKS, code_digest
from tests.clips import portrait
from tests.emo_transforms.results.report.outputs import write_collection
from tests.pipelines.runs import wait_for

ROOT = Path(__file__).parents[1]
SITE = Path(pytest.__file__).parents[1]
TRAP = "from pathlib import Path\nPath(__file__).parents[1].joinpath('TRAPPED').touch()\nraise RuntimeError(__file__)\n"


@dataclass(frozen=True)
class Installed:
    """A Python with an emobeam in it.

    Attributes:
        bin: folder of its programs.
        package: the folder ``emobeam`` that it is to use.
    """

    bin: Path
    package: Path

    def run(self, *command: str, at: Path, **environment: str) -> str:
        """What a command prints. It runs in the folder ``at``, whose modules it finds first."""
        words = [str(self.bin / command[0]), *command[1:]]
        return _run(words, at, {"PYTHONPATH": str(at), **environment})


def _run(command: list[str], at: Path, environment: Mapping[str, str] | None = None) -> str:
    everything = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
    done = subprocess.run(command, cwd=at, env=everything, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def environment_with(folder: Path, install: str) -> Installed:
    """A virtual environment that has the libraries of this one, and of emobeam what a ``.pth`` file or a wheel brings.

    Args:
        install: a wheel, or the root of a checkout.
    """
    _run([sys.executable, "-m", "venv", "--without-pip", str(folder)], ROOT)
    python = folder / "bin" / "python"
    site = Path(_run([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], ROOT))
    # Files .pth in there, such as that of our own install, count for nothing.
    (site / "libraries.pth").write_text(str(SITE))
    if install.endswith(".whl"):
        uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--offline", "--no-deps"]
        _run([*uv, "--python", str(python), install], ROOT)
        return Installed(folder / "bin", site / "emobeam")
    (site / "checkout.pth").write_text(install)
    return Installed(folder / "bin", Path(install) / "emobeam")


def build(source: Path, folder: Path, *targets: str, **environment: str) -> list[Path]:
    """What hatchling makes of a checkout or of an unpacked source distribution; needs no network."""
    chosen = [word for target in targets for word in ("-t", target)]
    _run([sys.executable, "-m", "hatchling", "build", *chosen, "-d", str(folder)], source, environment)
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A source distribution of this checkout, and a wheel."""
    sdist, wheel = sorted(build(ROOT, tmp_path_factory.mktemp("built"), "sdist", "wheel"), key=lambda path: path.suffix)
    return sdist, wheel


@pytest.fixture(scope="module")
def from_wheel(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return environment_with(tmp_path_factory.mktemp("wheel") / "venv", str(built[1]))


@pytest.fixture(scope="module")
def editable() -> Installed:
    """What ``make`` has installed."""
    return Installed(Path(sys.executable).parent, ROOT / "emobeam")


@pytest.fixture(scope="module")
def users_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of a user: an output of emobeam, and packages with the names of our parts that break when imported."""
    folder = tmp_path_factory.mktemp("project")
    for name in LINKS:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(TRAP)
    write_collection(folder / "out", 1, 3.0, ["au"])
    return folder


def copy_of_the_package(folder: Path) -> Path:
    """A checkout as git makes it, links and all, without its history."""
    for name in ("emobeam", *LINKS):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "Makefile"):
        shutil.copy(ROOT / name, folder)
    return folder


def _content(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        assert len(archive.namelist()) == len(set(archive.namelist()))
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_wheel_holds_the_package_whole_once_and_nothing_beside_it(built: tuple[Path, Path]) -> None:
    content = _content(built[1])
    (about,) = {name.split("/")[0] for name in content} - {"emobeam"}
    assert about.endswith(".dist-info")
    ours = _run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "emobeam", *LINKS], ROOT).splitlines()
    wanted = {
        name if name.startswith("emobeam/") else f"emobeam/{name}"
        for name in ours
        if not (ROOT / name).is_symlink() and (ROOT / name).exists() and not name.startswith("runners/images/")
    }
    assert {name for name in content if not name.startswith(about)} == wanted
    assert all(content[name] == (ROOT / name).read_bytes() for name in wanted)
    weights = ("faces/detection/gate.safetensors", "faces/detection/mtcnn", "networks/shipped/backbone.safetensors")
    places = (*weights, "results/report/templates/", "results/report/vendor/")
    for place in (*(f"emo_transforms/{name}" for name in places), "py.typed"):
        assert any(name.startswith(f"emobeam/{place}") for name in wanted), place
    assert {name for name in content if "LICENSE" in name and name.startswith(about)} == {
        f"{about}/licenses/LICENSE",
        f"{about}/licenses/emobeam/emo_transforms/faces/detection/mtcnn-LICENSE.txt",
        f"{about}/licenses/emobeam/emo_transforms/results/report/vendor/uPlot-LICENSE.txt",
    }


def test_an_installed_wheel_has_the_detectors_weights_and_their_notice(from_wheel: Installed, tmp_path: Path) -> None:
    lines = (
        "from emobeam.emo_transforms.faces.detection.mtcnn_layers import shipped_weights",
        "from importlib import metadata, resources",
        "place = resources.files('emobeam') / 'emo_transforms/faces/detection/mtcnn-LICENSE.txt'",
        "told = [file for file in metadata.files('emobeam') if file.name == place.name and 'licenses' in file.parts]",
        "print(*sorted(shipped_weights()), *{len(one.read_text()) for one in (place, *told)}, len(told))",
    )
    notice = (ROOT / "emo_transforms" / "faces" / "detection" / "mtcnn-LICENSE.txt").read_text()
    found = from_wheel.run("python", "-c", "; ".join(lines), at=tmp_path)
    assert found == f"onet pnet rnet {len(notice)} 1"


def test_a_source_distribution_makes_the_same_wheel(built: tuple[Path, Path], tmp_path: Path) -> None:
    sdist, wheel = built
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    (again,) = build(source, tmp_path / "again", "wheel")
    assert again.name == wheel.name
    assert again.read_bytes() == wheel.read_bytes()


def test_a_build_without_git_is_named_after_its_code_or_as_it_is_told(tmp_path: Path) -> None:
    source = copy_of_the_package(tmp_path / "source")
    version = [sys.executable, "-m", "hatchling", "version"]
    assert _run(version, source) == f"0.1.0.dev0+d{code_digest(source / 'emobeam')[:8]}"
    assert _run(version, source, {"EMOBEAM_VERSION": "1.2.3"}) == "1.2.3"


def test_a_copy_without_links_is_not_built_and_not_set_up(tmp_path: Path) -> None:
    """What git leaves where ``core.symlinks`` is false, and what ``cp -rL`` makes of a link."""
    source = copy_of_the_package(tmp_path / "source")
    assert _run(["make", "-s", "links"], source) == ""
    assert re.search(r"^\$\(READY\): .*\| links$", (ROOT / "Makefile").read_text(), re.MULTILINE), "every target asks"
    link = source / "emobeam" / "schemas"
    link.unlink()
    shutil.copytree(source / "schemas", link)
    _expect_told(source)
    shutil.rmtree(link)
    link.write_text("../schemas")
    _expect_told(source)
    build_it = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "wheel")]
    done = subprocess.run(build_it, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "emobeam/schemas is no link to ../schemas" in done.stderr


def _expect_told(source: Path) -> None:
    done = subprocess.run(["make", "-s", "links"], cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "emobeam/schemas is no link to ../schemas" in done.stdout
    assert "git config core.symlinks true" in done.stdout


@pytest.mark.parametrize("kind", ["from_wheel", "editable"])
def test_predictions_load_beside_folders_of_the_same_names(
    kind: str, users_folder: Path, request: pytest.FixtureRequest
) -> None:
    installed: Installed = request.getfixturevalue(kind)
    lines = ["import emobeam as eb", 'au = eb.load_predictions("out/", task="au")', "print(len(au), eb.__file__)"]
    (users_folder / "analysis.py").write_text("\n".join(lines))
    wanted = f"75 {installed.package / '__init__.py'}"
    assert installed.run("python", "analysis.py", at=users_folder) == wanted
    assert installed.run("python", "-c", "; ".join(lines), at=users_folder) == wanted
    assert not (users_folder / "TRAPPED").exists()


EVERYTHING = """
import importlib, pkgutil, sys
import emobeam

for module in pkgutil.walk_packages(emobeam.__path__, "emobeam."):
    importlib.import_module(module.name)
others = [name for name in sys.modules if name.split(".")[0] in ("schemas", "emo_transforms", "pipelines", "runners")]
print("second copies:", others)
print(*(module.__file__ for name, module in sys.modules.items() if name.split(".")[0] == "emobeam"), sep="\\n")
"""


@pytest.mark.parametrize(
    "kind", [pytest.param("from_wheel", marks=pytest.mark.thorough), pytest.param("editable", marks=pytest.mark.slow)]
)
def test_every_module_has_one_name_and_comes_from_one_place(
    kind: str, users_folder: Path, request: pytest.FixtureRequest
) -> None:
    installed: Installed = request.getfixturevalue(kind)
    others, *files = installed.run("python", "-c", EVERYTHING, at=users_folder).split("\n")
    assert others == "second copies: []"
    assert len(files) > 250
    assert all(Path(file).is_relative_to(installed.package) for file in files)
    assert not (users_folder / "TRAPPED").exists()


JOB = """
import sys

class Job:
    def open(self, decoders):
        ours = {module.__file__ for name, module in sys.modules.items() if name.split(".")[0] == "emobeam"}
        def tell(element, report):
            report("start", {"key": element})
            report("places", {"key": element, "places": sorted({file.partition("/emobeam/")[0] for file in ours})})
            report("done", {"key": element})
        return tell
"""
WHERE = """
import sys
from emobeam.runners.children.pool import LocalPool, Work
from emobeam.runners.children.settings import LocalConfig
from users_job import Job

def hear(event, data):
    if event == "places":
        print(*data["places"])

with LocalPool(LocalConfig()) as pool:
    (outcome,) = pool.work_off(Job(), [Work("element", 1, "element")], hear)
assert not outcome.crashed
print(*{m.__file__.partition("/emobeam/")[0] for name, m in sys.modules.items() if name.split(".")[0] == "emobeam"})
"""


def test_two_checkouts_do_not_mix(tmp_path: Path) -> None:
    """One is installed; work in the folder of the other is work with the other, in worker processes as well."""
    first, second, elsewhere = (tmp_path / name for name in ("first", "second", "elsewhere"))
    for folder in (first, second):
        copy_of_the_package(folder)
    with open(second / "runners" / "children" / "child.py", "a") as file:
        file.write("# one line more\n")
    elsewhere.mkdir()
    installed = environment_with(tmp_path / "venv", str(first))
    codes = []
    for folder, used in ((elsewhere, first), (second, second), (first, first)):
        (folder / "users_job.py").write_text(JOB)
        (folder / "where.py").write_text(WHERE)
        # No PYTHONPATH: the script's folder is on the path of the launcher alone, as it is for a notebook.
        assert _run([str(installed.bin / "python"), "where.py"], folder, {"PYTHONPATH": ""}) == f"{used}\n{used}"
        told = installed.run("python", "-m", "emobeam.runners.worker_boot", "--versions", at=folder)
        codes.append(json.loads(told)["code"])
        (folder / "where.py").unlink()
        (folder / "users_job.py").unlink()
    assert codes[0] == codes[2] == code_digest(first / "emobeam") != codes[1]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_runs_of_a_wheel_in_a_folder_of_the_same_names(from_wheel: Installed, users_folder: Path) -> None:
    """The launcher, its workers, decoding processes, and workers of Beam: each finds the user's folders first."""
    portrait(users_folder / "talk.mp4", frames=16)
    offline = {"HF_HUB_OFFLINE": "1"}
    words = ("emobeam", "annotate", "talk.mp4", "--output", "here", "--task", "au", "--edition", "8", "-q")
    from_wheel.run(*words, at=users_folder, **offline)
    from_wheel.run("emobeam", "report", "here", "-q", at=users_folder, **offline)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(from_wheel.bin / "emobeam-worker"), "--worker_pool", f"--service_port={port}"]
    environment = {**os.environ, **offline, "PYTHONPATH": str(users_folder)}
    with subprocess.Popen(command, cwd=users_folder, env=environment, stderr=subprocess.DEVNULL) as pool:
        try:
            wait_for(lambda: _listens(port), 120)
            words = ("emobeam", "extract", "talk.mp4", "--output", "there", "-q", "--runner", "flink")
            place = ("--job-endpoint", "embed", "--worker-environment", f"external:127.0.0.1:{port}")
            from_wheel.run(*words, *place, at=users_folder, **offline)
        finally:
            pool.terminate()
    assert not (users_folder / "TRAPPED").exists()
    here, there = users_folder / "here" / "features" / "shards", users_folder / "there" / "shards"
    assert [path.name for path in sorted(here.iterdir())] == [path.name for path in sorted(there.iterdir())]
    version = json.loads((users_folder / "here" / "run.json").read_text())["versions"]["emobeam"]
    assert from_wheel.run("emobeam", "--version", at=users_folder) == f"emobeam, version {version}"


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


SECOND_COPIES = ("import schemas", "from schemas.records import Video", "import emo_transforms.storage",
                 "from pipelines import cli", "from runners import local")  # fmt: skip


@pytest.mark.parametrize("line", SECOND_COPIES)
@pytest.mark.parametrize("place", ["pipelines/x.py", "tests/x.py"])
def test_second_copies_are_refused_by_the_linter_and_while_tests_run(line: str, place: str) -> None:
    command = [sys.executable, "-m", "ruff", "check", "--select=TID251", "--stdin-filename", place, "-"]
    done = subprocess.run(command, cwd=ROOT, input=f"{line}\n", capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "TID251" in done.stdout
    with pytest.raises(ImportError, match=r"a second copy of a part of emobeam: import emobeam\."):
        exec(line, {})
    for environment in (os.environ, {**os.environ, **same_imports()}):
        command = [sys.executable, "-c", line]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert "a second copy of a part of emobeam: import emobeam." in done.stderr
