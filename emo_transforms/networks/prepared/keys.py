"""What a prepared network is found by: all that decides its numbers, and nothing that needs torch to be known."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from emobeam.schemas import config, tables

FORMAT = 1
"""Of an entry's files; raised by hand where they are written otherwise."""

BUILDERS = ("torch", "timm")
"""What makes a network before it is prepared. Where a prepared one is used these need not be installed."""

_CODE = ("backbones", "checkpoints", "heads", "prepared")
"""Folders beside ``engines``, whose code decides what a network computes."""


@dataclass(frozen=True)
class Key:
    """Which network.

    Attributes:
        kind: a word for people and for file names, such as ``backbone``.
        identity: plain JSON data.
    """

    kind: str
    identity: Mapping[str, Any]

    @cached_property
    def content(self) -> dict[str, Any]:
        """All that has to be the same where an entry is used, as plain JSON data."""
        versions = {"format": FORMAT, "code": code_digest(), "openvino": version_of("openvino")}
        plain: dict[str, Any] = json.loads(json.dumps({**versions, "kind": self.kind, "identity": self.identity}))
        return plain

    @cached_property
    def prefix(self) -> str:
        """What names of the folders of this network begin with."""
        return f"{self.kind}-{_digest(self.content)[:40]}-"

    @property
    def name(self) -> str:
        """The name of its folder, where those are installed that make it."""
        return self.prefix + _digest(builders())[:12]


def builders() -> dict[str, str]:
    """Versions of what makes networks, ``""`` where it isn't installed."""
    return {name: version_of(name) for name in BUILDERS}


def can_build() -> bool:
    """Whether networks can be made here."""
    return all(builders().values())


@lru_cache(maxsize=16)
def version_of(package: str) -> str:
    """The version of an installed package, ``""`` where it isn't; nothing is imported."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


@lru_cache(maxsize=1)
def code_digest() -> str:
    """Of the code that builds networks: what it made before it was changed is not what it makes now."""
    digest = hashlib.sha256()
    root = Path(__file__).parent.parent
    ours = [root / "engines.py", root / "weights_digest.py"]
    ours += [path for folder in _CODE for path in (root / folder).rglob("*.py")]
    files = {file.relative_to(root).as_posix(): file for file in ours}
    # Defaults of backbones, and names of what they give.
    files |= {str(module.__name__): Path(str(module.__file__)) for module in (config, tables)}
    for name, file in sorted(files.items()):
        digest.update(f"{name}|".encode() + file.read_bytes())
    return digest.hexdigest()


def _digest(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
