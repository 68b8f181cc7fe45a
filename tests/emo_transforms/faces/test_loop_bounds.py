"""Compiled loops don't check their indices; here they do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TESTS = [
    HERE / "test_resampling.py",
    *(HERE / "detection" / f"test_{name}.py" for name in ("area_averages", "boxes", "gate", "pyramid", "following")),
]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_no_loop_leaves_its_arrays(tmp_path: Path) -> None:
    """The tests of all that has loops, with indices checked; in a cache of their own, which other runs don't see."""
    settings = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, TESTS)]
    found = subprocess.run(command, env=settings, capture_output=True, text=True, cwd=HERE.parents[2])
    assert found.returncode == 0, found.stdout[-4000:]
    assert list(tmp_path.rglob("*.nbc"))
