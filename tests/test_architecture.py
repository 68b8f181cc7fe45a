"""Imports run one way, heavy libraries load late, and files stay small."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("emobeam", "schemas", "emo_transforms", "pipelines", "runners")
HEAVY = ("torch", "apache_beam", "av", "timm", "pyarrow")

NOT_ALLOWED = {
    "schemas": {"torch", "torchvision", "timm", "av", "decord", "PIL", "fsspec"}
    | {"emo_transforms", "pipelines", "runners", "emobeam"},
    "emo_transforms": {"pipelines", "runners", "emobeam"},
    "pipelines": {"emobeam"},
    "runners": {"pipelines", "emobeam"},
    "emobeam": {"runners"},
}
WITH_BEAM = {"beam_records.py", "extract.py", "plan.py", "predict.py"}
"""The files of ``emo_transforms`` that may import Beam."""


def files_of(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


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


def test_the_check_sees_imports() -> None:
    source = "import a.b\ndef f():\n    from c.d import e\n    if x:\n        import g as h\nfrom . import i"
    assert list(imported(source)) == ["a.b", ".", "c.d.e", "g"]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_is_there(package: str) -> None:
    assert len(files_of(package)) > 1


@pytest.mark.parametrize("package", NOT_ALLOWED)
def test_imports_run_one_way(package: str) -> None:
    wrong = {
        str(path.relative_to(ROOT)): sorted(top_level(path) & NOT_ALLOWED[package])
        for path in files_of(package)
        if top_level(path) & NOT_ALLOWED[package]
    }
    assert wrong == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_are_absolute_and_never_of_tests(package: str) -> None:
    wrong = [str(path.relative_to(ROOT)) for path in files_of(package) if top_level(path) & {"", "tests"}]
    assert wrong == []


def test_only_the_transforms_know_beam() -> None:
    with_beam = {path.name for path in files_of("emo_transforms") if "apache_beam" in top_level(path)}
    assert with_beam == WITH_BEAM
    assert not any("apache_beam" in top_level(path) for path in files_of("schemas"))


def loaded_by(code: str) -> set[str]:
    """Top-level modules in a fresh process after some code ran."""
    report = f"import sys\ntry:\n    {code}\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
    report += "print(*sorted({name.split('.')[0] for name in sys.modules}), sep='\\n', file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", report], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines())


@pytest.mark.parametrize("arguments", ["--help", "annotate --help", "extract --help", "predict --help", "--version"])
def test_help_is_fast(arguments: str) -> None:
    loaded = loaded_by(
        f"from emobeam.pipelines.cli import main; sys.argv = ['emobeam', *'{arguments}'.split()]; main()"
    )
    assert {"pipelines", "click"} <= loaded
    assert not loaded & {*HEAVY, "pandas", "numpy", "decord"}


def test_the_python_interface_is_there_at_once() -> None:
    loaded = loaded_by("import emobeam; assert set(emobeam.__all__) <= set(dir(emobeam))")
    assert not loaded & {*HEAVY, "numpy", "pandas", "polars", "click", "rich"}


def test_records_and_configuration_load_nothing_heavy() -> None:
    modules = "emobeam.schemas.config, emobeam.schemas.records, emobeam.schemas.tasks"
    assert not loaded_by(f"import {modules}") & {*HEAVY, "numpy", "pandas"}


@pytest.mark.parametrize("package", PACKAGES)
def test_files_stay_small(package: str) -> None:
    long = {str(path.relative_to(ROOT)): length for path in files_of(package) if (length := _lines(path)) > 400}
    assert long == {}


def _lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def test_there_is_no_file_for_everything() -> None:
    assert not [path for package in PACKAGES for path in files_of(package) if path.stem in {"utils", "helpers", "misc"}]


def test_tables_are_not_read_from_python_files_by_several_threads() -> None:
    """``pq.read_table`` of a Python file object aborts about every fifth process at its end on a busy machine
    (pyarrow 25: a scanner's thread outlives the file); ``pq.ParquetFile(file).read()`` doesn't."""
    wrong = [
        f"{path.relative_to(ROOT)}:{number}"
        for package in PACKAGES
        for path in files_of(package)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if "read_table(file" in line.replace("parquet.", "pq.")
    ]
    assert wrong == []
