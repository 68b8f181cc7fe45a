"""Tasks side by side are exactly the tables that were written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from emo_transforms.exports.gather import (
    clip_rows,
    columns_of,
    frame_rows,
    frame_schema,
    open_output,
    thresholds_of,
)
from emo_transforms.parts import part_uri
from schemas.records import EmobeamError, UsageError
from schemas.tasks import task_named
from tests.emo_transforms.exports.made import FRAMES, frame_table, put


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


def test_mistakes_are_named(output: Path, tmp_path: Path) -> None:
    with pytest.raises(EmobeamError, match="no predictions of task ah"):
        open_output(str(output), tasks=["ah"])
    with pytest.raises(EmobeamError, match="holds no predictions"):
        open_output(str(tmp_path))
    with pytest.raises(UsageError, match="no predictions of nobody"):
        open_output(str(output), only=["nobody"])
    with pytest.raises(UsageError, match="unknown task"):
        open_output(str(output), tasks=["xx"])
