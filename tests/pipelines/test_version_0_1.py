"""Caches, outputs and heads that version 0.1 made are read, gone on with and predicted from."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import emobeam as eb
from emobeam.emo_transforms.cache.index import read_index, read_segments
from emobeam.emo_transforms.cache.shards import read_rows
from emobeam.pipelines.cli import main
from tests.pipelines.runs import failures, files, rows, shards_of, temporaries

MADE = Path(__file__).parents[1] / "fixtures" / "version_0_1"
OUTCOMES = {"ok": 2, "partial": 1, "no_face": 1, "failed": 1}
SEGMENTS = {"damaged": 2, "day 1/pair": 2, "nobody": 2, "talk": 3}
SMALL: dict[str, Any] = {"segment_seconds": 1, "input_size": 32}
"""Settings with which the caches of videos were made, see the README beside them."""

UNITS = ["AU1", "AU2", "AU4", "AU6", "AU7", "AU10", "AU12", "AU15", "AU23", "AU24", "AU25", "AU26"]

pytestmark = pytest.mark.usefixtures("in_pool")


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A copy of all that version 0.1 made, and of what it made it from; elsewhere than it lay then."""
    return Path(shutil.copytree(MADE, tmp_path / "copied"))


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Which file lies where, and when it was written last."""
    found = {str(path): path.stat() for path in folder.rglob("*.parquet") if path.parent.name in ("shards", "au")}
    assert found
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in found.items()}


def last_run(features: Path) -> dict[str, Any]:
    """The newest run record of a cache."""
    record: dict[str, Any] = json.loads(max((features / "runs").glob("*.json")).read_text())
    return record


def face_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a shard of either form, each map as one list of numbers."""
    return [row for table in read_rows(str(path)) for row in table.to_pylist()]


def inspect(folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What ``emobeam inspect --json`` says."""
    with pytest.raises(SystemExit) as end:
        main(["inspect", str(folder), "--json"])
    assert end.value.code in (0, 1)
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


# --- reading ------------------------------------------------------------------------------------------------


def test_features_are_read() -> None:
    features = eb.load_features(MADE / "out" / "features", columns=["video", "track", "frame", "time", "map_s32"])
    assert dict(features["video"].value_counts()) == {"talk": 11, "day 1/pair": 18, "damaged": 11}
    assert features["map_s32"].iloc[0].shape == (128, 1, 1)
    assert features["map_s32"].iloc[0].dtype == np.float16
    assert np.isfinite(np.stack(list(features["map_s32"]))).all()
    pair = features[features["video"] == "day 1/pair"]
    assert set(pair["track"]) == {0, 1}
    assert pair.groupby("frame").size().tolist() == [2] * 9


def test_stored_crops_are_read() -> None:
    crops = eb.load_features(MADE / "crops", columns=["frame", "crop"])
    assert len(crops) == 11
    assert all(len(crop) > 100 for crop in crops["crop"])


def test_predictions_are_read() -> None:
    main_faces = eb.load_predictions(MADE / "out", task="au")
    assert dict(main_faces["video"].value_counts()) == {"talk": 65, "damaged": 50, "day 1/pair": 35, "nobody": 30}
    assert main_faces.attrs["weights"] == ["trained: recipe emobeam+, seed 1 (sha256 03819540db3e)"]
    assert Counter(main_faces["source"]) == {"interpolated": 113, "sampled": 31, "absent": 30, "nearest": 6}
    assert main_faces[UNITS].notna().all(axis=1).sum() == 150
    everybody = eb.load_predictions(MADE / "all", task="au")
    assert dict(everybody.groupby("face").size()) == {0: 180, 1: 34}
    pd.testing.assert_frame_equal(everybody[everybody["face"] == 0].reset_index(drop=True), main_faces)


@pytest.mark.parametrize("cache", ["out/features", "crops", "again"])
def test_indexes_are_taken_as_they_are(cache: str) -> None:
    """They lack columns in which these shards have nothing to tell, so no footer need be read again."""
    known = read_index(str(MADE / cache))
    assert known == read_segments(str(MADE / cache), trust=False) != []


def test_folders_are_inspected(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = inspect(made / "out" / "features", capsys)
    assert (told["kind"], told["features_id"], told["cache_id"]) == ("features", "181c94e05049bba2", "2588bfc442d5fc66")
    assert told["outcomes"] == OUTCOMES
    assert "stale" not in [problem["kind"] for problem in told["problems"]]
    assert inspect(made / "crops", capsys)["config"]["store"] == ["maps", "crops"]
    assert inspect(made / "again", capsys)["config"]["origin"]["cache_id"] == "6dd2c59d8f699b2f"
    told = inspect(made / "out", capsys)
    assert (told["kind"], told["rows"], told["outcomes"]) == ("output", {"au": 180}, OUTCOMES)
    told = inspect(made / "head", capsys)
    assert (told["kind"], told["task"], told["outputs"]) == ("head", "au", UNITS)


# --- going on -----------------------------------------------------------------------------------------------


def test_extraction_finds_every_segment_done(made: Path) -> None:
    features = made / "out" / "features"
    before, indexes = stamps(features), {name: rows(features / f"{name}.parquet") for name in ("videos", "segments")}
    records = failures(features)
    run = eb.extract(made / "videos", output=features, **SMALL)
    assert run.outcomes == OUTCOMES
    record = last_run(features)
    assert (record["segments_done_before"], record["segments_of_this_run"]) == (sum(SEGMENTS.values()), 0)
    assert stamps(features) == before
    for name, old in indexes.items():  # later versions know more of a video, in columns of their own
        now = rows(features / f"{name}.parquet")
        assert [{key: row[key] for key in known} for row, known in zip(now, old, strict=True)] == old, name
    assert set(failures(features)) == set(records) == {"cut", "damaged"}
    assert temporaries(features) == []


def test_extraction_finds_what_it_made_of_crops(made: Path) -> None:
    before = stamps(made / "crops") | stamps(made / "again")
    with pytest.warns(eb.EmobeamWarning, match="untrained"):
        eb.extract(
            made / "videos",
            output=made / "crops",
            only="talk",
            store=("maps", "crops"),
            maps=("s32",),
            backbone_weights="untrained",
            **SMALL,
        )
    eb.extract(made / "crops", output=made / "again", input_size=32, maps=("s8", "s16"))
    for name in ("crops", "again"):
        record = last_run(made / name)
        assert (record["segments_done_before"], record["segments_of_this_run"]) == (3, 0), name
    assert stamps(made / "crops") | stamps(made / "again") == before


def test_annotation_goes_on(made: Path) -> None:
    """Of its cache everything stays; heads run on OpenVINO now, so tables are made anew, once."""
    cache, tables = stamps(made / "out" / "features"), eb.load_predictions(made / "out", task="au")
    texts = files(made / "out" / "submission")
    faces = rows(made / "out" / "faces.parquet")

    def annotate() -> eb.Predicted:
        return eb.annotate(
            made / "videos",
            output=made / "out",
            heads=made / "head",
            edition=8,
            truth=made / "labels",
            partition="train",
            **SMALL,
        )

    run = annotate()
    assert run.outcomes == OUTCOMES
    assert stamps(made / "out" / "features") == cache
    assert files(made / "out" / "submission") == texts
    assert rows(made / "out" / "faces.parquet") == faces
    assert run.summary["scores"]["au"] == pytest.approx(0.6173810135687118)
    now = eb.load_predictions(made / "out", task="au")
    pd.testing.assert_frame_equal(now, tables, check_exact=False, rtol=0, atol=1e-4)
    before = stamps(made / "out")
    annotate()
    assert stamps(made / "out") == before


def test_prediction_on_torch_leaves_everything_as_it_is(made: Path) -> None:
    before = stamps(made / "all")
    eb.predict(made / "out" / "features", output=made / "all", heads=made / "head", faces="all", engine="torch")
    assert stamps(made / "all") == before


# --- the same again -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("output", "faces"), [("out", "main"), ("all", "all")])
def test_the_head_gives_the_same_values(made: Path, output: str, faces: Any) -> None:
    eb.predict(made / "out" / "features", output=made / "new", heads=made / "head", faces=faces)
    old, new = (eb.load_predictions(made / folder, task="au") for folder in (output, "new"))
    # Processors differ in the last digits.
    pd.testing.assert_frame_equal(new, old, check_exact=False, rtol=0, atol=1e-4)
    assert rows(made / "new" / "faces.parquet") == rows(made / output / "faces.parquet")


def test_a_lost_shard_is_made_again_with_the_same_content(made: Path) -> None:
    """Nobody could tell it from the old ones: whatever changes its content has to change the cache's identity, too."""
    features = made / "out" / "features"
    lost = [features / "shards" / name for name in shards_of(features, "day 1/pair")]
    old = [face_rows(path) for path in lost]
    assert sum(map(len, old)) == 18
    for path in lost:
        path.unlink()
    eb.extract(made / "videos", output=features, **SMALL)
    record = last_run(features)
    assert (record["segments_done_before"], record["segments_of_this_run"]) == (7, 2)
    for before, after in zip(old, map(face_rows, lost), strict=True):
        assert [{key: row[key] for key in ("video", "track", "frame", "time")} for row in after] == [
            {key: row[key] for key in ("video", "track", "frame", "time")} for row in before
        ]
        for name, tolerance in (("box", 0.1), ("landmarks", 0.1), ("score", 1e-3), ("map_s8", 0.05), ("map_s32", 0.05)):
            np.testing.assert_allclose(
                np.array([row[name] for row in after], float),
                np.array([row[name] for row in before], float),
                rtol=0,
                atol=tolerance,
                err_msg=name,
            )
