"""float16 to NumPy's bits: all of float16's own values, what lies between them, and random bits."""

from __future__ import annotations

import numpy as np
import pytest

from emobeam.emo_transforms.cache.half_floats import to_half


def own_values() -> np.ndarray:
    return np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)


def between() -> np.ndarray:
    values = own_values().astype(np.float64)
    return ((values[:-1] + values[1:]) / 2).astype(np.float32)


def random_bits() -> np.ndarray:
    bits = np.random.default_rng(0).integers(0, 1 << 32, 1 << 20, dtype=np.uint64).astype(np.uint32).view(np.float32)
    return bits[np.isfinite(bits) & (np.abs(bits) <= 65504)]


@pytest.mark.parametrize("sign", [1, -1])
def test_the_bits_are_those_of_numpy(sign: int) -> None:
    middle = between()
    near = [np.nextafter(middle, np.float32(0)), middle, np.nextafter(middle, np.float32(1e9))]
    values = np.float32(sign) * np.concatenate([own_values(), *near, random_bits()])
    found = to_half(values)
    assert found.dtype == np.float16
    assert found.tobytes() == values.astype(np.float16).tobytes()


def test_shapes_and_strides() -> None:
    maps = np.random.default_rng(1).normal(size=(2, 3, 4, 5)).astype(np.float32)
    for values in (maps, maps[:, ::2], maps.transpose(3, 1, 0, 2), maps[:0]):
        assert to_half(values).shape == values.shape
        np.testing.assert_array_equal(to_half(values), values.astype(np.float16))
