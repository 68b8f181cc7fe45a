from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
sys.path.insert(0, {folder!r})
from loops import twice
import numpy as np
print(twice(np.arange(3)).tolist())
"""

LOOPS = """
import numpy as np
from emo_transforms.compiled import compiled

@compiled
def twice(values):
    out = np.empty_like(values)
    for k in range(len(values)):
        out[k] = 2 * values[k]
    return out
"""


def run(folder: Path, cache: Path) -> str:
    (folder / "loops.py").write_text(LOOPS)
    settings = {"HOME": str(cache), "XDG_CACHE_HOME": str(cache), "PATH": "/usr/bin:/bin"}
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(folder=str(folder))], env=settings, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()


def test_a_loop_is_kept_on_disk(tmp_path: Path) -> None:
    assert run(tmp_path, tmp_path) == "[0, 2, 4]"
    assert list(tmp_path.rglob("*.nbi"))
    assert run(tmp_path, tmp_path) == "[0, 2, 4]"


def test_a_loop_runs_where_no_folder_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in an image that is read only: a file stands where the folders of caches would be made."""
    package, nowhere = tmp_path / "package", tmp_path / "file"
    package.mkdir()
    nowhere.write_text("")
    (package / "__pycache__").write_text("")
    assert run(package, nowhere) == "[0, 2, 4]"
    assert not list(tmp_path.rglob("*.nbi"))
