"""Other backbones, from videos and from the crops that another cache stores; augmented views."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import emobeam as eb
from emobeam.arguments import checked
from emobeam.emo_transforms.cache.columns import array_of
from emobeam.emo_transforms.cache.dataset import read_dataset
from emobeam.emo_transforms.cache.footers import Footer
from emobeam.emo_transforms.cache.shards import maps_of, read_rows
from emobeam.emo_transforms.cache.stored_crops import network_crop
from emobeam.emo_transforms.extraction.segments import Tools
from emobeam.emo_transforms.faces.augmented_views import apply, view_of
from emobeam.emo_transforms.networks.backbones import embed, load_backbone
from emobeam.pipelines.cli import main
from emobeam.pipelines.stages.extract import resolve_config
from emobeam.runners.children.pool import LocalPool
from emobeam.schemas.config import NO_BACKBONE, ExtractConfig, SamplingConfig
from emobeam.schemas.records import UsageError
from tests.clips import no_face, portrait, two_faces
from tests.pipelines.runs import (
    ONE_SECOND,
    Row,
    extract,
    failures,
    part,
    predict,
    rows,
    shards,
    shards_of,
    temporaries,
    videos,
)
from tests.pipelines.stages.second import PLAIN, SMALL, WITH_CROPS, extract_from, footers, tables
from tests.pipelines.stages.test_crops import write_crops


@pytest.fixture(scope="module")
def collection(clips: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A face, two of them, none, a clip that is cut short, and one that can't be read."""
    folder = tmp_path_factory.mktemp("collection")
    (folder / "day").mkdir()
    portrait(folder / "talk.mp4", frames=50)
    two_faces(folder / "day" / "pair.mp4", frames=25)
    no_face(folder / "nobody.mp4")
    shutil.copy(clips("truncated.webm"), folder / "cut_short.webm")
    (folder / "empty.mp4").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def first(collection: Path, tmp_path_factory: pytest.TempPathFactory, pool: LocalPool) -> Path:
    """Maps and crops of the collection."""
    features = tmp_path_factory.mktemp("first") / "features"
    extract([collection], features, pool, config=WITH_CROPS)
    return features


@pytest.fixture(scope="module")
def second(first: Path, tmp_path_factory: pytest.TempPathFactory, pool: LocalPool) -> Path:
    """Embeddings and scores of a second backbone, from the crops of the first cache."""
    features = tmp_path_factory.mktemp("second") / "features"
    extract_from(first, features, pool)
    return features


@pytest.fixture(scope="module")
def same(first: Path, tmp_path_factory: pytest.TempPathFactory, pool: LocalPool) -> Path:
    """Maps of the first backbone, from the crops of the first cache."""
    features = tmp_path_factory.mktemp("same") / "features"
    extract_from(first, features, pool, ExtractConfig(store=("maps",), engine=ONE_SECOND.engine))
    return features


# --- a cache as input -------------------------------------------------------------------------------------


def test_the_same_backbone_gives_the_same_bits(first: Path, same: Path) -> None:
    """A run that stores crops looks at them through the stored ones, so that nothing is resampled differently."""
    ours, theirs = tables(same), tables(first)
    assert ours.keys() == theirs.keys()
    assert sum(map(len, ours.values())) > 20
    for key, table in ours.items():
        assert table.column_names == [name for name in theirs[key].column_names if name != "crop"]
        for name in ("s8", "s16", "s32") if len(table) else ():
            np.testing.assert_array_equal(maps_of(table, name), maps_of(theirs[key], name))
    assert read_dataset(str(same)).config.features_id == read_dataset(str(first)).config.features_id


def test_maps_through_stored_crops_are_those_of_the_frames_but_for_resampling(
    first: Path, collection: Path, tmp_path: Path, pool: LocalPool
) -> None:
    """Stored crops begin at whole pixels; on real clips maps were 0.6 to 1.5 % of their maximum off on average."""
    extract([collection], tmp_path, pool, only="talk,pair")
    direct, stored = tables(tmp_path), tables(first)
    for key, table in direct.items():
        for name in ("s8", "s32"):
            a, b = (maps_of(t, name).astype(np.float32) for t in (table, stored[key]))
            assert 0 < np.abs(a - b).mean() < 0.03 * np.abs(a).max()


def test_rows_and_footers_carry_over(first: Path, second: Path) -> None:
    ours, theirs = tables(second), tables(first)
    assert ours.keys() == theirs.keys()
    for key, table in ours.items():
        assert table.select(PLAIN).equals(theirs[key].select(PLAIN))
        assert table.column_names == [*PLAIN[:4], "box", "score", "landmarks", "embedding", "scores"]
    before, after = footers(first), footers(second)
    assert after.keys() == before.keys()
    for key, footer in after.items():
        for field in fields(Footer):
            same = getattr(footer, field.name) == getattr(before[key], field.name)
            assert same == (field.name not in ("features_id", "cache_id")), (key, field.name)


def test_outcomes_and_failures_carry_over(first: Path, second: Path) -> None:
    before, after = videos(first), videos(second)
    assert after == before
    assert {row["outcome"] for row in after.values()} == {"ok", "no_face", "partial", "failed"}
    assert failures(second) == failures(first)
    assert set(failures(second)) == {"empty", "cut_short"}
    assert temporaries(second) == []


def test_embeddings_are_those_of_the_stored_crops(first: Path, second: Path) -> None:
    dataset = read_dataset(str(second))
    assert (dataset.embedding, dataset.scores, dict(dataset.map_shapes)) == (1024, 8, {})
    assert dataset.config.store == ("embedding", "scores")
    backbone = load_backbone(dataset.config.backbone)
    crops = tables(first)["day/pair", 0]["crop"].to_pylist()
    pictures = []
    for crop in crops:
        with Image.open(io.BytesIO(crop)) as image:
            pictures.append(np.asarray(image.resize((96, 96), Image.Resampling.BILINEAR)))
    table = tables(second)["day/pair", 0]
    found = embed(backbone, pictures, ("embedding", "scores"), 16)
    np.testing.assert_array_equal(array_of(table, "embedding"), found["embedding"])
    np.testing.assert_array_equal(array_of(table, "scores"), found["scores"])
    assert len(np.unique(found["embedding"], axis=0)) > 5


def test_predict_sees_no_difference(first: Path, same: Path, second: Path, tmp_path: Path, pool: LocalPool) -> None:
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    for features, output in ((first, one), (same, two), (second, three)):
        predict(features, output, pool)
    for video in ("talk", "day/pair", "cut_short", "nobody"):
        assert part(one, "au", video) == part(two, "au", video)
        vectors = part(three, "au", video)
        assert [(r["frame"], r["time"], r["source"]) for r in vectors] == [
            (r["frame"], r["time"], r["source"]) for r in part(one, "au", video)
        ]


def test_a_run_over_crops_resumes(first: Path, second: Path, tmp_path: Path, pool: LocalPool) -> None:
    features = tmp_path / "features"
    shutil.copytree(second, features)
    before = shards(features)
    _, told = extract_from(first, features, pool)
    assert told.items("extract") == 0
    gone = next(name for name in before if name in shards_of(features, "talk"))
    (features / "shards" / gone).unlink()
    _, told = extract_from(first, features, pool)
    assert told.items("extract") == 1
    assert shards(features) == before
    assert failures(features) == failures(second)


def test_what_the_first_cache_gains_is_done(collection: Path, tmp_path: Path, pool: LocalPool) -> None:
    """A video that was missing turns up: its failure goes, its segments come."""
    one, two = tmp_path / "one", tmp_path / "two"
    clip = tmp_path / "late.mp4"
    config = replace(ONE_SECOND, store=("crops",))
    extract([collection / "day", clip], one, pool, config=config)
    extract_from(one, two, pool)
    assert videos(two)["late"]["reason"] == "missing"
    portrait(clip, frames=25)
    extract([collection / "day", clip], one, pool, config=config)
    _, told = extract_from(one, two, pool)
    assert told.items("extract") == 1
    assert videos(two)["late"]["outcome"] == "ok"
    assert failures(two) == {}


def test_a_shard_that_is_lost_fails_its_video_alone(first: Path, tmp_path: Path, pool: LocalPool) -> None:
    damaged = tmp_path / "first"
    shutil.copytree(first, damaged)
    name = next(iter(shards_of(damaged, "talk")))
    content = (damaged / "shards" / name).read_bytes()
    (damaged / "shards" / name).write_bytes(content[:-40])
    result, _ = extract_from(damaged, tmp_path / "second", pool)
    assert result.outcomes == {"failed": 2, "ok": 1, "no_face": 1, "partial": 1}
    record = failures(tmp_path / "second")["talk"]
    assert name in record["message"]
    assert not record["permanent"]
    (damaged / "shards" / name).write_bytes(content)
    result, _ = extract_from(damaged, tmp_path / "second", pool)
    assert "talk" not in failures(tmp_path / "second")
    assert videos(tmp_path / "second") == videos(first)


# --- crops alone, and crops of folders ---------------------------------------------------------------------


def test_crops_alone_need_no_backbone(collection: Path, tmp_path: Path, pool: LocalPool) -> None:
    config = replace(ONE_SECOND, store=("crops",))
    dataset = resolve_config(config)
    assert dataset.config.backbone == NO_BACKBONE
    assert Tools(replace(dataset.config, source="affwild2")).backbone is None
    result, told = extract([collection], tmp_path, pool, config=config, only="pair")
    assert result.outcomes == {"ok": 1}
    assert not result.untrained
    assert told.warned == []
    assert any("crops only" in text for text in told.said)
    (table,) = tables(tmp_path).values()
    assert table.column_names == [*PLAIN, "crop"]
    record = json.loads(next((tmp_path / "runs").iterdir()).read_text())
    assert "embed" not in record["seconds_by_step"]
    with pytest.raises(UsageError, match="--views"):
        resolve_config(replace(config, views=2))


def test_official_crops_stay_what_they_are(tmp_path: Path, pool: LocalPool) -> None:
    write_crops(tmp_path / "crops" / "video49_left", (1, 2, 3, 40), "{:05d}.jpg", 1)
    config = ExtractConfig(source="affwild2", sampling=SamplingConfig(fps=0.0), store=("crops",))
    extract([tmp_path / "crops"], tmp_path / "one", pool, config=config)
    small = replace(SMALL, store=("crops", "embedding"))
    extract_from(tmp_path / "one", tmp_path / "two", pool, small)
    extract_from(tmp_path / "two", tmp_path / "three", pool, replace(SMALL, store=("embedding",)))
    one, two, three = (next(iter(tables(tmp_path / name).values())) for name in ("one", "two", "three"))
    assert two["image"].to_pylist() == ["00001.jpg", "00002.jpg", "00003.jpg", "00040.jpg"]
    assert two["crop"].equals(one["crop"])
    assert two.select(["time", "box", "landmarks", "score"]).to_pylist()[0] == dict.fromkeys(
        ("time", "box", "landmarks", "score")
    )
    np.testing.assert_array_equal(array_of(two, "embedding"), array_of(three, "embedding"))
    predict(tmp_path / "three", tmp_path, pool)
    assert [row["frame"] for row in part(tmp_path, "au", "video49_left")] == list(range(1, 41))


# --- views ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def views(first: Path, tmp_path_factory: pytest.TempPathFactory, pool: LocalPool) -> Path:
    features = tmp_path_factory.mktemp("views") / "features"
    extract_from(first, features, pool, replace(SMALL, views=2, store=("crops", "embedding")))
    return features


def test_each_face_has_its_views(views: Path, second: Path) -> None:
    plain = tables(second)
    for key, table in tables(views).items():
        faces = [(row["frame"], row["track"]) for row in plain[key].select(["frame", "track"]).to_pylist()]
        found = [(r["frame"], r["track"], r["view"]) for r in table.select(["frame", "track", "view"]).to_pylist()]
        assert found == [(*face, view) for face in faces for view in (0, 1, 2)]
        assert [crop is not None for crop in table["crop"].to_pylist()] == [view == 0 for *_, view in found]
        assert str(table.schema.field("view").type) == "int8"
        if faces:
            embeddings = array_of(table, "embedding").reshape(len(faces), 3, -1)
            np.testing.assert_array_equal(embeddings[:, 0], array_of(plain[key], "embedding"))
            assert (embeddings[:, 1] != embeddings[:, 0]).any(axis=1).all()


def test_a_view_is_one_change_throughout_a_clip(views: Path) -> None:
    config = read_dataset(str(views)).config
    backbone = load_backbone(config.backbone)
    checked = 0
    for (video, _), table in tables(views).items():
        for start in range(0, len(table), 3):
            row = table.slice(start, 3)
            plain: Row = row.select([*PLAIN, "crop"]).slice(0, 1).to_pylist()[0]
            with Image.open(io.BytesIO(plain["crop"])) as image:
                box, marks = (np.array(plain[name], np.float32) for name in ("box", "landmarks"))
                seen = network_crop(np.asarray(image), box, marks, config)
            changed = [apply(seen, view_of(video, plain["track"], view)) for view in (0, 1, 2)]
            wanted = embed(backbone, changed, ("embedding",), config.kernel_batch)["embedding"]
            np.testing.assert_array_equal(array_of(row, "embedding"), wanted)
            checked += 1
    assert checked > 20


def test_views_are_the_same_in_every_run(first: Path, views: Path, tmp_path: Path, pool: LocalPool) -> None:
    extract_from(first, tmp_path, pool, replace(SMALL, views=2, store=("crops", "embedding")))
    assert shards(tmp_path) == shards(views)


def test_stage_two_and_counts_know_the_plain_view_alone(
    views: Path, second: Path, tmp_path: Path, pool: LocalPool, capsys: pytest.CaptureFixture[str]
) -> None:
    for key, table in tables(second).items():
        name = next(r["shard"] for r in rows(views / "segments.parquet") if (r["video"], r["segment"]) == key)
        uri = str(views / "shards" / f"{name}.parquet")
        assert sum(len(each) for each in read_rows(uri)) == len(table)
        assert sum(len(each) for each in read_rows(uri, ["frame"], view=2)) == len(table)
        assert sum(len(each) for each in read_rows(uri, ["frame", "view"], view=None)) == 3 * len(table)
    wanted = sum(len(table) for table in tables(second).values())
    with pytest.raises(SystemExit):
        main(["inspect", str(views), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert (told["faces"], told["views"], told["embedding"], told["scores"]) == (wanted, 2, 1024, 0)
    predict(views, tmp_path, pool)
    (stretch,) = [row for row in rows(tmp_path / "faces.parquet") if row["video"] == "talk"]
    assert stretch["sampled"] == sum(len(t) for (video, _), t in tables(second).items() if video == "talk")


def test_views_are_part_of_the_identity_of_a_cache(first: Path, views: Path, pool: LocalPool) -> None:
    with pytest.raises(UsageError, match="views: 2 there, 3 now"):
        extract_from(first, views, pool, replace(SMALL, views=3, store=("crops", "embedding")))


# --- the command line -------------------------------------------------------------------------------------


def refused(capsys: pytest.CaptureFixture[str], *args: Path | str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main([str(arg) for arg in args])
    assert stopped.value.code == 2
    return capsys.readouterr().err


@pytest.mark.usefixtures("in_pool")
def test_by_command(first: Path, second: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        "extract",
        first,
        "--backbone",
        "mobilenetv3_small_050",
        "--input-size",
        "96",
        "--output",
        tmp_path,
        "--engine",
        "torch",
    ]
    with pytest.raises(SystemExit) as stopped:
        main([*map(str, command), "--workers", "1", "--json"])
    assert stopped.value.code == 1, "the first cache has a failed input and a damaged one"
    told = json.loads(capsys.readouterr().out)
    assert told["videos"] == {"ok": 2, "no_face": 1, "partial": 1, "failed": 1}
    assert shards(tmp_path) == shards(second)
    with pytest.raises(SystemExit):
        main(["inspect", str(tmp_path)])
    assert "embedding       1024" in capsys.readouterr().out


def test_what_the_command_refuses(
    first: Path, second: Path, collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = ["--output", tmp_path / "out"]
    wrong: list[tuple[list[Path | str], str]] = [
        ([second, *output], "this cache holds no crops (only embedding,scores)"),
        ([first, collection, *output], "is not; extract from them in runs of their own"),
        ([first, "--output", first], "is the cache the crops come from"),
        ([first, *output, "--fps", "3"], "--fps: "),
        ([first, *output, "--margin", "0.5"], "cut with a margin of 0.2"),
        (
            [first, *output, "--backbone", "mobilefacenet", "--store", "maps"],
            "a MobileNetV4 gives maps (emobeam models",
        ),
        ([first, *output, "--backbone", "mobilefacenet", "--input-size", "96"], "112 px only"),
        ([first, *output, "--store", "crops", "--backbone", "mobilefacenet"], "runs no backbone"),
        ([first, *output, "--crops", "affwild2"], "leave out --crops"),
        ([first, *output, "--backbone-weights", "timm:nonsense"], "it has e1200_r224_in1k"),
    ]
    for args, text in wrong:
        error = refused(capsys, "extract", *args)
        assert text in error, (args, error)
    assert not (tmp_path / "out").exists()


def test_options_of_videos_are_refused_whatever_their_value(
    first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the command and by the function: ``--detector exact`` asks for what crops that are made can't be."""
    output, told = tmp_path / "out", {"detector": "exact", "min_face": 20, "decode_timeout": 30.0}
    assert {name: checked("extract", {})[0][name] for name in told} == told
    for name, value in told.items():
        option = f"--{name.replace('_', '-')}"
        error = refused(capsys, "extract", first, "--output", output, option, str(value))
        assert f"{option}: {first} is a feature cache" in error
        with pytest.raises(UsageError, match=f"{option}: .* is a feature cache"):
            eb.extract(first, output=output, **{name: value})  # type: ignore[arg-type]
    assert not output.exists()
