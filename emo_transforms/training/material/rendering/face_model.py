"""ICT-FaceKit's morphable face: a mesh, identities and expressions, and the regions that are painted.

Source: ICT-FaceKit (USC Institute for Creative Technologies, MIT licence), "light" model: 26,719 vertices, 100
identity shapes, 57 expression shapes with the names of animation blendshapes. Units are about centimetres; x points to
the face's left, y up, z forward.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from matplotlib.path import Path as Outline

from emobeam.emo_transforms import storage
from emobeam.schemas.records import EmobeamError

Floats = npt.NDArray[np.float32]

HIDDEN = ("M_EyeOcclusion", "M_LacrimalFluid", "M_EyeBlend")
"""Transparent helpers of the original shaders, left out."""

LANDMARKS = (
    1225, 1888, 1052, 367, 1719, 1722, 2199, 1447, 966, 3661, 4390, 3927, 3924, 2608, 3272, 4088, 3443,
    268, 493, 1914, 2044, 1401, 3615, 4240, 4114, 2734, 2509, 978, 4527, 4942, 4857, 1140, 2075, 1147, 4269, 3360,
    1507, 1542, 1537, 1528, 1518, 1511, 3742, 3751, 3756, 3721, 3725, 3732,
    5708, 5695, 2081, 0, 4275, 6200, 6213, 6346, 6461, 5518, 5957, 5841, 5702, 5711, 5533, 6216, 6207, 6470, 5517, 5966,
)  # fmt: skip
"""Vertices of the 68 landmarks (order of the 300-W challenge), as published with the model."""


@dataclass(frozen=True)
class FaceModel:
    """The model as arrays.

    Attributes:
        neutral: ``[v, 3]``.
        identities: ``[i, v, 3]``, displacements of one standard deviation.
        expressions: displacements ``[v, 3]`` by name.
        triangles: ``[t, 3]``, counter-clockwise seen from outside.
        materials: of each triangle, by number in ``material_names``.
    """

    neutral: Floats
    identities: Floats
    expressions: Mapping[str, Floats]
    triangles: npt.NDArray[np.int64]
    materials: npt.NDArray[np.int64]
    material_names: tuple[str, ...]

    def shape(self, identity: Floats, weights: Mapping[str, float]) -> Floats:
        """Vertices ``[v, 3]`` of a person with an expression; ``identity`` holds the first coefficients."""
        vertices = self.neutral + np.tensordot(identity, self.identities[: len(identity)], 1)
        for name, weight in weights.items():
            if weight:
                vertices = vertices + weight * self.expressions[name]
        return vertices.astype(np.float32)

    def parting(self, identity: Floats, weights: Mapping[str, float]) -> float:
        """Distance between the inner lips in widths of the mouth at rest, 0 where they touch as they do at rest."""
        lips = [LANDMARKS[i] for i in (61, 62, 63, 67, 66, 65)]
        return (self._gap(identity, weights, lips) - self._gap(identity, {}, lips)) / self._mouth(identity)

    def _gap(self, identity: Floats, weights: Mapping[str, float], lips: list[int]) -> float:
        points = self.neutral[lips] + np.tensordot(identity, self.identities[: len(identity), lips], 1)
        for name, weight in weights.items():
            points = points + weight * self.expressions[name][lips]
        return float(np.linalg.norm(points[:3] - points[3:], axis=1).mean())

    def _mouth(self, identity: Floats) -> float:
        corners = [LANDMARKS[48], LANDMARKS[54]]
        points = self.neutral[corners] + np.tensordot(identity, self.identities[: len(identity), corners], 1)
        return float(np.linalg.norm(points[0] - points[1]))

    @cached_property
    def skin(self) -> npt.NDArray[np.bool_]:
        """Vertices of the face's skin."""
        found = np.zeros(len(self.neutral), bool)
        found[self.triangles[self.materials == self.material_names.index("M_Face")]] = True
        return found

    @cached_property
    def lips(self) -> Floats:
        """How much of the red of the lips a vertex has, in [0, 1]."""
        outer = self.neutral[[LANDMARKS[i] for i in range(48, 60)], :2]
        inside = Outline(outer).contains_points(self.neutral[:, :2], radius=0.12)
        return (inside & self.skin & (self.neutral[:, 2] > 8)).astype(np.float32)

    @cached_property
    def brows(self) -> Floats:
        """How close a vertex is to an eyebrow's middle line, in [0, 1]."""
        near = np.zeros(len(self.neutral), np.float32)
        for line in (range(17, 22), range(22, 27)):
            points = self.neutral[[LANDMARKS[i] for i in line]]
            path = np.concatenate([np.linspace(a, b, 8) for a, b in pairwise(points)])
            distance = np.linalg.norm(self.neutral[:, None] - path[None], axis=2).min(1)
            near = np.maximum(near, np.clip(1.6 - distance / 0.34, 0, 1).astype(np.float32))
        return near * self.skin

    @cached_property
    def scalp(self) -> Floats:
        """How far a vertex lies behind the hairline, in [0, 1]."""
        x, y, z = self.neutral.T
        behind = np.maximum(y - (9.2 - 0.02 * x * x), 1.2 * (-0.5 - z) * (y > -2))
        return np.asarray(np.clip(behind / 0.8, 0, 1), np.float32)

    @cached_property
    def jaw(self) -> Floats:
        """How much of a beard a vertex can have, in [0, 1]."""
        _, y, z = self.neutral.T
        low = np.clip((-1.6 - y) / 1.2, 0, 1) * np.clip((y + 9.5) / 2, 0, 1) * np.clip((z - 1) / 3, 0, 1)
        return np.asarray(low * self.skin * (1 - self.lips), np.float32)


def load_face_model(uri: str) -> FaceModel:
    """Reads the model from an ``.npz`` file with ``neutral``, ``quads``, ``mat``, ``mats``, ``I``, ``E``, ``enames``.

    Raises:
        EmobeamError: the file is no such model.
    """
    wanted = {"neutral", "quads", "mat", "mats", "I", "E", "enames"}
    try:
        with storage.local_copy(uri) as path, np.load(path, allow_pickle=False) as data:
            if missing := sorted(wanted - set(data.files)):
                raise EmobeamError(f"{uri}: no ICT-FaceKit model ({', '.join(missing)} missing)")
            arrays = {name: data[name] for name in wanted}
    except (OSError, ValueError) as error:
        raise EmobeamError(f"{uri}: can't be read as an .npz file ({error})") from error
    quads = arrays["quads"].astype(np.int64)
    names = tuple(str(name) for name in arrays["mats"])
    materials = np.concatenate([arrays["mat"], arrays["mat"]]).astype(np.int64)
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    seen = ~np.isin(materials, [names.index(name) for name in HIDDEN if name in names])
    expressions = zip(arrays["enames"], arrays["E"], strict=True)
    return FaceModel(
        neutral=arrays["neutral"].astype(np.float32),
        identities=arrays["I"].astype(np.float32),
        expressions={str(name): shape.astype(np.float32) for name, shape in expressions},
        triangles=triangles[seen],
        materials=materials[seen],
        material_names=names,
    )
