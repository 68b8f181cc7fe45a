"""From a person, an expression, lights and a pose to a picture of a face."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from emobeam.emo_transforms.training.material.rendering.face_model import LANDMARKS, FaceModel
from emobeam.emo_transforms.training.material.rendering.rasterise import Raster, rasterise
from emobeam.emo_transforms.training.material.rendering.scene import Floats, Lights, Person, Pose

Picture = npt.NDArray[np.uint8]

_HEAD = 25.0
"""Height of a head in the units of the model."""
_FILL = 0.85
"""Part of the picture's height that a head takes: a crop around the face lies inside, whatever the pose."""
_SUPERSAMPLING = 2
_EYE_CENTRES = {
    "M_IrisLeft": (3.15, 3.6),
    "M_IrisRight": (-3.15, 3.6),
    "M_ScleraLeft": (3.15, 3.6),
    "M_ScleraRight": (-3.15, 3.6),
}


@dataclass(frozen=True)
class Rendered:
    """A picture and where the face is in it.

    Attributes:
        picture: RGB uint8 ``[size, size, 3]``.
        landmarks: ``[68, 2]`` px.
    """

    picture: Picture
    landmarks: Floats


class Painter:
    """Draws one person; what doesn't change from picture to picture is made once."""

    def __init__(self, model: FaceModel, person: Person) -> None:
        self.model = model
        self.person = person
        self._albedo = _albedo(model, person)
        self._gloss = _gloss(model, person)
        self._lift = np.zeros_like(model.scalp) if person.bald else 0.35 * model.scalp

    def draw(
        self, weights: Mapping[str, float], lights: Lights, pose: Pose, background: Floats, exposure: float = 1.0
    ) -> Rendered:
        """Draws an expression.

        Args:
            weights: of the expression shapes by full name, 0 to 1.
            background: ``[size, size, 3]`` in [0, 1]; its size is the picture's.
            exposure: factor on the light.
        """
        size = background.shape[0] * _SUPERSAMPLING
        vertices = self.model.shape(self.person.identity, weights)
        normals = _normals(vertices, self.model.triangles)
        vertices = vertices + normals * self._lift[:, None]
        turned, rotation = _turn(vertices, pose)
        points = _project(turned, pose, size)
        raster = rasterise(points, self.model.triangles, size, size)
        face = self._shade(raster, normals @ rotation.T, turned, lights) * exposure
        canvas = cv2.resize(background, (size, size), interpolation=cv2.INTER_LINEAR).reshape(-1, 3) ** 2.2
        canvas[raster.pixels] = face
        linear = cv2.resize(canvas.reshape(size, size, 3), background.shape[:2][::-1], interpolation=cv2.INTER_AREA)
        picture = (np.clip(linear, 0, 1) ** (1 / 2.2) * 255 + 0.5).astype(np.uint8)
        return Rendered(picture, np.asarray(points[list(LANDMARKS), :2] / _SUPERSAMPLING, np.float32))

    def _shade(self, raster: Raster, normals: Floats, vertices: Floats, lights: Lights) -> Floats:
        triangles = self.model.triangles
        normal = raster.interpolate(triangles, normals)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
        albedo = raster.interpolate(triangles, self._albedo)
        gloss = raster.interpolate(triangles, self._gloss)
        depth = raster.interpolate(triangles, vertices[:, 2:])
        sky = 0.75 + 0.25 * normal[:, 1:2]
        light = lights.ambient * sky
        shine = np.zeros_like(albedo)
        for direction, colour in zip(lights.directions, lights.colours, strict=True):
            # Skin scatters: light goes a little around the edge (wrapped diffuse term), red furthest.
            wrap = np.array([0.22, 0.12, 0.08], np.float32)
            light = light + colour * np.clip((normal @ direction)[:, None] + wrap, 0, None) / (1 + wrap)
            halfway = direction + np.array([0, 0, 1], np.float32)
            halfway /= np.linalg.norm(halfway)
            shine += colour * np.clip(normal @ halfway, 0, 1)[:, None] ** 24 * gloss
        inside = self._in_the_mouth(raster)
        dark = np.where(inside[:, None], np.clip(1 - (vertices[:, 2].max() - depth) / 9, 0.06, 1), 1)
        return (albedo * light * dark + shine * dark).astype(np.float32)

    def _in_the_mouth(self, raster: Raster) -> npt.NDArray[np.bool_]:
        names = self.model.material_names
        mouth = [names.index(name) for name in ("M_GumsTongue", "M_Teeth") if name in names]
        return np.isin(self.model.materials[raster.triangles], mouth)


def _albedo(model: FaceModel, person: Person) -> Floats:
    rng = np.random.default_rng(person.texture)
    count = len(model.neutral)
    noise = _smooth_noise(model.neutral, rng)
    colour = person.skin * (1 + person.blotches * noise[:, None])
    x, y, _ = model.neutral.T
    rosy = np.exp(-(((np.abs(x) - 4.2) / 2) ** 2) - ((y + 0.8) / 2) ** 2) + np.exp(
        -((x / 1.2) ** 2) - ((y - 0.5) / 1.2) ** 2
    )
    colour = colour * (1 + rosy[:, None] * rng.uniform(0, 0.15) * np.array([0.6, -0.5, -0.4]))
    grain = 1 + 0.35 * rng.standard_normal(count)[:, None] * (0.3 + 0.7 * (noise[:, None] > 0))
    hair = np.clip(person.hair * grain, 0, 1)
    for weight, paint in (
        (model.lips * 0.9, person.lips),
        (model.jaw * person.beard * (0.7 + 0.3 * noise), hair),
        (model.brows * person.brow * 0.9, hair),
        (np.zeros(count) if person.bald else model.scalp, hair),
    ):
        mix = np.clip(weight, 0, 1)[:, None]
        colour = colour * (1 - mix) + paint * mix
    for number, name in enumerate(model.material_names):
        own = np.unique(model.triangles[model.materials == number])
        if name in _EYE_CENTRES:
            colour[own] = _eye(model.neutral[own], _EYE_CENTRES[name], person)
        elif name in _PAINT:
            colour[own] = _PAINT[name] if _PAINT[name] is not None else person.hair
    if not person.bald:
        back = np.unique(model.triangles[model.materials == model.material_names.index("M_BackHead")])
        high = model.neutral[back, 1] > -8
        colour[back[high]] = hair[back[high]] if hair.ndim == 2 else hair
    return np.asarray(np.clip(colour, 0, 1), np.float32)


_PAINT: dict[str, tuple[float, float, float] | None] = {
    "M_EyeLashes": None,
    "M_GumsTongue": (0.36, 0.1, 0.1),
    "M_Teeth": (0.72, 0.68, 0.58),
}


def _eye(points: Floats, centre: tuple[float, float], person: Person) -> Floats:
    """White, iris and pupil by distance from the axis of the eyeball."""
    distance = np.hypot(points[:, 0] - centre[0], points[:, 1] - centre[1])[:, None]
    front = points[:, 2:] > 8.2
    white = np.array([0.74, 0.7, 0.68])
    colour = np.where((distance < 0.62) & front, person.iris, white)
    return np.where((distance < 0.26) & front, 0.005, colour).astype(np.float32)


def _gloss(model: FaceModel, person: Person) -> Floats:
    gloss = np.full((len(model.neutral), 1), person.gloss, np.float32)
    for number, name in enumerate(model.material_names):
        own = np.unique(model.triangles[model.materials == number])
        gloss[own] = 0.5 if name in _EYE_CENTRES else 0.2 if name == "M_Teeth" else gloss[own]
    return gloss * (1 - 0.8 * model.scalp[:, None])


def _smooth_noise(points: Floats, rng: np.random.Generator) -> Floats:
    """A sum of waves of random direction and length between 0.7 and 6 cm, about standard normal."""
    waves = rng.normal(0, 1, (24, 3))
    waves *= rng.uniform(1, 9, (24, 1)) / np.linalg.norm(waves, axis=1, keepdims=True)
    total = np.sin(points @ waves.T + rng.uniform(0, 2 * np.pi, 24)).sum(1) / np.sqrt(12)
    return np.asarray(total, np.float32)


def _normals(vertices: Floats, triangles: npt.NDArray[np.int64]) -> Floats:
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    faces = np.cross(b - a, c - a)
    total = np.zeros_like(vertices)
    for axis in range(3):
        for k in range(3):
            total[:, axis] += np.bincount(triangles[:, k], faces[:, axis], len(vertices))
    return np.asarray(total / (np.linalg.norm(total, axis=1, keepdims=True) + 1e-9), np.float32)


def _turn(vertices: Floats, pose: Pose) -> tuple[Floats, Floats]:
    """Vertices turned about the middle of the head, and the rotation."""
    yaw, pitch, roll = np.radians([pose.yaw, -pose.pitch, pose.roll])
    about_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    about_z = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    rotation = (about_z @ about_x @ about_y).astype(np.float32)
    return (vertices - (0, 0, 2)).astype(np.float32) @ rotation.T, rotation


def _project(vertices: Floats, pose: Pose, size: int) -> Floats:
    """Column, row and depth in a picture of ``size`` px, the head filling :data:`_FILL` of its height."""
    away = pose.distance * _HEAD - vertices[:, 2]
    scale = size * _FILL / _HEAD * (pose.distance * _HEAD) / away
    return np.stack([size / 2 + vertices[:, 0] * scale, size / 2 - vertices[:, 1] * scale, away], 1).astype(np.float32)
