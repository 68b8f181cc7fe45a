"""Expressions drawn at random: as they go together in faces, and as they don't, so that no unit is read off another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emobeam.emo_transforms.training.material.rendering.units import OTHER_SHAPES, UNIT_SHAPES, sided

Weights = dict[str, float]

_FREE = tuple(row.shapes for row in UNIT_SHAPES if row.shapes) + tuple((shape,) for shape in OTHER_SHAPES)
"""Groups of shapes that move together."""

_TOGETHER: tuple[tuple[float, Mapping[str, float]], ...] = (
    (3.0, {"mouthSmile": 1.0, "cheekRaiser": 0.8, "cheekSquint": 0.8, "eyeSquint": 0.4}),
    (2.0, {"mouthSmile": 0.7}),
    (1.5, {"mouthSmile": 1.0, "cheekRaiser": 0.9, "cheekSquint": 0.9, "jawOpen": 0.35, "mouthUpperUp": 0.3}),
    (2.0, {"browInnerUp": 1.0, "browOuterUp": 1.0, "eyeWide": 0.8, "jawOpen": 0.5}),
    (1.5, {"browInnerUp": 0.9, "browOuterUp": 0.9}),
    (1.5, {"browInnerUp": 0.8, "browDown": 0.5, "mouthFrown": 0.9}),
    (
        1.0,
        {"browInnerUp": 0.9, "browOuterUp": 0.5, "browDown": 0.5, "eyeWide": 0.9, "mouthStretch": 0.8, "jawOpen": 0.3},
    ),
    (2.0, {"browDown": 1.0, "eyeSquint": 0.6, "mouthPress": 0.8}),
    (1.5, {"browDown": 0.9}),
    (1.5, {"noseSneer": 0.9, "mouthUpperUp": 0.8, "browDown": 0.4, "eyeSquint": 0.5}),
    (1.0, {"mouthFrown": 0.9, "mouthShrugLower": 0.7}),
    (1.0, {"mouthPress": 1.0, "mouthRollUpper": 0.3, "mouthRollLower": 0.3}),
    (2.0, {"jawOpen": 0.6}),
    (1.5, {"jawOpen": 0.2, "mouthFunnel": 0.6}),
    (1.0, {"mouthPucker": 0.9}),
    (1.0, {"mouthUpperUp": 0.6, "mouthLowerDown": 0.7}),
    (1.0, {"mouthDimple": 0.8}),
    (1.0, {"eyeSquint": 0.9}),
)
"""Shapes that faces show together, and how often relative to each other."""


def draw_expression(rng: np.random.Generator) -> Weights:
    """One expression: nothing much, a usual one, two usual ones at once, or a free mixture."""
    kind = rng.choice(4, p=[0.2, 0.4, 0.15, 0.25])
    weights: Weights = {}
    if kind in (1, 2):
        for _ in range(kind):
            _add(weights, _usual(rng), rng)
    elif kind == 3:
        for shapes in _FREE:
            if rng.uniform() < 0.16:
                strength = rng.beta(1.3, 1.0)
                _add(weights, dict.fromkeys(shapes, strength), rng)
    for shapes in _FREE:  # nobody keeps quite still
        if rng.uniform() < 0.25:
            _add(weights, dict.fromkeys(shapes, 0.15 * rng.uniform()), rng)
    if rng.uniform() < 0.08:
        _add(weights, {"eyeBlink": 1.0}, rng)
    return settle(weights)


def settle(weights: Weights) -> Weights:
    """What a face can do: weights in [0, 1], lips neither pressed nor rolled while the jaw is open."""
    closed = 1 - min(1.0, weights.get("jawOpen", 0.0) / 0.15)
    pressed = {name for shape in ("mouthPress", "mouthRollLower", "mouthRollUpper") for name in sided(shape)}
    settled = {name: min(max(w * (closed if name in pressed else 1), 0.0), 1.0) for name, w in weights.items()}
    return {name: weight for name, weight in settled.items() if weight > 1e-3}


def _usual(rng: np.random.Generator) -> dict[str, float]:
    chances = np.array([chance for chance, _ in _TOGETHER])
    _, shapes = _TOGETHER[rng.choice(len(_TOGETHER), p=chances / chances.sum())]
    strength = rng.beta(2.0, 1.2)
    return {shape: weight * strength * rng.uniform(0.6, 1.25) for shape, weight in shapes.items()}


def _add(weights: Weights, shapes: Mapping[str, float], rng: np.random.Generator) -> None:
    """Adds shapes with a little asymmetry; one in twelve on one side only."""
    lean = rng.normal(0, 0.08)
    sides = {"_L": 1 + lean, "_R": 1 - lean}
    if rng.uniform() < 1 / 12:
        sides[str(rng.choice(["_L", "_R"]))] = 0.1
    for shape, weight in shapes.items():
        for name in sided(shape):
            weights[name] = max(weights.get(name, 0.0), weight * sides.get(name[-2:], 1.0))


@dataclass(frozen=True)
class Motion:
    """A moving face: one entry per frame.

    Attributes:
        weights: of the shapes.
        turns: yaw, pitch, roll in degrees added to the pose, ``[n, 3]``.
    """

    weights: tuple[Weights, ...]
    turns: npt.NDArray[np.float64]


def draw_motion(rng: np.random.Generator, frames: int, fps: float) -> Motion:
    """Expressions that come (0.2 to 1 s), stay (0 to 3 s) and go (0.3 to 1.5 s), speech, blinks, a moving head.

    ``frames`` is at least 1.
    """
    times = np.arange(frames) / fps
    curves: dict[str, npt.NDArray[np.float64]] = {}
    start = rng.uniform(-1, 1.5)
    while start < times[-1]:
        weights: Weights = {}
        _add(weights, _usual(rng), rng)
        rise, stay, fall = rng.uniform(0.2, 1.0), rng.exponential(1.0), rng.uniform(0.3, 1.5)
        course = np.interp(times, [start, start + rise, start + rise + stay, start + rise + stay + fall], [0, 1, 1, 0])
        _mix(curves, weights, course * course * (3 - 2 * course))
        start += rng.uniform(0.4, 1.2) * (rise + stay + fall)
    if rng.uniform() < 0.4:
        _speak(curves, times, rng)
    for blink in np.cumsum(rng.exponential(3.5, int(frames / fps) + 1)):
        _mix(curves, {"eyeBlink_L": 1.0, "eyeBlink_R": 1.0}, np.clip(1 - np.abs(times - blink) / 0.15, 0, 1))
    weights_of = [settle({name: float(curve[i]) for name, curve in curves.items()}) for i in range(frames)]
    turns = np.stack([_wander(times, rng) * size for size in (7, 4, 3)], 1)
    return Motion(tuple(weights_of), turns)


def _mix(curves: dict[str, npt.NDArray[np.float64]], weights: Weights, course: npt.NDArray[np.float64]) -> None:
    for name, weight in weights.items():
        curves[name] = np.maximum(curves.get(name, np.zeros_like(course)), weight * course)


def _speak(
    curves: dict[str, npt.NDArray[np.float64]], times: npt.NDArray[np.float64], rng: np.random.Generator
) -> None:
    begin = rng.uniform(0, times[-1])
    during = (times >= begin) & (times <= begin + rng.uniform(1, 5))
    for shape, size in (("jawOpen", 0.35), ("mouthFunnel", 0.4), ("mouthLowerDown", 0.4), ("mouthPucker", 0.3)):
        course = np.clip(rng.normal(0.3, 0.5, len(times)), 0, 1) * during
        _mix(curves, dict.fromkeys(sided(shape), size), course)


def _wander(times: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    waves = rng.uniform(0.05, 0.5, 4)
    total = np.sin(2 * np.pi * waves[:, None] * times + rng.uniform(0, 2 * np.pi, (4, 1))).sum(0)
    return np.asarray(total / 2)
