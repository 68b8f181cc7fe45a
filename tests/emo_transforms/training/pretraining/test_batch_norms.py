from __future__ import annotations

import timm
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from emobeam.emo_transforms.training.pretraining.batch_norms import BATCH_NORMS, freeze_norms, frozen_statistics

SHAPES = {nn.BatchNorm1d: (4, 2), nn.BatchNorm2d: (4, 2, 3, 3), nn.BatchNorm3d: (4, 2, 3, 3, 3)}


def test_every_batch_norm_of_torch_is_known() -> None:
    """By what torch itself takes for one; its lazy kinds turn into the others with their first batch."""
    lazy = {nn.LazyBatchNorm1d, nn.LazyBatchNorm2d, nn.LazyBatchNorm3d}
    kinds = {kind for kind in vars(nn).values() if isinstance(kind, type) and issubclass(kind, _BatchNorm)}
    assert kinds - lazy == set(BATCH_NORMS)


def test_those_of_timm_are_kinds_of_them() -> None:
    network = timm.create_model("mobilenetv4_conv_small.e2400_r224_in1k", pretrained=False)
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    assert len(norms) > 20
    assert all(isinstance(norm, BATCH_NORMS) for norm in norms)


def test_running_statistics_stay() -> None:
    for kind, shape in SHAPES.items():
        norm = kind(2)
        x = torch.randn(shape)
        plain = norm(x)
        before = {name: value.clone() for name, value in norm.state_dict().items()}
        with frozen_statistics(nn.Sequential(norm)):
            torch.testing.assert_close(norm(2 * x), plain, atol=1e-3, rtol=0)  # still by the batch's own statistics
        freeze_norms(nn.Sequential(norm))
        norm(x)
        for name, value in norm.state_dict().items():
            torch.testing.assert_close(value, before[name])
        assert norm.momentum == 0.1
