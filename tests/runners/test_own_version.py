"""Versions of small repositories, made by git itself."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from packaging.version import Version

import emobeam
from emobeam.runners.own_version import LINKS, checkout_version, code_digest, own_code, own_version

ROOT = Path(__file__).parents[2]


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=A", "-c", "user.email=a@b", "-c", "commit.gpgsign=false", "-c", "init.defaultBranch=main")
    command = ["git", *who, "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit(folder: Path, text: str) -> str:
    """Changes the code and commits it; returns how versions name the commit."""
    (folder / "schemas" / "records.py").write_text(text)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", text)
    return "g" + git(folder, "rev-parse", "HEAD")[:9]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository of two commits, laid out like ours."""
    folder = tmp_path / "checkout"
    (folder / "emobeam").mkdir(parents=True)
    (folder / "emobeam" / "__init__.py").touch()
    for name in LINKS:
        (folder / name).mkdir()
        (folder / name / "__init__.py").touch()
        (folder / "emobeam" / name).symlink_to(f"../{name}")
    git(folder, "init", "-q")
    commit(folder, "one = 1")
    commit(folder, "two = 2")
    return folder


def test_before_the_first_tag_commits_are_counted(checkout: Path) -> None:
    third = commit(checkout, "three = 3")
    assert checkout_version(checkout) == f"0.1.0.dev3+{third}"


def test_a_tag_is_the_version_and_later_commits_lead_to_the_next(checkout: Path) -> None:
    git(checkout, "tag", "v0.9.9")
    git(checkout, "tag", "not-a-version")
    assert checkout_version(checkout) == "0.9.9"
    after = commit(checkout, "three = 3")
    assert checkout_version(checkout) == f"0.9.10.dev1+{after}"
    git(checkout, "tag", "-m", "a tag with a message", "v1.0.0rc1")
    assert checkout_version(checkout) == "1.0.0rc1"
    commit(checkout, "four = 4")
    after = commit(checkout, "five = 5")
    assert checkout_version(checkout) == f"1.0.0rc2.dev2+{after}"
    assert (
        Version("0.9.9") < Version(f"0.9.10.dev1+{after}") < Version("1.0.0rc1") < Version(checkout_version(checkout))
    )


def test_code_that_is_not_committed_has_a_name_of_its_own(checkout: Path) -> None:
    git(checkout, "tag", "v0.2.0")
    (checkout / "README.md").write_text("not code")
    assert checkout_version(checkout) == "0.2.0"
    seen = {checkout_version(checkout)}
    commit_name = "g" + git(checkout, "rev-parse", "HEAD")[:9]
    for text in ("two = 3", "two = 4"):
        (checkout / "schemas" / "records.py").write_text(text)
        seen.add(checkout_version(checkout))
    (checkout / "schemas" / "records.py").write_text("two = 2")
    assert checkout_version(checkout) == "0.2.0", "it is what was committed again"
    (checkout / "runners" / "new.py").touch()
    seen.add(checkout_version(checkout))
    assert len(seen) == 4
    assert all(version.startswith(f"0.2.1.dev0+{commit_name}.d") for version in seen - {"0.2.0"})
    assert all(Version(version) for version in seen)


def test_copies_without_git_are_told_apart_by_their_code(checkout: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    git(checkout, "archive", "--output", str(tmp_path / "a.tar"), "HEAD")
    shutil.unpack_archive(tmp_path / "a.tar", archive)
    # not the version of a repository that it happens to lie in
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "of something else")
    first = checkout_version(archive)
    assert first == f"0.1.0.dev0+d{code_digest(checkout / 'emobeam')[:8]}"
    (archive / "schemas" / "records.py").write_text("two = 3")
    assert checkout_version(archive) != first
    assert Version(first).is_devrelease


def test_a_shallow_clone_names_its_commit(checkout: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", "--depth=1", checkout.as_uri(), "shallow")
    assert checkout_version(tmp_path / "shallow") == f"0.1.0.dev1+g{git(checkout, 'rev-parse', 'HEAD')[:9]}"


def test_a_worktree_is_a_checkout_too(checkout: Path, tmp_path: Path) -> None:
    before = checkout_version(checkout)
    git(checkout, "worktree", "add", "-q", "-b", "other", str(tmp_path / "other"))
    third = commit(checkout, "three = 3")
    assert checkout_version(tmp_path / "other") == before
    assert checkout_version(checkout) == f"0.1.0.dev3+{third}"


def test_the_repository_whose_hook_runs_is_not_taken_for_ours(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = checkout_version(checkout)
    git(tmp_path, "init", "-q", "other")
    git(tmp_path / "other", "commit", "-q", "--allow-empty", "-m", "of something else")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "other" / ".git" / "index"))
    assert checkout_version(checkout) == before


def test_where_git_is_not_installed_the_digest_stands_in(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert checkout_version(checkout) == f"0.1.0.dev0+d{code_digest(checkout / 'emobeam')[:8]}"


def test_the_digest_is_of_names_and_content_and_of_nothing_else(checkout: Path) -> None:
    package = checkout / "emobeam"
    before = code_digest(package)
    (package / "schemas" / "__pycache__").mkdir()
    (package / "schemas" / "__pycache__" / "records.cpython-311.pyc").write_bytes(b"compiled")
    (package / "schemas" / "records.py~").write_text("an editor's")
    (package / "runners" / "images").mkdir()
    (package / "runners" / "images" / "launch.py").write_text("not packed")
    assert code_digest(package) == before
    (package / "schemas" / "records.py").rename(package / "schemas" / "rows.py")
    renamed = code_digest(package)
    (package / "schemas" / "weights.safetensors").write_bytes(b"numbers")
    assert len({before, renamed, code_digest(package)}) == 3


def test_the_digest_is_the_same_in_a_zip_file(checkout: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "it.zip", "w") as archive:
        for path in sorted((checkout / "emobeam").rglob("*.py")) + [
            path for name in LINKS for path in (checkout / "emobeam" / name).glob("*.py")
        ]:
            archive.write(path, path.relative_to(checkout))
    assert code_digest(zipfile.Path(tmp_path / "it.zip", "emobeam/")) == code_digest(checkout / "emobeam")


def test_this_checkout_tells_what_it_is() -> None:
    # Asked anew: somebody may work on these files while tests run.
    assert own_code.__wrapped__() == code_digest(ROOT / "emobeam")
    assert own_version.__wrapped__() == checkout_version(ROOT)
    assert emobeam.__version__ == own_version()


def test_no_bytes_depend_on_it() -> None:
    """The digest changes with every line; shards, heads and identities don't: they go by ``STAGE1_REVISION``."""
    asks = {
        str(path.relative_to(ROOT))
        for name in ("emobeam", *LINKS)
        for path in (ROOT / name).glob("*.py" if name == "emobeam" else "**/*.py")
        if "own_version" in path.read_text() or "own_code" in path.read_text()
    }
    assert asks == {
        "emobeam/__init__.py",
        "pipelines/cli.py",
        "pipelines/results/report.py",
        "pipelines/run_origin.py",
        "runners/own_version.py",
        "runners/worker_boot.py",
    }
