"""One output folder, several runs: what earlier ones wrote stays, all files agree, and heads are never mixed."""

from __future__ import annotations

import json
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import emobeam
from emobeam.emo_transforms.extraction.video_plans import find_videos
from emobeam.emo_transforms.networks.backbones.published.catalogue import entry, ready_outputs
from emobeam.emo_transforms.prediction.prediction_tables import part_name, part_uri, read_part_footer
from emobeam.pipelines import run_origin
from emobeam.pipelines.stages.annotate import run_annotate
from emobeam.pipelines.stages.extract import ExtractRequest
from emobeam.pipelines.stages.predict_request import PredictRequest, check_request
from emobeam.pipelines.stages.run_summary import _GIVES, _PUBLISHED, _lines, predict_summary
from emobeam.runners.children.pool import LocalPool
from emobeam.schemas.predict_config import PredictConfig
from emobeam.schemas.records import UsageError, Video
from emobeam.schemas.tasks import task_named
from tests.pipelines.conftest import Run
from tests.pipelines.runs import ONE_SECOND, Told, dataset_of, files, part, parts, predict, rows, videos
from tests.pipelines.stages.test_predict import make_head

PAIR = "day 1/pair"


@pytest.fixture
def output(reference: Run, tmp_path: Path) -> Path:
    """A copy of the reference's predictions of four videos, without the cache."""
    for name in ("predictions", "submission"):
        shutil.copytree(reference.output / name, tmp_path / "out" / name)
    for name in ("faces.parquet", "videos.parquet", "run.json"):
        shutil.copy(reference.output / name, tmp_path / "out")
    return tmp_path / "out"


def record_of(output: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((output / "run.json").read_text())
    return record


def test_a_run_over_one_video_leaves_the_others_as_they_are(reference: Run, output: Path, pool: LocalPool) -> None:
    before = files(output)
    result, told = predict(reference.features, output, pool, only="talk", edition=8)
    after = files(output)
    assert {name for name in before if before[name] != after[name]} == {"run.json"}
    assert after.keys() == before.keys()
    assert f"3 videos of earlier runs stay in {output}" in told.said
    assert result.videos["video"].to_pylist() == ["talk"], "the summary is about this run"
    record = record_of(output)
    assert record["outcomes"] == {"ok": 3, "no_face": 1}
    assert record["rows"] == {"au": sum(len(rows(path)) for path in (output / "predictions" / "au").iterdir())}


def test_another_task_of_one_video_adds_to_the_folder(reference: Run, output: Path, pool: LocalPool) -> None:
    before = files(output)
    predict(reference.features, output, pool, only="talk", tasks=["va"])
    after = files(output)
    same = [name for name in before if name != "run.json"]
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert list(parts(output, "va")) == [part_name("talk")]
    record = record_of(output)
    assert set(record["rows"]) == set(record["heads"]) == {"au", "va"}
    assert record["rows"]["va"] == len(part(output, "va", "talk"))


def test_videos_that_are_not_in_the_cache_keep_their_tables(reference: Run, output: Path, pool: LocalPool) -> None:
    """As after ``annotate a.mp4`` and ``annotate b.mp4`` into one folder with two caches."""
    (video,) = [video for video in find_videos([str(reference.inputs)]) if video.id == "talk"]
    before = parts(output)
    predict(reference.features, output, pool, videos=[video])
    assert parts(output) == before
    assert set(videos(output)) == {"absent", PAIR, "nobody", "talk"}
    assert {row["video"] for row in rows(output / "faces.parquet")} == {"absent", PAIR, "talk"}


@pytest.mark.parametrize("what", ["another head", "other settings"])
def test_heads_and_settings_are_not_mixed(
    what: str, reference: Run, output: Path, tmp_path: Path, pool: LocalPool
) -> None:
    change: dict[str, Any] = {"config": PredictConfig(max_gap=0.2)}
    if what == "another head":
        change = {"heads": [make_head(tmp_path / "head", "au", seed=5)]}
    before = files(output)
    with pytest.raises(UsageError, match=rf"3 other videos \(absent, day 1/pair, nobody\), made by {what}.*--output"):
        predict(reference.features, output, pool, only="talk", **change)
    request = PredictRequest(str(tmp_path / "features"), str(output), **{"heads": ["untrained"], **change})
    extract = ExtractRequest([Video("talk", "talk.mp4")], str(tmp_path / "features"), dataset_of(ONE_SECOND))
    with pytest.raises(UsageError, match=f"made by {what}"):
        run_annotate(extract, request, Told())
    assert files(output) == before
    assert not (tmp_path / "features").exists(), "told before stage 1"

    _, told = predict(reference.features, output, pool, **change)
    assert not [text for text in told.said if "earlier" in text]
    assert parts(output).keys() == parts(reference.output).keys()
    footers = [read_part_footer(part_uri(str(output), "au", video)) for video in videos(output)]
    assert len({footer["made_by"] for footer in footers}) == 1


def test_a_failed_video_of_the_run_keeps_no_old_table_and_copies_go(
    reference: Run, output: Path, tmp_path: Path, pool: LocalPool
) -> None:
    shutil.copytree(reference.features, tmp_path / "features")
    shard = next(row["shard"] for row in rows(tmp_path / "features" / "segments.parquet") if row["video"] == "talk")
    (tmp_path / "features" / "shards" / f"{shard}.parquet").write_bytes(b"PAR1 but no more")
    folder = output / "predictions" / "au"
    shutil.copy(folder / part_name("absent"), folder / "copy.parquet")
    (folder / part_name("talk")).write_bytes(b"damaged")
    result, _ = predict(tmp_path / "features", output, pool, only="talk,absent")
    assert set(result.failed) == {"talk"}
    assert set(parts(output)) == {part_name(video) for video in ("absent", PAIR, "nobody")}


# --- people -----------------------------------------------------------------------------------------------


def test_named_people_are_kept_until_others_are_asked_for(reference: Run, tmp_path: Path, pool: LocalPool) -> None:
    pair = [Video(PAIR, str(reference.inputs / "day 1" / "pair.mp4"), subject="left,right")]
    predict(reference.features, tmp_path, pool, videos=pair)
    before = parts(tmp_path)
    _, told = predict(reference.features, tmp_path, pool, only="pair")
    assert parts(tmp_path) == before
    assert [text for text in told.said if "left, right" in text] == [
        "1 video: people as before (left, right); --subjects or --faces asks for others"
    ]
    predict(reference.features, tmp_path, pool, only="pair", tasks=["va"])
    assert {row["subject"] for row in part(tmp_path, "va", PAIR)} == {"left", "right"}
    assert record_of(tmp_path)["subjects"] == ["left", "right"]

    _, told = predict(reference.features, tmp_path, pool, only="pair", config=PredictConfig(faces="all"))
    assert {(row["subject"], row["face"]) for row in part(tmp_path, "au", PAIR)} == {("", 0), ("", 1)}
    shutil.rmtree(tmp_path / "predictions" / "va")
    _, told = predict(reference.features, tmp_path, pool, only="pair", tasks=["va"])
    assert {row["face"] for row in part(tmp_path, "va", PAIR)} == {0, 1}
    assert "all faces, as before; --faces main asks for the main face alone" in told.said
    assert record_of(tmp_path)["config"]["faces"] == "all"
    predict(reference.features, tmp_path, pool, only="pair", faces_given=True)
    assert {row["face"] for row in part(tmp_path, "au", PAIR)} == {0}


def test_people_named_by_number_are_not_guessed_in_another_cache(
    reference: Run, tmp_path: Path, pool: LocalPool
) -> None:
    subjects = tmp_path / "subjects.csv"
    subjects.write_text("video,subject,person\npair,Ann,1\n")
    predict(reference.features, tmp_path / "out", pool, only="pair", subjects=str(subjects))
    before = parts(tmp_path / "out")
    predict(reference.features, tmp_path / "out", pool, only="pair")
    assert parts(tmp_path / "out") == before
    shutil.copytree(reference.features, tmp_path / "features")
    table = rows(tmp_path / "features" / "segments.parquet")
    last = [row["shard"] for row in table if row["video"] == PAIR][-1]
    (tmp_path / "features" / "shards" / f"{last}.parquet").unlink()
    with pytest.raises(UsageError, match=r"people of day 1/pair \(Ann\) were named by numbers"):
        predict(tmp_path / "features", tmp_path / "out", pool, only="pair")
    assert parts(tmp_path / "out") == before


def test_people_who_are_not_written_or_never_seen_are_told(reference: Run, tmp_path: Path, pool: LocalPool) -> None:
    (note,) = reference.predicted.notes
    assert note.startswith("2 people seen in day 1/pair, 1 written: --faces all")
    assert note in _lines(predict_summary(reference.predicted, "out"))
    talk = [Video("talk", str(reference.inputs / "talk.mp4"), subject="Bob,left")]
    subjects = tmp_path / "subjects.csv"
    subjects.write_text("video,subject,person\ntalk,Bob,7\n")
    result, _ = predict(reference.features, tmp_path, pool, videos=talk, subjects=str(subjects))
    assert "Bob: never seen in talk" in result.notes


# --- before anything begins -------------------------------------------------------------------------------


def test_a_cache_is_no_place_for_predictions(reference: Run, tmp_path: Path, pool: LocalPool) -> None:
    before = files(reference.features)
    for request in (
        PredictRequest(str(tmp_path / "features"), str(reference.features)),
        PredictRequest(str(tmp_path / "new"), f"{tmp_path}/new/"),
    ):
        with pytest.raises(UsageError, match="is a feature cache; choose another folder"):
            check_request(request)
    with pytest.raises(UsageError, match="is a feature cache"):
        predict(reference.features, reference.features, pool)
    assert files(reference.features) == before


def test_a_file_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nope\.mp4: no such file$"):
        emobeam.annotate(tmp_path / "nope.mp4", output=tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_the_model_that_the_summary_names_gives_what_it_says() -> None:
    for task in _GIVES:
        assert ready_outputs(entry(_PUBLISHED), task_named(task).name)


def test_records_name_the_engines_that_are_installed() -> None:
    installed = {each.metadata["Name"].lower() for each in metadata.distributions()}
    found = run_origin.versions()
    assert {name for name in ("openvino", "onnxruntime") if name in found} == installed & {"openvino", "onnxruntime"}
