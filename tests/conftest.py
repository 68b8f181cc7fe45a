"""Fixtures for all tests: generated clips, and the real ones where they are at hand."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.clips import CLIPS

# ``import schemas`` fails here and in every process that a test starts.
NO_SECOND_COPIES = str(Path(__file__).parent / "no_second_copies")
runpy.run_path(str(Path(NO_SECOND_COPIES, "sitecustomize.py")))
sys.path.append(NO_SECOND_COPIES)  # for processes that get the path of this one
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [NO_SECOND_COPIES, os.environ.get("PYTHONPATH")]))

# Hundreds of processes would each compile all modules anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# As in emobeam itself: OpenVINO's import and its converter start processes that report to an analytics service.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

# What was prepared stays from run to run, in the folder that pytest keeps for that, and all of its processes share it.
os.environ.setdefault("EMOBEAM_PREPARED", str(Path(__file__).parents[1] / ".pytest_cache" / "prepared"))

# Chance finds new cases at everybody's desk; where a change is judged, the same ones every time. make test-slow takes
# ten times as many. How long an example takes says how busy a machine is.
settings.register_profile("desk", deadline=None, max_examples=20, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("desk"), derandomize=True)
settings.register_profile("thorough", settings.get_profile("desk"), max_examples=200)
settings.load_profile("ci" if os.environ.get("CI") else "desk")


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes a clip of :data:`tests.clips.CLIPS` when it is first asked for: ``clips("portrait.mp4")``."""
    folder = tmp_path_factory.mktemp("clips")

    def make(name: str) -> Path:
        path = folder / name
        if not path.exists():
            CLIPS[name](path)
        return path

    return make


@pytest.fixture(scope="session")
def shared_videos() -> Path:
    """Folder of real test clips, which are not part of the repository."""
    folder = Path(__file__).resolve().parents[1] / ".." / "shared" / "videos"
    if not folder.is_dir():
        pytest.skip("the folder of real clips is not there")
    return folder


@pytest.fixture(scope="session")
def dead_mark() -> str:
    """The mark of a process of this machine that was."""
    code = "from emobeam.emo_transforms.storage.leftovers import owner_mark; print(owner_mark())"
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
