from __future__ import annotations

import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from PIL import Image

from emobeam.pipelines.commands.material import pseudo_label
from emobeam.pipelines.training.people_files import crops_schema
from emobeam.runners.children.pool import LocalPool
from emobeam.schemas.records import EmobeamError, UsageError
from tests.clips import astronaut, nobody, portrait
from tests.emo_transforms.training.material.labelling.material import face_model_file, teacher_file
from tests.pipelines.runs import ONE_SECOND, extract


def call(*args: object, code: int = 0) -> dict[str, object]:
    result = CliRunner().invoke(pseudo_label, [*map(str, args), "--workers", "1", "--json"], catch_exceptions=False)
    assert result.exit_code == code, result.output
    data: dict[str, object] = json.loads(result.stdout)
    return data


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("album")
    astronaut().save(folder / "01_a.png")
    astronaut().transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "01_b.png")
    Image.fromarray(nobody(0)).save(folder / "02_a.png")
    return folder


def test_photographs_become_a_people_folder_once(album: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    args = (album, "--teacher", teacher_file(), "--person", r"(\d+)_", "--output", out, "--size", 96)
    done = call(*args, "--only", "01")
    assert (done["people"], done["crops"], done["pictures"], done["no_face"]) == (1, 2, 2, 0)
    assert done["mean"]["AU23"] is None  # type: ignore[index]
    file = out / "people" / "01.parquet"
    stamp = file.stat().st_mtime_ns
    done = call(*args)
    assert (done["people"], done["without"], done["no_face"]) == (1, 1, 1)
    assert file.stat().st_mtime_ns == stamp
    assert json.loads((out / "without" / "02.json").read_text())["person"] == "02"
    table = pq.ParquetFile(file).read()
    assert table.schema.equals(crops_schema())
    assert table["person"].to_pylist() == [1, 1]
    assert table["frame"].to_pylist() == [1, 2]
    assert table["time"].null_count == 2
    assert Image.open(io.BytesIO(table["crop"][0].as_py())).size == (96, 96)
    assert min(table["AU12"].to_pylist()) > 0.5
    # A mirrored face turns the other way and shows the same.
    yaws = table["yaw"].to_pylist()
    assert yaws[0] == pytest.approx(-yaws[1], abs=4)
    assert table["AU25"].to_pylist()[0] == pytest.approx(table["AU25"].to_pylist()[1], abs=0.15)
    note = json.loads((out / "pseudo-label.json").read_text())
    assert set(note) == {"settings", "digest", "result"}
    assert len(note["settings"]["teacher_sha256"]) == 64
    with pytest.raises(UsageError, match="labels of other settings \\(size\\)"):
        call(*args[:-1], 64)


def test_unreadable_pictures_are_told_of_and_cost_only_themselves(album: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "1_a.png").write_bytes((album / "01_a.png").read_bytes())
    (folder / "1_b.png").write_bytes(b"\x89PNG broken")
    done = call(folder, "--teacher", teacher_file(), "--person", r"(\d)", "--output", tmp_path / "out", code=1)
    assert done["crops"] == 1
    assert "1_b.png" in done["unreadable"][0]  # type: ignore[index]


def test_clips_follow_the_photographs(album: Path, tmp_path: Path) -> None:
    teacher, model = teacher_file(), face_model_file()
    common = (album / "01_a.png", "--teacher", teacher, "--person", r"(\d+)_", "--size", 64)
    clips = ("--clips", 2, "--seconds", 0.5, "--model", model)
    call(*common, *clips, "--output", tmp_path / "a")
    call(*common, *clips, "--output", tmp_path / "b")
    table = pq.ParquetFile(tmp_path / "a" / "people" / "01.parquet").read()
    assert table["clip"].to_pylist() == [0, 1, 1, 1, 2, 2, 2]
    assert table["frame"].to_pylist() == [1, 1, 2, 3, 1, 2, 3]
    assert table["time"].to_pylist() == [None, *(pytest.approx(n / 6) for n in (0, 1, 2, 0, 1, 2))]
    crops = [np.asarray(Image.open(io.BytesIO(data.as_py()))) for data in table["crop"]]
    assert any((one != two).any() for one, two in zip(crops[1:4], crops[4:], strict=True))
    assert table.equals(pq.ParquetFile(tmp_path / "b" / "people" / "01.parquet").read())


def test_a_cache_becomes_one_clip_per_track(pool: LocalPool, tmp_path: Path) -> None:
    teacher = teacher_file()
    extract(
        [portrait(tmp_path / "talk.mp4", frames=38)],
        tmp_path / "cache",
        pool,
        config=replace(ONE_SECOND, store=("crops",)),
    )
    done = call(tmp_path / "cache", "--teacher", teacher, "--output", tmp_path / "out")
    table = pq.ParquetFile(tmp_path / "out" / "people" / "talk.parquet").read()
    assert done["crops"] == done["pictures"] == len(table) >= 8
    assert sorted(set(table["clip"].to_pylist())) == [0, 1]  # two segments of a second
    times, clips = table["time"].to_numpy(), table["clip"].to_numpy()
    assert (np.diff(times) > 0).all()
    assert (times[clips == 1] >= 1).all()
    assert np.nanmedian(table["AU12"].to_numpy()) > 0.4
    assert table["frame"].to_pylist()[0] == 1
    with pytest.raises(UsageError, match="holds clips already"):
        call(tmp_path / "cache", "--teacher", teacher, "--output", tmp_path / "c", "--clips", 1, "--model", "x.npz")


def test_people_need_numbers_of_their_own(album: Path, tmp_path: Path) -> None:
    astronaut().save(tmp_path / "1_a.png")
    (tmp_path / "01_a.png").write_bytes((tmp_path / "1_a.png").read_bytes())
    with pytest.raises(UsageError, match="'01' and '1' have one number, 1"):
        call(tmp_path, "--teacher", "any", "--person", r"(\d+)_", "--output", tmp_path / "out")


def test_what_is_missing_is_said_before_anything_is_done(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"--model ict_light\.npz"):
        call(album, "--teacher", "any", "--output", tmp_path / "out", "--clips", 1)
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    with pytest.raises(EmobeamError, match="pip install --no-deps 'mediapipe"):
        call(album, "--teacher", "any", "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_folders_of_renders_are_left_alone(album: Path, tmp_path: Path) -> None:
    (tmp_path / "render.json").write_text("{}")
    with pytest.raises(UsageError, match="holds renders"):
        call(album, "--teacher", teacher_file(), "--output", tmp_path)
