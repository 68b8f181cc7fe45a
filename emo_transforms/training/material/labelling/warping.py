"""A photographed face set in motion: ICT-FaceKit's mesh is laid over the photograph and carries it along.

The mesh takes the expression that the teacher sees, is turned as the head is, and is bent until its 68 landmarks lie on
those of the photograph. Whatever expression it then takes, each of its points knows where in the photograph it came
from: lips part, lids close and the chin comes down over the neck. Where a mouth opens that was closed there is nothing
to carry, so the mesh's teeth and gums are painted. What lies about the face follows the nearest part of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import numpy.typing as npt

from emobeam.emo_transforms.faces.crops import similarity
from emobeam.emo_transforms.training.material.labelling.landmarks import (
    LOWER_INNER_LIP,
    SIXTY_EIGHT,
    UPPER_INNER_LIP,
    eye_distance,
)
from emobeam.emo_transforms.training.material.labelling.teacher import Look, turn_matrix
from emobeam.emo_transforms.training.material.rendering.face_model import LANDMARKS, FaceModel
from emobeam.emo_transforms.training.material.rendering.rasterise import Raster, rasterise

Floats = npt.NDArray[np.float32]
Picture = npt.NDArray[np.uint8]

_SEEN = ("M_Face", "M_GumsTongue", "M_Teeth", "M_IrisLeft", "M_IrisRight", "M_ScleraLeft", "M_ScleraRight")
_PIVOT = np.array([0.0, -2.0, 0.0])
"""About where a head turns, in the model's units."""
_REACH = 0.35
"""How far a misfit of a landmark bends the mesh, in distances between the outer corners of the eyes."""
_STIFFNESS = 0.05
_CHIN = 8
_BELOW_CHIN = 0.6
"""What of the neck still belongs to the face, in the model's units."""
_DEPTH = 8.5
"""How far behind the tip of the nose the mesh ends, in the model's units."""
_FOLLOWS = 0.3
"""How far from the face its motion is followed, in edges of the picture."""


@dataclass(frozen=True)
class Mouth:
    """How the inside of an opening mouth is painted: RGB in [0, 255]."""

    teeth: tuple[float, float, float] = (205.0, 195.0, 178.0)
    flesh: tuple[float, float, float] = (120.0, 45.0, 45.0)


def draw_mouth(rng: np.random.Generator) -> Mouth:
    """Bright to dark teeth, one mouth in five without any to be seen."""
    flesh = np.array([110, 42, 42]) * rng.uniform(0.6, 1.2) * rng.normal(1, 0.06, 3)
    teeth = flesh * 0.8 if rng.uniform() < 0.2 else np.array([212, 202, 182]) * rng.uniform(0.7, 1.1)
    return Mouth(_colour(teeth), _colour(flesh))


def _colour(values: npt.NDArray[np.floating]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in np.clip(values, 0, 255))
    return red, green, blue


class MovableMesh:
    """The front of a face model: what can be seen of it in photographs, its vertices numbered anew."""

    def __init__(self, model: FaceModel) -> None:
        numbers = [model.material_names.index(name) for name in _SEEN if name in model.material_names]
        chosen = np.isin(model.materials, numbers)
        # The sides bend away from the camera: a turn would show of them what no photograph holds.
        corners = model.neutral[model.triangles]
        chosen &= corners[:, :, 2].min(1) > model.neutral[list(LANDMARKS), 2].max() - _DEPTH
        chosen &= corners[:, :, 1].min(1) > model.neutral[LANDMARKS[_CHIN], 1] - _BELOW_CHIN
        triangles = model.triangles[chosen]
        kept, renumbered = np.unique(np.concatenate([triangles.ravel(), LANDMARKS]), return_inverse=True)
        self.neutral = model.neutral[kept]
        self.names = tuple(model.expressions)
        self.shapes = np.stack([model.expressions[name][kept].ravel() for name in self.names])
        self.triangles = renumbered[: triangles.size].reshape(-1, 3)
        self.landmarks = renumbered[triangles.size :]
        names = [model.material_names[number] for number in model.materials[chosen]]
        self.teeth = np.array([name == "M_Teeth" for name in names])
        self.inside = self.teeth | np.array([name == "M_GumsTongue" for name in names])

    def vertices(self, weights: Mapping[str, float]) -> Floats:
        """``[v, 3]`` of an expression; shapes the model lacks are passed over."""
        vector = np.array([weights.get(name, 0.0) for name in self.names], np.float32)
        return np.asarray(self.neutral + (vector @ self.shapes).reshape(-1, 3), np.float32)


class MovingFace:
    """One photograph that can take expressions.

    Args:
        picture: RGB uint8 ``[n, n, 3]``, the face about its middle.
        look: what the teacher sees in it.
    """

    def __init__(self, mesh: MovableMesh, picture: Picture, look: Look, mouth: Mouth | None = None) -> None:
        self.picture = picture
        self._mesh = mesh
        self._look = look
        self._mouth = mouth or Mouth()
        self._rest = {name: value for name, value in look.shapes.items() if not name.startswith("eyeLook")}
        turned = (mesh.vertices(self._rest) - _PIVOT) @ turn_matrix(look.yaw, look.pitch, look.roll).T
        flat = turned[:, :2] * (1, -1)
        targets = look.landmarks[list(SIXTY_EIGHT)].astype(np.float64)
        self._scale, self._turn, self._shift = similarity(flat[mesh.landmarks], targets)
        fitted = self._place(flat)
        reach = _REACH * eye_distance(look.landmarks)
        self._bend = _bend(fitted[mesh.landmarks], targets, fitted, reach)
        self._base = (fitted + self._bend).astype(np.float32)

    def draw(
        self, weights: Mapping[str, float], turn: tuple[float, float, float] = (0.0, 0.0, 0.0)
    ) -> tuple[Picture, Floats]:
        """The picture with an expression on top of its own.

        Args:
            weights: of ICT-FaceKit's shapes in [0, 1] by full name.
            turn: yaw, pitch, roll in degrees added to the head's.

        Returns:
            The picture ``[n, n, 3]`` and its 68 landmarks ``[68, 2]`` px.
        """
        look, size = self._look, self.picture.shape[0]
        both = {name: self._rest.get(name, 0.0) for name in {*self._rest, *weights}}
        both = {name: rest + weights.get(name, 0.0) * (1 - rest) for name, rest in both.items()}
        rotation = turn_matrix(look.yaw + turn[0], look.pitch + turn[1], look.roll + turn[2])
        turned = (self._mesh.vertices(both) - _PIVOT) @ rotation.T
        points = self._place(turned[:, :2] * (1, -1)) + self._bend
        depth = -turned[:, 2:] * self._scale
        raster = rasterise(np.hstack([points, depth]).astype(np.float32), self._mesh.triangles, size, size)
        source = self._source(raster)
        moved = cv2.remap(
            self.picture, source[..., 0], source[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        painted = self._paint(np.asarray(moved, np.uint8), raster, source, turned[:, 2])
        return painted, points[self._mesh.landmarks].astype(np.float32)

    def _place(self, flat: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        return np.asarray(self._scale * flat @ self._turn.T + self._shift)

    def _source(self, raster: Raster) -> Floats:
        """Where in the photograph each pixel comes from, ``[n, n, 2]``."""
        size = self.picture.shape[0]
        rows, columns = np.divmod(raster.pixels, size)
        way = np.zeros((size, size, 2), np.float32)
        way[rows, columns] = raster.interpolate(self._mesh.triangles, self._base) - np.stack(
            [columns + 0.5, rows + 0.5], 1
        )
        bare = np.ones((size, size), np.uint8)
        bare[rows, columns] = 0
        if len(rows):
            distance, labels = cv2.distanceTransformWithLabels(bare, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
            of_label = np.zeros((labels.max() + 1, 2), np.float32)
            of_label[labels[rows, columns]] = way[rows, columns]
            nearest = of_label[labels]
            smooth = np.asarray(cv2.GaussianBlur(nearest, (0, 0), size / 40), np.float32)
            smooth *= np.exp(-((distance / (_FOLLOWS * size)) ** 2))[..., None]
            way = np.where(bare[..., None] > 0, smooth, way).astype(np.float32)
        grid = np.stack(np.meshgrid(np.arange(size), np.arange(size)), -1)
        return (grid + way).astype(np.float32)

    def _paint(self, moved: Picture, raster: Raster, source: Floats, height: npt.NDArray[np.float64]) -> Picture:
        """Teeth and gums where the photograph has none."""
        size = self.picture.shape[0]
        inner = self._mesh.inside[raster.triangles]
        if not inner.any():
            return moved
        rows, columns = np.divmod(raster.pixels[inner], size)
        from_mouth = _at(self._opened, source[rows, columns])
        depth = raster.interpolate(self._mesh.triangles, height[:, None].astype(np.float32))[inner, 0]
        front = float(height[self._mesh.landmarks[[51, 57]]].mean())
        light = self._light * np.clip(1 - (front - depth) / 6, 0.05, 1) ** 0.8
        teeth = self._mesh.teeth[raster.triangles[inner]][:, None]
        colour = np.where(teeth, self._mouth.teeth, self._mouth.flesh) * light[:, None]
        layer, cover = np.zeros((size, size, 3), np.float32), np.zeros((size, size), np.float32)
        layer[rows, columns] = colour
        cover[rows, columns] = 1 - from_mouth
        weight = cv2.GaussianBlur(cover, (0, 0), 0.7)
        paint = cv2.GaussianBlur(layer * cover[..., None], (0, 0), 0.7)  # already weighted
        return np.asarray(moved * (1 - weight[..., None]) + paint + 0.5).clip(0, 255).astype(np.uint8)

    @cached_property
    def _opened(self) -> Floats:
        """1 where the photograph shows the inside of a mouth, 0 elsewhere."""
        lips = self._look.landmarks[list(UPPER_INNER_LIP + LOWER_INNER_LIP[-2:0:-1])]
        mask = np.zeros(self.picture.shape[:2], np.float32)
        if self._gap > 2:
            cv2.fillPoly(mask, [np.round(lips).astype(np.int32)], 1.0, cv2.LINE_AA)
        return mask

    @property
    def _gap(self) -> float:
        points = self._look.landmarks
        return float(np.hypot(*(points[13] - points[14])))

    @cached_property
    def _light(self) -> float:
        """How bright the face is about the mouth, 1 being well lit skin."""
        points = self._look.landmarks[[50, 280, 205, 425]].round().astype(int).clip(0, len(self.picture) - 1)
        return float(np.clip(self.picture[points[:, 1], points[:, 0]].max(1).mean() / 200, 0.2, 1.1))


def _at(image: Floats, points: Floats) -> Floats:
    """Values of a picture ``[n, n]`` at points ``[m, 2]`` px, rounded to its pixels; 0 outside."""
    columns, rows = np.round(points).astype(np.int64).T
    inside = (columns >= 0) & (rows >= 0) & (columns < image.shape[1]) & (rows < image.shape[0])
    return np.asarray(np.where(inside, image[rows * inside, columns * inside], 0), np.float32)


def _bend(
    landmarks: npt.NDArray[np.float64], targets: npt.NDArray[np.float64], points: npt.NDArray[np.float64], reach: float
) -> npt.NDArray[np.float64]:
    """Displacements of points that bring landmarks to their targets; smooth, and nothing far from them."""
    between = _bell(landmarks, landmarks, reach) + _STIFFNESS * np.eye(len(landmarks))
    return np.asarray(_bell(points, landmarks, reach) @ np.linalg.solve(between, targets - landmarks))


def _bell(points: npt.NDArray[np.float64], centres: npt.NDArray[np.float64], reach: float) -> npt.NDArray[np.float64]:
    squares = ((points[:, None] - centres[None]) ** 2).sum(2)
    return np.asarray(np.exp(-squares / (2 * reach * reach)))
