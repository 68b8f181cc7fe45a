"""Everything rendered of one person: single pictures or moving clips, with the truth of every picture."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from emobeam.emo_transforms.faces.crops import crop_square, in_square
from emobeam.emo_transforms.training.material.rendering.capture import capture
from emobeam.emo_transforms.training.material.rendering.expression import Weights, draw_expression, draw_motion
from emobeam.emo_transforms.training.material.rendering.face_model import FaceModel
from emobeam.emo_transforms.training.material.rendering.picture import Painter, Picture, Rendered
from emobeam.emo_transforms.training.material.rendering.scene import (
    Floats,
    draw_background,
    draw_lights,
    draw_person,
    draw_pose,
)
from emobeam.emo_transforms.training.material.rendering.units import unit_activations

REVISION = 2
"""Raised by hand whenever a change of this package changes what the same seed renders."""

_FOREHEAD = 0.28
"""MTCNN's boxes begin this part of the landmarks' height above the brows (median of 60 rendered faces of 30
people; their other edges lie at the landmarks within 2 %)."""

_MARGIN = 0.2

_ROOM = 1.45
"""Edge of a picture in edges of the crop that is cut from it."""


FIRST_LANDMARK = 17
"""Of the 68 landmarks (order of the 300-W challenge) brows, nose, eyes and mouth are kept, not the jaw line."""


@dataclass(frozen=True)
class RenderConfig:
    """What is rendered of each person.

    Attributes:
        size: edge of a crop in px.
        pictures: single pictures of a person; 0 where clips are made.
        clips: moving clips of a person.
        seconds, fps: of a clip.
        faults: pictures as poor cameras take them (``capture``); else clean.
        seed: of everything; the same seed, person and config give the same bytes.
    """

    size: int = 128
    pictures: int = 20
    clips: int = 0
    seconds: float = 10.0
    fps: float = 6.0
    faults: bool = True
    seed: int = 0


@dataclass(frozen=True)
class RenderedCrop:
    """One crop as JPEG, and what is true of it: units, shapes, pose, landmarks."""

    clip: int
    frame: int
    jpeg: bytes
    truth: dict[str, Any]


def render_person(model: FaceModel, number: int, config: RenderConfig) -> Iterator[RenderedCrop]:
    """Yields the crops of a person, ``clip`` counting from 0 and ``frame`` from 1; single pictures are clip 0."""
    person = draw_person(number, config.seed)
    painter = Painter(model, person)
    rng = np.random.default_rng([config.seed, number, REVISION])
    for frame in range(1, config.pictures + 1):
        weights = draw_expression(rng)
        rendered, truth = _picture(painter, weights, rng, config)
        yield _crop(rendered, truth, 0, frame, rng, config)
    for clip in range(config.clips):
        yield from _clip(painter, clip, rng, config)


def _picture(
    painter: Painter, weights: Weights, rng: np.random.Generator, config: RenderConfig
) -> tuple[Rendered, dict[str, Any]]:
    edge = round(config.size * _ROOM)
    pose = draw_pose(rng)
    rendered = painter.draw(weights, draw_lights(rng), pose, draw_background(rng, edge, edge), rng.uniform(0.8, 1.5))
    return rendered, _truth(painter, weights) | {"yaw": pose.yaw, "pitch": pose.pitch, "roll": pose.roll}


def _clip(painter: Painter, clip: int, rng: np.random.Generator, config: RenderConfig) -> Iterator[RenderedCrop]:
    """A clip in one place: light, background and the camera's faults stay."""
    frames = round(config.seconds * config.fps)
    motion = draw_motion(rng, frames, config.fps)
    edge = round(config.size * _ROOM)
    lights, pose, background = draw_lights(rng), draw_pose(rng), draw_background(rng, edge, edge)
    exposure, camera = rng.uniform(0.8, 1.5), int(rng.integers(2**31))
    for place, weights in enumerate(motion.weights):
        yaw, pitch, roll = motion.turns[place]
        turned = replace(pose, yaw=pose.yaw + yaw, pitch=pose.pitch + pitch, roll=pose.roll + roll)
        rendered = painter.draw(weights, lights, turned, background, exposure)
        truth = _truth(painter, weights) | {"yaw": turned.yaw, "pitch": turned.pitch, "roll": turned.roll}
        # The same faults all through the clip, as one camera has them.
        yield _crop(rendered, truth, clip, place + 1, np.random.default_rng(camera), config, jitter=rng)


def _truth(painter: Painter, weights: Weights) -> dict[str, Any]:
    parting = painter.model.parting(painter.person.identity, weights)
    return {**unit_activations(weights, parting), "shapes": dict(sorted(weights.items()))}


def _crop(
    rendered: Rendered,
    truth: dict[str, Any],
    clip: int,
    frame: int,
    rng: np.random.Generator,
    config: RenderConfig,
    *,
    jitter: np.random.Generator | None = None,
) -> RenderedCrop:
    box = face_box(rendered.landmarks)
    loose = jitter or rng
    edge = float(box[2:].max() - box[:2].min()) * 0.03
    box = box + loose.normal(0, edge, 4).astype(np.float32)
    picture = crop_square(rendered.picture, box, _MARGIN, config.size)
    if config.faults:
        picture = capture(picture, rng)
    landmarks = in_square(rendered.landmarks[FIRST_LANDMARK:], box, _MARGIN).ravel().tolist()
    return RenderedCrop(clip, frame, _jpeg(picture), truth | {"landmarks": landmarks})


def face_box(landmarks: Floats) -> Floats:
    """The box MTCNN would give, from 68 landmarks: left, top, right, bottom in px."""
    low, high = landmarks.min(0), landmarks.max(0)
    return np.array([low[0], low[1] - _FOREHEAD * (high[1] - low[1]), high[0], high[1]], np.float32)


def _jpeg(picture: Picture) -> bytes:
    data = io.BytesIO()
    Image.fromarray(picture).save(data, "JPEG", quality=92)
    return data.getvalue()
