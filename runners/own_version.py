"""Which emobeam this is: a version made of tags and commits, and a digest of its code.

The version is for people and for records. In a checkout git is asked for it, so that it tells what is there now, not
what was there at the time of ``pip install -e``. The digest is what launcher and workers compare: checkout, wheel and
image of the same code have the same one, whatever was known of git where they were made, and one line that differs
changes it. Neither is part of what decides bytes (``features_id``, ``cache_id``, names and content of shards).

``pyproject.toml`` reads this file when a package is built; so it imports nothing but the standard library.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from importlib import metadata, resources
from importlib.resources.abc import Traversable
from pathlib import Path

UNRELEASED = "0.1.0"
"""The version that the first tag will have."""

LINKS = ("schemas", "emo_transforms", "pipelines", "runners")
"""Folders at the top of the repository that are links in ``emobeam/``."""

_CODE = frozenset({".py", ".json", ".safetensors"})
_NOT_PACKED = "runners/images"
"""Belongs to the repository; no wheel holds it."""

_POINT_ELSEWHERE = frozenset({"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY"})
"""Set while git runs a hook, perhaps of another repository."""

_GIT_SECONDS = 20.0


@cache
def own_version() -> str:
    """The version of this emobeam, as PEP 440 has it; see :func:`checkout_version`.

    A package that was built has the version of the time when it was built.
    """
    package = Path(__file__).parents[1]
    if (package / "runners").is_symlink():
        return checkout_version(package.parent)
    try:
        return metadata.version("emobeam")
    except metadata.PackageNotFoundError:  # an unpacked or zipped package without its metadata
        return _without_git(own_code())


@cache
def own_code() -> str:
    """Digest of the code of this emobeam; see :func:`code_digest`."""
    package = Path(__file__).parents[1]
    return code_digest(package if package.is_dir() else resources.files("emobeam"))  # the latter: in a zip file


def version_to_build() -> str:
    """The version of a package that is being built out of a checkout, with this file loaded as ``runners/...``.

    ``EMOBEAM_VERSION`` goes first, for places where git isn't: an image's build context. A source distribution tells
    its version itself.

    Raises:
        FileNotFoundError: the links in ``emobeam/`` are gone, and the package would be a broken one.
    """
    root = Path(__file__).parents[1]
    for name in LINKS:
        if not (root / "emobeam" / name / "__init__.py").is_file():
            raise FileNotFoundError(
                f"emobeam/{name} is no link to ../{name}: this copy has lost its links; make links tells how to mend it"
            )
    return os.environ.get("EMOBEAM_VERSION") or checkout_version(root)


def checkout_version(root: Path) -> str:
    """The version of the code in a checkout as it is now.

    Returns:
        ``X.Y.Z`` at the tag ``vX.Y.Z``; after it ``X.Y.(Z+1).devN+gHASH``, N commits later; before the first tag
        ``0.1.0.devN+gHASH``. Where files of the package differ from the commit, ``.d`` and their digest follow. Without
        git, ``0.1.0.dev0+d`` and the digest.
    """
    if not (root / ".git").exists():  # git would look further up, into a repository that this one lies in
        return _without_git(code_digest(root / "emobeam"))
    text = _git(root, "describe", "--tags", "--long", "--abbrev=40", "--match=v[0-9]*")
    if described := re.fullmatch(r"v(\S+)-(\d+)-g([0-9a-f]+)", text or ""):
        tag, since, commit = described[1], int(described[2]), described[3]
        coming = re.sub(r"\d+$", lambda last: str(int(last[0]) + 1), tag)
    else:
        commits = (_git(root, "rev-list", "HEAD") or "").split()
        if not commits:
            return _without_git(code_digest(root / "emobeam"))
        tag, since, commit, coming = "", len(commits), commits[0], UNRELEASED
    changed = _git(root, "status", "--porcelain", "--", "emobeam", *LINKS) != ""
    if tag and not since and not changed:
        return tag
    digest = f".d{code_digest(root / 'emobeam')[:8]}" if changed else ""
    return f"{coming}.dev{since}+g{commit[:9]}{digest}"


def _without_git(digest: str) -> str:
    return f"{UNRELEASED}.dev0+d{digest[:8]}"


def _git(root: Path, *arguments: str) -> str | None:
    """What git says of a repository; None where it can't be asked, or fails."""
    environment = {name: value for name, value in os.environ.items() if name not in _POINT_ELSEWHERE}
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=_GIT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def code_digest(package: Traversable) -> str:
    """Digest of a package's modules and of the numbers that they read.

    Args:
        package: the folder ``emobeam``, on disk or in a zip file.

    Returns:
        16 hexadecimal digits, of names and contents.
    """
    digest = hashlib.sha256()
    for name, file in _code(package, ""):
        digest.update(f"{name}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _code(folder: Traversable, below: str) -> Iterator[tuple[str, Traversable]]:
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        name = below + entry.name
        if entry.is_dir():
            if entry.name != "__pycache__" and name != _NOT_PACKED:
                yield from _code(entry, f"{name}/")
        elif Path(name).suffix in _CODE:
            yield name, entry
