"""Stored crops as training data: windows of faces, read at random.

A cache's shards are compressed in groups of rows, so a random window would cost a whole group. Therefore the encoded
crops that a run needs are copied once, in order, into one file beside its checkpoints (some kB per crop: 5 GB for the
frames of Aff-Wild2), and worker processes map that file.
"""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.cache.dataset import shard_uri
from emobeam.emo_transforms.cache.shards import read_rows
from emobeam.emo_transforms.cache.stored_crops import network_crop
from emobeam.emo_transforms.faces.crops import Picture
from emobeam.emo_transforms.inputs.crop_folders import decode_crop
from emobeam.emo_transforms.training.heads.samples import LabelledFace
from emobeam.emo_transforms.training.heads.window_plans import cut_windows
from emobeam.emo_transforms.training.images.image_loader import BatchOrder, ordered_loader
from emobeam.schemas.config import ExtractConfig
from emobeam.schemas.records import EmobeamError, InputError, UsageError

_DATA, _INDEX = "crops.bin", "crops.npz"
_AHEAD = 2
_SHARED = "/dev/shm"


@dataclass(frozen=True, eq=False)
class PackedCrops:
    """Encoded crops in one local file.

    Attributes:
        path: of the file.
        ends: int64 ``[N + 1]``; crop i lies between ``ends[i]`` and ``ends[i + 1]``.
        boxes, landmarks: float32 ``[N, 4]`` and ``[N, 10]`` in px of the frame, NaN for folders of crops.
        items: by face, the crop of each of its rows, -1 where it isn't needed.
    """

    path: str
    ends: NDArray[np.int64]
    boxes: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    items: Mapping[int, NDArray[np.int64]]

    def picture(self, item: int, data: NDArray[np.uint8], config: ExtractConfig) -> Picture:
        """What the backbone sees of a crop; raises InputError where it can't be decoded."""
        stored = decode_crop(data[self.ends[item] : self.ends[item + 1]].tobytes(), f"crop {item}")
        box, landmarks = self.boxes[item], self.landmarks[item]
        known = not np.isnan(box).any()
        return network_crop(stored, box if known else None, landmarks if known else None, config)


def pack_crops(
    features: str, faces: Sequence[LabelledFace], wanted: Mapping[int, NDArray[np.bool_]], folder: str, identity: str
) -> PackedCrops:
    """Copies crops out of a cache's shards, once.

    Args:
        wanted: by index of the face, which of its rows are needed.
        folder: local folder for the file; what is there of the same ``identity`` is taken as it is.

    Raises:
        UsageError: the folder isn't local.
        EmobeamError: a shard holds no crops, or can't be read.
    """
    if not storage.is_local(folder):
        raise UsageError(f"{folder}: training from crops needs a local folder to map them from; name a local --output")
    items, by_shard = _places(faces, wanted)
    data, index = storage.join(folder, _DATA), storage.join(folder, _INDEX)
    kept = _read_index(index, identity, data)
    if kept is None:
        kept = _copy(features, by_shard, data)
        with storage.atomic_file(index) as path, open(path, "wb") as file:
            np.savez(file, identity=np.array(identity), ends=kept[0], boxes=kept[1], landmarks=kept[2])
    return PackedCrops(str(storage.local_path(data)), *kept, items=items)


def drop_crops(folder: str) -> None:
    """Removes the file of :func:`pack_crops`."""
    for name in (_INDEX, _DATA):
        storage.remove(storage.join(folder, name))


_Kept = tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]


def _places(
    faces: Sequence[LabelledFace], wanted: Mapping[int, NDArray[np.bool_]]
) -> tuple[dict[int, NDArray[np.int64]], dict[str, list[int]]]:
    """The number of each wanted crop by face, and the rows of every shard in the order of these numbers."""
    rows: dict[str, set[int]] = defaultdict(set)
    for index, mask in wanted.items():
        face = faces[index]
        for shard, row in zip(face.shard[mask].tolist(), face.row[0][mask].tolist(), strict=True):
            rows[face.shards[shard]].add(row)
    by_shard = {shard: sorted(rows[shard]) for shard in sorted(rows)}
    number: dict[tuple[str, int], int] = {}
    for shard, own in by_shard.items():
        number.update({(shard, row): len(number) + place for place, row in enumerate(own)})
    items = {}
    for index, mask in wanted.items():
        face = faces[index]
        pairs = zip(face.shard.tolist(), face.row[0].tolist(), mask.tolist(), strict=True)
        items[index] = np.array([number[face.shards[s], row] if use else -1 for s, row, use in pairs], np.int64)
    return items, by_shard


def _copy(features: str, by_shard: Mapping[str, Sequence[int]], data: str) -> _Kept:
    sizes, boxes, landmarks = [0], [], []
    with storage.atomic_file(data) as path, open(path, "wb") as file:
        for shard, rows in by_shard.items():
            for crop, box, marks in _crops_of(shard_uri(features, shard), rows):
                sizes.append(file.write(crop))
                boxes.append(box if box is not None else (np.nan,) * 4)
                landmarks.append(marks if marks is not None else (np.nan,) * 10)
    return (
        np.cumsum(sizes, dtype=np.int64),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(landmarks, np.float32).reshape(-1, 10),
    )


def _crops_of(uri: str, rows: Sequence[int]) -> Iterator[tuple[bytes, Any, Any]]:
    first, place = 0, 0
    for table in read_rows(uri, ["crop", "box", "landmarks"]):
        if "crop" not in table.column_names:
            raise EmobeamError(f"{uri}: holds no crops; extract with --store crops to train a backbone from them")
        mine = []
        while place < len(rows) and rows[place] < first + len(table):
            mine.append(rows[place] - first)
            place += 1
        for row in table.take(mine).to_pylist():
            yield row["crop"] or b"", row["box"] or None, row["landmarks"] or None
        first += len(table)


def _read_index(index: str, identity: str, data: str) -> _Kept | None:
    try:
        with np.load(storage.local_path(index), allow_pickle=False) as file:
            if str(file["identity"]) != identity or storage.size(data) != int(file["ends"][-1]):
                return None
            return file["ends"], file["boxes"], file["landmarks"]
    except (OSError, ValueError, KeyError, EOFError):
        return None


@dataclass(frozen=True, eq=False)
class ClipWindows:
    """Windows of labelled faces.

    Attributes:
        face: int32 ``[W]``, index of the face of each window.
        rows: int32 ``[W, T]``, rows of that face; the last real one is repeated as padding.
        lengths: int16 ``[W]``, real rows.
    """

    face: NDArray[np.int32]
    rows: NDArray[np.int32]
    lengths: NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.face)

    @property
    def real(self) -> NDArray[np.bool_]:
        """``[W, T]``: not padding."""
        return np.asarray(np.arange(self.rows.shape[1]) < self.lengths[:, None])


def clip_windows(
    faces: Sequence[LabelledFace], chosen: Sequence[int], length: int, *, gap: float, labelled: bool, stride: int = 0
) -> ClipWindows:
    """Windows of some faces, side by side where ``stride`` is 0.

    Args:
        gap: s without a row that end a window.
        labelled: rows without any valid label are left out before windows are cut.
    """
    face, rows, lengths = [], [], []
    for index in chosen:
        keep = np.asarray(faces[index].valid.any(axis=1), bool) if labelled else None
        own, real = cut_windows(faces[index].time, length, stride, gap, keep=keep)
        face.append(np.full(len(own), index, np.int32))
        rows.append(own)
        lengths.append(real)
    if not face:
        return ClipWindows(np.zeros(0, np.int32), np.zeros((0, length), np.int32), np.zeros(0, np.int16))
    return ClipWindows(np.concatenate(face), np.concatenate(rows), np.concatenate(lengths))


@dataclass(frozen=True, eq=False)
class ClipBatch:
    """Windows as pictures.

    Attributes:
        windows: int64 ``[B]``, which.
        pictures: uint8 ``[B, T, S, S, 3]``, RGB; black where a crop can't be decoded.
        readable: bool ``[B, T]``.
    """

    windows: Tensor
    pictures: Tensor
    readable: Tensor

    def pin_memory(self) -> ClipBatch:
        """Called by torch's loader where a GPU waits."""
        return ClipBatch(self.windows, self.pictures.pin_memory(), self.readable)


class _Clips(Dataset[Any]):
    def __init__(self, packed: PackedCrops, windows: ClipWindows, config: ExtractConfig) -> None:
        self._packed, self._windows, self._config = packed, windows, config
        self._data: NDArray[np.uint8] | None = None

    def __getitem__(self, window: int) -> tuple[int, Picture, NDArray[np.bool_]]:
        if self._data is None:  # every process maps the file for itself
            self._data = np.memmap(self._packed.path, np.uint8, "r") if self._packed.ends[-1] else np.zeros(0, np.uint8)
        size = self._config.backbone.input_size
        items = self._packed.items[int(self._windows.face[window])][self._windows.rows[window]].tolist()
        pictures = np.zeros((len(items), size, size, 3), np.uint8)
        readable = np.ones(len(items), bool)
        for place, item in enumerate(items):
            if place and item == items[place - 1]:
                pictures[place], readable[place] = pictures[place - 1], readable[place - 1]
                continue
            try:
                pictures[place] = self._packed.picture(item, self._data, self._config)
            except InputError:
                readable[place] = False
        return window, pictures, readable


def _collate(items: Sequence[tuple[int, Picture, NDArray[np.bool_]]]) -> ClipBatch:
    return ClipBatch(
        torch.tensor([window for window, _, _ in items]),
        torch.from_numpy(np.stack([pictures for _, pictures, _ in items])),
        torch.from_numpy(np.stack([readable for _, _, readable in items])),
    )


class ClipLoader:
    """Batches of windows, epoch by epoch; the same ones whatever the number of workers.

    Args:
        config: of the cache, with the backbone that is to see the crops.
        batch: windows of a batch.
        fraction: of the batches of an epoch that are drawn.
        workers: processes that read ahead; 0 reads in this one.
    """

    def __init__(
        self,
        packed: PackedCrops,
        windows: ClipWindows,
        config: ExtractConfig,
        *,
        batch: int,
        fraction: float = 1.0,
        seed: int = 0,
        workers: int = 0,
        pinned: bool = False,
    ) -> None:
        self.windows = windows
        self._batch, self._fraction, self._seed = batch, fraction, seed
        self._order: BatchOrder[int] = BatchOrder()
        self._loader = ordered_loader(
            _Clips(packed, windows, config),
            self._order,
            _collate,
            workers=workers,
            ahead=_AHEAD,
            pinned=pinned,
            seed=seed,
        )

    def steps(self) -> int:
        """Batches of an epoch."""
        return max(int(self._fraction * -(-len(self.windows) // self._batch)), 1)

    def shuffled(self, epoch: int, start: int = 0) -> Iterator[ClipBatch]:
        """The batches of an epoch from ``start`` on, drawn anew in every epoch."""
        order = np.random.default_rng([self._seed, epoch, len(self.windows)]).permutation(len(self.windows)).tolist()
        batches = [order[at : at + self._batch] for at in range(0, len(order), self._batch)]
        self._order.batches = batches[: self.steps()][start:]
        return iter(self._loader)

    def in_order(self) -> Iterator[ClipBatch]:
        """All windows, in their order."""
        order = list(range(len(self.windows)))
        self._order.batches = [order[at : at + self._batch] for at in range(0, len(order), self._batch)]
        return iter(self._loader)


def workers_that_fit(wanted: int, frames: int, edge: int, free: int | None = None) -> int:
    """At most ``wanted`` processes: as many as have room for their batches in half of the shared memory.

    Batches come from worker processes through shared memory, of which containers often have 64 MB; a process that
    finds no room there is killed.

    Args:
        frames: of a batch.
        edge: of its pictures in px.
        free: bytes of shared memory; None: what the system has, all that is wanted where it doesn't say.
    """
    if free is None:
        try:
            free = shutil.disk_usage(_SHARED).free
        except OSError:
            return wanted
    return min(wanted, free // 2 // ((_AHEAD + 1) * frames * edge * edge * 3))


def crops_identity(digest: str, chosen: Sequence[Sequence[int]]) -> str:
    """What the packed file is about: rows and labels, and which faces train and are held out."""
    return json.dumps([digest, [list(part) for part in chosen]], separators=(",", ":"))
