"""The listing of an output folder: what is there, what can't be used, and that one file costs only itself."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.prediction.prediction_tables import (
    list_parts,
    part_name,
    predicted_tasks,
    read_part_footer,
    write_part,
)
from emobeam.emo_transforms.storage.parquet_files import read_parquet
from emobeam.schemas.records import EmobeamError, UsageError
from tests.emo_transforms.results.exports.made import clip_table, frame_table, put
from tests.emo_transforms.results.studies.outputs import Face, write_output


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Three tasks, of which one is about clips; ``walk`` has no table of va."""
    for task, videos in (("au", ("talk", "day 1/walk")), ("va", ("talk",))):
        for video in videos:
            put(tmp_path, task, video, frame_table(task, video), weights="untrained" if task == "va" else "mine")
    put(tmp_path, "emi", "talk", clip_table("emi", "talk").append_column("face", [[0]]))
    return tmp_path


def test_all_tasks_and_videos(output: Path) -> None:
    assert set(predicted_tasks(str(output))) == {"va", "au", "emi"}
    told: list[tuple[int, int]] = []
    found = list_parts(str(output), progress=lambda done, total: told.append((done, total)))
    assert set(found.tasks) == {"au", "va", "emi"}
    assert found.videos == ("day 1/walk", "talk")
    assert list(found.parts["au"]) == ["day 1/walk", "talk"]
    assert found.parts["va"]["talk"].untrained
    assert not found.parts["au"]["talk"].untrained
    assert found.parts["au"]["talk"].footer["rows"] == 90
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert list_parts(str(output), ["va"]).tasks == ("va",)
    assert list_parts(str(output), ["ah"]).parts == {}


def test_what_is_damaged_is_named_by_its_video(output: Path) -> None:
    folder = output / "predictions/au"
    whole = (folder / part_name("talk")).read_bytes()
    (folder / part_name("talk")).write_bytes(whole[:500])
    (folder / part_name("day 1/walk")).write_bytes(b"")
    (folder / "notes.parquet").write_text("mine")
    shutil.copy(output / "predictions/va" / part_name("talk"), folder / "elsewhere.parquet")
    found = list_parts(str(output))
    assert set(found.parts) == {"va", "emi"}
    assert "au" in found.tasks
    # Nothing but the table tells what day 1/walk is called.
    assert set(found.failed) == {"talk", part_name("day 1/walk").removesuffix(".parquet"), "notes", "elsewhere"}
    assert "emobeam predict" in found.failed["talk"]
    assert "task va in the folder of au" in found.failed["elsewhere"]


@pytest.mark.parametrize("wrong", [{"subjects": 5}, {"heads": {}}, {"settings": []}, {"faces": "all"}, {"task": None}])
def test_a_footer_of_wrong_types_costs_its_own_table(output: Path, wrong: dict[str, object]) -> None:
    part = output / "predictions/au" / part_name("talk")
    footer = read_part_footer(str(part))
    write_part(str(part), read_parquet(str(part)), {**footer, **wrong})
    found = list_parts(str(output))
    assert list(found.failed) == ["talk"]
    assert list(found.parts["au"]) == ["day 1/walk"]


def test_other_tables_tell_what_a_damaged_one_was_about(tmp_path: Path) -> None:
    write_output(tmp_path, {"day 1/walk": (np.arange(4.0), [Face({"AU1": [0.1] * 4})])})
    (tmp_path / "predictions/au" / part_name("day 1/walk")).write_bytes(b"PAR1")
    assert list(list_parts(str(tmp_path)).failed) == ["day 1/walk"]


def test_of_two_files_of_a_video_the_one_with_its_name_counts(output: Path) -> None:
    folder = output / "predictions/au"
    for name in ("a.parquet", "zzz.parquet"):
        shutil.copy(folder / part_name("talk"), folder / name)
    assert list_parts(str(output)).parts["au"]["talk"].uri.endswith(part_name("talk"))


def test_far_away(output: Path) -> None:
    place = "memory://far/out"
    for path in output.rglob("*.parquet"):
        storage.write_bytes(storage.join(place, path.relative_to(output).as_posix()), path.read_bytes())
    near, far = list_parts(str(output)), list_parts(place)
    assert {task: list(own) for task, own in near.parts.items()} == {task: list(own) for task, own in far.parts.items()}
    storage.write_bytes(storage.join(place, "predictions/au", part_name("talk")), b"cut")
    assert list(list_parts(place).failed) == ["talk"]


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(EmobeamError, match="no such folder"):
        list_parts(str(tmp_path / "none"))
    with pytest.raises(UsageError, match="unknown task"):
        list_parts(str(tmp_path), ["xx"])
    assert list_parts(str(tmp_path)).tasks == ()
