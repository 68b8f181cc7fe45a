from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from emobeam.emo_transforms.cache.footers import Footer
from emobeam.emo_transforms.networks.heads.fresh_heads import untrained_head
from emobeam.emo_transforms.networks.heads.head import Head
from emobeam.emo_transforms.prediction.video_prediction import NOMINAL_FPS, predict_table, stretches, view_video
from emobeam.schemas.predict_config import PredictConfig
from emobeam.schemas.records import EmobeamError, VideoFeatures
from emobeam.schemas.tables import FACES, predictions_schema
from tests.emo_transforms.caches import SHAPES, Seen, footer, maps_of_face, write_shard

OUTPUTS = ("valence", "arousal")
FPS = 25
WINDOW = 4
MAPS = tuple(SHAPES)
LEFT, RIGHT = (40.0, 60.0, 160.0, 190.0), (400.0, 70.0, 500.0, 180.0)


def make_head(scope: str = "frame", seed: int = 0, shapes: Mapping[str, tuple[int, int, int]] = SHAPES) -> Head:
    options: dict[str, Any] = {"window": WINDOW, "time_patch": 2, "final_channels": 6, "seed": seed}
    return untrained_head("va", OUTPUTS, scope, "tanh", "f00d", shapes, form=scope, **options)


def segment(frames: Sequence[int], sampled: Sequence[int], index: int = 0, count: int = 1, **changes: Any) -> Footer:
    times = tuple((frame - 1) / FPS for frame in frames)
    about = {"frames": tuple(frames), "times": times, "sampled": tuple(sampled), "segment": index, "count": count}
    return footer(start=float(index), faces=(0,) * len(sampled), **{**about, **changes})


def video(features: Path, *segments: tuple[Footer, list[Seen]], **more: Any) -> VideoFeatures:
    names = [
        write_shard(features, f"shard{index}", replace(about, rows=len(faces)), faces)
        for index, (about, faces) in enumerate(segments)
    ]
    return VideoFeatures("a/clip", tuple(names), **more)


def predict(
    features: Path, item: VideoFeatures, *heads: Head, config: PredictConfig | None = None
) -> list[dict[str, Any]]:
    view = view_video(str(features), item, MAPS)
    table = predict_table(str(features), item, view, heads or [make_head()], config or PredictConfig())
    table.validate(full=True)
    clip = (heads or [make_head()])[0].config.scope == "clip"
    assert table.schema.equals(predictions_schema(OUTPUTS, clip=clip))
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def values_by_hand(head: Head, runs: Sequence[Sequence[Seen]]) -> dict[int, NDArray[np.float32]]:
    """Values of sampled frames: windows of each run side by side, the last one filled up with its last row."""
    found = {}
    for run in runs:
        for start in range(0, len(run), WINDOW):
            chunk = list(run[start : start + WINDOW])
            filled = chunk + chunk[-1:] * (WINDOW - len(chunk))
            maps = {name: np.stack([maps_of_face(face)[name] for face in filled])[None] for name in SHAPES}
            for face, values in zip(chunk, head.run(maps)[0], strict=False):
                found[face.frame] = values
    return found


def carried_by_hand(
    times: dict[int, float], seen: dict[int, NDArray[np.float32]], max_gap: float
) -> dict[int, tuple[str, NDArray[np.float32] | None]]:
    """What a frame holds, from the wording of the contract, a frame at a time."""
    found: dict[int, tuple[str, NDArray[np.float32] | None]] = {}
    for frame, time in times.items():
        before = max((f for f in seen if f <= frame), default=None)
        after = min((f for f in seen if f >= frame), default=None)
        if frame in seen:
            found[frame] = ("sampled", seen[frame])
        elif before and after and times[after] - times[before] <= 2 * max_gap + 1e-6:
            part = (time - times[before]) / (times[after] - times[before])
            found[frame] = ("interpolated", (1 - part) * seen[before] + part * seen[after])
        else:
            near = [f for f in (before, after) if f and abs(times[f] - time) <= max_gap + 1e-6]
            nearest = min(near, key=lambda f: abs(times[f] - time), default=None)
            found[frame] = ("nearest", seen[nearest]) if nearest else ("absent", None)
    return found


def assert_rows(rows: Sequence[dict[str, Any]], wanted: dict[int, tuple[str, NDArray[np.float32] | None]]) -> None:
    assert [row["frame"] for row in rows] == list(wanted)
    for row in rows:
        source, values = wanted[row["frame"]]
        assert (row["frame"], row["source"]) == (row["frame"], source)
        if values is None:
            assert [row[name] for name in OUTPUTS] == [None, None]
        else:
            assert [row[name] for name in OUTPUTS] == pytest.approx(values.tolist(), abs=1e-5)


def test_face_0_has_a_row_for_every_native_frame(tmp_path: Path) -> None:
    frames = range(1, 101)
    seen = [Seen(frame) for frame in (*range(16, 42, 5), *range(71, 87, 5))]
    item = video(tmp_path, (segment(frames, range(1, 101, 5)), seen))
    rows = predict(tmp_path, item)
    assert {(row["video"], row["subject"], row["face"]) for row in rows} == {("a/clip", "", 0)}
    times = {frame: (frame - 1) / FPS for frame in frames}
    assert [row["time"] for row in rows] == pytest.approx(list(times.values()))
    values = values_by_hand(make_head(), [seen[:6], seen[6:]])
    assert_rows(rows, carried_by_hand(times, values, 0.5))
    assert {row["source"] for row in rows} == {"sampled", "interpolated", "nearest", "absent"}


@pytest.mark.parametrize("max_gap", [0.0, 0.1, 0.6, 10.0])
def test_values_are_carried_as_far_as_is_asked_for(tmp_path: Path, max_gap: float) -> None:
    frames = range(1, 101)
    seen = [Seen(frame) for frame in (*range(16, 42, 5), *range(71, 87, 5))]
    item = video(tmp_path, (segment(frames, range(1, 101, 5)), seen))
    rows = predict(tmp_path, item, config=PredictConfig(max_gap=max_gap))
    times = {frame: (frame - 1) / FPS for frame in frames}
    assert_rows(rows, carried_by_hand(times, values_by_hand(make_head(), [seen[:6], seen[6:]]), max_gap))


def test_windows_and_persons_go_on_over_the_cut_between_segments(tmp_path: Path) -> None:
    first, second = range(1, 51), range(51, 101)
    seen = [Seen(frame) for frame in range(1, 101, 5)]
    item = video(
        tmp_path,
        (segment(first, range(1, 51, 5), 0, 2), seen[:10]),
        (segment(second, range(51, 101, 5), 1, 2), [replace(face, track=3) for face in seen[10:]]),
    )
    rows = predict(tmp_path, item)
    times = {frame: (frame - 1) / FPS for frame in range(1, 101)}
    assert_rows(rows, carried_by_hand(times, values_by_hand(make_head(), [seen]), 0.5))


def two_people(features: Path, **more: Any) -> tuple[VideoFeatures, list[Seen], list[Seen]]:
    """The larger face on the left is always there, the other one from frame 21 to frame 46."""
    main = [Seen(frame, 0, LEFT, look=1) for frame in range(1, 76, 5)]
    other = [Seen(frame, 1, RIGHT, look=2) for frame in range(21, 47, 5)]
    both = sorted([*main, *other], key=lambda face: (face.frame, face.track))
    return video(features, (segment(range(1, 76), range(1, 76, 5)), both), **more), main, other


def test_other_faces_have_rows_from_first_to_last_sighting(tmp_path: Path) -> None:
    item, main, other = two_people(tmp_path)
    times = {frame: (frame - 1) / FPS for frame in range(1, 76)}
    wanted = carried_by_hand(times, values_by_hand(make_head(), [main]), 0.5)
    alone = predict(tmp_path, item)
    assert_rows(alone, wanted)
    rows = predict(tmp_path, item, config=PredictConfig(faces="all"))
    assert_rows([row for row in rows if row["face"] == 0], wanted)
    inside = {frame: times[frame] for frame in range(21, 47)}
    assert_rows(
        [row for row in rows if row["face"] == 1],
        carried_by_hand(inside, values_by_hand(make_head(), [other]), 0.5),
    )
    assert {row["face"] for row in rows} == {0, 1}


def test_subjects_by_side_and_by_name(tmp_path: Path) -> None:
    item, main, other = two_people(tmp_path, subjects=("Ann", "left", "right"), persons=(("Ann", 1),))
    rows = predict(tmp_path, item)
    times = {frame: (frame - 1) / FPS for frame in range(1, 76)}
    left, right = (values_by_hand(make_head(), [faces]) for faces in (main, other))
    for subject, values in {"Ann": right, "left": left, "right": right}.items():
        mine = [row for row in rows if row["subject"] == subject]
        assert_rows(mine, carried_by_hand(times, values, 0.5))
    assert [row["subject"] for row in rows] == sorted(row["subject"] for row in rows)


def test_a_name_without_a_person_is_absent(tmp_path: Path) -> None:
    item, _, _ = two_people(tmp_path, subjects=("Bob",), persons=(("Bob", 7),))
    rows = predict(tmp_path, item)
    assert len(rows) == 75
    assert {row["source"] for row in rows} == {"absent"}


def test_two_heads_of_one_task_are_averaged(tmp_path: Path) -> None:
    item, _, _ = two_people(tmp_path)
    one, two = make_head(seed=1), make_head(seed=2)
    first, second, both = (predict(tmp_path, item, *heads) for heads in ([one], [two], [one, two]))
    for a, b, mean in zip(first, second, both, strict=True):
        assert a["valence"] != b["valence"]
        for name in OUTPUTS:
            assert mean[name] == pytest.approx((a[name] + b[name]) / 2, abs=1e-6)
        assert (a["frame"], a["source"]) == (mean["frame"], mean["source"])


def test_a_clip_has_one_row_per_subject(tmp_path: Path) -> None:
    item, main, other = two_people(tmp_path, subjects=("", "right"))
    heads = [make_head("clip", seed) for seed in (1, 2)]
    rows = predict(tmp_path, item, *heads)
    assert [(row["video"], row["subject"]) for row in rows] == [("a/clip", ""), ("a/clip", "right")]

    def by_hand(head: Head, faces: list[Seen]) -> NDArray[np.float32]:
        vectors, valid = [], []
        for start in range(0, len(faces), WINDOW):
            chunk = faces[start : start + WINDOW]
            filled = chunk + chunk[-1:] * (WINDOW - len(chunk))
            maps = {name: np.stack([maps_of_face(face)[name] for face in filled])[None] for name in SHAPES}
            vectors.append(head.run(maps)[0])
            valid.append(len(chunk))
        return head.pool(np.stack(vectors), np.array(valid))

    for row, faces in zip(rows, (main, other), strict=True):
        wanted = np.mean([by_hand(head, faces) for head in heads], axis=0)
        assert [row[name] for name in OUTPUTS] == pytest.approx(wanted.tolist(), abs=1e-5)


@pytest.mark.parametrize("scope", ["frame", "clip"])
def test_a_video_without_faces(tmp_path: Path, scope: str) -> None:
    item = video(tmp_path, (segment(range(1, 26), range(1, 26, 5)), []))
    rows = predict(tmp_path, item, make_head(scope))
    assert len(rows) == (25 if scope == "frame" else 1)
    for row in rows:
        assert [row[name] for name in OUTPUTS] == [None, None]
        assert row.get("source", "absent") == "absent"
    assert stretches(view_video(str(tmp_path), item, MAPS)) == []


def test_crops_without_times_have_no_times_and_every_frame_number(tmp_path: Path) -> None:
    """Frames without an image are frames; gaps are judged as if there were 30 frames a second."""
    images = [*range(3, 31), *range(71, 91)]
    about = segment(images, images, times=(), width=0, height=0)
    seen = [Seen(frame, box=None) for frame in images]
    item = video(tmp_path, (about, seen))
    rows = predict(tmp_path, item)
    assert {row["time"] for row in rows} == {None}
    clock = {frame: (frame - 1) / NOMINAL_FPS for frame in range(1, 91)}
    assert_rows(rows, carried_by_hand(clock, values_by_hand(make_head(), [seen[:28], seen[28:]]), 0.5))
    assert {row["source"] for row in rows} == {"sampled", "nearest", "absent"}
    table = pa.Table.from_pylist(stretches(view_video(str(tmp_path), item, MAPS)), FACES)
    pq.write_table(table, tmp_path / "faces.parquet")
    faces = pq.read_table(tmp_path / "faces.parquet").to_pylist()
    assert [(row["first_frame"], row["last_frame"], row["sampled"]) for row in faces] == [(3, 30, 28), (71, 90, 20)]
    assert all(row[key] is None for row in faces for key in ("first_time", "last_time", "box", "score"))


def test_crops_with_times_keep_them(tmp_path: Path) -> None:
    seen = [Seen(frame, box=None) for frame in (2, 7, 12)]
    item = video(tmp_path, (segment(range(1, 16), (2, 7, 12)), seen), subjects=("left",))
    rows = predict(tmp_path, item)
    times = {frame: (frame - 1) / FPS for frame in range(1, 16)}
    assert [row["time"] for row in rows] == pytest.approx(list(times.values()))
    assert {row["subject"] for row in rows} == {"left"}  # whoever is in the folder is meant
    assert_rows(rows, carried_by_hand(times, values_by_hand(make_head(), [seen]), 0.5))


def test_stretches_are_rows_of_the_table_of_faces(tmp_path: Path) -> None:
    item, _, other = two_people(tmp_path)
    rows = pa.Table.from_pylist(stretches(view_video(str(tmp_path), item, MAPS)), FACES).to_pylist()
    assert [(row["face"], row["person"], row["first_frame"], row["last_frame"], row["sampled"]) for row in rows] == [
        (0, 0, 1, 71, 15),
        (1, 1, 21, 46, len(other)),
    ]
    assert rows[1]["first_time"] == pytest.approx(20 / FPS)
    assert rows[1]["box"] == pytest.approx(RIGHT)
    assert rows[1]["score"] == pytest.approx(0.99)


def test_a_cache_with_fewer_maps_serves_a_head_that_needs_no_more(tmp_path: Path) -> None:
    item, main, _ = two_people(tmp_path)
    small = make_head(shapes={"s32": SHAPES["s32"]})
    assert small.maps == ("s32",)
    times = {frame: (frame - 1) / FPS for frame in range(1, 76)}
    assert_rows(predict(tmp_path, item, small), carried_by_hand(times, values_by_hand(small, [main]), 0.5))


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    item, _, _ = two_people(tmp_path)
    with pytest.raises(EmobeamError, match=r"gone\.parquet.*a/clip"):
        view_video(str(tmp_path), replace(item, shards=(*item.shards, "gone")), MAPS)


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    item, _, _ = two_people(tmp_path)
    (tmp_path / "shards" / "shard0.parquet").write_bytes(b"no longer what it was")
    with pytest.raises(EmobeamError, match=r"shard0\.parquet"):
        view_video(str(tmp_path), item, MAPS)


def test_a_cache_in_memory(tmp_path: Path) -> None:
    features = "memory://emobeam-annotations"
    seen = [Seen(frame) for frame in range(1, 26, 5)]
    write_shard(features, "one", segment(range(1, 26), range(1, 26, 5)), seen)
    item = VideoFeatures("a/clip", ("one",))
    view = view_video(features, item, MAPS)
    table = predict_table(features, item, view, [make_head()], PredictConfig())
    local = predict(tmp_path, video(tmp_path, (segment(range(1, 26), range(1, 26, 5)), seen)))
    assert table.to_pylist() == local
    with pytest.raises(EmobeamError, match=r"two\.parquet.*a/clip"):
        view_video(features, replace(item, shards=("two",)), MAPS)


def test_frames_of_a_segment_without_shard_have_rows_as_well(tmp_path: Path) -> None:
    seen = [Seen(frame) for frame in range(1, 26, 5)]
    gone = tuple(range(26, 76))
    item = video(
        tmp_path,
        (segment(range(1, 26), range(1, 26, 5), count=2), seen),
        missing_frames=gone,
        missing_times=tuple((frame - 1) / FPS for frame in gone),
    )
    rows = predict(tmp_path, item)
    assert [row["frame"] for row in rows] == list(range(1, 76))
    assert rows[-1]["time"] == 74 / FPS
    assert {row["source"] for row in rows if row["time"] > 20 / FPS + 0.5 + 1e-6} == {"absent"}


@pytest.mark.parametrize("frame", [-1, 2_000_000_000, 2**40])
def test_numbers_of_frames_that_nobody_checked_allocate_nothing(tmp_path: Path, frame: int) -> None:
    seen = segment((1, 2), (1,), times=())
    item = replace(video(tmp_path, (seen, [Seen(1, box=None)])), missing_frames=(frame,))
    with pytest.raises(EmobeamError, match="name frames"):
        view_video(str(tmp_path), item, ())
