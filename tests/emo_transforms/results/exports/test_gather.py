"""Tasks side by side are exactly the tables that were written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from emobeam.emo_transforms.prediction.prediction_tables import part_uri
from emobeam.emo_transforms.results.exports.gather import (
    clip_rows,
    columns_of,
    frame_rows,
    frame_schema,
    open_output,
    thresholds_of,
)
from emobeam.schemas.records import EmobeamError, UsageError
from emobeam.schemas.tasks import task_named
from tests.emo_transforms.results.exports.made import FRAMES, clip_table, frame_table, put, write_run


def test_what_is_found(output: Path) -> None:
    found = open_output(str(output))
    assert found.videos == ("day 1/pair", "sides", "talk")
    assert {task.name for task in found.frame_tasks} == {"va", "expr", "au"}
    assert [task.name for task in found.clip_tasks] == ["emi"]
    assert open_output(str(output), tasks=["au"], only=["pair"]).videos == ("day 1/pair",)


@pytest.mark.parametrize("task", ["au", "va", "expr"])
def test_every_value_stands_where_it_stood(output: Path, task: str) -> None:
    wide = frame_rows(open_output(str(output)), "day 1/pair")
    assert len(wide) == 2 * FRAMES
    for row in pq.read_table(part_uri(str(output), task, "day 1/pair")).to_pylist():
        mine = wide[(wide.subject == row["subject"]) & (wide.face == row["face"]) & (wide.frame == row["frame"])]
        assert len(mine) == 1
        assert mine.iloc[0][f"{task}_source"] == row["source"]
        assert mine.iloc[0]["time"] == row["time"]
        for name in task_named(task).outputs:
            value = mine.iloc[0][name]
            assert np.isnan(value) if row[name] is None else value == np.float32(row[name])


def test_a_task_that_lacks_the_video_leaves_its_columns_empty(output: Path) -> None:
    wide = frame_rows(open_output(str(output)), "sides")
    assert wide["valence"].isna().all()
    assert wide["va_source"].isna().all()
    assert wide["AU12"].notna().sum() == 2 * (FRAMES - 20)
    assert list(wide.columns) == frame_schema(open_output(str(output)).frame_tasks).names


def test_faces_that_only_one_task_knows_are_kept(tmp_path: Path) -> None:
    put(tmp_path, "au", "clip", frame_table("au", "clip", (("", 0), ("", 1))))
    put(tmp_path, "va", "clip", frame_table("va", "clip"))
    wide = frame_rows(open_output(str(tmp_path)), "clip")
    assert len(wide) == 2 * FRAMES
    assert wide[wide.face == 1]["valence"].isna().all()
    assert wide["time"].notna().all()


def test_sampled_rows_are_those_with_a_face_in_that_frame(output: Path) -> None:
    sampled = frame_rows(open_output(str(output)), "talk", "sampled")
    assert (sampled["au_source"] == "sampled").all()
    assert sampled["frame"].tolist() == [f for f in range(1, FRAMES + 1, 5) if not 37 <= f <= 62]


def test_outputs_of_two_tasks_do_not_meet(tmp_path: Path) -> None:
    put(tmp_path, "au", "clip", frame_table("au", "clip"))
    put(tmp_path, "mtl", "clip", frame_table("mtl", "clip"))
    found = open_output(str(tmp_path))
    wide = frame_rows(found, "clip")
    assert {"au.AU12", "mtl.AU12", "valence"} <= set(wide.columns)
    assert "AU12" not in wide.columns
    assert columns_of([task_named("au")])["au"]["AU12"] == "AU12"


def test_clips(output: Path) -> None:
    clips = clip_rows(open_output(str(output)))
    assert clips["video"].tolist() == ["day 1/pair", "talk"]
    assert clips["Empathic Pain"].tolist() == [np.float32(0.4)] * 2


def test_thresholds_are_the_heads_own(output: Path) -> None:
    run = open_output(str(output)).run
    assert thresholds_of(run, task_named("au"))["AU1"] == np.float32(0.3)
    assert thresholds_of(run, task_named("au"))["AU26"] == np.float32(0.6)
    assert thresholds_of(run, task_named("ah")) == {"AH": 0.5}
    assert thresholds_of(run, task_named("expr")) == {}


def test_the_first_head_with_thresholds_decides() -> None:
    run = {"heads": {"au": [{"name": "a", "thresholds": []}, {"name": "b", "thresholds": [0.7] * 12}]}}
    assert set(thresholds_of(run, task_named("au")).values()) == {float(np.float32(0.7))}


def test_untrained_tables_are_known_by_themselves(tmp_path: Path) -> None:
    for task, weights in (("au", "untrained"), ("va", "mine")):
        put(tmp_path, task, "talk", frame_table(task, "talk"), weights=weights)
    # The last run was about va alone, and about its tables.
    write_run(tmp_path, warnings=["task expr: untrained", "slow disk"])
    found = open_output(str(tmp_path))
    assert found.untrained == ("au",)
    assert found.warnings == ("slow disk", "task au: untrained")
    assert open_output(str(tmp_path), tasks=["va"]).warnings == ("slow disk",)
    write_run(tmp_path, heads={})
    (unknown,) = [text for text in open_output(str(tmp_path)).warnings if "0.5 is used" in text]
    assert "task au" in unknown


def test_a_damaged_table_costs_its_own_video(tmp_path: Path) -> None:
    for task in ("au", "va"):
        for video in ("talk", "walk"):
            put(tmp_path, task, video, frame_table(task, video))
    part = next((tmp_path / "predictions/au").glob("talk*"))
    part.write_bytes(part.read_bytes()[:1000])
    with pytest.raises(EmobeamError, match="emobeam predict"):
        open_output(str(tmp_path))
    found = open_output(str(tmp_path), tolerant=True)
    assert found.videos == ("walk",)
    assert list(found.failed) == ["talk"]
    assert open_output(str(tmp_path), only=["walk"]).failed == {}
    with pytest.raises(EmobeamError, match="emobeam predict"):
        open_output(str(tmp_path), only=["talk"], tolerant=True)


def test_clips_that_cannot_be_read(tmp_path: Path) -> None:
    for video in ("talk", "walk"):
        put(tmp_path, "emi", video, clip_table("emi", video).append_column("face", [[0]]))
    part = next((tmp_path / "predictions/emi").glob("talk*"))
    data = bytearray(part.read_bytes())
    data[4:60] = bytes(56)
    part.write_bytes(data)
    failed: dict[str, str] = {}
    assert clip_rows(open_output(str(tmp_path)), failed)["video"].tolist() == ["walk"]
    assert list(failed) == ["talk"]


def test_mistakes_are_named(output: Path, tmp_path: Path) -> None:
    with pytest.raises(EmobeamError, match="no predictions of task ah"):
        open_output(str(output), tasks=["ah"])
    with pytest.raises(EmobeamError, match="holds no predictions"):
        open_output(str(tmp_path))
    with pytest.raises(UsageError, match="no predictions of nobody"):
        open_output(str(output), only=["nobody"])
    with pytest.raises(UsageError, match="unknown task"):
        open_output(str(output), tasks=["xx"])
