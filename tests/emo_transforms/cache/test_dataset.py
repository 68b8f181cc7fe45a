from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.cache.dataset import (
    Dataset,
    open_dataset,
    read_dataset,
    shard_uri,
)
from emobeam.emo_transforms.cache.failures import drop_failure, failure_name, read_failures, write_failure
from emobeam.schemas.config import (
    AlignConfig,
    BackboneConfig,
    DecoderConfig,
    DetectorConfig,
    ExtractConfig,
    SamplingConfig,
)
from emobeam.schemas.records import EmobeamError, Failure, Fingerprint, UsageError
from tests.object_stores import google_store

CONFIG = ExtractConfig(
    backbone=BackboneConfig(weights="models/w.pt", weights_sha256="ab" * 32, mean=(0.1, 0.2, 0.3)),
    sampling=SamplingConfig(fps=12.5),
    maps=("s8", "s32"),
)
SHAPES = {"s8": (64, 28, 28), "s32": (128, 7, 7)}
DATASET = Dataset(CONFIG, SHAPES)
FAILURE = Failure(
    video="Größe/1",
    uri="gs://b/Größe/1.mp4",
    outcome="partial",
    stage="decode",
    reason="damaged",
    message="invalid data\nin line 2",
    permanent=True,
    segments=(1, 3),
    shards=("aa", "bb"),
    frames=(60, 70),
    size=123,
    digest="dd",
)


def test_the_dataset_comes_back(tmp_path: Path) -> None:
    open_dataset(str(tmp_path), DATASET)
    found = read_dataset(str(tmp_path))
    assert found == DATASET
    assert list(found.map_shapes) == ["s8", "s32"]
    data = json.loads((tmp_path / "dataset.json").read_text())
    assert data["features_id"] == CONFIG.features_id
    assert data["cache_id"] == CONFIG.cache_id
    assert data["models"]["backbone"] == {
        "id": "mobilenetv4_conv_small",
        "weights": "models/w.pt",
        "sha256": "ab" * 32,
    }
    assert data["map_shapes"] == {"s8": [64, 28, 28], "s32": [128, 7, 7]}


def test_vectors_are_told_with_their_lengths_and_names(tmp_path: Path) -> None:
    backbone = BackboneConfig("tf_efficientnet_b0", vectors=True, classes=2, score_names=("Anger", "Fear"))
    config = ExtractConfig(backbone=backbone, maps=(), store=("embedding", "scores"), views=2)
    dataset = Dataset(config, {}, embedding=1280, scores=2)
    open_dataset(str(tmp_path), dataset)
    assert read_dataset(str(tmp_path)) == dataset
    data = json.loads((tmp_path / "dataset.json").read_text())
    assert (data["embedding"], data["scores"], data["score_names"]) == (1280, 2, ["Anger", "Fear"])
    assert data["map_shapes"] == {}


def test_caches_from_before_there_were_vectors_are_read(tmp_path: Path) -> None:
    open_dataset(str(tmp_path), DATASET)
    data = json.loads((tmp_path / "dataset.json").read_text())
    for key in ("embedding", "scores", "score_names"):
        del data[key]
    for key in ("views", "origin"):
        del data["config"][key]
    for key in ("vectors", "classes", "score_names"):
        del data["config"]["backbone"][key]
    (tmp_path / "dataset.json").write_text(json.dumps(data))
    assert read_dataset(str(tmp_path)) == DATASET


def test_opening_again_with_the_same_settings_changes_nothing(tmp_path: Path) -> None:
    open_dataset(str(tmp_path), DATASET)
    before = (tmp_path / "dataset.json").read_bytes()
    elsewhere = replace(CONFIG, backbone=replace(CONFIG.backbone, weights="/other/w.pt"))
    for same in (CONFIG, elsewhere, replace(CONFIG, decoder=DecoderConfig(timeout=5.0, memory_mb=99))):
        open_dataset(str(tmp_path), Dataset(same, SHAPES))
    assert (tmp_path / "dataset.json").read_bytes() == before


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (replace(CONFIG, align=AlignConfig(style="5pt")), ["align.style: square there, 5pt now"]),
        (replace(CONFIG, sampling=SamplingConfig(fps=6.0)), ["sampling.fps: 12.5 there, 6.0 now"]),
        (replace(CONFIG, decoder=DecoderConfig(name="decord")), ["decoder: pyav there, decord now"]),
        (
            replace(CONFIG, maps=("s32",), detector=DetectorConfig(min_face=40)),
            ["maps: ['s8', 's32'] there, ['s32'] now", "detector.min_face: 20 there, 40 now"],
        ),
    ],
)
def test_other_settings_are_refused_and_named(tmp_path: Path, other: ExtractConfig, words: list[str]) -> None:
    open_dataset(str(tmp_path), DATASET)
    before = (tmp_path / "dataset.json").read_bytes()
    with pytest.raises(UsageError) as caught:
        open_dataset(str(tmp_path), Dataset(other, SHAPES))
    assert str(tmp_path) in str(caught.value)
    assert all(text in str(caught.value) for text in words)
    assert str(caught.value).count(" there, ") == len(words)
    assert (tmp_path / "dataset.json").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weights_sha256": "cd" * 32}, f"weights_sha256: {'ab' * 32} there, {'cd' * 32} now"),
        ({"input_size": 160}, "input_size: 224 there, 160 now"),
        ({"std": (0.5, 0.5, 0.5)}, "std: [0.229, 0.224, 0.225] there, [0.5, 0.5, 0.5] now"),
        ({"name": "mobilenetv4_conv_medium"}, "name: mobilenetv4_conv_small there, mobilenetv4_conv_medium now"),
    ],
)
def test_other_features_are_refused_and_both_are_shown(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    open_dataset(str(tmp_path), DATASET)
    other = replace(CONFIG, backbone=replace(CONFIG.backbone, **change))
    with pytest.raises(UsageError) as caught:
        open_dataset(str(tmp_path), Dataset(other, SHAPES))
    for text in (CONFIG.features_id, other.features_id, words):
        assert text in str(caught.value)


def a_list(data: dict[str, Any]) -> Any:
    return [data]


def newer(data: dict[str, Any]) -> Any:
    return {**data, "schema_version": 99}


def unknown_key(data: dict[str, Any]) -> Any:
    data["config"]["colour"] = "red"
    return data


def no_config(data: dict[str, Any]) -> Any:
    del data["config"]
    return data


def flat_shapes(data: dict[str, Any]) -> Any:
    return {**data, "map_shapes": {"s8": 64}}


@pytest.mark.parametrize("harm", [a_list, newer, unknown_key, no_config, flat_shapes])
def test_a_damaged_dataset_is_named(tmp_path: Path, harm: Callable[[dict[str, Any]], Any]) -> None:
    open_dataset(str(tmp_path), DATASET)
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps(harm(json.loads(path.read_text()))))
    with pytest.raises(EmobeamError, match=r"dataset\.json"):
        read_dataset(str(tmp_path))


def test_a_folder_that_is_no_cache_is_named(tmp_path: Path) -> None:
    with pytest.raises(EmobeamError, match=f"{tmp_path}.*not a feature cache"):
        read_dataset(str(tmp_path))
    (tmp_path / "clip.mp4").write_bytes(b"")
    with pytest.raises(EmobeamError, match="not a feature cache"):
        read_dataset(str(tmp_path / "clip.mp4"))


def test_failures_come_back(tmp_path: Path) -> None:
    features = str(tmp_path)
    assert read_failures(features) == {}
    other = replace(FAILURE, segments=(), shards=(), frames=(), permanent=False, outcome="failed", size=-1, digest="")
    write_failure(features, "name1", FAILURE)
    write_failure(features, "name0", other)
    assert list(read_failures(features).items()) == [("name0", other), ("name1", FAILURE)]
    assert all(isinstance(value.frames, tuple) for value in read_failures(features).values())
    drop_failure(features, "name0")
    drop_failure(features, "name0")
    assert read_failures(features) == {"name1": FAILURE}


def test_a_record_is_found_by_its_id_and_shows_no_secret(tmp_path: Path) -> None:
    """An id that looked like a parameter was masked, and its video gone; a name that isn't UTF-8 could not be read."""
    mine = replace(
        FAILURE,
        video="v1/run#session=2",
        uri="https://h/run.mp4?token=ab#session=2",
        message="/v1/clip\udcff.mp4: https://h/?sig=x",
    )
    write_failure(str(tmp_path), "name", mine)
    shown = {"uri": "https://h/run.mp4?token=***#session=***", "message": "/v1/clip\\udcff.mp4: https://h/?sig=***"}
    assert read_failures(str(tmp_path)) == {"name": replace(mine, **shown)}
    local = replace(FAILURE, video="v1/run#session=2", uri="/v1/run#session=2.mp4", message="/v1/run#session=2.mp4: x")
    write_failure(str(tmp_path), "name", local)
    assert read_failures(str(tmp_path)) == {"name": local}


@pytest.mark.parametrize("content", ['{"video": "v"}', "[1]", '{"video": '])
def test_a_damaged_failure_record_is_named(tmp_path: Path, content: str) -> None:
    write_failure(str(tmp_path), "name", FAILURE)
    (tmp_path / "failures" / "name.json").write_text(content)
    with pytest.raises(EmobeamError, match=r"failures/name\.json"):
        read_failures(str(tmp_path))


def test_records_that_another_job_removes_meanwhile_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_failure(str(tmp_path), "here", FAILURE)
    monkeypatch.setattr(storage, "names", lambda uri, suffix: {"gone", "here"})
    assert read_failures(str(tmp_path)) == {"here": FAILURE}


def test_records_in_a_store_are_read_side_by_side() -> None:
    with google_store() as store:
        for number in range(20):
            write_failure(f"{store.uri}/features", f"{number:02d}", FAILURE)
        store.proxy.delay = 0.3
        assert list(read_failures(f"{store.uri}/features")) == [f"{number:02d}" for number in range(20)]
        assert store.proxy.most > 4


def test_the_record_of_a_video_is_named_by_video_content_and_settings() -> None:
    names = {
        failure_name("a", Fingerprint(1, "d"), "c"),
        failure_name("b", Fingerprint(1, "d"), "c"),
        failure_name("a", Fingerprint(2, "d"), "c"),
        failure_name("a", Fingerprint(1, "e"), "c"),
        failure_name("a", Fingerprint(1, "d"), "k"),
    }
    assert len(names) == 5


def test_a_cache_of_another_revision_is_refused(tmp_path: Path) -> None:
    open_dataset(str(tmp_path), DATASET)
    record = tmp_path / "dataset.json"
    data = json.loads(record.read_text())
    record.write_text(json.dumps({**data, "cache_id": "0123456789abcdef"}))
    with pytest.raises(UsageError, match="another revision"):
        open_dataset(str(tmp_path), DATASET)


def test_where_a_shard_lies() -> None:
    assert shard_uri("gs://b/features/", "ab12") == "gs://b/features/shards/ab12.parquet"
