"""A ball with the names of ICT-FaceKit's shapes: what renders without the real model."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from emobeam.emo_transforms.training.material.rendering.units import OTHER_SHAPES, UNIT_SHAPES, sided

MATERIALS = ("M_BackHead", "M_Face", "M_GumsTongue", "M_Teeth", "M_IrisLeft", "M_IrisRight", "M_EyeOcclusion")


def write_ball(path: Path, rows: int = 65, columns: int = 104) -> Path:
    """Writes a model of more vertices than the largest landmark's number."""
    rng = np.random.default_rng(0)
    down, around = np.meshgrid(np.linspace(0.02, np.pi - 0.02, rows), np.linspace(0, 2 * np.pi, columns), indexing="ij")
    ball = np.stack([np.sin(down) * np.sin(around), np.cos(down), np.sin(down) * np.cos(around)], -1)
    vertices = (ball.reshape(-1, 3) * (8, 10, 9)).astype(np.float32)
    at = np.arange(rows * columns).reshape(rows, columns)
    quads = np.stack([at[:-1, :-1], at[1:, :-1], at[1:, 1:], at[:-1, 1:]], -1).reshape(-1, 4)
    names = sorted({name for row in UNIT_SHAPES for s in row.shapes for name in sided(s)} | _others())
    shapes = rng.normal(0, 0.3, (len(names), len(vertices), 3)).astype(np.float16)
    arrays = {
        "neutral": vertices,
        "quads": quads.astype(np.int32),
        "mat": rng.choice(len(MATERIALS), len(quads), p=[0.2, 0.7, 0.02, 0.02, 0.02, 0.02, 0.02]).astype(np.int8),
        "mats": np.array(MATERIALS),
        "I": rng.normal(0, 0.05, (100, len(vertices), 3)).astype(np.float16),
        "E": shapes,
        "enames": np.array(names),
    }
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def _others() -> set[str]:
    return {name for shape in OTHER_SHAPES for name in sided(shape)}
