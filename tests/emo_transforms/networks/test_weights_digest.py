from __future__ import annotations

import numpy as np
import torch

from emobeam.emo_transforms.networks.weights_digest import arrays_sha256, tensors_sha256


def test_arrays_and_tensors_have_one_identity() -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "b": rng.normal(size=(3, 4)).astype(np.float32).T,  # not contiguous
        "a": rng.normal(size=5).astype(np.float16),
        "count": np.array(7),
        "none": np.zeros((0, 2), np.float32),
        "flags": np.array([True, False]),
        "wide": rng.normal(size=2),
    }
    wanted = tensors_sha256({name: torch.from_numpy(array) for name, array in arrays.items()})
    assert arrays_sha256(arrays) == wanted
    assert arrays_sha256(dict(reversed(arrays.items()))) == wanted
    assert arrays_sha256({**arrays, "a": arrays["a"].astype(np.float32)}) != wanted
    assert arrays_sha256({}) == tensors_sha256({})
