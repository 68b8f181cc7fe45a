"""Heads of every architecture over one cache that holds maps, embeddings and scores, and heads as ONNX files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from emobeam.emo_transforms.cache.dataset import Dataset, open_dataset, shard_uri
from emobeam.emo_transforms.cache.shards import ShardWriter
from emobeam.emo_transforms.networks.heads.files import save_head
from emobeam.emo_transforms.networks.heads.fresh_heads import new_head, ready_head
from emobeam.emo_transforms.networks.heads.head import Head
from emobeam.emo_transforms.storage import atomic_file
from emobeam.pipelines.cli import main
from emobeam.pipelines.stages.predict_request import PredictRequest
from emobeam.runners.children.pool import LocalPool
from emobeam.schemas.config import BackboneConfig, ExtractConfig
from emobeam.schemas.records import EmobeamError, UsageError
from emobeam.schemas.tables import feature_schema, map_column
from emobeam.schemas.tasks import TASKS
from tests.emo_transforms.caches import SHAPES, footer
from tests.pipelines.runs import part, predict

NAMES = ("Anger", "Contempt", "Disgust", "Fear", "Happiness", "Neutral", "Sadness", "Surprise", "valence", "arousal")
LENGTHS = {"embedding": 7, "scores": len(NAMES)}
BACKBONE = BackboneConfig(name="b0", weights="w", weights_sha256="ab", vectors=True, classes=10, score_names=NAMES)
SEEN = tuple(range(1, 200, 4))


def frames_of(name: str) -> np.ndarray:
    """What the cache holds of every sampled frame."""
    rng = np.random.default_rng(len(name))
    shape = SHAPES.get(name) or (LENGTHS[name],)
    return rng.normal(size=(len(SEEN), *shape)).astype(np.float16 if name in SHAPES else np.float32)


def write_cache(features: Path, *, views: bool = False, **lengths: int) -> Dataset:
    """One video of 200 frames at 24 per second, one face, every fourth frame sampled."""
    dataset = Dataset(ExtractConfig(backbone=BACKBONE), SHAPES, **lengths)
    open_dataset(str(features), dataset)
    times = tuple(n / 24 for n in range(200))
    about = footer(
        video="talk", frames=tuple(range(1, 201)), times=times, sampled=SEEN, faces=(1,) * len(SEEN), rows=len(SEEN)
    )
    about = replace(about, features_id=dataset.config.features_id, cache_id=dataset.config.cache_id)
    plain: dict[str, Any] = {
        "video": "talk",
        "track": 0,
        "box": (10.0, 20.0, 110.0, 140.0),
        "score": 0.99,
        "landmarks": [float(n) for n in range(10)],
    }
    kinds = (0, 1) if views else (0,)
    order = [(index, view) for index in range(len(SEEN)) for view in kinds]
    columns: dict[str, Any] = {name: [value] * len(order) for name, value in plain.items()}
    columns["frame"] = [SEEN[index] for index, _ in order]
    columns["time"] = [times[SEEN[index] - 1] for index, _ in order]
    columns["view"] = [view for _, view in order]
    for name in (*SHAPES, *lengths):
        column = map_column(name) if name in SHAPES else name
        values = frames_of(name)
        columns[column] = np.stack([values[index] + 5 * view for index, view in order])
    with atomic_file(shard_uri(str(features), "one")) as path:
        writer = ShardWriter(path, feature_schema(SHAPES, views=views, **lengths))
        writer.add(columns)
        writer.close(about)
    return dataset


def heads_of(dataset: Dataset) -> dict[str, Head]:
    small: dict[str, Any] = {"final_channels": 6}
    return {
        "va": new_head(TASKS["va"], dataset.offer, form="frame", **small),
        "expr": ready_head(TASKS["expr"], dataset.offer),
        "au": new_head(TASKS["au"], dataset.offer, architecture="tcn", window=16, dim=12, **small),
        "mtl": new_head(TASKS["mtl"], dataset.offer, architecture="frame"),
        "emi": new_head(TASKS["emi"], dataset.offer, architecture="clip-statistics"),
        "ah": new_head(TASKS["ah"], dataset.offer, architecture="frame", inputs=("s32", "scores"), hidden=0, **small),
        "ah-video": new_head(TASKS["ah-video"], dataset.offer, statistics=("mean", "max"), hidden=4, **small),
        "vd": new_head(TASKS["vd"], dataset.offer, architecture="tcn", causal=False, inputs=("embedding",), window=16),
    }


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vectors") / "features"
    dataset = write_cache(folder, **LENGTHS)
    for task, head in heads_of(dataset).items():
        save_head(head, str(folder.parent / "heads" / task))
    return folder


def sampled(output: Path, task: str) -> np.ndarray:
    rows = [row for row in part(output, task, "talk") if row.get("source", "sampled") == "sampled"]
    return np.array([[row[name] for name in TASKS[task].outputs] for row in rows], np.float64)


def by_hand(head: Head, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Values from windows side by side, the last one filled up; of causal networks from the whole at once."""
    window = len(SEEN) if head.streams else head.config.window
    results, valid = [], []
    for start in range(0, len(SEEN), window):
        index = np.minimum(np.arange(start, start + window), len(SEEN) - 1)
        results.append(head.run({name: arrays[name][index][None] for name in head.inputs})[0])
        valid.append(min(window, len(SEEN) - start))
    if head.config.scope == "clip":
        return head.pool(np.stack(results), np.array(valid))[None]
    return np.concatenate(results)[: len(SEEN)]


def test_every_kind_of_head_through_predict(features: Path, tmp_path: Path, pool: LocalPool) -> None:
    folder = features.parent / "heads"
    paths = sorted(map(str, folder.iterdir()))
    result, told = predict(features, tmp_path, pool, heads=paths)
    assert not result.failed
    # Of scores of a trained backbone nothing is untrained.
    tasks = {f"task {task}" for task in TASKS if task in result.rows} - {"task expr"}
    tasks |= {"task expr is read off the scores of b0"}
    assert {text.split(":")[0] for text in told.warned if text.startswith("task")} == tasks
    arrays = {name: frames_of(name) for name in (*SHAPES, *LENGTHS)}
    for task, head in heads_of(Dataset(ExtractConfig(backbone=BACKBONE), SHAPES, **LENGTHS)).items():
        np.testing.assert_allclose(sampled(tmp_path, task), by_hand(head, arrays), rtol=0, atol=1e-5, err_msg=task)
    again, _ = predict(features, tmp_path / "again", pool, heads=paths)
    assert again.rows == result.rows
    for path in sorted((tmp_path / "predictions").rglob("*.parquet")):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(tmp_path)).read_bytes()


def test_augmented_views_are_not_predicted(features: Path, tmp_path: Path, pool: LocalPool) -> None:
    dataset = write_cache(tmp_path / "features", views=True, **LENGTHS)
    assert dataset.config.features_id == Dataset(ExtractConfig(backbone=BACKBONE), SHAPES).config.features_id
    heads = [str(features.parent / "heads" / task) for task in ("mtl", "va", "emi")]
    for name, cache in (("plain", features), ("views", tmp_path / "features")):
        predict(cache, tmp_path / name, pool, heads=heads)
    for task in ("mtl", "va", "emi"):
        tables = [pq.read_table(next((tmp_path / n / "predictions" / task).iterdir())) for n in ("plain", "views")]
        assert tables[0].equals(tables[1])


def test_without_a_head_the_backbones_own_scores_serve(features: Path, tmp_path: Path, pool: LocalPool) -> None:
    result, told = predict(features, tmp_path, pool, tasks=["va"], heads=[])
    assert result.untrained == ()
    (note,) = told.warned  # nobody has looked at the video of this cache
    assert "isn't known" in note
    np.testing.assert_allclose(sampled(tmp_path, "va"), np.clip(frames_of("scores")[:, 8:], -1, 1), atol=1e-6)


def test_a_cache_that_lacks_what_a_head_reads(features: Path, tmp_path: Path, pool: LocalPool) -> None:
    write_cache(tmp_path / "features", embedding=7)
    with pytest.raises(EmobeamError, match="lacks scores; extract with --store maps,scores"):
        predict(tmp_path / "features", tmp_path / "out", pool, heads=[str(features.parent / "heads" / "ah")])


def test_a_head_of_a_task_that_is_not_asked_for(features: Path, tmp_path: Path, pool: LocalPool) -> None:
    head = str(features.parent / "heads" / "va")
    with pytest.raises(UsageError, match=rf"{head}: is a head of task va, but --task asks for au; add --task va"):
        predict(features, tmp_path, pool, tasks=["au"], heads=[head])
    assert not list(tmp_path.iterdir())
    assert PredictRequest("f", "o", heads=[head]).tasks == ()


def exit_code(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert isinstance(end.value.code, int)
    return end.value.code


def test_a_head_as_onnx(features: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime", reason="the extra onnx isn't installed")
    target = tmp_path / "va.onnx"
    head = str(features.parent / "heads" / "va")
    assert exit_code("models", "export", head, "--output", str(target), "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["inputs"]["map_s32"] == ["windows", 8, 4, 2, 2]
    assert told["outputs"] == ["valence", "arousal"]
    assert told["difference_from_torch"] <= 1e-5
    assert target.stat().st_size > 1000
    assert exit_code("models", "export", str(features.parent / "heads" / "emi"), "--output", str(target)) == 0
    assert "inputs: scores windowsx1x10, valid windows" in capsys.readouterr().out


def test_exports_that_can_not_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("models", "export", str(tmp_path / "none"), "--output", str(tmp_path / "x.onnx")) == 2
    assert "head.json: no such file" in capsys.readouterr().err
    assert exit_code("models", "export", str(tmp_path), "--output", str(tmp_path / "x.pt")) == 2
    assert "ends in .onnx" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
