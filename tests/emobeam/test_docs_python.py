"""Every command and every line of Python in docs/python.md and docs/export.md runs as it stands there."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.clips import portrait
from tests.pipelines.conftest import Run
from tests.pipelines.runs import emobeam

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"```(python|bash)\n(.*?)```", re.DOTALL)


def script(page: str) -> str:
    """The blocks of a page as one program: commands run where they stand."""
    parts = []
    for language, text in BLOCK.findall((DOCS / page).read_text(encoding="utf-8")):
        if language == "bash":
            commands = [shlex.split(line) for line in text.replace("\\\n", " ").splitlines() if line.strip()]
            assert all(command[0] == "emobeam" for command in commands)
            text = "import subprocess\n"
            text += "".join(f"subprocess.run({emobeam(*command[1:])}, check=True)\n" for command in commands)
        parts.append(text)
    return "\n".join(parts)


def run(page: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs a page from standard input, as a prompt or a notebook would: there is no file to import again."""
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(folder / "home")}
    return subprocess.run(
        [sys.executable, "-"],
        input=script(page),
        cwd=folder,
        env={**os.environ, **offline, "PYTHONPATH": str(DOCS.parent)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip with a face: a real one where there are some."""
    path = tmp_path_factory.mktemp("clip") / "talk.mp4"
    real = DOCS.parents[1] / "shared" / "videos" / "faces" / "single_face.mp4"
    if real.exists():
        shutil.copy(real, path)
    else:
        portrait(path, frames=72)
    return path


@pytest.mark.thorough
def test_the_python_page_runs(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    shutil.copy(clip, tmp_path / "videos")
    labels = tmp_path / "labels" / "VA_Estimation_Challenge" / "Validation_Set"
    labels.mkdir(parents=True)
    traces = np.random.default_rng(0).uniform(-1, 1, (72, 2))
    rows = [f"{valence:.3f},{arousal:.3f}" for valence, arousal in traces]
    (labels / "talk.txt").write_text("\n".join(["valence,arousal", *rows]) + "\n")
    done = run("python.md", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "<Annotated 'out/'; 1 ok" in done.stdout
    assert "detector: 'best' is not one of 'exact', 'track', 'facenet'" in done.stdout
    assert "<Score va, ABAW8: mean CCC" in done.stdout
    assert "128, 4, 4]) torch.float16" in done.stdout
    assert "apitools" not in done.stderr
    assert (tmp_path / "out" / "metrics.json").exists()


@pytest.mark.thorough
def test_the_export_page_runs(reference: Run, tmp_path: Path) -> None:
    shutil.copytree(reference.output / "predictions", tmp_path / "out" / "predictions")
    shutil.copy(reference.output / "run.json", tmp_path / "out")
    done = run("export.md", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    for text in ("AU26_p", "AU12_face0", "Value('float32')"):
        assert text in done.stdout
