from __future__ import annotations

import io
import json
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner
from PIL import Image

from emobeam.pipelines.commands.material import render
from emobeam.schemas.records import UsageError
from tests.emo_transforms.training.material.rendering.faces import write_ball


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ball(tmp_path_factory.mktemp("model") / "ball.npz")


def call(*args: object) -> dict[str, object]:
    result = CliRunner().invoke(render, [*map(str, args), "--json"], catch_exceptions=False)
    assert result.exit_code == 0
    data: dict[str, object] = json.loads(result.stdout)
    return data


@pytest.mark.thorough
def test_people_are_made_once_and_the_same_by_any_number_of_workers(model: Path, tmp_path: Path) -> None:
    options = ("--pictures", 3, "--size", 48)
    done = call(model, "--output", tmp_path / "a", "--people", 2, "--workers", 1, *options)
    assert (done["people"], done["crops"]) == (2, 6)
    assert done["base_rates"]["AU23"] is None  # type: ignore[index]
    stamps = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "a" / "people").iterdir()}
    call(model, "--output", tmp_path / "a", "--people", 3, "--workers", 1, *options)
    assert {
        path.name: path.stat().st_mtime_ns for path in (tmp_path / "a" / "people").iterdir()
    }.items() >= stamps.items()
    call(model, "--output", tmp_path / "b", "--people", 2, "--first", 1, "--workers", 2, *options)
    for name in ("people/000001.parquet", "people/000002.parquet"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    table = pl.read_parquet(tmp_path / "a" / name)
    assert table["AU23"].null_count() == 3
    assert table["time"].null_count() == 3
    assert table["AU12"].is_between(0, 1).all()
    assert Image.open(io.BytesIO(table["crop"][0])).size == (48, 48)


def test_other_settings_need_another_folder(model: Path, tmp_path: Path) -> None:
    call(model, "--output", tmp_path, "--people", 1, "--pictures", 1, "--size", 48)
    with pytest.raises(UsageError, match="other settings \\(size\\)"):
        call(model, "--output", tmp_path, "--people", 1, "--pictures", 1, "--size", 64)


def test_pictures_or_clips(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--pictures and --clips"):
        call(model, "--output", tmp_path, "--clips", 1)
    call(model, "--output", tmp_path, "--people", 1, "--pictures", 0, "--clips", 1, "--seconds", 0.5, "--size", 32)
    table = pl.read_parquet(tmp_path / "people" / "000000.parquet")
    assert table["time"].to_list() == pytest.approx([0, 1 / 6, 2 / 6])
