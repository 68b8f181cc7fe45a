"""Boxes between sampled frames, values by frame, and who stage 2 meant by a name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobeam.emo_transforms.prediction.prediction_tables import part_uri, write_part
from emobeam.emo_transforms.results.overlay.content import interpolate_boxes, read_values, video_item
from emobeam.schemas.records import EmobeamError
from emobeam.schemas.tables import SOURCES, predictions_schema


def slow(
    frames: list[int], clock: dict[int, float], seen: dict[int, float], gap: float
) -> dict[int, tuple[float, bool]]:
    """The rule, frame by frame, for one coordinate."""
    found = {}
    for frame in frames:
        if frame in seen:
            found[frame] = (seen[frame], True)
            continue
        before = [other for other in seen if other < frame]
        after = [other for other in seen if other > frame]
        if before and after:
            a, b = max(before), min(after)
            span = clock[b] - clock[a]
            if span <= gap + 1e-6:
                share = (clock[frame] - clock[a]) / span
                found[frame] = ((1 - share) * seen[a] + share * seen[b], False)
    return found


@given(
    steps=st.lists(st.floats(0.01, 0.4), min_size=1, max_size=40),
    picked=st.sets(st.integers(0, 39), max_size=12),
    gap=st.floats(0.0, 1.5),
)
def test_boxes_between_sampled_frames(steps: list[float], picked: set[int], gap: float) -> None:
    frames = np.arange(1, len(steps) + 1, dtype=np.int32)
    clock = np.cumsum(steps)
    seen = np.array(sorted(place + 1 for place in picked if place < len(steps)), np.int32)
    values = {int(frame): float((frame * 37) % 101) for frame in seen}
    boxes = np.repeat(np.array(list(values.values()), np.float32)[:, None], 4, axis=1).reshape(-1, 4)
    points = np.repeat(boxes[:, :1], 10, axis=1)
    got = interpolate_boxes(frames, clock, seen, boxes, points, gap)
    expected = slow(frames.tolist(), dict(zip(frames.tolist(), clock.tolist(), strict=True)), values, gap)
    assert got.frames.tolist() == list(expected)
    assert got.sampled.tolist() == [sampled for _, sampled in expected.values()]
    np.testing.assert_allclose(got.boxes[:, 2], [value for value, _ in expected.values()], atol=1e-3)
    np.testing.assert_allclose(got.landmarks[:, 9], got.boxes[:, 0], atol=1e-6)


def test_values_of_every_frame(tmp_path: Path) -> None:
    rows = [
        {
            "video": "a/b",
            "subject": "",
            "face": face,
            "frame": frame,
            "time": frame / 25,
            "valence": value,
            "arousal": value,
        }
        | {"source": source}
        for face, frame, value, source in [
            (0, 1, 0.5, "sampled"),
            (0, 2, 0.25, "interpolated"),
            (0, 3, None, "absent"),
            (1, 2, -1.0, "nearest"),
        ]
    ]
    schema = predictions_schema(("valence", "arousal"))
    write_part(
        part_uri(str(tmp_path), "va", "a/b"),
        pa.Table.from_pylist(rows, schema),
        {"task": "va", "video": "a/b", "subjects": [""]},
    )
    table = read_values(str(tmp_path), "va", "a/b")
    assert table is not None
    assert table.outputs == ("valence", "arousal")
    main = table.faces["", 0]
    found, source = main.at(2)
    assert found is not None
    assert (found.tolist(), source) == ([0.25, 0.25], "interpolated")
    assert main.at(3) == (None, "absent")
    assert main.at(4) == (None, "absent")
    assert table.faces["", 1].at(1) == (None, "absent")
    assert read_values(str(tmp_path), "au", "a/b") is None
    assert SOURCES[main.source[0]] == "sampled"


def test_a_table_of_another_video_is_refused(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([], predictions_schema(("valence",)))
    write_part(part_uri(str(tmp_path), "va", "talk"), table, {"task": "va", "video": "other", "subjects": [""]})
    with pytest.raises(EmobeamError, match="is a table of 'other'"):
        read_values(str(tmp_path), "va", "talk")


def test_the_work_of_stage_2_is_known_from_its_tables() -> None:
    segments = [{"segment": 1, "shard": "s1"}, {"segment": 0, "shard": "s0"}]
    footers = [
        {
            "subjects": ["", "left", "anna", "nobody"],
            "faces": [{"subject": "anna", "person": 2}, {"subject": "", "person": 0}],
        }
    ]
    item = video_item("talk", segments, footers)
    assert item.shards == ("s0", "s1")
    assert item.subjects == ("", "left", "anna")
    assert item.persons == (("anna", 2),)
