"""The Python in the README runs as it stands there, on what a real run wrote."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.pipelines.conftest import Run

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_the_readme_has_examples() -> None:
    assert len(BLOCKS) >= 3


@pytest.mark.parametrize("index", range(len(BLOCKS)))
def test_an_example_runs(
    index: int, reference: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "demo-out").symlink_to(reference.output)
    monkeypatch.chdir(tmp_path)
    exec(compile(BLOCKS[index], f"README block {index}", "exec"), {"__name__": "readme"})
    assert capsys.readouterr().out.strip()
