"""A z-buffer rasteriser for meshes of many small triangles, in plain array operations.

It needs no graphics driver and gives the same picture everywhere; a face of 50,000 triangles takes about a tenth of
a second per core, most of it in shading.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

_CLASSES = (2, 4, 8, 16, 32)
_CHUNK = 400_000
"""Candidate pixels looked at together; bounds the memory."""
_SLACK = 1e-5


@dataclass(frozen=True)
class Raster:
    """What is seen where.

    Attributes:
        pixels: flat indices (row * width + column) of the covered pixels, ascending.
        triangles: the frontmost triangle of each.
        weights: barycentric coordinates of the pixel's centre in it, ``[n, 3]``, sum 1.
    """

    pixels: Ints
    triangles: Ints
    weights: Floats

    def interpolate(self, triangles: npt.NDArray[np.integer], values: Floats) -> Floats:
        """Values of vertices ``[v, c]`` at the covered pixels, ``[n, c]``."""
        corners = values[triangles[self.triangles]]
        return np.asarray(np.einsum("nk,nkc->nc", self.weights, corners), np.float32)


def rasterise(points: Floats, triangles: npt.NDArray[np.integer], height: int, width: int) -> Raster:
    """Finds the frontmost triangle of every pixel.

    Args:
        points: ``[v, 3]``: column and row in px (pixel centres lie at halves), and depth, small being near.
        triangles: ``[t, 3]`` vertex numbers; those that wind clockwise on screen (seen from behind) are left out.
        height, width: of the picture in px.
    """
    corners = points[triangles]
    x, y = corners[..., 0], corners[..., 1]
    area = (x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (x[:, 2] - x[:, 0]) * (y[:, 1] - y[:, 0])
    left = np.maximum(np.ceil(x.min(1) - 0.5), 0).astype(np.int64)
    right = np.minimum(np.floor(x.max(1) - 0.5), width - 1).astype(np.int64)
    top = np.maximum(np.ceil(y.min(1) - 0.5), 0).astype(np.int64)
    bottom = np.minimum(np.floor(y.max(1) - 0.5), height - 1).astype(np.int64)
    extent = np.maximum(right - left, bottom - top) + 1
    seen = (area < -1e-9) & (right >= left) & (bottom >= top)
    nearest = torch.full((height * width,), torch.iinfo(torch.int64).max, dtype=torch.int64)
    depth_range = _depth_range(points[:, 2])
    lower = 0
    for upper in (*_CLASSES, max(height, width)):
        chosen = np.flatnonzero(seen & (extent > lower) & (extent <= upper))
        lower = upper
        step = max(1, _CHUNK // (upper * upper))
        for start in range(0, len(chosen), step):
            part = chosen[start : start + step]
            _draw(part, corners, area, left, top, upper, (height, width), depth_range, nearest)
    keys = nearest.numpy()
    pixels = np.flatnonzero(keys != torch.iinfo(torch.int64).max)
    front = keys[pixels] & 0xFFFFFFFF
    weights = _barycentric(corners[front], area[front], pixels % width + 0.5, pixels // width + 0.5)
    return Raster(pixels, front, weights)


def _depth_range(depth: Floats) -> tuple[float, float]:
    low, high = float(depth.min()), float(depth.max())
    return low, max(high - low, 1e-6)


def _draw(
    part: Ints,
    corners: Floats,
    area: Floats,
    left: Ints,
    top: Ints,
    size: int,
    shape: tuple[int, int],
    depth_range: tuple[float, float],
    nearest: torch.Tensor,
) -> None:
    """Tests the ``size`` x ``size`` pixels from each triangle's corner on and keeps the nearest in ``nearest``."""
    offsets = np.arange(size, dtype=np.float32)
    x, y = (corners[part, :, axis, None, None].astype(np.float32) for axis in range(2))
    columns = left[part, None, None].astype(np.float32) + offsets[None, None, :]
    rows = top[part, None, None].astype(np.float32) + offsets[None, :, None]
    across, down, inverse = columns + 0.5, rows + 0.5, 1 / area[part, None, None]
    first = ((x[:, 1] - across) * (y[:, 2] - down) - (x[:, 2] - across) * (y[:, 1] - down)) * inverse
    second = ((x[:, 2] - across) * (y[:, 0] - down) - (x[:, 0] - across) * (y[:, 2] - down)) * inverse
    # A hair's breadth to spare: a pixel on the edge of two triangles must not fall between them by rounding.
    inside = (first >= -_SLACK) & (second >= -_SLACK) & (first + second <= 1 + _SLACK)
    inside &= (columns < shape[1]) & (rows < shape[0])
    triangle, row, column = np.nonzero(inside)
    weights = np.stack([first[inside], second[inside]], 1)
    depths = corners[part[triangle], :, 2]
    depth = depths[:, 2] + weights[:, 0] * (depths[:, 0] - depths[:, 2]) + weights[:, 1] * (depths[:, 1] - depths[:, 2])
    quantised = ((depth.astype(np.float64) - depth_range[0]) / depth_range[1] * (2**30)).clip(0, 2**30).astype(np.int64)
    keys = (quantised << 32) | part[triangle]
    flat = (top[part[triangle]] + row) * shape[1] + left[part[triangle]] + column
    nearest.scatter_reduce_(0, torch.from_numpy(flat), torch.from_numpy(keys), "amin")


def _barycentric(
    corners: Floats, area: Floats, columns: npt.NDArray[np.floating], rows: npt.NDArray[np.floating]
) -> Floats:
    x, y = corners[..., 0], corners[..., 1]
    first = (x[..., 1] - columns) * (y[..., 2] - rows) - (x[..., 2] - columns) * (y[..., 1] - rows)
    second = (x[..., 2] - columns) * (y[..., 0] - rows) - (x[..., 0] - columns) * (y[..., 2] - rows)
    weights = np.stack([first / area, second / area], -1)
    return np.concatenate([weights, 1 - weights.sum(-1, keepdims=True)], -1).astype(np.float32)
