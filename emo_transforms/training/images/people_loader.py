"""Batches of crops of people: decoded, augmented and mirrored, the same ones in every run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from emobeam.emo_transforms.faces import augmented_views
from emobeam.emo_transforms.faces.crops import Picture, fit_crop
from emobeam.emo_transforms.training.images.image_loader import BatchOrder, ordered_loader
from emobeam.emo_transforms.training.images.people_crops import PeopleCrops, mirror_landmarks
from emobeam.schemas.records import EmobeamError


@dataclass(frozen=True, eq=False)
class PeopleBatch:
    """Pictures uint8 ``[n, S, S, 3]`` (RGB), their targets float32 ``[n, K]`` and landmarks ``[n, 51, 2]``.

    NaN where nobody knows.
    """

    pictures: Tensor
    targets: Tensor
    landmarks: Tensor


class _Crops(Dataset[Any]):
    def __init__(self, crops: PeopleCrops, size: int, seed: int, augmented: bool) -> None:
        self._crops, self._size, self._seed, self._augmented = crops, size, seed, augmented
        self._mirrored = crops.mirrored

    def __getitem__(self, where: tuple[int, int]) -> tuple[Picture, Any, Any]:
        epoch, place = where
        picture = decode(self._crops.crops[place], self._crops.ids[place])
        targets, landmarks = self._crops.targets[place], self._crops.landmarks[place]
        if not self._augmented:
            return fit_crop(picture, self._size), targets, landmarks
        rng = np.random.default_rng([self._seed, epoch, place])
        change = augmented_views.draw(rng)
        picture = fit_crop(picture, self._size)
        if change.flip:
            picture, targets = np.ascontiguousarray(picture[:, ::-1]), targets[self._mirrored]
            landmarks = mirror_landmarks(landmarks)
        change = replace(change, flip=False)
        return augmented_views.apply(picture, change), targets, augmented_views.move_points(landmarks, change)


def decode(data: bytes, name: str) -> Picture:
    """An encoded crop as RGB uint8 ``[h, w, 3]``.

    Raises:
        EmobeamError: it is no picture.
    """
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) if data else None
    if picture is None:
        raise EmobeamError(f"{name}: the crop is no picture that can be decoded; make its file anew")
    return np.asarray(picture, np.uint8)


def _collate(items: Sequence[tuple[Picture, Any, Any]]) -> PeopleBatch:
    pictures, targets, landmarks = zip(*items, strict=True)
    return PeopleBatch(*(torch.from_numpy(np.stack(part)) for part in (pictures, targets, landmarks)))


class PeopleLoader:
    """Batches of crops, epoch by epoch.

    Args:
        size: edge of the pictures in px.
        batch: crops of a batch.
        augmented: changed as ``.faces.augmented_views`` draws it, sides of the targets mirrored with the picture.
        workers: processes that prepare ahead; 0 prepares in this one.
    """

    def __init__(
        self, crops: PeopleCrops, *, size: int, batch: int, seed: int, augmented: bool, workers: int = 0
    ) -> None:
        self._count, self._batch, self._seed = len(crops), batch, seed
        self._order: BatchOrder[tuple[int, int]] = BatchOrder()
        data = _Crops(crops, size, seed, augmented)
        self._loader = ordered_loader(data, self._order, _collate, workers=workers, seed=seed)

    def steps(self) -> int:
        """Batches of a shuffled epoch: whole ones, or the only one."""
        return max(self._count // self._batch, 1)

    def shuffled(self, epoch: int, start: int = 0) -> Iterator[PeopleBatch]:
        """The batches of an epoch from ``start`` on; what doesn't fill the last one waits for another epoch."""
        order = np.random.default_rng([self._seed, epoch, self._count]).permutation(self._count)
        places = [(epoch, place) for place in order[: self.steps() * self._batch].tolist()]
        self._order.batches = self._cut(places)[start:]
        return iter(self._loader)

    def in_order(self) -> Iterator[PeopleBatch]:
        """All crops, in their order."""
        self._order.batches = self._cut([(0, place) for place in range(self._count)])
        return iter(self._loader)

    def _cut(self, places: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
        return [places[start : start + self._batch] for start in range(0, len(places), self._batch)]
