"""Every layout of labelled face images gives the same images, classes, valence and arousal."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobeam.emo_transforms.training.images.face_images import (
    AFFECTNET,
    EMOTIONS,
    FaceImages,
    choose_classes,
    plain_class,
    split_holdout,
)
from emobeam.emo_transforms.training.images.face_layouts import read_face_data
from emobeam.schemas.records import EmobeamError, UsageError
from tests.emo_transforms.training.drawn_faces import AROUSAL, VALENCE, write_faces

SMALL = ("Happiness", "Sadness")


@pytest.fixture
def named(tmp_path: Path) -> Path:
    write_faces(tmp_path / "named" / "train", 3, size=16, names=SMALL)
    write_faces(tmp_path / "named" / "val", 1, seed=1, size=16, names=SMALL)
    return tmp_path / "named"


def test_class_folders(named: Path) -> None:
    data = read_face_data(str(named))
    assert data.train.classes == tuple(name for name in EMOTIONS if name != "Contempt")
    assert len(data.train) == 6
    assert data.train.ids[0] == "train/Happiness/000.jpg"
    assert data.train.uris[0] == str(named / "train" / "Happiness" / "000.jpg")
    assert [data.train.classes[label] for label in data.train.labels] == ["Happiness"] * 3 + ["Sadness"] * 3
    assert np.isnan(data.train.va).all()
    assert data.official is not None
    assert len(data.official) == 2


def test_numbered_folders_are_affectnets(named: Path) -> None:
    for split in ("train", "val"):
        for name in SMALL:
            (named / split / name).rename(named / split / str(AFFECTNET.index(name)))
        (named / split / "9").mkdir()
    write_faces(named / "extra", 2, size=16, names=("Neutral",))
    (named / "extra" / "Neutral").rename(named / "train" / "8")
    data = read_face_data(str(named), classes="8")
    assert data.train.classes == EMOTIONS
    assert data.train.counts().tolist() == [0, 0, 0, 0, 3, 0, 3, 0]
    assert data.left_out == {"None": 2}


def annotated(folder: Path, per_class: int, seed: int) -> None:
    write_faces(folder / "images", per_class, seed=seed, size=16, names=SMALL)
    (folder / "annotations").mkdir()
    number = 0
    for name in SMALL:
        for path in sorted((folder / "images" / name).iterdir()):
            path.rename(folder / "images" / f"{number}.jpg")
            np.save(folder / "annotations" / f"{number}_exp.npy", str(AFFECTNET.index(name)))
            np.save(folder / "annotations" / f"{number}_val.npy", str(VALENCE[name]))
            np.save(folder / "annotations" / f"{number}_aro.npy", AROUSAL[name])
            number += 1
        (folder / "images" / name).rmdir()


def test_affectnets_own_layout(tmp_path: Path) -> None:
    annotated(tmp_path / "train_set", 3, 0)
    annotated(tmp_path / "val_set", 1, 1)
    np.save(tmp_path / "train_set" / "annotations" / "1_val.npy", "-2")
    (tmp_path / "train_set" / "annotations" / "2_exp.npy").write_bytes(b"no array")
    (tmp_path / "train_set" / "annotations" / "5_exp.npy").unlink()
    for number, value in ((6, "nan"), (7, 1.5)):
        shutil.copy(tmp_path / "train_set" / "images" / "0.jpg", tmp_path / "train_set" / "images" / f"{number}.jpg")
        np.save(tmp_path / "train_set" / "annotations" / f"{number}_exp.npy", value)
    data = read_face_data(str(tmp_path))
    assert sorted(data.unreadable) == [f"train_set/images/{n}.jpg" for n in (2, 5, 6, 7)]
    assert data.unreadable["train_set/images/7.jpg"] == "annotations/7_exp.npy: 1.5 is not the number of a class"
    assert data.train.ids == tuple(f"train_set/images/{n}.jpg" for n in (0, 1, 3, 4))
    np.testing.assert_allclose(data.train.va[0], (0.8, 0.5), rtol=1e-6)
    assert np.isnan(data.train.va[1]).all(), "-2 is AffectNet's way to say that there is none"
    np.testing.assert_allclose(data.train.va[2], (-0.7, -0.3), rtol=1e-6)
    assert data.official is not None
    assert len(data.official) == 2
    alone = read_face_data(str(tmp_path / "train_set"), validation=str(tmp_path / "val_set"))
    assert alone.train.counts().tolist() == data.train.counts().tolist()
    assert alone.official is not None
    assert len(alone.official) == 2


@pytest.mark.parametrize("extension", ["csv", "parquet"])
def test_tables(named: Path, extension: str) -> None:
    rows = [
        {
            "path": f"{split}/{name}/{number:03d}.jpg",
            "expression": name if number else name.lower(),
            "valence": VALENCE[name] if number != 1 else None,
            "arousal": AROUSAL[name],
            "split": split,
            "subject": f"s{number}",
        }
        for split, count in (("train", 3), ("val", 1))
        for name in SMALL
        for number in range(count)
    ]
    table = pd.DataFrame(rows)
    uri = named / f"list.{extension}"
    if extension == "csv":
        table.to_csv(uri, index=False)
    else:
        table.to_parquet(uri)
    data = read_face_data(str(uri))
    assert data.train.uris[0] == str(named / "train" / "Happiness" / "000.jpg")
    assert data.train.groups == ("s0", "s1", "s2") * 2
    assert np.isnan(data.train.va).any(axis=1).tolist() == [False, True, False] * 2
    assert data.official is not None
    assert len(data.official) == 2


def listed(named: Path, splits: list[str]) -> str:
    names = [
        f"{split}/{name}/{n:03d}.jpg"
        for split, count in (("train", 3), ("val", 1))
        for name in SMALL
        for n in range(count)
    ]
    rows = [
        {"path": name, "expression": name.split("/")[1], "split": split}
        for name, split in zip(names, splits, strict=True)
    ]
    pd.DataFrame(rows).to_csv(named / "list.csv", index=False)
    return str(named / "list.csv")


def test_rows_of_a_test_split_are_left_out(named: Path) -> None:
    data = read_face_data(listed(named, ["train", "test", "TEST"] * 2 + ["val", "test"]))
    assert data.train.ids == ("train/Happiness/000.jpg", "train/Sadness/000.jpg")
    assert data.official is not None
    assert data.official.ids == ("val/Happiness/000.jpg",)
    assert data.left_out == {"test split": 5}
    (named / "list.csv").unlink()
    write_faces(named / "test", 2, seed=2, size=16, names=SMALL)
    data = read_face_data(str(named))
    assert (len(data.train), data.left_out) == (6, {"test split": 4})


@pytest.mark.parametrize("split", ["dev", "", " ", "fold3"])
def test_a_split_nobody_knows_is_refused(named: Path, split: str) -> None:
    with pytest.raises(
        UsageError, match=rf"2 rows have a split that is neither train, val nor test \('{split.strip()}'\)"
    ):
        read_face_data(listed(named, ["train"] * 6 + [split] * 2))


def test_a_missing_split_in_parquet_is_refused(named: Path) -> None:
    table = pd.DataFrame({"path": ["train/Sadness/000.jpg"] * 2, "expression": ["sad"] * 2})
    table.assign(split=pd.array(["train", None], dtype="string")).to_parquet(named / "list.parquet")
    with pytest.raises(UsageError, match=r"1 row has a split .* \(''\)"):
        read_face_data(str(named / "list.parquet"))


@pytest.mark.parametrize("extension", ["csv", "parquet"])
@pytest.mark.parametrize("empty", [None, " ", float("nan")])
@pytest.mark.parametrize("column", ["path", "expression"])
def test_an_empty_cell_is_said_with_its_row(named: Path, extension: str, empty: object, column: str) -> None:
    rows: list[dict[str, object]] = [
        {"path": "train/Happiness/000.jpg", "expression": "happy", "split": "train"},
        {"path": "train/Sadness/000.jpg", "expression": "sad", "split": "train"},
        {"path": "train/Sadness/001.jpg", "expression": "sad", "split": "train"},
        {"path": "of the test split", "expression": None, "split": "test"},
    ]
    uri = named / f"list.{extension}"

    def write() -> None:
        table = pd.DataFrame(rows, dtype=object)
        table.to_csv(uri, index=False) if extension == "csv" else table.to_parquet(uri)

    write()
    assert len(read_face_data(str(uri)).train) == 3
    rows[1][column] = rows[2][column] = empty
    write()
    with pytest.raises(EmobeamError, match=rf"{uri}: 2 rows have no {column} \(first: row 2 below the header, .*fill"):
        read_face_data(str(uri))


def test_numbers_with_gaps_in_parquet(named: Path) -> None:
    """A column of whole numbers becomes one of floats where a cell is empty."""
    table = pd.DataFrame({"path": ["a.jpg", "b.jpg", "c.jpg"], "expression": [1, 2, None]})
    assert table["expression"].dtype == np.float64
    table.to_parquet(named / "list.parquet")
    with pytest.raises(EmobeamError, match=r"1 row has no expression \(first: row 3 below the header, c.jpg"):
        read_face_data(str(named / "list.parquet"))
    table.assign(expression=table["expression"].astype("Int64")).to_parquet(named / "list.parquet")
    with pytest.raises(EmobeamError, match=r"1 row has no expression \(first: row 3 below the header, c.jpg"):
        read_face_data(str(named / "list.parquet"))
    table.head(2).to_parquet(named / "list.parquet")
    assert read_face_data(str(named / "list.parquet")).train.counts().tolist() == [0, 0, 0, 1, 0, 1, 0]


def test_the_class_none_is_no_empty_cell(tmp_path: Path) -> None:
    text = "image,expression,valence,subject\n001,None,,NA\n002,sad,0.5,NA\n003,happy,nan,Ann\n"
    (tmp_path / "list.csv").write_text(text)
    data = read_face_data(str(tmp_path / "list.csv"))
    assert data.left_out == {"None": 1}
    assert data.train.ids == ("002", "003")
    assert data.train.groups == ("", "Ann")


def test_the_official_split_is_never_trained_on(named: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = read_face_data(str(named / "train"), validation=str(named))
    assert alone.official is not None
    assert alone.official.uris == tuple(str(named / "val" / name / "000.jpg") for name in SMALL)
    for other in (named / "train", named / "train" / ".." / "train", f"file://{named / 'train'}"):
        with pytest.raises(
            EmobeamError, match="6 of 6 images of the official validation split are among those to train"
        ):
            read_face_data(str(named / "train"), validation=str(other))
    monkeypatch.chdir(named.parent)
    with pytest.raises(EmobeamError, match="6 of 6 images"):
        read_face_data("named/train", validation=str(named / "train"))
    (named / "empty").mkdir()
    listed(named, ["test"] * 8)
    with pytest.raises(EmobeamError, match=r"--validation .*list.csv: holds no labelled image"):
        read_face_data(str(named / "train"), validation=str(named / "list.csv"))


def test_affectnets_tables_with_boxes(named: Path) -> None:
    (named / "Manually_Annotated_Images").mkdir()
    for split in ("train", "val"):
        (named / split).rename(named / "Manually_Annotated_Images" / split)
    row = {"face_x": 2, "face_y": 3, "face_width": 10, "face_height": 11, "valence": -2, "arousal": -2}
    for file, split in (("training.csv", "train"), ("validation.csv", "val")):
        path = f"{split}/Sadness/000.jpg"
        rows = [
            {"subDirectory_filePath": path, "expression": 2, **row},
            {"subDirectory_filePath": path.replace("Sad", "no"), "expression": 10, **row},
        ]
        pd.DataFrame(rows).to_csv(named / file, index=False)
    data = read_face_data(str(named))
    assert data.train.boxes.tolist() == [[2, 3, 12, 14]]
    assert Path(data.train.uris[0]).is_file()
    assert np.isnan(data.train.va).all()
    assert data.left_out == {"No-Face": 1}
    assert data.official is not None


def test_what_is_wrong_is_said(named: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file or folder"):
        read_face_data(str(tmp_path / "nowhere"))
    pd.DataFrame({"path": ["a.jpg"], "label": [1]}).to_csv(tmp_path / "bad.csv")
    with pytest.raises(EmobeamError, match="needs the columns path and expression"):
        read_face_data(str(tmp_path / "bad.csv"))
    (named / "train" / "Sadness").rename(named / "train" / "Bored")
    with pytest.raises(UsageError, match=r"no emotions of AffectNet \(Bored\)"):
        read_face_data(str(named))
    data = read_face_data(str(named), classes="folders")
    assert data.train.classes == ("Bored", "Happiness")
    pd.DataFrame({"path": ["a.jpg"] * 2, "expression": ["sad"] * 2}).to_csv(tmp_path / "twice.csv")
    with pytest.raises(EmobeamError, match="stands in the data twice"):
        read_face_data(str(tmp_path / "twice.csv"), classes="8")
    with pytest.raises(EmobeamError, match="no labelled image"):
        read_face_data(str(named), classes="Fear,Disgust")


def test_classes() -> None:
    assert plain_class(" Happy") == plain_class("1") == "Happiness"
    assert plain_class("10") == "No-Face"
    assert plain_class("77") == "77"
    assert choose_classes("auto", ["0", "7"]) == EMOTIONS
    assert len(choose_classes("auto", ["0", "8"])) == 7
    assert choose_classes("7", ["contempt"]) == tuple(n for n in EMOTIONS if n != "Contempt")
    assert choose_classes("sad, happy", []) == ("Sadness", "Happiness")
    with pytest.raises(UsageError, match="two or more"):
        choose_classes("sad", [])


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 6)), min_size=6, max_size=60), st.integers(0, 5))
def test_the_holdout_parts_groups_and_covers_classes(rows: list[tuple[int, int]], seed: int) -> None:
    count = len(rows)
    groups = tuple(f"{label}-{group}" if group else "" for label, group in rows)
    images = FaceImages(
        ("a", "b", "c"),
        tuple(map(str, range(count))),
        tuple(f"{n:03d}" for n in range(count)),
        groups,
        np.array([label for label, _ in rows]),
        np.full((count, 2), np.nan, np.float32),
        np.full((count, 4), np.nan, np.float32),
    )
    train, held = split_holdout(images, 0.2, seed)
    assert sorted([*train, *held]) == list(range(count))
    assert not {groups[i] for i in train if groups[i]} & {groups[i] for i in held if groups[i]}
    for label in range(3):
        units = {groups[i] or str(i) for i in range(count) if images.labels[i] == label}
        mine = {groups[i] or str(i) for i in held if images.labels[i] == label}
        assert len(mine) == (max(round(0.2 * len(units)), 1) if len(units) > 1 else 0)
    more, _ = split_holdout(images, 0.2, seed)
    assert more.tolist() == train.tolist()
