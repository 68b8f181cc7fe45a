"""Where the points of MediaPipe's face mesh lie among the 68 landmarks of the 300-W challenge.

The mesh has 468 points (Kartynnik et al., Real-time Facial Surface Geometry from Monocular Video on Mobile GPUs, 2019)
and ten more for the irises. All tables here hold numbers of its points; left is the viewer's left.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float32]
"""``[478, 2]``, column and row in px."""

MESH_POINTS = 478

JAW = (127, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 356)
BROWS = (70, 63, 105, 66, 107, 336, 296, 334, 293, 300)
NOSE = (168, 197, 5, 4, 98, 97, 2, 326, 327)
EYES = (33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380)
OUTER_LIPS = (61, 40, 37, 0, 267, 270, 291, 321, 405, 17, 181, 91)
INNER_LIPS = (78, 81, 13, 311, 308, 402, 14, 178)
SIXTY_EIGHT = JAW + BROWS + NOSE + EYES + OUTER_LIPS + INNER_LIPS
"""The mesh point of each of the 68 landmarks."""

EYE_CORNERS = (33, 263)
"""The outer corners of the eyes."""

UPPER_INNER_LIP = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
LOWER_INNER_LIP = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
"""The edges of the opened mouth, both from the left corner to the right one."""

MOUTH_IN_EYES = 0.57
"""Width of a mouth at rest in distances between the outer corners of the eyes: median of the 102 neutral faces of the
Face Research Lab London Set (0.513 to 0.631 from the 5th to the 95th percentile); ICT-FaceKit's mean face has 0.568."""

CLOSED = 0.004
"""Distance between the mesh's inner lips where they touch, in widths of the mouth at rest: median of the same."""


def eye_distance(points: Points) -> float:
    """Distance between the outer corners of the eyes in px."""
    first, second = points[list(EYE_CORNERS)]
    return float(np.hypot(*(second - first)))


def lips_apart(points: Points, yaw: float = 0.0) -> float:
    """Distance between the inner lips in widths of the mouth at rest, as ``FaceModel.parting`` has it for renders.

    The width at rest is taken from the eyes, for a smile widens the mouth.

    Args:
        points: the mesh.
        yaw: of the head in degrees, which narrows the distance between the eyes but not that between the lips.
    """
    lips = points[list(INNER_LIPS)]
    gap = float(np.hypot(*(lips[[1, 2, 3]] - lips[[7, 6, 5]]).T).mean())
    across = eye_distance(points) / max(float(np.cos(np.radians(yaw))), 0.5)
    return gap / max(across * MOUTH_IN_EYES, 1e-6) - CLOSED


def moved_points(points: Points, corner: tuple[float, float], scale: float) -> Points:
    """Points of a picture in a part of it that begins at ``corner`` and is enlarged by ``scale``."""
    return np.asarray((points - np.asarray(corner, np.float32)) * np.float32(scale), np.float32)
