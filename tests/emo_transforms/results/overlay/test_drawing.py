"""What is drawn where: pixels of boxes, lengths of bars, words."""

from __future__ import annotations

import numpy as np
import pytest

from emobeam.emo_transforms.results.overlay.content import FaceBoxes, TaskValues, Values
from emobeam.emo_transforms.results.overlay.drawing import Canvas, Picture
from emobeam.emo_transforms.results.overlay.scene import COLOURS, Story, make_block, make_faces

GREY = 90


def story(*, faces: int = 1, source: int = 0, value: float = 0.8, untrained: bool = False, task: str = "va") -> Story:
    """Frames 1 (seen) and 2 (between); every output of every face has one value."""
    frames = np.array([1, 2], np.int32)
    keys = [("", number) for number in range(faces)]
    boxes = {
        key: FaceBoxes(
            frames,
            np.array([[100 + 90 * number, 60, 160 + 90 * number, 140]] * 2, np.float32),
            np.array([[120 + 90 * number, 90] * 5] * 2, np.float32),
            np.array([True, False]),
        )
        for key, number in zip(keys, range(faces), strict=True)
    }
    outputs = {"va": ("valence", "arousal"), "expr": ("Neutral", "Anger", "Other")}[task]
    values = np.full((2, len(outputs)), value, np.float32)
    if task == "expr":
        values[:, 1] += 0.1
    table = TaskValues(task, outputs, {key: Values(frames, values, np.full(2, source, np.int8)) for key in keys})
    return Story(make_faces(keys, keys), (make_block(table, untrained=untrained),), boxes, (table,))


def painted(told: Story, frame: int = 1, size: tuple[int, int] = (640, 360), untrained: bool = False) -> Picture:
    canvas = Canvas(*size, told.predicted, told.blocks, untrained=untrained)
    picture = np.full((size[1], size[0], 3), GREY, np.uint8)
    made = canvas.paint(picture, told.scene(frame, 0.04 * (frame - 1)))
    assert made.shape == (canvas.height, canvas.width, 3)
    assert made.shape[0] % 2 == made.shape[1] % 2 == 0
    return made


def pixels(picture: Picture, colour: tuple[int, int, int]) -> np.ndarray:
    return np.asarray((picture == np.array(colour, np.uint8)).all(axis=2))


def test_the_box_is_where_the_shard_says() -> None:
    made = painted(story())
    drawn = pixels(made[:, :640], COLOURS[0])
    assert drawn[60, 100:161].all()
    assert drawn[140, 100:161].all()
    assert drawn[60:141, 100].all()
    assert drawn[60:141, 160].all()
    assert drawn[90, 120], "the landmarks"
    assert not drawn[70:85, 105:155].any()
    rows, columns = np.nonzero(drawn)
    assert (rows.max(), columns.min()) == (140, 100)
    outside = made[:, :640].copy()
    outside[30:142, 99:162] = GREY
    assert (outside == GREY).all(), "nothing else of the picture is touched"


def test_boxes_between_frames_are_dimmed_and_boxes_of_other_sizes_scaled() -> None:
    assert not pixels(painted(story(), 2)[62:, :640], COLOURS[0]).any()
    told = story()
    half = Story(told.faces, told.blocks, told.boxes, told.tables, (0.5, 2.0))
    drawn = pixels(painted(half)[:, :640], COLOURS[0])
    assert drawn[120, 50:81].all()
    assert drawn[120:281, 80].all()


def bars(picture: Picture, colour: tuple[int, int, int]) -> list[int]:
    """Lengths in px of the horizontal runs of a colour in the panel, below its header."""
    drawn = pixels(picture[50:, 640:], colour)
    return [int(row.sum()) for row in drawn if row.any()]


def test_bars_are_as_long_as_values() -> None:
    full, half = bars(painted(story(value=1.0)), COLOURS[0]), bars(painted(story(value=0.5)), COLOURS[0])
    assert full
    assert abs(max(half) - max(full) / 2) <= 1.5
    assert max(bars(painted(story(value=-1.0)), COLOURS[0])) == pytest.approx(max(full), abs=2)
    assert max(bars(painted(story(value=0.0)), COLOURS[0]), default=0) <= 1


def test_what_was_not_seen_is_dimmed_and_what_is_absent_has_no_bar() -> None:
    assert not bars(painted(story(source=1)), COLOURS[0])
    dimmed = tuple(round(part * 0.55) for part in COLOURS[0])
    assert max(bars(painted(story(source=1, value=1.0)), dimmed)) > 35  # type: ignore[arg-type]
    absent = painted(story(source=3, value=float("nan")))
    assert not bars(absent, COLOURS[0])
    assert not bars(absent, dimmed)  # type: ignore[arg-type]


def test_faces_are_told_apart_by_colour() -> None:
    made = painted(story(faces=3))
    for colour in COLOURS[:3]:
        assert bars(made, colour)
        assert pixels(made[:, :640], colour).any()


@pytest.mark.parametrize("size", [(641, 361), (176, 144), (1920, 1080), (90, 400)])
def test_sizes_become_even_and_nothing_leaves_the_panel(size: tuple[int, int]) -> None:
    made = painted(story(faces=8), size=size)
    assert made.shape[0] >= size[1]
    rows, _ = np.nonzero(pixels(made[:, size[0] :], COLOURS[7]))
    assert len(rows)
    assert rows.max() < made.shape[0] - 2


def test_untrained_is_said_in_the_picture() -> None:
    told = story(untrained=True)
    corner = painted(told, untrained=True)[:12, :60].astype(int)
    assert (corner[..., 0] > corner[..., 1] + 100).mean() > 0.5
    assert (painted(story())[:12, :60] == GREY).all()


def test_the_highest_class_is_framed() -> None:
    ink = (236, 238, 242)
    framed = bars(painted(story(task="expr", value=0.3)), ink)
    assert max(framed) > 60  # the frame's upper and lower edge, longer than any letter
    assert max(bars(painted(story(task="va", value=0.3)), ink)) < 60


def test_faces_have_names() -> None:
    faces = make_faces([("", 1), ("", 0), ("left", 0), ("left", 2)], [("", 1)])
    assert [face.label for face in faces] == ["1", "0", "left", "left 2"]
    assert [face.predicted for face in faces] == [True, False, False, False]
    assert len({face.colour for face in faces}) == 4
