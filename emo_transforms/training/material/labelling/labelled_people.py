"""Everything labelled of one person: photographs, clips made of them, or the rows of a feature cache."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageOps

from emobeam.emo_transforms.cache.stored_crops import network_crop
from emobeam.emo_transforms.faces.crops import Detector, Picture, crop_square, in_square
from emobeam.emo_transforms.faces.detection.detectors import make_detector
from emobeam.emo_transforms.inputs.crop_folders import decode_crop, read_crop
from emobeam.emo_transforms.training.material.labelling.landmarks import SIXTY_EIGHT
from emobeam.emo_transforms.training.material.labelling.moving_photographs import ClipConfig, move
from emobeam.emo_transforms.training.material.labelling.sources import Source, crop_settings, stored_faces
from emobeam.emo_transforms.training.material.labelling.teacher import Look, Teacher, teacher_units
from emobeam.emo_transforms.training.material.labelling.warping import MovableMesh
from emobeam.emo_transforms.training.material.rendering.face_model import Floats
from emobeam.emo_transforms.training.material.rendering.people import FIRST_LANDMARK
from emobeam.emo_transforms.training.material.rendering.units import UNIT_SHAPES
from emobeam.schemas.config import DetectorConfig
from emobeam.schemas.records import EmobeamError, InputError

REVISION = 2
"""Raised by hand whenever a change of this package changes the labels of the same pictures."""

MARGIN = 0.2
"""Of crops about MTCNN's box, as stage 1 cuts them by default."""

_LOOK_AGAIN = 1.2
"""Margin of the square about a box in which the teacher looks for a face that it missed in the whole picture."""

_BORDER = 0.35
"""What a stored crop is padded with for the teacher, in its own edges: it finds no faces that fill a picture."""


@dataclass(frozen=True)
class LabelConfig:
    """What is made of each person's pictures.

    Attributes:
        size: edge of a crop in px.
        clips: moving clips made of each photograph.
        seconds, fps: of a clip.
        faults: clips as poor cameras take them (``rendering.capture``); else clean. Photographs stay as they are.
        seed: of the clips.
    """

    size: int = 160
    clips: int = 0
    seconds: float = 10.0
    fps: float = 6.0
    faults: bool = True
    seed: int = 0


@dataclass
class Counts:
    """How the pictures of a person fared.

    Attributes:
        pictures: photographs, or crops in a cache.
        no_face: of these, without a face for the detector.
        unseen: with a face that the teacher doesn't see; photographs are left out, crops of caches have null units.
        unreadable: what could not be read, with the reason.
    """

    pictures: int = 0
    no_face: int = 0
    unseen: int = 0
    unreadable: list[str] = field(default_factory=list)


class Labeller:
    """The detector, the teacher and, for clips, the mesh that moves faces: loaded once for many people."""

    def __init__(self, teacher: Teacher, mesh: MovableMesh | None = None) -> None:
        self.teacher = teacher
        self.mesh = mesh

    @cached_property
    def _detector(self) -> Detector:
        return make_detector(DetectorConfig())

    def find(self, picture: Picture) -> Floats | None:
        """Box of the largest face in a picture, ``[4]`` px; None where there is none."""
        self._detector.start()
        (faces,) = self._detector.detect([picture], [0.0])
        if not len(faces):
            return None
        widths, heights = (faces.boxes[:, 2:] - faces.boxes[:, :2]).T
        return np.asarray(faces.boxes[int((widths * heights).argmax())], np.float32)

    def look_at(self, picture: Picture, box: Floats) -> Look | None:
        """What the teacher sees of the face in a box: in the whole picture, else close by."""
        look = self.teacher.look(picture)
        if look is not None and _inside(look, box):
            return look
        left, top, right, bottom = (float(value) for value in box)
        reach = max(right - left, bottom - top) * (1 + _LOOK_AGAIN) / 2
        x, y = max(int((left + right) / 2 - reach), 0), max(int((top + bottom) / 2 - reach), 0)
        part = picture[y : int((top + bottom) / 2 + reach), x : int((left + right) / 2 + reach)]
        if min(part.shape[:2]) < 2:
            return None
        look = self.teacher.look(part)
        if look is None:
            return None
        points = look.landmarks + np.array([x, y], np.float32)
        moved = Look(look.shapes, points, look.yaw, look.pitch, look.roll)
        return moved if _inside(moved, box) else None

    def label(self, source: Source, config: LabelConfig, counts: Counts) -> Iterator[dict[str, Any]]:
        """Rows of a person (see ``.pipelines.training.people_files.crops_schema``); ``counts`` fills up meanwhile."""
        yield from self._stored(source, config, counts) if source.cache else self._photographs(source, config, counts)

    def _photographs(self, source: Source, config: LabelConfig, counts: Counts) -> Iterator[dict[str, Any]]:
        frame = 0
        found: list[tuple[str, Floats, Look]] = []
        for uri in source.pictures:
            counts.pictures += 1
            try:
                picture = read_photograph(uri)
            except InputError as error:
                counts.unreadable.append(str(error))
                continue
            box = self.find(picture)
            if box is None:
                counts.no_face += 1
                continue
            look = self.look_at(picture, box)
            if look is None:
                counts.unseen += 1
                continue
            frame += 1
            crop = crop_square(picture, box, MARGIN, config.size)
            landmarks = in_square(look.landmarks[list(SIXTY_EIGHT[FIRST_LANDMARK:])], box, MARGIN)
            yield row(source.number, 0, frame, None, crop, teacher_units(look), look, landmarks)
            if config.clips:
                found.append((uri, box, look))
        for place, (uri, box, look) in enumerate(found):
            yield from self._clips(source.number, place, read_photograph(uri), box, look, config)

    def _clips(
        self, number: int, place: int, picture: Picture, box: Floats, look: Look, config: LabelConfig
    ) -> Iterator[dict[str, Any]]:
        """The clips of one photograph; photographs are clip 0, so the first is 1."""
        if self.mesh is None:
            raise ValueError("clips need a mesh")
        form = ClipConfig(config.size, config.seconds, config.fps, config.faults, MARGIN)
        for clip in range(place * config.clips, (place + 1) * config.clips):
            rng = np.random.default_rng([config.seed, number, clip, REVISION])
            for moved in move(self.mesh, self.teacher, picture, box, look, rng, form):
                where = (number, clip + 1, moved.frame, moved.time)
                yield row(*where, moved.crop, moved.units, moved.look, moved.landmarks)

    def _stored(self, source: Source, config: LabelConfig, counts: Counts) -> Iterator[dict[str, Any]]:
        settings = crop_settings(source.cache, config.size)
        clip = -1
        for video in source.names:
            try:
                faces = sorted(
                    stored_faces(source.cache, video), key=lambda face: (face.segment, face.track, face.frame)
                )
            except (EmobeamError, OSError) as error:
                counts.unreadable.append(f"{video}: {error}")
                continue
            before = None
            for face in faces:
                counts.pictures += 1
                try:
                    stored = decode_crop(face.data, f"{video}: crop of frame {face.frame}")
                except InputError as error:
                    counts.unreadable.append(str(error))
                    continue
                if before != (face.segment, face.track):
                    before, clip = (face.segment, face.track), clip + 1
                look = self.teacher.look(padded(stored))
                counts.unseen += look is None
                crop = network_crop(stored, face.box, face.landmarks, settings)
                units = dict.fromkeys(u.unit for u in UNIT_SHAPES) if look is None else teacher_units(look)
                yield row(source.number, clip, face.frame, face.time, crop, units, look)


def row(
    number: int,
    clip: int,
    frame: int,
    time: float | None,
    crop: Picture,
    units: Mapping[str, float | None],
    look: Look | None,
    landmarks: Floats | None = None,
) -> dict[str, Any]:
    """A row of a people folder; angles and shapes are the teacher's, null where it saw nothing."""
    truth: dict[str, Any] = dict.fromkeys(("yaw", "pitch", "roll", "shapes"))
    if look is not None:
        truth = {"yaw": look.yaw, "pitch": look.pitch, "roll": look.roll, "shapes": sorted(look.shapes.items())}
    truth["landmarks"] = None if landmarks is None else landmarks.ravel().tolist()
    return {"person": number, "clip": clip, "frame": frame, "time": time, "crop": jpeg(crop), **units, **truth}


def read_photograph(uri: str) -> Picture:
    """A photograph as RGB uint8 ``[h, w, 3]``, turned as its EXIF orientation says.

    Raises:
        InputError: see ``crops.read_crop``.
    """
    data, picture = read_crop(uri)
    with Image.open(io.BytesIO(data)) as image:
        if image.getexif().get(0x0112, 1) == 1:
            return picture
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def padded(crop: Picture) -> Picture:
    """A crop with its border drawn out on all sides, for the teacher."""
    extra = round(max(crop.shape[:2]) * _BORDER)
    return np.asarray(cv2.copyMakeBorder(crop, extra, extra, extra, extra, cv2.BORDER_REPLICATE), np.uint8)


def jpeg(picture: Picture) -> bytes:
    """A crop as JPEG of quality 92."""
    data = io.BytesIO()
    Image.fromarray(picture).save(data, "JPEG", quality=92)
    return data.getvalue()


def _inside(look: Look, box: Floats) -> bool:
    x, y = (look.landmarks.min(0) + look.landmarks.max(0)) / 2
    return bool(box[0] <= x <= box[2] and box[1] <= y <= box[3])
