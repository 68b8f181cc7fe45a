"""Batches of face images: read, decoded and augmented by worker processes, the same ones in every run.

What a picture looks like depends on the seed, the epoch and its place in the data set alone, never on which worker had
it or how many there are. Pictures stay uint8 until they are on the device.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from emobeam.emo_transforms.faces import augmented_views as faces
from emobeam.emo_transforms.faces.crops import Picture, crop_square, fit_crop
from emobeam.emo_transforms.inputs.crop_folders import read_crop
from emobeam.emo_transforms.training.images.face_images import FaceImages
from emobeam.schemas.records import InputError

_ADDRESS = re.compile(r" <_io\.BytesIO object at 0x[0-9a-f]+>")  # Pillow tells where the bytes lay in memory

Place = TypeVar("Place")

MARGIN = 0.2
"""Added to the edge of the square about a face's box, as ``emobeam extract`` does by default."""


@dataclass(frozen=True, eq=False)
class ImageBatch:
    """Pictures that could be read, and the others.

    Attributes:
        places: int64 ``[n]`` in the data set.
        pictures: uint8 ``[n, S, S, 3]``, RGB.
        problems: place and reason of each image that could not be read.
    """

    places: Tensor
    pictures: Tensor
    problems: tuple[tuple[int, str], ...]

    def pin_memory(self) -> ImageBatch:
        """Called by torch's loader where a GPU waits."""
        return ImageBatch(self.places, self.pictures.pin_memory(), self.problems)


class Transform(Protocol):
    """From a decoded picture to the network's size."""

    def __call__(self, picture: Picture, rng: np.random.Generator) -> Picture:
        """Pictures uint8 ``[H, W, 3]``; all chance comes from ``rng``."""


@dataclass(frozen=True)
class PlainTransform:
    """Resized alone, by the kernel that ``emobeam extract`` uses."""

    size: int

    def __call__(self, picture: Picture, rng: np.random.Generator) -> Picture:
        """A square of ``size``; chance plays no part."""
        return fit_crop(picture, self.size)


@dataclass(frozen=True)
class FaceTransform:
    """The mild changes of ``emobeam.emo_transforms.faces.augmented_views``, each picture by itself."""

    size: int

    def __call__(self, picture: Picture, rng: np.random.Generator) -> Picture:
        """A square of ``size``, changed as ``rng`` draws."""
        return faces.apply(fit_crop(picture, self.size), faces.draw(rng))


class ImagenetTransform:
    """timm's training transform: random resized crops, mirroring, RandAugment m8, grey, blur."""

    def __init__(self, size: int) -> None:
        from timm.data import create_transform  # type: ignore[attr-defined]

        self._transform: Any = create_transform(
            size,
            is_training=True,
            scale=(0.08, 1.0),
            ratio=(3 / 4, 4 / 3),
            hflip=0.5,
            color_jitter=0.4,
            grayscale_prob=0.1,
            gaussian_blur_prob=0.05,
            auto_augment="rand-m8-inc1-mstd1.0",
            interpolation="random",
            normalize=False,
        )

    def __call__(self, picture: Picture, rng: np.random.Generator) -> Picture:
        """A square of ``size``, changed by a seed drawn from ``rng``; global sources of chance stay as they are."""
        with _global_seed(int(rng.integers(2**31))):  # timm draws from three global sources
            tensor: Tensor = self._transform(Image.fromarray(picture))
        return tensor.permute(1, 2, 0).contiguous().numpy()


@contextmanager
def _global_seed(seed: int) -> Iterator[None]:
    plain, array = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            random.seed(seed)
            np.random.seed(seed)
            torch.default_generator.manual_seed(seed)
            yield
    finally:
        random.setstate(plain)
        np.random.set_state(array)


class _Pictures(Dataset[Any]):
    def __init__(self, images: FaceImages, transform: Transform, seed: int) -> None:
        self._uris, self._boxes, self._transform, self._seed = images.uris, images.boxes, transform, seed

    def __getitem__(self, where: tuple[int, int]) -> tuple[int, Picture | str]:
        epoch, place = where
        try:
            _, picture = read_crop(self._uris[place])
        except InputError as error:
            return place, _ADDRESS.sub("", str(error))
        box = self._boxes[place]
        if not np.isnan(box).any():
            edge = max(int(max(box[2] - box[0], box[3] - box[1]) * (1 + MARGIN)), 1)
            picture = crop_square(picture, box, MARGIN, edge)
        return place, self._transform(picture, np.random.default_rng([self._seed, epoch, place]))


def _collate(items: Sequence[tuple[int, Picture | str]]) -> ImageBatch:
    fine = [(place, picture) for place, picture in items if not isinstance(picture, str)]
    problems = tuple((place, reason) for place, reason in items if isinstance(reason, str))
    pictures = np.stack([picture for _, picture in fine]) if fine else np.zeros((0, 1, 1, 3), np.uint8)
    return ImageBatch(torch.tensor([place for place, _ in fine]), torch.from_numpy(pictures), problems)


class BatchOrder(Generic[Place]):
    """The batches of the next epoch, as torch's loader asks for them."""

    def __init__(self) -> None:
        self.batches: list[list[Place]] = []

    def __iter__(self) -> Iterator[list[Place]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def ordered_loader(
    data: Dataset[Any],
    order: BatchOrder[Any],
    collate: Callable[[Any], Any],
    *,
    seed: int,
    workers: int = 0,
    ahead: int = 4,
    pinned: bool = False,
) -> DataLoader[Any]:
    """Torch's loader of batches in an order that is set anew for each epoch.

    Args:
        workers: processes that read ahead, and stay from epoch to epoch; 0 reads in this one.
        ahead: batches that each of them has ready.
        pinned: for copies to a GPU that overlap with work on it.
    """
    return DataLoader(
        data,
        batch_sampler=order,  # type: ignore[arg-type]  # any iterable of lists will do
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pinned,
        persistent_workers=workers > 0,
        worker_init_fn=_calm_worker if workers else None,
        prefetch_factor=ahead if workers else None,
        generator=torch.Generator().manual_seed(seed),  # or each pass would draw from the global one
    )


class ImageLoader:
    """Batches of a data set, epoch by epoch.

    Args:
        batch: images of a batch.
        workers: processes that read ahead; 0 reads in this one.
        pinned: for copies to a GPU that overlap with work on it.
    """

    def __init__(
        self, images: FaceImages, transform: Transform, *, batch: int, seed: int, workers: int = 0, pinned: bool = False
    ) -> None:
        self._count, self._batch, self._seed = len(images), batch, seed
        self._order: BatchOrder[tuple[int, int]] = BatchOrder()
        data = _Pictures(images, transform, seed)
        self._loader = ordered_loader(data, self._order, _collate, workers=workers, pinned=pinned, seed=seed)

    def steps(self) -> int:
        """Batches of a shuffled epoch: whole ones, or the only one."""
        return max(self._count // self._batch, 1)

    def shuffled(self, epoch: int, start: int = 0) -> Iterator[ImageBatch]:
        """The batches of an epoch from ``start`` on; what doesn't fill the last one waits for another epoch."""
        order = np.random.default_rng([self._seed, epoch, self._count]).permutation(self._count)
        self._order.batches = self._cut(order[: self.steps() * self._batch], epoch)[start:]
        return iter(self._loader)

    def in_order(self) -> Iterator[ImageBatch]:
        """All images, in their order."""
        self._order.batches = self._cut(np.arange(self._count), 0)
        return iter(self._loader)

    def _cut(self, order: NDArray[np.intp], epoch: int) -> list[list[tuple[int, int]]]:
        places = [(epoch, place) for place in order.tolist()]
        return [places[start : start + self._batch] for start in range(0, len(places), self._batch)]


def _calm_worker(worker: int) -> None:
    """One thread for each process, there being many."""
    torch.set_num_threads(1)
