"""What a command loads: the launcher of every command, on real files, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipelines.conftest import Run

pytest.importorskip("openvino", reason="without OpenVINO networks run on torch")

TORCH = {"torch", "torchvision", "timm"}
HEAVY = TORCH | {"apache_beam", "pandas", "numba", "openvino", "cv2", "av", "decord", "scipy", "matplotlib", "gcsfs"}

PROGRAM = """
import atexit, sys
from emobeam.pipelines.cli import main
atexit.register(lambda: print("loaded", *sorted({name.split(".")[0] for name in sys.modules}), file=sys.stderr))
main()
"""

EXTRACT = ["--segment-seconds", "1", "--backbone-weights", "untrained", "--quiet"]


def loaded_by(*command: object) -> set[str]:
    arguments = [sys.executable, "-c", PROGRAM, *map(str, command)]
    done = subprocess.run(arguments, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    word, *names = done.stderr.splitlines()[-1].split()
    assert word == "loaded", done.stderr
    return set(names)


def test_with_nothing_left_to_do(reference: Run) -> None:
    """No Beam, no networks, no decoder: what is there is looked at, and that is all."""
    assert loaded_by("extract", reference.inputs, "--output", reference.features, *EXTRACT) & HEAVY == set()
    predict = ["--head", "untrained", "--edition", "8", "--quiet"]
    assert loaded_by("predict", reference.features, "--output", reference.output, *predict) & HEAVY == set()


def test_with_work(reference: Run, tmp_path: Path) -> None:
    loaded = loaded_by("annotate", reference.inputs / "talk.mp4", "--output", tmp_path, "--head", "untrained", *EXTRACT)
    assert "apache_beam" in loaded
    assert not loaded & (TORCH | {"numba", "openvino", "cv2", "av", "scipy"})


@pytest.mark.parametrize("command", ["plan", "inspect", "report", "export", "events", "overlay", "models list"])
def test_commands_that_run_no_network(command: str, reference: Run, tmp_path: Path) -> None:
    given: dict[str, list[object]] = {
        "plan": [reference.inputs],
        "inspect": [reference.features],
        "report": [reference.output, "--output", tmp_path / "report.html"],
        "export": [reference.output, "--format", "csv", "--output", tmp_path / "tables"],
        "events": [reference.output, "--output", tmp_path / "events.csv"],
        "overlay": [reference.inputs / "talk.mp4", reference.output, "--output", tmp_path / "seen.mp4"],
        "models list": [],
    }
    assert not loaded_by(*command.split(), *given[command]) & TORCH
