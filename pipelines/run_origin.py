"""What run records say about the machine and the libraries."""

from __future__ import annotations

import platform
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata

from emobeam.runners.own_version import own_version as own_version  # the face takes it from here

_LIBRARIES = ("apache-beam", "openvino", "torch", "timm", "av", "decord2", "pyarrow", "numpy")
_EXTRAS = ("facenet-pytorch", "onnxruntime")
"""Named where they are installed."""


def new_run_id() -> str:
    """A name for a run: when it began (UTC), to the microsecond, and three random digits; sorts by time."""
    now = datetime.now(UTC)
    return f"{now:%Y%m%dT%H%M%SZ}-{now.microsecond:05x}{uuid.uuid4().hex[:3]}"


def machine() -> dict[str, str]:
    """The machine of the launcher."""
    return {"system": platform.platform(), "processor": platform.machine(), "python": platform.python_version()}


def versions() -> dict[str, str]:
    """Versions of emobeam and of the libraries that decide results."""
    found = {"emobeam": own_version()}
    for library in _LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            found[library] = "not installed"
    for library in _EXTRAS:
        with suppress(metadata.PackageNotFoundError):
            found[library] = metadata.version(library)
    return found
