"""What a rendered picture shows besides the expression: person, skin, light, camera, background."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Person:
    """What stays the same in all pictures of one person.

    Attributes:
        number: identity of the person; train and test sides never share one.
        identity: coefficients of the identity shapes.
        skin, lips, hair, iris: linear RGB in [0, 1].
        brow: strength of the eyebrows, beard: of a beard, both in [0, 1].
        bald: no hair at all.
        blotches: relative strength of unevenness of the skin.
        texture: seed of that unevenness.
    """

    number: int
    identity: Floats
    skin: Floats
    lips: Floats
    hair: Floats
    iris: Floats
    brow: float
    beard: float
    bald: bool
    blotches: float
    gloss: float
    texture: int


@dataclass(frozen=True)
class Lights:
    """Ambient light and lamps.

    Attributes:
        ambient: linear RGB.
        directions: unit vectors ``[n, 3]`` from the face to the lamps (x to the face's left, y up, z forward).
        colours: linear RGB ``[n, 3]``.
    """

    ambient: Floats
    directions: Floats
    colours: Floats


@dataclass(frozen=True)
class Pose:
    """How the head stands to the camera: degrees, and distance in head heights (about 25 cm)."""

    yaw: float
    pitch: float
    roll: float
    distance: float


def draw_person(number: int, seed: int) -> Person:
    """The person of a number; the same for the same seed."""
    rng = np.random.default_rng([seed, number])
    depth = rng.uniform()  # light to dark skin, evenly
    light, dark = np.array([0.78, 0.56, 0.46]), np.array([0.09, 0.045, 0.028])
    skin = np.exp((1 - depth) * np.log(light) + depth * np.log(dark)) * rng.normal(1, 0.05, 3)
    lips = skin * rng.uniform([0.75, 0.45, 0.45], [0.98, 0.75, 0.75])
    hairs = np.array(
        [[0.01, 0.008, 0.007], [0.05, 0.025, 0.012], [0.16, 0.08, 0.03], [0.4, 0.27, 0.12], [0.4, 0.4, 0.4]]
    )
    kinds = [0.75, 0.15, 0.05, 0.0, 0.05] if depth > 0.5 else [0.2, 0.3, 0.2, 0.18, 0.12]
    hair = hairs[rng.choice(5, p=kinds)] * rng.uniform(0.7, 1.3)
    irises = np.array([[0.06, 0.03, 0.015], [0.12, 0.07, 0.03], [0.12, 0.2, 0.3], [0.1, 0.16, 0.08]])
    coefficients = rng.normal(0, 1, 100).clip(-2.5, 2.5) * rng.uniform(0.6, 1.1)
    return Person(
        number=number,
        identity=coefficients.astype(np.float32),
        skin=skin.clip(0.01, 0.95).astype(np.float32),
        lips=lips.clip(0.01, 0.95).astype(np.float32),
        hair=hair.clip(0.004, 0.8).astype(np.float32),
        iris=(irises[rng.choice(4, p=[0.6, 0.2, 0.12, 0.08])] * rng.uniform(0.7, 1.4)).astype(np.float32),
        brow=float(rng.uniform(0.35, 1.0)),
        beard=float(rng.uniform(0.2, 0.9)) if rng.uniform() < 0.25 else 0.0,
        bald=bool(rng.uniform() < 0.12),
        blotches=float(rng.uniform(0.02, 0.14)),
        gloss=float(rng.uniform(0.02, 0.2)),
        texture=int(rng.integers(2**31)),
    )


def draw_lights(rng: np.random.Generator) -> Lights:
    """Soft daylight to one hard lamp at the side."""
    count = int(rng.integers(1, 4))
    directions = np.stack([rng.uniform(-1, 1, count), rng.uniform(-0.25, 1, count), rng.uniform(0.15, 1, count)], 1)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    warmth = rng.uniform(-0.18, 0.18, (count, 1)) * np.array([1, 0.1, -1]) + 1
    colours = warmth * rng.uniform(0.25, 1.3, (count, 1)) / np.sqrt(count)
    tint = rng.uniform(-0.12, 0.12) * np.array([1, 0.1, -1]) + 1
    return Lights(
        (tint * rng.uniform(0.12, 0.6)).astype(np.float32), directions.astype(np.float32), colours.astype(np.float32)
    )


def draw_pose(rng: np.random.Generator) -> Pose:
    """Mostly frontal, up to profile-like turns of 50 degrees."""
    yaw = rng.normal(0, 18)
    return Pose(
        float(np.clip(yaw, -50, 50)), float(rng.normal(0, 9)), float(rng.normal(0, 7)), float(rng.uniform(2.2, 8))
    )


def draw_background(rng: np.random.Generator, height: int, width: int) -> npt.NDArray[np.float32]:
    """A picture of blurred blocks and gradients, ``[height, width, 3]`` in [0, 1]."""
    picture = np.zeros((height, width, 3), np.float32)
    for cells in (2, 5, 13):
        coarse = rng.uniform(0, 1, (cells, cells, 3)).astype(np.float32)
        rows = (np.linspace(0, cells - 1, height) + rng.uniform(-0.4, 0.4)).round().clip(0, cells - 1).astype(int)
        columns = (np.linspace(0, cells - 1, width) + rng.uniform(-0.4, 0.4)).round().clip(0, cells - 1).astype(int)
        picture += coarse[rows][:, columns] * rng.uniform(0.1, 1)
    return np.asarray(picture / picture.max() * rng.uniform(0.2, 1), np.float32)
