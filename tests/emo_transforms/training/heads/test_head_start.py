"""Which maps a head reads where nobody says so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from emobeam.emo_transforms.cache.dataset import Dataset
from emobeam.emo_transforms.training.heads.head_start import (
    head_config,
    reads_final_layer,
    skipped_levels,
    start_module,
)
from emobeam.emo_transforms.training.heads.recipe import recipe_named
from emobeam.schemas.config import ExtractConfig, SamplingConfig
from emobeam.schemas.records import EmobeamError
from emobeam.schemas.tasks import TASKS

AU = TASKS["au"]
SOFT = recipe_named("soft", "au")


def dataset(edge: int) -> Dataset:
    """Maps of crops of so many px, as networks with padding make them."""
    shapes = {f"s{stride}": (8, -(-edge // stride), -(-edge // stride)) for stride in (8, 16, 32)}
    return Dataset(ExtractConfig(sampling=SamplingConfig(6.0)), shapes)


@pytest.mark.parametrize(("edge", "levels"), [(112, 1), (128, 3), (160, 3), (224, 3), (240, 1)])
def test_as_many_levels_as_can_be_cut(edge: int, levels: int) -> None:
    config = head_config(AU, dataset(edge), SOFT, 1)
    assert config.levels == levels
    start_module(config)
    assert reads_final_layer(SOFT, dataset(edge))
    told = skipped_levels(SOFT, dataset(edge))
    assert bool(told) == (levels < 3)
    if edge == 112:
        assert "reads s32 alone of the maps in the cache (s8 14x14, s16 7x7, s32 4x4)" in told
        assert "128 or 224 px" in told


def test_what_is_asked_for_is_not_changed() -> None:
    """The module of levels that can't be cut is refused, as it always was; other architectures need no cutting."""
    asked = replace(SOFT, levels=3)
    assert skipped_levels(asked, dataset(112)) == ""
    with pytest.raises(EmobeamError, match="map s8 of 14x14 can't be cut"):
        start_module(head_config(AU, dataset(112), asked, 1))
    tcn = replace(SOFT, architecture="tcn")
    assert head_config(AU, dataset(112), tcn, 1).levels == 3
    assert skipped_levels(tcn, dataset(112)) == ""
    few = replace(dataset(112), map_shapes={"s32": (8, 4, 4)})
    assert skipped_levels(SOFT, few) == ""
