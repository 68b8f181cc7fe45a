from __future__ import annotations

import torch

from emobeam.emo_transforms.networks.devices import cuda_is_available


def test_cuda_is_where_torch_finds_it() -> None:
    assert cuda_is_available() is torch.cuda.is_available()
