"""Labels joined with rows, and the windows cut from them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobeam.emo_transforms.abaw.labels.reading import VideoLabels, read_labels
from emobeam.emo_transforms.cache.dataset import open_dataset
from emobeam.emo_transforms.cache.shards import ShardWriter, maps_of, read_rows
from emobeam.emo_transforms.prediction.windows import Row, windows_of
from emobeam.emo_transforms.training.heads.loader import LoadConfig, Resident, Streamed
from emobeam.emo_transforms.training.heads.row_groups import gathered, read_unit, source_of
from emobeam.emo_transforms.training.heads.samples import Joined, join_labels, label_counts, labels_at
from emobeam.emo_transforms.training.heads.window_plans import Plan, cut_windows, evaluation_plan, training_plan
from emobeam.schemas.records import EmobeamError
from emobeam.schemas.tables import feature_schema
from emobeam.schemas.tasks import TASKS
from tests.emo_transforms.training.data import FPS, SHAPES, STEP, Clip, dataset, make_data, write_clip, write_labels

VA = TASKS["va"]


def joined_of(folder: Path, clips: list[Clip], task: str = "va") -> tuple[Joined, Path, Path]:
    features, labels = make_data(folder, task, clips)
    entries = list(read_labels(str(labels), TASKS[task], warn=pytest.fail))
    return join_labels(str(features), dataset(), TASKS[task], entries), features, labels


def test_rows_get_the_labels_of_their_frames(tmp_path: Path) -> None:
    clips = [Clip("a", 30, seed=1, gaps=(3, 4)), Clip("b", 20, seed=2, segments=3, invalid=(0, 7))]
    joined, _, _ = joined_of(tmp_path, clips)
    for face, clip in zip(joined.faces, clips, strict=True):
        seen = [row for row in range(clip.rows) if row not in clip.gaps]
        assert face.frame.tolist() == [row * STEP + 1 for row in seen]
        np.testing.assert_allclose(face.time, [row * STEP / FPS for row in seen])
        bad = np.isin(seen, clip.invalid)
        assert face.valid[:, 0].tolist() == (~bad).tolist()
        np.testing.assert_allclose(face.labels[~bad], clip.labels(VA)[::STEP][seen][~bad], atol=1e-6)
    counts = joined.counts
    assert (counts.labelled, counts.not_in_cache, counts.rows, counts.rows_without_label) == (2, 0, 48, 2)
    assert joined.faces[1].shard.tolist() == sorted(joined.faces[1].shard.tolist())
    assert set(joined.faces[1].shard.tolist()) == {0, 1, 2}


def test_sides_and_missing_videos(tmp_path: Path) -> None:
    features, labels = make_data(tmp_path, "va", [Clip("a", 10), Clip("empty", 10, gaps=tuple(range(10)))])
    write_labels(labels, Clip("gone", 10), VA)
    write_labels(labels, Clip("a", 10), VA, name="a_left")
    entries = list(read_labels(str(labels), VA, warn=pytest.fail))
    joined = join_labels(str(features), dataset(), VA, entries)
    assert [(face.name, face.video, face.subject) for face in joined.faces] == [("a", "a", ""), ("a_left", "a", "left")]
    assert len(joined.faces[1]) == 10, "the only face is in the left half"
    counts = joined.counts
    assert (counts.labelled, counts.not_in_cache, counts.without_rows, counts.missing) == (4, 1, 1, ("gone",))
    assert len(counts.lines()) == 3
    with pytest.raises(EmobeamError, match="none of the 1 labelled"):
        join_labels(str(features), dataset(), VA, [entry for entry in entries if entry.name == "gone"])


def test_the_digest_hangs_on_labels_and_rows(tmp_path: Path) -> None:
    features, labels = make_data(tmp_path, "va", [Clip("a", 10), Clip("b", 10, seed=1)])

    def digest() -> str:
        return join_labels(str(features), dataset(), VA, list(read_labels(str(labels), VA, warn=pytest.fail))).digest

    before = digest()
    assert digest() == before
    path = labels / "VA_Estimation_Challenge" / "Train_Set" / "a.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], "0.123,0.5", *lines[2:]]) + "\n")
    assert digest() != before


def test_frames_without_a_label_are_not_valid() -> None:
    labels = VideoLabels("a", np.array([2, 4], np.int32), np.array([[1.0], [2.0]], np.float32), np.ones((2, 1), bool))
    values, valid = labels_at(labels, np.array([1, 2, 3, 4, 9], np.int32))
    assert valid[:, 0].tolist() == [False, True, False, True, False]
    assert values[[1, 3], 0].tolist() == [1.0, 2.0]


@given(
    steps=st.lists(st.sampled_from([1, 1, 1, 2, 4]), min_size=1, max_size=40),
    length=st.integers(1, 9),
    stride=st.integers(0, 9),
)
def test_windows_are_those_of_stage_2(steps: list[int], length: int, stride: int) -> None:
    stride = min(stride, length)
    frames = np.cumsum(steps)
    times = frames / 6
    rows = [Row(0, int(frame), float(time), {}) for frame, time in zip(frames, times, strict=True)]
    expected = list(windows_of(rows, length, stride, 0.5))
    windows, lengths = cut_windows(times, length, stride, 0.5)
    assert [tuple(frames[w[:n]].tolist()) for w, n in zip(windows, lengths, strict=True)] == [
        w.frames for w in expected
    ]
    for window, real in zip(windows, lengths, strict=True):
        assert (window[real:] == window[real - 1]).all(), "the last row is repeated"


@given(
    keep=st.lists(st.booleans(), min_size=1, max_size=60),
    length=st.integers(1, 8),
    breaks=st.sets(st.integers(0, 60), max_size=5),
)
def test_kept_rows_are_each_in_one_window(keep: list[bool], length: int, breaks: set[int]) -> None:
    times = np.arange(len(keep)) / 6
    windows, lengths = cut_windows(times, length, 0, 0.5, keep=np.array(keep), breaks=sorted(breaks))
    real = [row for w, n in zip(windows, lengths, strict=True) for row in w[:n].tolist()]
    assert real == np.flatnonzero(keep).tolist()
    for window, count in zip(windows, lengths, strict=True):
        inside = times[window[:count]]
        assert (np.diff(inside) <= 0.5 + 1e-6).all(), "never across a gap"
        assert not any(window[0] < edge <= window[count - 1] for edge in breaks)


def windows_read(plan: Plan, features: Path, view: int = 0) -> dict[int, list[np.ndarray]]:
    """Maps s16 of every window, by face, as read from the shards."""
    source = source_of(str(features), dataset(), ("s16",))
    found: dict[int, list[np.ndarray]] = {}
    for unit in plan.units:
        windows = gathered(unit, read_unit(source, unit), unit.windows, view)["s16"]
        found.setdefault(unit.face, []).extend(windows.numpy())
    return found


@pytest.mark.parametrize("segments", [1, 3])
def test_plans_read_the_rows_they_mean(tmp_path: Path, segments: int) -> None:
    """300 rows: row groups of 128, windows across groups and shards."""
    joined, features, _ = joined_of(tmp_path, [Clip("a", 300, seed=1, segments=segments, gaps=(5, 200))])
    face = joined.faces[0]
    every = [
        maps_of(table, "s16")
        for shard in face.shards
        for table in read_rows(str(features / "shards" / f"{shard}.parquet"))
    ]
    rows = np.concatenate(every)
    assert len(rows) == 298
    exact = evaluation_plan(joined, "frame", [0], length=8, gap=0.3)
    windows, _ = cut_windows(face.time, 8, 0, 0.3)
    np.testing.assert_array_equal(np.stack(windows_read(exact, features)[0]), rows[windows])
    learn = training_plan(joined, "frame", [0], length=8, stride=0, gap=0.3, drop_invalid=True)
    assert len(learn.units) > 1
    for unit in learn.units:
        assert sum(len(groups) for _, groups in unit.pieces) <= 2
    seen = sorted(p for unit in learn.units for p in unit.positions.tolist())
    assert seen == list(range(298)), "every row is read once"
    read_groups = [(shard, group) for unit in learn.units for shard, groups in unit.pieces for group in groups]
    if segments == 1:
        assert len(set(read_groups)) == len(read_groups)
    read = windows_read(learn, features)[0]
    meant = [unit.positions[w] for unit in learn.units for w in unit.windows]
    np.testing.assert_array_equal(np.stack(read), rows[np.stack(meant)])


def test_windows_without_labels_are_left_out_and_rows_masked_or_dropped(tmp_path: Path) -> None:
    clip = Clip("a", 40, seed=1, invalid=(2, *range(16, 26)))
    joined, _, _ = joined_of(tmp_path, [clip])

    def rows(*, drop: bool) -> list[list[int]]:
        plan = training_plan(joined, "frame", [0], length=8, stride=0, gap=0.5, drop_invalid=drop)
        return [
            unit.positions[w[:n]].tolist()
            for unit in plan.units
            for w, n in zip(unit.windows, unit.lengths, strict=True)
        ]

    kept = rows(drop=False)
    assert kept == [list(range(8)), list(range(8, 16)), list(range(24, 32)), list(range(32, 40))]
    dropped = rows(drop=True)
    assert dropped[0] == [0, 1, 3, 4, 5, 6, 7, 8]
    assert dropped[1] == list(range(9, 16)), "ten rows without labels are a gap of 1.8 s"
    assert dropped[2] == list(range(26, 34))


def test_counts_of_labels(tmp_path: Path) -> None:
    clips = [Clip("a", 20, seed=1, invalid=(3,)), Clip("b", 20, seed=2)]
    joined, _, _ = joined_of(tmp_path, clips, "expr")
    counts = label_counts(TASKS["expr"], joined.faces)["expression"][0]
    one = np.delete(clips[0].labels(TASKS["expr"])[::STEP, 0], 3)
    both = np.concatenate([one, clips[1].labels(TASKS["expr"])[::STEP, 0]])
    assert counts == [int((both == number).sum()) for number in range(8)]
    joined, _, _ = joined_of(tmp_path / "au", clips, "au")
    au = label_counts(TASKS["au"], joined.faces)["au"]
    truth = np.concatenate([face.labels[face.valid[:, 0]] for face in joined.faces])
    assert au == [[int((column == 0).sum()), int((column == 1).sum())] for column in truth.T]


def test_clips_are_one_sample_each(tmp_path: Path) -> None:
    features, _ = make_data(tmp_path, "va", [Clip("00001", 30), Clip("00002", 12, seed=1)])
    emi = TASKS["emi"]
    labels = [
        VideoLabels(name, np.ones(1, np.int32), np.full((1, 6), 0.5, np.float32), np.ones((1, 1), bool))
        for name in ("00001", "00002")
    ]
    joined = join_labels(str(features), dataset(), emi, labels)
    plan = training_plan(joined, "clip", [0, 1], length=8, stride=0, gap=0.5, drop_invalid=True)
    assert plan.samples == 2
    assert [unit.lengths.tolist() for unit in plan.units] == [[8, 8, 8, 6], [8, 4]]


def test_views_of_a_row_are_found_wherever_they_lie(tmp_path: Path) -> None:
    """Three views of each row, those of a row side by side; view v of a map is the map plus v."""
    task, made = VA, dataset()
    clip = Clip("a", 100, seed=1)
    features = tmp_path / "features"
    open_dataset(str(features), made)
    with patch("tests.emo_transforms.training.data.ShardWriter", _ThreeViews):
        write_clip(features, clip, task, made)
    write_labels(tmp_path / "labels", clip, task)
    joined = join_labels(str(features), made, task, list(read_labels(str(tmp_path / "labels"), task, warn=pytest.fail)))
    assert joined.views == 3
    assert len(joined.faces[0]) == 100
    plan = training_plan(joined, "frame", [0], length=8, stride=0, gap=0.5, drop_invalid=True)
    plain, second = (windows_read(plan, features, view)[0] for view in (0, 2))
    np.testing.assert_allclose(np.stack(second).astype(float), np.stack(plain).astype(float) + 2, atol=2e-2)
    source = source_of(str(features), made, ("s16",))
    for loader in (
        Streamed(source, plan, LoadConfig(batch=4, views=True)),
        Resident(source, plan, LoadConfig(batch=4, views=True)),
    ):
        drawn = [batch.inputs["s16"].float().numpy() for epoch in (0, 1) for batch in loader.epoch(epoch)]
        shifts = {
            round(float((window[0] - own[0]).mean()))
            for window in np.concatenate(drawn)
            for own in plain
            if np.abs((window[0] - own[0]) - (window[0] - own[0]).mean()).max() < 0.05
        }
        assert shifts == {0, 1, 2}


class _ThreeViews(ShardWriter):
    """Writes every row in three views, one after the other."""

    def __init__(self, path: str, schema: pa.Schema) -> None:
        super().__init__(path, feature_schema(SHAPES, views=True))

    def add(self, columns: Mapping[str, Any]) -> None:
        count = len(columns["frame"])
        view = np.tile(np.arange(3), count)
        every = {
            name: np.repeat(np.asarray(values), 3, axis=0)
            if isinstance(values, np.ndarray)
            else [value for value in values for _ in range(3)]
            for name, values in columns.items()
        }
        for name in SHAPES:
            every[f"map_{name}"] = every[f"map_{name}"] + view[:, None, None, None].astype(np.float32)
        super().add({**every, "view": view.astype(np.int8)})
