from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from emobeam.emo_transforms.inputs.people_folders import is_people_folder
from emobeam.emo_transforms.training.images.people_crops import align, mirror_landmarks, read_people, split_people
from emobeam.schemas.records import EmobeamError, UsageError
from tests.emo_transforms.training.people import smiling, write_people


def test_units_first_shapes_on_both_sides_and_unknown_is_nan(tmp_path: Path) -> None:
    folder = write_people(
        tmp_path / "renders",
        {
            3: [
                {"AU12": 0.5, "AU1": None, "shapes": [("mouthSmile_L", 0.25), ("jawOpen", 0.5)]},
                {"AU12": None, "AU1": 0.75, "shapes": None},
            ]
        },
    )
    crops = read_people([folder])
    assert crops.outputs == ("AU1", "AU12", "jawOpen", "mouthSmile_L", "mouthSmile_R")
    assert crops.units == 2
    assert crops.ids == ("renders/000003-0-0001", "renders/000003-0-0002")
    expected = [[np.nan, 0.5, 0.5, 0.25, 0.0], [0.75, np.nan, np.nan, np.nan, np.nan]]
    assert np.array_equal(crops.targets, np.array(expected, np.float32), equal_nan=True)
    assert [crops.outputs[i] for i in crops.mirrored] == ["AU1", "AU12", "jawOpen", "mouthSmile_R", "mouthSmile_L"]
    assert crops.known() == {"AU1": 1, "AU12": 1, "jawOpen": 1, "mouthSmile_L": 1, "mouthSmile_R": 1}


def test_folders_of_one_name_keep_their_people_apart(tmp_path: Path) -> None:
    first = write_people(tmp_path / "a" / "set", {1: smiling(2)})
    second = write_people(tmp_path / "b" / "set", {1: smiling(2)})
    assert set(read_people([first, second]).groups) == {"set/000001", "set-1/000001"}


@pytest.mark.parametrize(("note", "collection"), [("pseudo-label.json", "photo"), ("render.json", "render")])
def test_a_person_of_several_folders_is_held_out_of_all_or_of_none(tmp_path: Path, note: str, collection: str) -> None:
    folders = []
    for seed, (name, numbers) in enumerate({"still": range(12), "moving": range(3, 15), "far/still": range(9)}.items()):
        folders.append(write_people(tmp_path / name, {number: smiling(2, seed=seed) for number in numbers}))
        (tmp_path / name / note).write_text("{}")
    plain = write_people(tmp_path / "plain", {number: smiling(2) for number in range(12)})
    crops = read_people([*folders, plain])
    assert "far/still/000003-0-0001" not in crops.ids
    assert "still-2/000003-0-0001" in crops.ids
    wanted = {f"{collection}/{number:06d}" for number in range(15)} | {f"plain/{number:06d}" for number in range(12)}
    assert set(crops.groups) == wanted
    for seed in range(5):
        train, held = split_people(crops, 0.3, seed=seed)
        assert len(held)
        numbers = [
            {crops.ids[i].split("/")[-1].split("-")[0] for i in part if not crops.ids[i].startswith("plain/")}
            for part in (train, held)
        ]
        assert not numbers[0] & numbers[1], "a face is on both sides"


def test_held_out_people_are_others_and_stay_when_some_join(tmp_path: Path) -> None:
    folder = write_people(tmp_path / "x", {number: smiling(3) for number in range(20)})
    crops = read_people([folder])
    train, held = split_people(crops, 0.2, seed=1)
    assert len(held) == 4 * 3
    people = {crops.groups[i] for i in held}
    assert not people & {crops.groups[i] for i in train}
    assert len(train) + len(held) == len(crops)
    assert {crops.groups[i] for i in split_people(crops, 0.2, seed=2)[1]} != people


def test_the_digest_tells_pictures_and_targets(tmp_path: Path) -> None:
    one = read_people([write_people(tmp_path / "1" / "p", {1: smiling(4)})])
    same = read_people([write_people(tmp_path / "2" / "p", {1: smiling(4)})])
    other = read_people([write_people(tmp_path / "3" / "p", {1: smiling(4, seed=9)})])
    assert one.digest() == same.digest() != other.digest()
    changed = [{**row, "AU12": 0.1} for row in smiling(4)]
    assert read_people([write_people(tmp_path / "4" / "p", {1: changed})]).digest() != one.digest()


def test_what_is_no_people_folder(tmp_path: Path) -> None:
    assert not is_people_folder(str(tmp_path))
    with pytest.raises(UsageError, match="holds no people"):
        read_people([str(tmp_path)])
    folder = write_people(tmp_path / "p", {1: smiling(2)})
    assert is_people_folder(folder)
    (tmp_path / "p" / "people" / "000002.parquet").write_text(json.dumps({}))
    with pytest.raises(EmobeamError, match=r"000002\.parquet: can't be read"):
        read_people([folder])


def test_activations_out_of_range_are_refused(tmp_path: Path) -> None:
    folder = write_people(tmp_path / "p", {1: [{"AU12": 4.0}]})
    with pytest.raises(EmobeamError, match="expected 0 to 1"):
        read_people([folder])


def test_mirrored_landmarks_are_those_of_the_mirrored_face() -> None:
    rng = np.random.default_rng(0)
    points = rng.random((51, 2)).astype(np.float32)
    mirrored = mirror_landmarks(points)
    assert np.allclose(mirror_landmarks(mirrored), points)
    # a symmetric face stays as it is: right eye's outer corner (36) and left eye's (45), mouth corners, tip of the nose
    for one, other in (
        (36, 45),
        (39, 42),
        (37, 44),
        (48, 54),
        (60, 64),
        (50, 52),
        (58, 56),
        (17, 26),
        (31, 35),
        (67, 65),
    ):
        assert mirrored[other - 17, 1] == points[one - 17, 1]
        assert np.isclose(mirrored[other - 17, 0], 1 - points[one - 17, 0])
    assert np.isclose(mirrored[30 - 17, 0], 1 - points[30 - 17, 0])


def test_landmarks_are_read_and_their_count_checked(tmp_path: Path) -> None:
    points = np.linspace(0, 1, 102).tolist()
    crops = read_people([write_people(tmp_path / "p", {1: [{"AU12": 0.0, "landmarks": points}, {"AU12": 1.0}]})])
    assert np.allclose(crops.landmarks[0].ravel(), points)
    assert np.isnan(crops.landmarks[1]).all()
    with pytest.raises(EmobeamError, match="4 coordinates of landmarks, expected 102"):
        read_people([write_people(tmp_path / "q", {1: [{"AU12": 0.0, "landmarks": points[:4]}]})])


def test_aligned_landmarks_don_t_change_with_place_size_and_roll() -> None:
    rng = np.random.default_rng(1)
    points = torch.from_numpy(rng.random((4, 51, 2)).astype(np.float32))
    cos, sin = np.cos(0.4), np.sin(0.4)
    turned = 0.7 * points @ torch.tensor([[cos, sin], [-sin, cos]], dtype=torch.float32) + torch.tensor([0.3, -0.1])
    assert torch.allclose(align(points), align(turned), atol=1e-4)
    eyes = align(points).reshape(4, 51, 2)[:, [36 - 17, 45 - 17]]
    assert torch.allclose(eyes, torch.tensor([[-0.5, 0.0], [0.5, 0.0]]).expand(4, 2, 2), atol=1e-5)
    assert align(torch.full((1, 51, 2), float("nan"))).isnan().all()
