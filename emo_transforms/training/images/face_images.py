"""Collections of labelled face images, as AffectNet and its kin are handed out.

Layouts, told apart by what lies in the folder:

    class folders   ``train/<class>/*.jpg``, ``val/<class>/*``; ``<class>`` is a name, or AffectNet's number
    AffectNet       ``images/*.jpg`` with ``annotations/*_exp.npy``, ``*_val.npy``, ``*_aro.npy``; also one such folder
                    each in ``train_set`` and ``val_set``
    tables          CSV or Parquet with ``path``, ``expression`` and optionally ``valence``, ``arousal``, ``split``,
                    ``subject``; AffectNet's ``training.csv`` and ``validation.csv`` (``subDirectory_filePath``,
                    ``face_x`` ...)

Images of a split called ``test`` are left out and counted; a column ``split`` may hold no other name than those of
training, validation and test splits.

AffectNet's numbers: 0 Neutral, 1 Happiness, 2 Sadness, 3 Surprise, 4 Fear, 5 Disgust, 6 Anger, 7 Contempt; 8 None,
9 Uncertain and 10 No-Face are left out. A valence or arousal outside [-1, 1] (AffectNet writes -2) is no label.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from emobeam.schemas.records import EmobeamError, UsageError

EMOTIONS = ("Anger", "Contempt", "Disgust", "Fear", "Happiness", "Neutral", "Sadness", "Surprise")
"""The eight classes in the order of the networks of the HSEmotion family; seven are these without Contempt."""

AFFECTNET = ("Neutral", "Happiness", "Sadness", "Surprise", "Fear", "Disgust", "Anger", "Contempt")
"""AffectNet's numbers from 0."""

NO_CLASS = ("None", "Uncertain", "No-Face")
"""AffectNet's numbers 8 to 10: images without one of the eight labels."""

_ALIKE: Mapping[str, str] = {
    **{name.lower(): name for name in (*EMOTIONS, *NO_CLASS)},
    "angry": "Anger",
    "disgusted": "Disgust",
    "fearful": "Fear",
    "afraid": "Fear",
    "happy": "Happiness",
    "sad": "Sadness",
    "surprised": "Surprise",
    "contemptuous": "Contempt",
    "neutrality": "Neutral",
    "noface": "No-Face",
    "no_face": "No-Face",
    "joy": "Happiness",
}


@dataclass
class ImageRows:
    """Images as a layout names them, before classes are decided; lists in parallel.

    Attributes:
        ids: paths below the root, for people and digests.
        names: of the classes, as the data set writes them.
        valence, arousal: NaN where there is no label.
        boxes: left, top, right, bottom of the face in px, or None: the image is the face.
        groups: images of one subject share it; ``""``: not known.
    """

    uris: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    valence: list[float] = field(default_factory=list)
    arousal: list[float] = field(default_factory=list)
    boxes: list[tuple[float, float, float, float] | None] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)

    def add(
        self,
        uri: str,
        identity: str,
        name: str,
        *,
        valence: float = np.nan,
        arousal: float = np.nan,
        box: tuple[float, float, float, float] | None = None,
        group: str = "",
    ) -> None:
        """Appends an image; values that are no label become NaN."""
        fine = -1 <= valence <= 1 and -1 <= arousal <= 1
        self.uris.append(uri)
        self.ids.append(identity)
        self.names.append(name)
        self.valence.append(valence if fine else np.nan)
        self.arousal.append(arousal if fine else np.nan)
        self.boxes.append(box)
        self.groups.append(group)


@dataclass(frozen=True, eq=False)
class FaceImages:
    """Labelled images of one split, sorted by id.

    Attributes:
        classes: names; ``labels`` are places in it.
        uris, ids, groups: as in :class:`ImageRows`.
        labels: int64 ``[n]``.
        va: float32 ``[n, 2]``, valence and arousal in [-1, 1]; both NaN where there is no label.
        boxes: float32 ``[n, 4]``, NaN where the image is the face.
    """

    classes: tuple[str, ...]
    uris: tuple[str, ...]
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    labels: NDArray[np.int64]
    va: NDArray[np.float32]
    boxes: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.uris)

    def counts(self) -> NDArray[np.int64]:
        """Images of each class, ``[C]``."""
        return np.bincount(self.labels, minlength=len(self.classes)).astype(np.int64)

    def take(self, places: NDArray[np.intp]) -> FaceImages:
        """Some of the images, in the order of ``places``."""
        chosen = places.tolist()
        return FaceImages(
            self.classes,
            tuple(self.uris[i] for i in chosen),
            tuple(self.ids[i] for i in chosen),
            tuple(self.groups[i] for i in chosen),
            self.labels[places],
            self.va[places],
            self.boxes[places],
        )

    def digest(self) -> str:
        """sha256 over ids and labels: two runs with equal digests were given the same split."""
        found = hashlib.sha256()
        for identity, label, (valence, arousal) in zip(self.ids, self.labels.tolist(), self.va.tolist(), strict=True):
            found.update(f"{identity}\0{self.classes[label]}\0{valence:.4f}\0{arousal:.4f}\n".encode())
        return found.hexdigest()


def plain_class(name: str) -> str:
    """The usual name of a class: ``happy`` and ``1`` are ``Happiness``; names that aren't known stay as they are."""
    text = name.strip()
    if text.isascii() and text.isdecimal():
        numbers = (*AFFECTNET, *NO_CLASS)
        return numbers[int(text)] if int(text) < len(numbers) else text
    return _ALIKE.get(text.lower(), text)


def choose_classes(wanted: str, names: Sequence[str]) -> tuple[str, ...]:
    """The classes of a run.

    Args:
        wanted: ``auto`` (eight emotions, seven where nothing is labelled Contempt), ``8``, ``7``, ``folders`` (each
            name in the data, as it is written, is a class), or names separated by commas.
        names: all names in the training data, as the data set writes them.

    Raises:
        UsageError: names in the data that are no emotions, with ``auto``, or fewer than two classes.
    """
    if wanted == "folders":
        chosen = tuple(sorted(set(names)))
    elif wanted in ("auto", "8", "7"):
        found = {plain_class(name) for name in set(names)}
        strange = sorted(found - {*EMOTIONS, *NO_CLASS})
        if strange:
            raise UsageError(
                f"the data has classes that are no emotions of AffectNet ({', '.join(strange[:5])}); choose with "
                "--classes Name,Name,... or take every name with --classes folders"
            )
        seven = wanted == "7" or (wanted == "auto" and "Contempt" not in found)
        chosen = tuple(name for name in EMOTIONS if not (seven and name == "Contempt"))
    else:
        chosen = tuple(plain_class(name) for name in wanted.split(",") if name.strip())
    if len(set(chosen)) < 2 or len(set(chosen)) != len(chosen):
        raise UsageError(
            f"--classes {wanted}: needs two or more different classes, found {', '.join(chosen) or 'none'}"
        )
    return chosen


def select_images(rows: ImageRows, classes: Sequence[str], *, literal: bool = False) -> tuple[FaceImages, Counter[str]]:
    """The images of these classes, sorted by id, and how many there were of every other name.

    Args:
        literal: names are compared as they are written (``--classes folders``).

    Raises:
        EmobeamError: one id twice.
    """
    place = {name: index for index, name in enumerate(classes)}
    named = [name if literal else plain_class(name) for name in rows.names]
    kept = [index for index in range(len(named)) if named[index] in place]
    kept.sort(key=lambda index: rows.ids[index])
    ids = tuple(rows.ids[index] for index in kept)
    if len(set(ids)) < len(ids):
        twice = next(name for name, count in Counter(ids).items() if count > 1)
        raise EmobeamError(f"{twice}: stands in the data twice; a label file must name each image once")
    left_out = Counter(name for name in named if name not in place)
    boxes = [rows.boxes[index] or (np.nan,) * 4 for index in kept]
    images = FaceImages(
        classes=tuple(classes),
        uris=tuple(rows.uris[index] for index in kept),
        ids=ids,
        groups=tuple(rows.groups[index] for index in kept),
        labels=np.array([place[named[index]] for index in kept], np.int64),
        va=np.array([(rows.valence[i], rows.arousal[i]) for i in kept], np.float32).reshape(-1, 2),
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
    )
    return images, left_out


def split_holdout(images: FaceImages, share: float, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Places of the images to train on and of those held out.

    Of each class ``share`` of the images is held out, at least one where there are two; which ones is decided by a
    hash of seed and id, so that adding images leaves the others where they are. Images of one group stay together: a
    group goes where its first image goes.
    """
    keys = [
        hashlib.sha256(f"{seed}\0{group or identity}".encode()).digest()
        for identity, group in zip(images.ids, images.groups, strict=True)
    ]
    held: set[str] = set()
    for label in range(len(images.classes)):
        mine = sorted(np.flatnonzero(images.labels == label).tolist(), key=lambda index: keys[index])
        units = list(dict.fromkeys(images.groups[i] or images.ids[i] for i in mine))
        wanted = max(round(share * len(units)), 1 if len(units) > 1 and share > 0 else 0)
        held.update(units[:wanted])
    out = np.array([(g or i) in held for i, g in zip(images.ids, images.groups, strict=True)], bool)
    return np.flatnonzero(~out), np.flatnonzero(out)
