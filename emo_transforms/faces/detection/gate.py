"""Which places of a finer level of MTCNN's pyramid are worth a look, by what P-Net says of the next coarser level.

P-Net sees a face half a step too small for a level as a part of its window: the answer is weak, but its neighbours
agree and the shifts of the edges point inward. A network of one hidden layer reads this from the answers about a place:
its own five, their means and maxima over 3x3 places, their means over 5x5. It was fitted on faces of all sizes pasted
into pictures without any (``python -m tests.benchmarks.gate``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import cv2
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from emobeam.emo_transforms.faces.compiled_loops import compiled
from emobeam.schemas.records import EmobeamError

FACTOR = 0.709
"""The ratio of levels that the gate was fitted for."""

HOPELESS = -3.0
"""A place whose logits all about are below opens nothing."""

UNSEEN = np.array([-8, 0, 0, 0, 0], np.float32)
"""Stands for the answer at places that weren't looked at."""
UNSEEN.setflags(write=False)

_EVIDENCE = 20
_TOGETHER = 64
"""So many places are judged side by side, which is what a CPU's wide registers are for."""


@dataclass(frozen=True, eq=False)
class Gate:
    """A hidden layer [h, 20] and an output layer [h] with their biases [h] and [1], all float32.

    Raises:
        ValueError: they have other shapes or types.
    """

    hidden: NDArray[np.float32]
    hidden_bias: NDArray[np.float32]
    output: NDArray[np.float32]
    output_bias: NDArray[np.float32]

    def __post_init__(self) -> None:
        layers = (self.hidden, self.hidden_bias, self.output, self.output_bias)
        width = len(self.output)
        if [layer.shape for layer in layers] != [(width, _EVIDENCE), (width,), (width,), (1,)]:
            raise ValueError(f"layers {', '.join(str(layer.shape) for layer in layers)}")
        if any(layer.dtype != np.float32 for layer in layers):
            raise ValueError(f"layers of {', '.join(str(layer.dtype) for layer in layers)}")

    def open(self, answers: NDArray[np.float32]) -> NDArray[np.bool_]:
        """The places [h, w] about which the finer level is to be looked at.

        Args:
            answers: P-Net's [h, w, 5], logit and shifts of the four edges; :data:`UNSEEN` where it didn't look.
        """
        values, likely = evidence(answers)
        hidden, bias, output = map(np.ascontiguousarray, (self.hidden, self.hidden_bias, self.output))
        score = _score(values, hidden, bias, output)
        likely[likely] = score > -self.output_bias[0]
        return likely


def evidence(answers: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """What there is at the places that aren't hopeless, and which these are.

    Returns:
        float32 [n, 20]: the answers, their means over 3x3 places (the outermost are repeated beyond the edge), their
        maxima over 3x3, their means over 5x5; and bool [h, w] with ``n`` places: where the largest of 3x3 logits is
        above :data:`HOPELESS`.
    """
    most = cv2.dilate(np.ascontiguousarray(answers[..., 0]), np.ones((3, 3), np.uint8))
    likely = np.asarray(most > HOPELESS)
    return _evidence(np.ascontiguousarray(answers), likely), likely


@compiled
def _evidence(answers: NDArray[np.float32], likely: NDArray[np.bool_]) -> NDArray[np.float32]:
    rows, columns, width = answers.shape
    found = np.empty((likely.sum(), 4 * width), np.float32)
    # Of every column, two more on each side: the sums and maxima over three rows, the sums over five.
    room = (columns + 4) * width
    sums, tops, far = np.empty(room, np.float32), np.empty(room, np.float32), np.empty(room, np.float32)
    flat = answers.reshape(rows, columns * width)
    number = 0
    for y in range(rows):
        if not likely[y].any():
            continue
        first, above, row = flat[max(y - 2, 0)], flat[max(y - 1, 0)], flat[y]
        below, last = flat[min(y + 1, rows - 1)], flat[min(y + 2, rows - 1)]
        for k in range(columns * width):
            sums[k + 2 * width] = above[k] + row[k] + below[k]
            far[k + 2 * width] = sums[k + 2 * width] + (first[k] + last[k])
            tops[k + 2 * width] = max(above[k], row[k], below[k])
        for values in (sums, tops, far):
            for k in range(2 * width):
                values[k] = values[2 * width + k % width]
                values[(columns + 2) * width + k] = values[(columns + 1) * width + k % width]
        for x in range(columns):
            if likely[y, x]:
                for k in range(width):
                    at = (x + 2) * width + k
                    before, after = at - width, at + width
                    found[number, k] = row[x * width + k]
                    found[number, k + width] = (sums[before] + sums[at] + sums[after]) / np.float32(9)
                    found[number, k + 2 * width] = max(tops[before], tops[at], tops[after])
                    wide = far[before] + far[at] + far[after] + (far[before - width] + far[after + width])
                    found[number, k + 3 * width] = wide / np.float32(25)
                number += 1
    return found


@compiled
def _score(
    values: NDArray[np.float32],
    hidden: NDArray[np.float32],
    hidden_bias: NDArray[np.float32],
    output: NDArray[np.float32],
) -> NDArray[np.float32]:
    """What the network says [n] of the evidence [n, 20], without the output's bias: sums in the order of the layers."""
    count = len(values)
    score = np.empty(count, np.float32)
    own = np.zeros((values.shape[1], _TOGETHER), np.float32)
    unit, total = np.empty(_TOGETHER, np.float32), np.empty(_TOGETHER, np.float32)
    for start in range(0, count, _TOGETHER):
        here = min(_TOGETHER, count - start)
        for i in range(here):
            for k in range(values.shape[1]):
                own[k, i] = values[start + i, k]
        total[:] = np.float32(0)
        for h in range(len(output)):
            unit[:] = hidden_bias[h]
            for k in range(0, values.shape[1], 5):  # five at a time stay in registers
                a, b, c, d, e = hidden[h, k], hidden[h, k + 1], hidden[h, k + 2], hidden[h, k + 3], hidden[h, k + 4]
                for i in range(_TOGETHER):
                    one = unit[i] + a * own[k, i] + b * own[k + 1, i] + c * own[k + 2, i]
                    unit[i] = one + d * own[k + 3, i] + e * own[k + 4, i]
            for i in range(_TOGETHER):
                total[i] += max(unit[i], np.float32(0)) * output[h]
        score[start : start + here] = total[:here]
    return score


@lru_cache(maxsize=1)
def shipped_gate() -> Gate:
    """The gate of the package.

    Raises:
        EmobeamError: its file is missing or damaged.
    """
    file = files("emobeam.emo_transforms.faces.detection") / "gate.safetensors"
    try:
        # Copies, since loops are compiled once more for arrays that can't be written.
        return Gate(**{name: layer.copy() for name, layer in load(file.read_bytes()).items()})
    except (OSError, SafetensorError, TypeError, ValueError) as error:
        raise EmobeamError(f"{file}: missing or damaged ({error}); install emobeam anew") from error
