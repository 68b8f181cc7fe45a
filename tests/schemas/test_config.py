from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobeam.schemas import config as module
from emobeam.schemas.config import (
    AlignConfig,
    BackboneConfig,
    DecoderConfig,
    DetectorConfig,
    ExtractConfig,
    OriginConfig,
    SamplingConfig,
    digest_of,
    extract_config_from_json,
    shard_name,
    to_json,
)
from emobeam.schemas.records import CodedSize, Display, Fingerprint

CONFIG = ExtractConfig(backbone=BackboneConfig(weights="w.safetensors", weights_sha256="ab" * 32), maps=("s16", "s32"))


def changed(value: Any) -> Any:
    """Another value of the same type."""
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, bool):
        return not value
    if value == ():
        return ("x",)
    if isinstance(value, tuple):
        return (*value[:-1], changed(value[-1]))
    return value + 1


def variants(config: ExtractConfig) -> list[tuple[str, ExtractConfig]]:
    """The config with one value changed at a time."""
    found = []
    for part in fields(config):
        value: Any = getattr(config, part.name)
        if hasattr(value, "__dataclass_fields__"):
            for inner in fields(value):
                other: Any = replace(value, **{inner.name: changed(getattr(value, inner.name))})
                found.append((f"{part.name}.{inner.name}", replace(config, **{part.name: other})))
        else:
            found.append((part.name, replace(config, **{part.name: changed(value)})))
    return found


OF_THE_FEATURES = {f"backbone.{f.name}" for f in fields(BackboneConfig)} - {"backbone.weights"}
WITHOUT_EFFECT = {"backbone.weights", "decoder.timeout", "decoder.memory_mb", "decoder.max_pixels"}


@pytest.mark.parametrize(("name", "other"), variants(CONFIG), ids=[name for name, _ in variants(CONFIG)])
def test_each_value_enters_the_identities_it_should(name: str, other: ExtractConfig) -> None:
    assert (other.features_id != CONFIG.features_id) == (name in OF_THE_FEATURES)
    assert (other.cache_id != CONFIG.cache_id) == (name not in WITHOUT_EFFECT)


@pytest.mark.parametrize("constant", ["STAGE1_REVISION", "SCHEMA_VERSION"])
def test_the_revision_of_the_code_enters_cache_id_only(monkeypatch: pytest.MonkeyPatch, constant: str) -> None:
    features_id, cache_id = CONFIG.features_id, CONFIG.cache_id
    monkeypatch.setattr(module, constant, 99)
    assert CONFIG.cache_id != cache_id
    assert CONFIG.features_id == features_id


def test_the_decoder_means_nothing_to_a_folder_of_crops() -> None:
    crops = replace(CONFIG, source="affwild2")
    assert crops.cache_id == replace(crops, decoder=DecoderConfig(name="decord")).cache_id


def test_identities_are_the_same_in_every_process() -> None:
    code = "from emobeam.schemas.config import ExtractConfig as E; print(E().features_id, E().cache_id)"
    root = Path(__file__).parents[2]
    seeds = ("1", "2")
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], cwd=root, env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        )
        for seed in seeds
    ]
    assert runs[0].stdout == runs[1].stdout
    assert runs[0].stdout.decode().split() == [ExtractConfig().features_id, ExtractConfig().cache_id]


def test_features_id_is_a_digest_of_plain_data() -> None:
    backbone = asdict(CONFIG.backbone)
    for name in ("weights", "vectors", "classes", "score_names"):
        del backbone[name]
    text = json.dumps(backbone, sort_keys=True, separators=(",", ":"))
    assert CONFIG.features_id == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_caches_of_maps_keep_their_identity() -> None:
    """Written down before backbones could give anything but maps."""
    assert ExtractConfig().features_id == "c502d2292b2b7cf2"
    trained = BackboneConfig(weights="w.pt", weights_sha256="ab" * 32)
    assert ExtractConfig(backbone=trained).features_id == "4389eea7553ecc1e"
    assert ExtractConfig(backbone=replace(trained, vectors=True, classes=8)).features_id != "4389eea7553ecc1e"
    assert set(ExtractConfig().identity()) & {"views", "origin", "augmentation_revision"} == set()


def test_the_augmentation_enters_cache_id_with_views_only(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, views = CONFIG.cache_id, replace(CONFIG, views=2).cache_id
    monkeypatch.setattr(module, "AUGMENTATION_REVISION", 99)
    assert CONFIG.cache_id == plain
    assert replace(CONFIG, views=2).cache_id != views


def test_the_margin_of_stored_crops_is_that_of_their_origin() -> None:
    narrow = replace(CONFIG, align=AlignConfig(margin=0.1))
    assert narrow.crop_margin == 0.1
    assert replace(narrow, origin=OriginConfig("cace", 0.3)).crop_margin == 0.3


configs = st.builds(
    ExtractConfig,
    source=st.sampled_from(["video", "affwild2"]),
    backbone=st.builds(
        BackboneConfig,
        name=st.text(),
        weights=st.text(),
        weights_sha256=st.text(),
        input_size=st.integers(1, 999),
        mean=st.tuples(*[st.floats(0, 1)] * 3),
        score_names=st.lists(st.text()).map(tuple),
    ),
    sampling=st.builds(SamplingConfig, fps=st.floats(0, 100), segment_seconds=st.floats(1, 600)),
    decoder=st.builds(DecoderConfig, timeout=st.floats(0, 100), memory_mb=st.integers()),
    detector=st.builds(DetectorConfig, thresholds=st.tuples(*[st.floats(0, 1)] * 3)),
    align=st.builds(AlignConfig, margin=st.floats(0, 1)),
    maps=st.lists(st.sampled_from(["s8", "s16", "s32"])).map(tuple),
    store=st.lists(st.sampled_from(["maps", "crops", "embedding", "scores"])).map(tuple),
    views=st.integers(0, 9),
    origin=st.builds(OriginConfig, cache_id=st.text(), margin=st.floats(0, 1)),
)


@given(config=configs)
def test_a_config_survives_json(config: ExtractConfig) -> None:
    back = extract_config_from_json(json.loads(json.dumps(to_json(config))))
    assert back == config
    assert back.cache_id == config.cache_id
    assert hash(back) == hash(config)


@pytest.mark.parametrize("place", [[], ["backbone"], ["align"]])
def test_unknown_keys_are_refused(place: list[str]) -> None:
    data = to_json(CONFIG)
    part = data
    for key in place:
        part = part[key]
    part["colour"] = "red"
    with pytest.raises(TypeError, match="colour"):
        extract_config_from_json(data)


def test_a_backbone_without_weights_is_untrained() -> None:
    assert BackboneConfig().untrained
    assert not CONFIG.backbone.untrained


def test_a_shard_is_named_by_all_that_decides_its_bytes() -> None:
    given_ = ("a/clip", Fingerprint(10, "d"), 60.0, "c")
    others = [
        ("a/clop", Fingerprint(10, "d"), 60.0, "c"),
        ("a/clip", Fingerprint(11, "d"), 60.0, "c"),
        ("a/clip", Fingerprint(10, "e"), 60.0, "c"),
        ("a/clip", Fingerprint(10, "d"), 120.0, "c"),
        ("a/clip", Fingerprint(10, "d"), 60.0, "k"),
    ]
    names = [shard_name(*arguments) for arguments in (given_, *others)]
    assert len(set(names)) == len(names)
    assert names[0] == shard_name(*given_)
    assert all(len(name) == 16 and set(name) <= set("0123456789abcdef") for name in names)


def test_plain_videos_keep_the_names_of_their_shards_and_others_get_new_ones() -> None:
    given_ = ("a/clip", Fingerprint(10, "d"), 60.0, "c")
    assert shard_name(*given_) == shard_name(*given_, Display()) == digest_of(["a/clip", 10, "d", 60.0, "c"])
    displays = [
        Display(mirrored=True),
        Display(interlaced=True),
        Display(stream=1),
        Display(clock=((51, 1980),)),
        Display(sizes=(CodedSize(1, 720, 576, (64, 45)),)),
        Display(sizes=(CodedSize(1, 720, 576, (16, 15)),)),
    ]
    names = {shard_name(*given_), *(shard_name(*given_, display) for display in displays)}
    assert len(names) == 1 + len(displays)


def test_a_stream_that_was_chosen_makes_a_cache_of_its_own() -> None:
    chosen = replace(ExtractConfig(), decoder=DecoderConfig(stream=1))
    assert chosen.cache_id != ExtractConfig().cache_id
    assert "stream" not in ExtractConfig().identity()


def test_digests_do_not_depend_on_the_order_of_keys() -> None:
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1}) != digest_of({"a": 2, "b": 1})
