"""What head.json says: read as it was written, and refused where it contradicts itself."""

from __future__ import annotations

from typing import Any

import pytest

from emobeam.emo_transforms.networks.heads.architectures.registry import build
from emobeam.emo_transforms.networks.heads.config import HeadConfig, check_config, config_from_json, config_to_json
from emobeam.schemas.records import EmobeamError
from tests.emo_transforms.networks.heads.kinds import KINDS, make

OLD = """{"name": "va", "task": "va", "outputs": ["valence", "arousal"], "scope": "frame", "activation": "tanh",
"features_id": "f00d", "map_shapes": {"s16": [3, 4, 4], "s8": [2, 8, 8], "s32": [4, 2, 2]}, "schema_version": 1,
"architecture": "tam", "form": "clip", "levels": 3, "window": 8, "time_patch": 4, "dim": 256, "final_channels": 960,
"rate": 6.0, "crop_style": "square", "backbone": "mobilenetv4_conv_small", "thresholds": [], "smoothing": 0,
"weights": "untrained", "seed": 0, "metrics": {}, "provenance": {}, "trained_on": [], "tuned_on": []}"""


def test_heads_of_before_are_read_and_written_as_they_were() -> None:
    import json

    config = config_from_json(OLD)
    assert config.inputs == ("s8", "s16", "s32")
    assert json.loads(config_to_json(config)) == json.loads(OLD)


@pytest.mark.parametrize("kind", KINDS)
def test_descriptions_survive_json(kind: str) -> None:
    config = make(kind).config
    assert config_from_json(config_to_json(config)) == config
    assert build(config).inputs == config.inputs


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": ("s8", "s32")}, "inputs names .*, map_shapes others"),
        ({"inputs": ("s8", "s16", "s32", "embedding")}, "vector_lengths"),
        ({"inputs": ("s8", "s16", "s32", "s32")}, "expected different names"),
        ({"inputs": ("s8", "s16", "s32", "scores"), "vector_lengths": {"scores": 0}}, "whole numbers above 0"),
    ],
)
def test_descriptions_that_contradict_themselves(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(EmobeamError, match=message):
        check_config(HeadConfig(**{**config_from_json(OLD).__dict__, **changes}))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"window": 8', '"window": 1000000000', "window is 1000000000, expected at most 4096"),
        ('"dim": 256', '"dim": 1099511627776', "dim is 1099511627776"),
        ('"final_channels": 960', '"final_channels": 99999999', "final_channels is 99999999"),
        ("[4, 2, 2]", "[1099511627776, 2, 2]", "map_shapes or vector_lengths beyond 16777216 values"),
        ('"rate": 6.0', '"rate": NaN', "rate is nan"),
        ('"outputs": ["valence", "arousal"]', '"outputs": ["valence", 7]', "expected a list of str"),
        (OLD, "[" * 100_000, "not JSON .nested too deeply"),
    ],
)
def test_nothing_is_made_by_a_number_that_no_head_has(old: str, new: str, message: str) -> None:
    with pytest.raises(EmobeamError, match=message):
        config_from_json(OLD.replace(old, new))


def test_flags_are_no_numbers() -> None:
    with pytest.raises(EmobeamError, match="window is True, expected a int"):
        config_from_json(OLD.replace('"window": 8', '"window": true'))
    with pytest.raises(EmobeamError, match="causal is 1, expected a bool"):
        config_from_json(OLD.replace('"window": 8', '"window": 8, "causal": 1'))
