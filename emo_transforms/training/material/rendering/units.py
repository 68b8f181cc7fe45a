"""Which shapes of ICT-FaceKit stand for which action unit, and which have no counterpart.

ICT-FaceKit's expression shapes are blendshapes made for animation, not FACS codes. The table follows the descriptions
of both (Ekman, Friesen & Hager, Facial Action Coding System, 2002; Li et al., Learning Formation of Physically-Based
Face Attributes, CVPR 2020, which introduces the shapes). An approximate row looks like the unit but is not scanned
from it; AU23 (lip tightener) has no shape at all, so nothing learned from renders can know it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Match = Literal["direct", "approximate", "geometric", "none"]


@dataclass(frozen=True)
class UnitShapes:
    """How an action unit is made.

    Attributes:
        unit: as the challenge names it, ``AU12``.
        shapes: names of the shapes without their side; ``cheekRaiser`` is ``cheekRaiser_L`` and ``cheekRaiser_R``.
        match: ``direct`` (the shape shows the unit), ``approximate``, ``geometric`` (measured on the deformed mesh),
            ``none``.
        note: what to know.
    """

    unit: str
    shapes: tuple[str, ...]
    match: Match
    note: str = ""


UNIT_SHAPES = (
    UnitShapes("AU1", ("browInnerUp",), "direct"),
    UnitShapes("AU2", ("browOuterUp",), "direct"),
    UnitShapes("AU4", ("browDown",), "direct", "lowers and draws together in one shape"),
    UnitShapes(
        "AU6", ("cheekRaiser", "cheekSquint"), "approximate", "cheek and lower lid in separate shapes, used together"
    ),
    UnitShapes("AU7", ("eyeSquint",), "direct"),
    UnitShapes("AU10", ("mouthUpperUp",), "direct"),
    UnitShapes("AU12", ("mouthSmile",), "direct"),
    UnitShapes("AU15", ("mouthFrown",), "direct"),
    UnitShapes("AU23", (), "none", "no shape tightens the lips without rolling or pressing them"),
    UnitShapes("AU24", ("mouthPress",), "approximate", "presses the corners more than the middle of the lips"),
    UnitShapes("AU25", (), "geometric", "distance between the lips, in mouth widths"),
    UnitShapes("AU26", ("jawOpen",), "direct", "the shape goes on to AU27 (mouth stretch)"),
)
"""The twelve units of the ABAW challenges."""

OTHER_SHAPES = (
    "cheekPuff",
    "eyeBlink",
    "eyeLookDown",
    "eyeLookUp",
    "eyeWide",
    "jawForward",
    "jawLeft",
    "jawRight",
    "mouthDimple",
    "mouthFunnel",
    "mouthLeft",
    "mouthLowerDown",
    "mouthPucker",
    "mouthRight",
    "mouthRollLower",
    "mouthRollUpper",
    "mouthShrugLower",
    "mouthStretch",
    "noseSneer",
)
"""Shapes that move a face without one of the twelve units: what a network must learn not to mistake for them."""

PARTED = 0.25
"""Distance between the lips, in widths of the mouth at rest, at which AU25 counts as fully there."""


def unit_activations(shapes: Mapping[str, float], parting: float) -> dict[str, float]:
    """Activations of the units in [0, 1] that a rendered face shows; AU23 is missing, for nothing shows it.

    Args:
        shapes: weights by full name (``mouthSmile_L``); absent ones are 0.
        parting: distance between the lips in widths of the mouth at rest.

    A unit on one side counts as there, as in FACS: the larger side decides.
    """
    found = {}
    for row in UNIT_SHAPES:
        if row.match == "geometric":
            found[row.unit] = min(max(parting, 0.0) / PARTED, 1.0)
        elif row.shapes:
            sides = [shapes.get(name, 0.0) for shape in row.shapes for name in sided(shape)]
            found[row.unit] = min(max(sides), 1.0)
    return found


def sided(shape: str) -> tuple[str, ...]:
    """Full names of a shape: itself, or left and right."""
    middle = {"jawForward", "jawLeft", "jawOpen", "jawRight", "mouthClose", "mouthFunnel", "mouthLeft", "mouthPucker"}
    middle |= {"mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper"}
    return (shape,) if shape in middle else (f"{shape}_L", f"{shape}_R")
