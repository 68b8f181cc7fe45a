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
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load
from torch.nn import functional

from emo_transforms.detection.networks import one_thread
from schemas.records import EmobeamError

FACTOR = 0.709
"""The ratio of levels that the gate was fitted for."""

HOPELESS = -3.0
"""A place whose logits all about are below opens nothing."""

UNSEEN = np.array([-8, 0, 0, 0, 0], np.float32)
"""Stands for the answer at places that weren't looked at."""
UNSEEN.setflags(write=False)


@dataclass(frozen=True, eq=False)
class Gate:
    """A hidden layer [h, 20] and an output layer [h] with their biases [h] and [1], all float32."""

    hidden: NDArray[np.float32]
    hidden_bias: NDArray[np.float32]
    output: NDArray[np.float32]
    output_bias: NDArray[np.float32]

    def open(self, answers: NDArray[np.float32]) -> NDArray[np.bool_]:
        """The places [h, w] about which the finer level is to be looked at.

        Args:
            answers: P-Net's [h, w, 5], logit and shifts of the four edges; :data:`UNSEEN` where it didn't look.
        """
        values, likely = evidence(answers)
        # One thread adds in one order, whatever the worker's number of threads.
        with torch.inference_mode(), one_thread():
            hidden = functional.linear(
                torch.from_numpy(values), torch.from_numpy(self.hidden), torch.from_numpy(self.hidden_bias)
            )
            score = (functional.relu(hidden) @ torch.from_numpy(self.output)).numpy()
        likely[likely] = score > -self.output_bias[0]
        return likely


def evidence(answers: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """What there is at the places that aren't hopeless, and which these are.

    Returns:
        float32 [n, 20]: the answers, their means over 3x3 places (the outermost are repeated beyond the edge), their
        maxima over 3x3, their means over 5x5; and bool [h, w] with ``n`` places: where the largest of 3x3 logits is
        above :data:`HOPELESS`.
    """
    most = cv2.dilate(answers, np.ones((3, 3), np.uint8))
    likely = np.asarray(most[..., 0] > HOPELESS)
    places = np.flatnonzero(likely)
    near, far = (cv2.blur(answers, (edge, edge), borderType=cv2.BORDER_REPLICATE) for edge in (3, 5))
    found = [values.reshape(-1, 5).take(places, axis=0) for values in (answers, near, most, far)]
    return np.concatenate(found, axis=1), likely


@lru_cache(maxsize=1)
def shipped_gate() -> Gate:
    """The gate of the package.

    Raises:
        EmobeamError: its file is missing or damaged.
    """
    file = files("emo_transforms.detection") / "gate.safetensors"
    try:
        return Gate(**load(file.read_bytes()))
    except (OSError, SafetensorError, TypeError) as error:
        raise EmobeamError(f"{file}: missing or damaged ({error}); install emobeam anew") from error
