"""Reads the layouts of :mod:`emobeam.emo_transforms.training.images.face_images` from a folder, a table or a store."""

from __future__ import annotations

import io
import os
import posixpath
from collections import Counter
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from fsspec import AbstractFileSystem

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.inputs.crop_layouts import is_image
from emobeam.emo_transforms.inputs.listing import below, walk_files
from emobeam.emo_transforms.storage import locate
from emobeam.emo_transforms.storage.object_stores import uri_of
from emobeam.emo_transforms.storage.parquet_files import read_parquet
from emobeam.emo_transforms.training.images.face_images import FaceImages, ImageRows, choose_classes, select_images
from emobeam.schemas.records import EmobeamError, UsageError
from emobeam.schemas.wording import counted, noun

_TRAIN = ("train", "train_set", "training")
_OFFICIAL = ("val", "val_set", "valid", "validation")
_TEST = ("test", "test_set", "testing")
_PATHS = ("path", "subDirectory_filePath", "image", "file")
_TABLES = (".csv", ".parquet")
_NOBODY = ["", "NA", "N/A", "NaN", "nan", "None", "null"]
"""What programs write where a subject is not known."""
_IMAGE_FOLDERS = ("", "images", "Manually_Annotated_Images", "Manually_Annotated/Manually_Annotated_Images")


TEST_SPLIT = "test split"
"""Under this name images of a test split are counted; no run sees them."""


@dataclass(frozen=True, eq=False)
class FaceData:
    """What a data set holds.

    Attributes:
        train: all images one may train on; the hold-out is still in it.
        official: the data set's own validation split, or None.
        left_out: number of images by name of class that isn't among the run's; those of a test split under
            :data:`TEST_SPLIT`, whatever their class.
        unreadable: annotations that can't be read, with the reason.
    """

    train: FaceImages
    official: FaceImages | None
    left_out: Counter[str]
    unreadable: dict[str, str]


@dataclass(frozen=True)
class _Splits:
    train: ImageRows = field(default_factory=ImageRows)
    official: ImageRows = field(default_factory=ImageRows)
    unreadable: dict[str, str] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)


def read_face_data(data: str, *, classes: str = "auto", validation: str = "", images: str = "") -> FaceData:
    """Reads a data set in any of the layouts.

    Args:
        data: folder or table, local or any fsspec URI.
        classes: see :func:`emobeam.emo_transforms.training.images.face_images.choose_classes`.
        validation: folder or table of the official validation split, where it doesn't lie beside the training data;
            of one that has several splits, the validation split.
        images: folder that paths in tables start from; the table's own, or AffectNet's folders beside it, otherwise.

    Raises:
        UsageError: nothing there, classes that make no sense, or a split that is neither train, val nor test.
        EmobeamError: a table lacks columns or has a row without path or class; no image of any class; an image both to
            train on and in the official split.
    """
    found = _read_splits(data, images)
    official, unreadable = found.official, dict(found.unreadable)
    if validation:
        other = _read_splits(validation, images)
        official = other.official if other.official.uris else other.train
        unreadable |= other.unreadable
    chosen = choose_classes(classes, found.train.names)
    literal = classes == "folders"
    train, left_out = select_images(found.train, chosen, literal=literal)
    if not len(train):
        raise EmobeamError(f"{data}: holds no labelled image of {', '.join(chosen[:8])}; see emobeam pretrain --help")
    held, _ = select_images(official, chosen, literal=literal)
    if validation and not len(held):
        raise EmobeamError(f"--validation {validation}: holds no labelled image of {', '.join(chosen[:8])}")
    _check_apart(train, held, validation or data)
    return FaceData(train, held if len(held) else None, left_out + found.left_out, unreadable)


def _check_apart(train: FaceImages, official: FaceImages, where: str) -> None:
    """A figure on images that were trained on would say nothing."""
    mine = {_plain(uri) for uri in train.uris}
    shared = [uri for uri in official.uris if _plain(uri) in mine]
    if shared:
        raise EmobeamError(
            f"{where}: {len(shared)} of {len(official)} images of the official validation split are among those to "
            f"train on (first: {shared[0]}); name a split that is apart from them"
        )


def _plain(uri: str) -> str:
    """One spelling of local paths; URIs of stores have one anyway."""
    path = uri.removeprefix("file://")
    return uri if "://" in path else os.path.abspath(path)


def _read_splits(data: str, images: str) -> _Splits:
    if posixpath.splitext(data.rstrip("/"))[1].lower() in _TABLES:
        return _from_tables([(data, "")], images)
    fs, root, paths = walk_files(data)
    below_root = [below(root, path) for path in paths]
    tables = [(uri_of(fs, path), name) for path, name in zip(paths, below_root, strict=True) if _is_table(name)]
    if tables:
        return _from_tables([(uri, _split_of(posixpath.splitext(name)[0])) for uri, name in tables], images)
    splits = _Splits()
    parts = {name.split("/")[0] for name in below_root if "/" in name}
    named = {part: _split_of(part) for part in parts}
    if not {"train", "official"} & set(named.values()):
        _read_folder(fs, root, below_root, "", splits.train, splits.unreadable)
        return splits
    for part in sorted(parts):
        if split := named[part]:
            inside = [name for name in below_root if name.startswith(part + "/")]
            if split == "test":
                splits.left_out[TEST_SPLIT] += sum(map(_is_picture, inside))
                continue
            rows = splits.train if split == "train" else splits.official
            _read_folder(fs, root, inside, part + "/", rows, splits.unreadable)
    return splits


def _is_table(name: str) -> bool:
    """A list of labels: CSV or Parquet, and in folders only under the names that data sets give them."""
    stem, extension = posixpath.splitext(posixpath.basename(name))
    known = {*_TRAIN, *_OFFICIAL, "labels"}
    return extension.lower() in _TABLES and stem.lower() in known and name.count("/") <= 1


def _split_of(name: str) -> str:
    text = posixpath.basename(name).lower()
    kinds = {"train": _TRAIN, "official": _OFFICIAL, "test": _TEST}
    return next((kind for kind, known in kinds.items() if text in known), "")


def _is_picture(name: str) -> bool:
    return is_image(name)


def _read_folder(
    fs: AbstractFileSystem, root: str, names: Sequence[str], prefix: str, rows: ImageRows, unreadable: dict[str, str]
) -> None:
    """One split: class folders, or AffectNet's images and annotations."""
    inside = [name[len(prefix) :] for name in names]
    pictures = [name for name in inside if _is_picture(name)]
    if any(name.startswith("annotations/") for name in inside):
        _read_annotations(fs, f"{root}/{prefix}", set(inside), pictures, prefix, rows, unreadable)
        return
    for name in pictures:
        folder = name.split("/")[0]
        if "/" not in name:
            raise UsageError(f"{root}/{prefix}{name}: lies in no folder of a class; see emobeam pretrain --help")
        rows.add(uri_of(fs, f"{root}/{prefix}{name}"), prefix + name, folder)


def _read_annotations(
    fs: AbstractFileSystem,
    where: str,
    there: set[str],
    pictures: Sequence[str],
    prefix: str,
    rows: ImageRows,
    unreadable: dict[str, str],
) -> None:
    def read(name: str) -> tuple[str, list[float], str]:
        stem = posixpath.splitext(posixpath.basename(name))[0]
        values = []
        for end in ("exp", "val", "aro"):
            file = f"annotations/{stem}_{end}.npy"
            if file not in there:
                if end == "exp":
                    return name, [], "no annotation"
                values.append(np.nan)
                continue
            try:
                text = storage.read_bytes(uri_of(fs, posixpath.join(where, file)))
                values.append(float(np.load(io.BytesIO(text), allow_pickle=False).reshape(-1)[0]))
            except (OSError, ValueError, IndexError, EOFError) as error:
                return name, [], f"{file}: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        if not values[0].is_integer():  # rounded, it would be another class
            return name, [], f"annotations/{stem}_exp.npy: {values[0]} is not the number of a class"
        return name, values, ""

    with ThreadPoolExecutor(8) as threads:  # three tiny files per image: what takes time is opening them
        for name, values, problem in threads.map(read, [name for name in pictures if name.startswith("images/")]):
            if problem:
                unreadable[prefix + name] = problem
                continue
            uri = uri_of(fs, posixpath.join(where, name))
            rows.add(uri, prefix + name, f"{values[0]:.0f}", valence=values[1], arousal=values[2])


def _from_tables(tables: Sequence[tuple[str, str]], images: str) -> _Splits:
    splits = _Splits()
    for uri, split in tables:
        table = _read_table(uri)
        column = next((name for name in _PATHS if name in table.columns), "")
        if not column or "expression" not in table.columns:
            raise EmobeamError(
                f"{uri}: needs the columns path and expression, has {', '.join(map(str, table.columns[:8]))}"
            )
        base = images.rstrip("/") if images else _image_folder(uri, table[column].astype(str).tolist()[:20])
        parts = _named_splits(table["split"], uri) if "split" in table.columns else [split] * len(table)
        rows = table.to_dict("records")
        _check_filled(uri, rows, parts, (column, "expression"))
        for row, part in zip(rows, parts, strict=True):
            if part == "test":
                splits.left_out[TEST_SPLIT] += 1
                continue
            path = str(row[column])
            full = path if "://" in path or path.startswith("/") else f"{base}/{path}"
            target = splits.official if part == "official" else splits.train
            target.add(
                full,
                path,
                _class_text(row["expression"]),
                valence=_number(row.get("valence")),
                arousal=_number(row.get("arousal")),
                box=_box(row),
                group=_group(row.get("subject")),
            )
    return splits


def _check_filled(
    uri: str, rows: Sequence[dict[Hashable, Any]], parts: Sequence[str], columns: tuple[str, str]
) -> None:
    """Of each row but those of a test split, which may have no labels; none of them is looked at."""
    for column in columns:
        empty = [
            number
            for number, (row, part) in enumerate(zip(rows, parts, strict=True), start=1)
            if part != "test" and (pd.isna(row[column]) or not str(row[column]).strip())
        ]
        if empty:
            raise EmobeamError(
                f"{uri}: {counted(len(empty), 'row')} {noun(len(empty), 'has', 'have')} no {column} (first: row "
                f"{empty[0]} below the header, {', '.join(str(rows[empty[0] - 1][name]) for name in columns)}); fill "
                "it in, or take the row out"
            )


def _named_splits(column: pd.Series[Any], uri: str) -> list[str]:
    """Of each row; a name nobody knows must not become training data."""
    texts = ["" if missing else str(text).strip() for text, missing in zip(column, column.isna(), strict=True)]
    kinds = {text: _split_of(text) for text in set(texts)}
    if strange := sorted(text for text, kind in kinds.items() if not kind):
        count = sum(text in strange for text in texts)
        raise UsageError(
            f"{uri}: {counted(count, 'row')} {noun(count, 'has', 'have')} a split that is neither train, val nor test "
            f"({', '.join(repr(text) for text in strange[:5])}); write one of these, or leave the column out to train "
            "on all rows"
        )
    return [kinds[text] for text in texts]


def _read_table(uri: str) -> pd.DataFrame:
    try:
        if uri.lower().endswith(".parquet"):
            found: pd.DataFrame = read_parquet(uri).to_pandas(use_threads=False)
            return found
        file = io.BytesIO(storage.read_bytes(uri))
        # None is a class of AffectNet, which pandas would take for an empty cell.
        return pd.read_csv(
            file,
            encoding="utf-8-sig",
            dtype=dict.fromkeys((*_PATHS, "expression", "subject"), str),
            keep_default_na=False,
            na_values={"subject": _NOBODY},
        )
    except FileNotFoundError as error:
        raise UsageError(f"{uri}: no such file") from error
    except (ValueError, OSError) as error:  # pandas' and pyarrow's own exceptions are ValueErrors
        raise EmobeamError(f"{uri}: can't be read as a table ({error})") from error


def _image_folder(uri: str, paths: Sequence[str]) -> str:
    """The folder that relative paths of a table start from: the first of the usual ones that has one of the images."""
    fs, path = locate(uri)
    home = posixpath.dirname(path)
    for folder in (posixpath.join(home, name).rstrip("/") for name in _IMAGE_FOLDERS):
        if any(storage.exists(uri_of(fs, f"{folder}/{name}")) for name in paths):
            return uri_of(fs, folder)
    return uri_of(fs, home)


def _class_text(value: object) -> str:
    return f"{value:.0f}" if isinstance(value, float) and value.is_integer() else str(value)


def _number(value: object) -> float:
    try:
        return float(str(value)) if value is not None else float("nan")
    except ValueError:
        return float("nan")


def _group(value: object) -> str:
    return "" if value is None or value != value else str(value)


def _box(row: dict[object, object] | dict[str, object]) -> tuple[float, float, float, float] | None:
    left, top, width, height = (
        _number(row.get(name))
        for name in ("face_x", "face_y", "face_width", "face_height")  # type: ignore[call-overload]
    )
    if not (width > 0 and height > 0 and left == left and top == top):
        return None
    return left, top, left + width, top + height
