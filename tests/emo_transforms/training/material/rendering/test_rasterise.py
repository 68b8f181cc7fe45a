from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from emobeam.emo_transforms.training.material.rendering.rasterise import rasterise

Point = tuple[float, float]


def slow(points: np.ndarray, triangles: np.ndarray, height: int, width: int) -> dict[int, int]:
    """Frontmost triangle by pixel, one pixel and one triangle at a time; ties and edges are left out."""
    found: dict[int, tuple[float, int]] = {}
    unsure = set()
    for number, corners in enumerate(triangles):
        a, b, c = points[corners].astype(float)
        area = (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1])
        if area >= -1e-9:
            continue
        for row in range(height):
            for column in range(width):
                x, y = column + 0.5, row + 0.5
                u = ((b[0] - x) * (c[1] - y) - (c[0] - x) * (b[1] - y)) / area
                v = ((c[0] - x) * (a[1] - y) - (a[0] - x) * (c[1] - y)) / area
                w = 1 - u - v
                pixel = row * width + column
                if min(u, v, w) < 1e-4:
                    if min(u, v, w) > -1e-4:
                        unsure.add(pixel)
                    continue
                depth = u * a[2] + v * b[2] + w * c[2]
                if pixel in found and abs(found[pixel][0] - depth) < 1e-3:
                    unsure.add(pixel)
                if pixel not in found or depth < found[pixel][0]:
                    found[pixel] = (depth, number)
    return {pixel: number for pixel, (_, number) in found.items() if pixel not in unsure}


@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_it_sees_what_a_slow_loop_sees(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    points = (rng.uniform(-4, 24, (3 * count, 3)) * (1, 1, 1)).astype(np.float32)
    triangles = np.arange(3 * count).reshape(-1, 3)
    raster = rasterise(points, triangles, 18, 20)
    expected = slow(points, triangles, 18, 20)
    got = dict(zip(raster.pixels.tolist(), raster.triangles.tolist(), strict=True))
    assert {pixel: got.get(pixel) for pixel in expected} == expected
    np.testing.assert_allclose(raster.weights.sum(1), 1, atol=1e-5)


def test_values_are_interpolated_linearly() -> None:
    points = np.array([[0, 0, 1], [0, 20, 1], [20, 0, 1]], np.float32)
    raster = rasterise(points, np.array([[0, 1, 2]]), 20, 20)
    values = raster.interpolate(np.array([[0, 1, 2]]), points[:, :2])
    np.testing.assert_allclose(values[:, 0], raster.pixels % 20 + 0.5, atol=1e-4)
    np.testing.assert_allclose(values[:, 1], raster.pixels // 20 + 0.5, atol=1e-4)


def test_what_is_seen_from_behind_is_left_out() -> None:
    points = np.array([[0, 0, 1], [20, 0, 1], [0, 20, 1]], np.float32)
    assert len(rasterise(points, np.array([[0, 1, 2]]), 20, 20).pixels) == 0
