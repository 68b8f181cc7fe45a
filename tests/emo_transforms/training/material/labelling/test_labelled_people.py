from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from emobeam.emo_transforms.faces.crops import crop_square
from emobeam.emo_transforms.training.material.labelling.labelled_people import (
    MARGIN,
    Counts,
    LabelConfig,
    Labeller,
    padded,
    read_photograph,
)
from emobeam.emo_transforms.training.material.labelling.moving_photographs import ClipConfig, MovingPicture, move
from emobeam.emo_transforms.training.material.labelling.sources import find_people
from emobeam.emo_transforms.training.material.labelling.teacher import Teacher, teacher_units
from emobeam.emo_transforms.training.material.labelling.warping import MovableMesh
from emobeam.emo_transforms.training.material.rendering.face_model import load_face_model
from emobeam.pipelines.training.people_files import crops_schema
from tests.clips import astronaut, nobody
from tests.emo_transforms.training.material.labelling.material import (
    ASTRONAUT,
    StandIn,
    face_model_file,
    look,
    teacher_file,
)


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("album")
    astronaut().save(folder / "7_a.png")
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    astronaut().rotate(180).save(folder / "7_b.jpg", quality=95, exif=exif)
    Image.fromarray(nobody(0, (200, 150))).save(folder / "7_c.jpg")
    (folder / "7_d.jpg").write_bytes(b"\xff\xd8 no picture")
    Image.fromarray(np.asarray(astronaut()) // 16).save(folder / "7_e.png")  # too dark for the stand-in
    return folder


def test_people_are_labelled_where_a_detector_and_the_teacher_see_a_face(album: Path) -> None:
    """With a stand-in, for the teacher need not be installed; detector, files and crops are the real ones."""
    stand_in = StandIn(ASTRONAUT)
    (source,) = find_people([str(album)], r"(\d+)_")
    counts = Counts()
    rows = list(Labeller(cast(Teacher, stand_in)).label(source, LabelConfig(size=96), counts))
    assert [(row["person"], row["clip"], row["frame"], row["time"]) for row in rows] == [
        (7, 0, 1, None),
        (7, 0, 2, None),
    ]
    assert (counts.pictures, counts.no_face) == (5, counts.no_face)
    assert counts.no_face + counts.unseen == 2
    assert len(counts.unreadable) == 1
    assert "7_d.jpg" in counts.unreadable[0]
    table = pa.Table.from_pylist(rows, crops_schema())
    assert table["AU12"].to_pylist() == pytest.approx([0.5, 0.5])
    assert table["AU6"].null_count == table["AU23"].null_count == 2
    assert dict(table["shapes"][0].as_py())["jawOpen"] == pytest.approx(0.25)
    upright, turned = (np.asarray(Image.open(io.BytesIO(row["crop"]))).astype(int) for row in rows)
    assert upright.shape == (96, 96, 3)
    assert np.abs(upright - turned).mean() < 8  # JPEG moves the box a little
    # The same crop as stage 1 cuts of the box that was found.
    box = Labeller(cast(Teacher, stand_in)).find(np.asarray(astronaut()))
    assert box is not None
    assert np.abs(upright - crop_square(np.asarray(astronaut()), box, MARGIN, 96)).mean() < 3


def test_a_face_the_teacher_misses_in_the_whole_picture_is_looked_for_close_by() -> None:
    small = np.full((600, 900, 3), 90, np.uint8)
    small[300:428, 600:728] = np.asarray(astronaut().resize((128, 128)))
    box = np.array([643, 318, 669, 351], np.float32)
    stand_in = StandIn()  # sees a face in the middle of whatever it is shown
    seen = Labeller(cast(Teacher, stand_in)).look_at(small, box)
    assert len(stand_in.sizes) == 2
    assert stand_in.sizes[1][0] < 100
    assert seen is not None
    middle = (seen.landmarks.min(0) + seen.landmarks.max(0)) / 2
    assert middle == pytest.approx([(643 + 669) / 2, (318 + 351) / 2], abs=3)
    assert seen.yaw == 3.0


def test_photographs_are_turned_as_cameras_say(album: Path) -> None:
    upright, turned = (read_photograph(str(album / name)).astype(int) for name in ("7_a.png", "7_b.jpg"))
    assert np.abs(upright - turned).mean() < 4


def test_crops_get_a_border_of_their_own_edge() -> None:
    crop = nobody(0, (40, 40))
    wide = padded(crop)
    assert wide.shape == (68, 68, 3)
    assert (wide[14:54, 14:54] == crop).all()
    assert (wide[:14, 20] == crop[0, 6]).all()


@pytest.fixture(scope="module")
def mesh() -> MovableMesh:
    return MovableMesh(load_face_model(face_model_file()))


FORM = ClipConfig(size=96, seconds=2.0, fps=6.0, faults=False, margin=MARGIN)


def clip(mesh: MovableMesh, teacher: Teacher, seed: int, form: ClipConfig = FORM) -> list[MovingPicture]:
    picture = np.asarray(astronaut())
    seen = teacher.look(picture)
    assert seen is not None
    return list(move(mesh, teacher, picture, ASTRONAUT, seen, np.random.default_rng(seed), form))


def test_a_photograph_moves_and_its_labels_move_with_it(mesh: MovableMesh) -> None:
    with Teacher(teacher_file()) as teacher:
        frames, again = clip(mesh, teacher, 1), clip(mesh, teacher, 1)
    assert [frame.frame for frame in frames] == list(range(1, 13))
    assert [frame.time for frame in frames] == pytest.approx(np.arange(12) / 6)
    assert all((a.crop == b.crop).all() and a.units == b.units for a, b in zip(frames, again, strict=True))
    assert {frame.crop.shape for frame in frames} == {(96, 96, 3)}
    seen = [frame for frame in frames if frame.look is not None]
    assert len(seen) > 9
    assert max(np.ptp([frame.units[unit] or 0 for frame in seen]) for unit in ("AU1", "AU12", "AU25")) > 0.15
    # She smiles, so nobody knows what else pulls at her mouth.
    assert {frame.units[unit] for frame in frames for unit in ("AU6", "AU15", "AU23", "AU24")} == {None}
    for frame in seen:
        assert frame.look is not None
        assert {**frame.units, "AU15": None, "AU24": None} == teacher_units(frame.look)


def test_units_put_into_a_face_that_does_not_smile_are_known(mesh: MovableMesh) -> None:
    class Calm(StandIn):
        def look(self, picture: np.ndarray):  # type: ignore[no-untyped-def]
            return look({"mouthSmile_L": 0.1}, points=StandIn(ASTRONAUT).look(picture).landmarks)  # type: ignore[union-attr]

    applied = [
        (frame.units["AU15"], frame.units["AU24"])
        for seed in (1, 8)
        for frame in clip(mesh, cast(Teacher, Calm()), seed)
    ]
    assert all(a is not None and b is not None and 0 <= a <= 1 and 0 <= b <= 1 for a, b in applied)
    assert max(a or 0 for a, _ in applied) > 0.2 or max(b or 0 for _, b in applied) > 0.2


def test_where_the_teacher_sees_nothing_nothing_is_known(mesh: MovableMesh) -> None:
    class Blind(StandIn):
        def look(self, picture: np.ndarray):  # type: ignore[no-untyped-def]
            return super().look(picture) if picture.shape[0] == 512 else None

    (first, *_) = clip(mesh, cast(Teacher, Blind(ASTRONAUT)), 0)
    assert len(first.units) == 12
    assert set(first.units.values()) == {None}


def test_faults_stay_all_through_a_clip_and_can_be_left_out(mesh: MovableMesh) -> None:
    stand_in = cast(Teacher, StandIn(ASTRONAUT))
    clean = clip(mesh, stand_in, 3)
    faulty = clip(mesh, stand_in, 3, replace(FORM, faults=True))
    off = [np.abs(a.crop.astype(int) - b.crop).mean() for a, b in zip(clean, faulty, strict=True)]
    assert min(off) > 2
    assert np.ptp(off) < max(off) / 2
