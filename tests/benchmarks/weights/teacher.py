"""The teacher's readings of real clips, kept in a folder so that they are taken once."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emobeam.emo_transforms.storage import write_json
from emobeam.emo_transforms.video.decoding_process import DecoderProcess
from emobeam.schemas.config import ExtractConfig
from tests.benchmarks.material import sampled_frames

VERSION = 2


@dataclass(frozen=True)
class Reading:
    """What the teacher sees in one sampled frame.

    Attributes:
        frame: number of the native frame.
        time: s.
        units: activations in [0, 1] by name; null where the teacher can't tell. Empty where it sees no face.
        shapes: its blendshapes by ICT-FaceKit's names.
        centre: of the face, px.
    """

    frame: int
    time: float
    units: Mapping[str, float | None]
    shapes: Mapping[str, float]
    centre: tuple[float, float] | None

    @property
    def smile(self) -> float:
        return smile_of(self.shapes)

    @property
    def open_without_smile(self) -> bool:
        """An open mouth that does not smile, as :func:`open_mouth` has it."""
        return self.centre is not None and open_mouth(
            self.shapes.get("jawOpen", 0.0), self.units.get("AU25"), self.smile
        )


def smile_of(shapes: Mapping[str, float]) -> float:
    """The stronger side of a smile."""
    return max(shapes.get("mouthSmile_L", 0.0), shapes.get("mouthSmile_R", 0.0))


def open_mouth(jaw: float, parted: float | None, smile: float) -> bool:
    """Whether a mouth is open (jaw at least 0.3, or lips parted at least 0.5) and smiles by less than 0.1."""
    return (jaw >= 0.3 or (parted or 0.0) >= 0.5) and smile < 0.1


def readings(clip: Path, task: Path, work: Path) -> list[Reading]:
    """The teacher's readings of the frames of a clip that stage 1 samples at 6 per second.

    Args:
        task: the teacher's file, ``face_landmarker.task``.
        work: folder in which readings are kept, by the bytes of clip and teacher.

    Raises:
        EmobeamError: mediapipe is missing, or the file is no model of it.
        FileNotFoundError: there is no such file.
    """
    digest = hashlib.sha256(clip.read_bytes() + task.read_bytes() + str(VERSION).encode()).hexdigest()[:16]
    kept = work / f"teacher-{clip.stem}-{digest}.json"
    if kept.exists():
        return [_reading(data) for data in json.loads(kept.read_text())]
    print(f"the teacher looks at {clip.name}", file=sys.stderr, flush=True)
    found = _look(clip, task)
    write_json(str(kept), [asdict(reading) for reading in found])
    return found


def _look(clip: Path, task: Path) -> list[Reading]:
    from emobeam.emo_transforms.training.material.labelling.teacher import Teacher, teacher_units

    config, found = ExtractConfig(), []
    with DecoderProcess(config.decoder) as decoder, Teacher(str(task)) as teacher:
        for frame, time, picture in sampled_frames(clip, config, decoder):
            look = teacher.look(picture)
            if look is None:
                found.append(Reading(frame, time, {}, {}, None))
                continue
            points = np.asarray(look.landmarks, np.float64)[:, :2]
            x, y = (points.min(axis=0) + points.max(axis=0)) / 2
            units = {name: None if value is None else float(value) for name, value in teacher_units(look).items()}
            shapes = {name: float(value) for name, value in look.shapes.items()}
            found.append(Reading(frame, time, units, shapes, (float(x), float(y))))
    return found


def _reading(data: Mapping[str, Any]) -> Reading:
    centre = data["centre"]
    return Reading(
        data["frame"], data["time"], data["units"], data["shapes"], (centre[0], centre[1]) if centre else None
    )
