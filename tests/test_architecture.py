"""The house: imports run one way through packages and rooms, heavy libraries load late, files stay small."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("emobeam", "schemas", "emo_transforms", "pipelines", "runners")
HEAVY = ("torch", "apache_beam", "av", "timm", "pyarrow")

FACE = "emobeam"
"""The package itself: the Python interface. In it lie links to the others, which is what makes them ``emobeam.schemas``
and so on."""

MAY_IMPORT = {
    "schemas": set(),
    "emo_transforms": {"schemas"},
    "runners": {"schemas", "emo_transforms"},
    "pipelines": {"schemas", "emo_transforms", "runners"},
    "emobeam": {"schemas", "emo_transforms", "pipelines"},
}
NETWORKS = {"torch", "torchvision", "timm", "openvino", "av", "cv2"}
HEAVY_FOR_SCHEMAS = {"torch", "torchvision", "timm", "av", "decord", "PIL", "fsspec", "apache_beam"}
ROOMS = (
    "storage",
    "inputs",
    "video",
    "networks",
    "faces",
    "cache",
    "extraction",
    "prediction",
    "abaw",
    "results",
    "training",
)
"""The rooms of ``emo_transforms``; each may import those before it."""

WITH_BEAM = {
    "extraction/beam_records.py",
    "extraction/child_step.py",
    "extraction/extract_transform.py",
    "extraction/plan_transform.py",
    "prediction/predict_transform.py",
}
"""The files of ``emo_transforms`` that may import Beam."""

WITH_LOGGING = {
    "pipelines/cli.py",
    "pipelines/quiet_imports.py",
    "runners/beam_noise.py",
    "runners/beam_options.py",
    "runners/children/child.py",
    "runners/engines/job_server.py",
    "runners/idle_exit.py",
}
"""The files that may import ``logging``: those that make libraries quiet or loud, and processes that only an engine's
own log hears."""

MOST_FILES = 13
"""Python files in a folder, its ``__init__`` among them."""

PRIVATE = re.compile(r"(^|\.)_(?!_future__)")
"""In the name of a module or of something in it."""

NAMES_FOR_ANYTHING = {"utils", "util", "helpers", "misc", "common", "tools", "core", "base"}
GLOSSARY = {"whoiswho", "marks", "looking", "native", "tables_in", "traces", "beats", "hearing", "leaving", "exchange"}
"""Names of files that nobody understood without opening them."""


def files_of(package: str) -> list[Path]:
    """The files of a package; those of the face alone, not what its links lead to."""
    return sorted((ROOT / package).glob("*.py") if package == FACE else (ROOT / package).rglob("*.py"))


def imported(source: str) -> Iterator[str]:
    """Every module that source text imports, at its top or anywhere below."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield "." * node.level + (node.module or "")
            else:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def top_level(path: Path) -> set[str]:
    return {module.split(".")[0] for module in imported(path.read_text())}


def own_imports(path: Path) -> set[tuple[str, ...]]:
    """What a file imports of emobeam: ``("schemas", "records", ...)``, the face as ``("emobeam", ...)``."""
    found = set()
    for module in imported(path.read_text()):
        first, *rest = module.split(".")
        if first == FACE:
            found.add(tuple(rest) if rest and rest[0] in MAY_IMPORT else (FACE, *rest))
    return found


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_check_sees_imports() -> None:
    source = "import a.b\ndef f():\n    from c.d import e\n    if x:\n        import g as h\nfrom . import i"
    assert list(imported(source)) == ["a.b", ".", "c.d.e", "g"]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_is_there(package: str) -> None:
    assert len(files_of(package)) > 1


def test_packages_are_parts_of_one() -> None:
    """As links that git keeps; a checkout without links (``core.symlinks=false``) has text files there."""
    for package in set(PACKAGES) - {FACE}:
        link = ROOT / FACE / package
        assert link.is_symlink(), f"{link} is no link: set core.symlinks=true and check out again"
        assert link.resolve() == ROOT / package


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_run_one_way(package: str) -> None:
    allowed = {package} | MAY_IMPORT[package]
    wrong = {
        name_of(path): sorted(".".join(module) for module in own_imports(path) if module[0] not in allowed)
        for path in files_of(package)
    }
    assert {name: modules for name, modules in wrong.items() if modules} == {}


def test_schemas_need_nothing_heavy() -> None:
    assert not {name_of(path) for path in files_of("schemas") if top_level(path) & HEAVY_FOR_SCHEMAS}


def test_rooms_import_only_those_before_them() -> None:
    wrong = []
    for path in files_of("emo_transforms"):
        room = path.relative_to(ROOT / "emo_transforms").parts[0]
        if room == "__init__.py":
            continue
        for package, *rest in own_imports(path):
            if package == "emo_transforms" and rest[0] in ROOMS and ROOMS.index(rest[0]) > ROOMS.index(room):
                wrong.append(f"{name_of(path)}: {'.'.join(rest)}")
    assert wrong == []


def test_every_folder_of_the_library_is_a_room() -> None:
    there = {path.name for path in (ROOT / "emo_transforms").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert there == set(ROOMS)
    assert {path.name for path in (ROOT / "emo_transforms").glob("*.py")} == {"__init__.py"}


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_are_absolute_and_never_of_tests(package: str) -> None:
    outside = {"", "tests", *PACKAGES} - {FACE}
    wrong = [name_of(path) for path in files_of(package) if top_level(path) & outside]
    assert wrong == []


def test_only_the_transforms_know_beam() -> None:
    library = ROOT / "emo_transforms"
    with_beam = {
        str(path.relative_to(library)) for path in files_of("emo_transforms") if "apache_beam" in top_level(path)
    }
    assert with_beam == WITH_BEAM


def folders() -> list[Path]:
    return sorted({path.parent for package in PACKAGES for path in files_of(package)})


@pytest.mark.parametrize("folder", folders(), ids=name_of)
def test_folders_stay_small_and_tell_what_they_hold(folder: Path) -> None:
    assert len(list(folder.glob("*.py"))) <= MOST_FILES
    if (folder / "__init__.py").exists():
        assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))


def loaded_by(code: str) -> set[str]:
    """Top-level modules in a fresh process after some code ran."""
    told = "print(*sorted({name.split('.')[0] for name in sys.modules}), sep='\\n', file=sys.stderr)"
    report = f"import atexit, sys\natexit.register(lambda: {told})\n{code}\n"
    done = subprocess.run([sys.executable, "-c", report], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines())


@pytest.mark.parametrize("arguments", ["--help", "annotate --help", "extract --help", "predict --help", "--version"])
def test_help_is_fast(arguments: str) -> None:
    loaded = loaded_by(
        f"from emobeam.pipelines.cli import main; sys.argv = ['emobeam', *'{arguments}'.split()]; main()"
    )
    assert {"emobeam", "click"} <= loaded
    assert not loaded & {*HEAVY, "pandas", "numpy", "decord"}


def test_the_python_interface_is_there_at_once() -> None:
    loaded = loaded_by("import emobeam; assert set(emobeam.__all__) <= set(dir(emobeam))")
    assert not loaded & {*HEAVY, "numpy", "pandas", "polars", "click", "rich"}


def test_records_and_configuration_load_nothing_heavy() -> None:
    modules = "emobeam.schemas.config, emobeam.schemas.records, emobeam.schemas.tasks"
    assert not loaded_by(f"import {modules}") & {*HEAVY, "numpy", "pandas"}


def test_children_know_nothing_of_beam() -> None:
    jobs = "emobeam.emo_transforms.extraction.segments, emobeam.emo_transforms.prediction.video_parts"
    assert "apache_beam" not in loaded_by(f"import emobeam.runners.children.child, {jobs}")


def test_children_that_plan_load_no_networks() -> None:
    modules = "emobeam.runners.children.child, emobeam.emo_transforms.extraction.plan_job"
    assert not loaded_by(f"import {modules}") & {"apache_beam", *NETWORKS}


def test_beams_workers_load_no_networks() -> None:
    modules = ["runners.engines.engine_ends", "runners.direct_run"]
    modules += ["pipelines.stages.graphs.extract_graph", "pipelines.stages.graphs.predict_graph"]
    assert not loaded_by("import " + ", ".join(f"emobeam.{module}" for module in modules)) & NETWORKS


@pytest.mark.parametrize("package", PACKAGES)
def test_files_stay_small(package: str) -> None:
    long = {str(path.relative_to(ROOT)): length for path in files_of(package) if (length := _lines(path)) > 400}
    assert long == {}


def _lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def test_the_page_for_contributors_knows_the_house() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text()
    assert tuple(re.findall(r"^- \*\*`(\w+)/`\*\*:", page, re.MULTILINE)) == ROOMS
    assert " --> ".join(ROOMS) in page  # the picture
    files = re.findall(r"`((?:{})/[\w/]+\.py)`".format("|".join(PACKAGES)), page)
    assert len(files) > 20
    assert [file for file in files if not (ROOT / file).exists()] == []


def test_names_tell_what_files_hold() -> None:
    stems = {name_of(path): path.stem for package in PACKAGES for path in files_of(package)}
    assert {name for name, stem in stems.items() if stem in NAMES_FOR_ANYTHING | GLOSSARY} == set()


def test_private_names_are_not_imported() -> None:
    """Neither those of other libraries, which change without a word, nor our own; ruff's SLF001 sees the attributes.
    What can't be had in public is in ``faces/numba_cache.py``."""
    wrong = {
        name_of(path): private
        for package in PACKAGES
        for path in files_of(package)
        if (private := [module for module in imported(path.read_text()) if PRIVATE.search(module)])
    }
    assert wrong == {}


def test_who_keeps_every_error_back_tells_why() -> None:
    """Ruff asks the same of ``except Exception`` (BLE001); ``suppress`` passes it by."""
    wrong = [
        f"{name_of(path)}:{number}"
        for package in PACKAGES
        for path in files_of(package)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(r"suppress\((Base)?Exception\):$", line)
    ]
    assert wrong == []


def lines_with(pattern: str, *, but: Collection[str]) -> list[str]:
    """Places in the packages where a pattern stands, outside some files."""
    return [
        f"{path.relative_to(ROOT)}:{number}"
        for package in PACKAGES
        for path in files_of(package)
        if str(path.relative_to(ROOT)) not in but
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(pattern, line)
    ]


def test_what_is_printed_passes_one_place() -> None:
    """``pipelines/printing.py`` and the console of ``pipelines/console.py`` leave out secrets and what steers a
    terminal; a child that answers on its standard output prints for a program."""
    allowed = {
        "pipelines/printing.py",
        "pipelines/console.py",
        "emo_transforms/training/comparison/head_costs.py",
        "runners/worker_boot.py",
        "runners/worker_pool.py",
        "runners/images/flex_template/launch.py",
    }
    assert lines_with(r"(?<![\w.])(click\.s?echo|print|Console)\(", but=allowed) == []


def test_unfinished_things_are_made_in_one_place() -> None:
    """So that what a killed process leaves is known by its name, and goes (``storage/leftovers.py``)."""
    makers = r"\b(mkdtemp|mkstemp|TemporaryDirectory|NamedTemporaryFile|beam\.Pipeline)\("
    own = {"storage/leftovers.py", "engines/job_server.py", "children/pool.py", "runners/beam_pipeline.py"}
    assert [line for line in lines_with(makers, but=()) if not line.partition(":")[0].endswith(tuple(own))] == []


def test_parquet_is_read_one_way() -> None:
    """A thread of pyarrow that reads from Python's bytes or from a Python file may let go of them when the interpreter
    has ended, which aborts the process: one of ten on a busy machine."""
    readers = (
        r"\b(pq|parquet)\.(read_(table|metadata|schema)|Parquet(File|Dataset))\(|\bpd\.read_parquet\(|arrow\.dataset"
    )
    assert lines_with(readers, but={"emo_transforms/storage/parquet_files.py"}) == []
    assert lines_with(r"\.(read_row_groups?|iter_batches)\((?!.*use_threads=False)", but=()) == []


def test_json_is_read_one_way() -> None:
    """What is nested too deeply ends another reader with a ``RecursionError``, which nobody expects."""
    own = {"schemas/plain_json.py", "runners/images/flex_template/launch.py"}
    assert lines_with(r"\bjson\.loads?\((?!json\.dumps)", but=own) == []


def test_people_are_told_by_warnings_not_by_loggers() -> None:
    """A logger's warnings are lost without ``-v``; what a user has to know goes through ``Ui.warn`` (or ``note``)."""
    users = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in files_of(package)
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Import) and any(each.name.partition(".")[0] == "logging" for each in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "logging")
    }
    assert users == WITH_LOGGING
