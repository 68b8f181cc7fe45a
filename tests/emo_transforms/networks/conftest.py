"""The file that a pickle leaves behind where it could run something."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.emo_transforms.networks.checkpoints.malicious import MARK


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(MARK, str(tmp_path / "mark"))
    return tmp_path / "mark"
