"""Jobs as other engines get them, through Beam's own job service in this process: what they write and what they tell.

Real Flink and Spark clusters are in tests/engines.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.cache.shards import read_footer
from emobeam.emo_transforms.extraction.beam_records import _leave, read_tasks
from emobeam.emo_transforms.extraction.plan_job import PlanJob
from emobeam.emo_transforms.extraction.plan_transform import PlanVideos
from emobeam.emo_transforms.extraction.segment_job import SegmentJob
from emobeam.emo_transforms.extraction.video_plans import find_videos
from emobeam.emo_transforms.storage.run_mailbox import Exchange
from emobeam.pipelines.stages.extract import ExtractRequest, run_extract
from emobeam.pipelines.stages.graphs.extract_graph import extract_graph
from emobeam.pipelines.stages.predict import run_predict
from emobeam.pipelines.stages.predict_request import PredictRequest
from emobeam.pipelines.stages.remaining_work import know
from emobeam.runners.beam_metrics import RunMetrics
from emobeam.runners.children.settings import RunStopped
from emobeam.runners.engines.engine_children import OnWorker
from emobeam.runners.engines.engine_ends import ends_on
from emobeam.runners.engines.engine_run import run_remotely
from emobeam.runners.engines.presets import EngineConfig
from emobeam.runners.worker_progress import Beats
from emobeam.schemas.records import EmobeamError, PlannedSegment, VideoTask
from tests.clips import not_a_video, truncated
from tests.pipelines.conftest import Run
from tests.pipelines.runs import ONE_SECOND, STAGE_2, Told, dataset_of, files, videos

EMBEDDED = EngineConfig("flink", job_endpoint="embed")


def shards(features: Path) -> dict[str, bytes]:
    return files(features, "shards/*")


def extract_there(
    inputs: list[Path], features: Path, engine: EngineConfig = EMBEDDED, told: Told | None = None
) -> Told:
    told = told or Told()
    found = find_videos([str(path) for path in inputs], "video")
    run_extract(ExtractRequest(found, str(features), dataset_of(ONE_SECOND), engine=engine), told)
    return told


@pytest.fixture(scope="module")
def there(reference: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Told]:
    output = tmp_path_factory.mktemp("there")
    return output, extract_there([reference.inputs], output / "features")


def test_the_same_bytes_as_here(there: tuple[Path, Told], reference: Run) -> None:
    output, told = there
    assert shards(output / "features") == shards(reference.features)
    assert files(output / "features", "*.parquet") == files(reference.features, "*.parquet")
    assert files(output / "features", "failures/*") == files(reference.features, "failures/*")
    assert told.items("extract") == len(shards(reference.features))
    assert [event for event, _ in told.events].count("done") == 4 + len(shards(reference.features))


def test_nothing_is_left_of_the_exchange_and_the_record_tells_of_the_run(there: tuple[Path, Told]) -> None:
    output, _ = there
    (record,) = (output / "features" / "runs").iterdir()
    told = json.loads(record.read_text())
    assert told["runner"] == "flink"
    assert told["segments_of_this_run"] == len(shards(output / "features"))
    assert {"decode", "detect", "embed", "write"} <= told["seconds_by_step"].keys()


def test_predictions_and_submission_are_the_same(there: tuple[Path, Told], reference: Run) -> None:
    output, _ = there
    features = str(output / "features")
    request = PredictRequest(features, str(output), heads=("untrained",), config=STAGE_2, edition=8, engine=EMBEDDED)
    result = run_predict(request, Told())
    assert result.failed == {}
    assert files(output, "predictions/**/*.parquet") == files(reference.output, "predictions/**/*.parquet")
    assert files(output, "submission/**/*") == files(reference.output, "submission/**/*")
    assert not [path for path in output.iterdir() if path.name.startswith(".")]


@pytest.mark.thorough
def test_a_second_run_does_what_has_changed(reference: Run, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "nobody.mp4").write_bytes((reference.inputs / "nobody.mp4").read_bytes())
    not_a_video(folder / "text.mp4")
    truncated(folder / "short.mp4", frames=25)
    extract_there([folder], tmp_path / "features")
    outcomes = {video: row["outcome"] for video, row in videos(tmp_path / "features").items()}
    assert (outcomes["text"], outcomes["nobody"]) == ("failed", "no_face")
    first = shards(tmp_path / "features")
    (folder / "nobody.mp4").write_bytes((reference.inputs / "absent.mp4").read_bytes())
    again = extract_there([folder], tmp_path / "features")
    assert again.items("extract") == 3
    assert len(shards(tmp_path / "features").keys() - first.keys()) == 3
    assert videos(tmp_path / "features")["nobody"]["outcome"] == "ok"
    assert videos(tmp_path / "features")["text"]["outcome"] == "failed"


def test_what_a_lost_launcher_left_is_known_and_no_job_is_sent(
    there: tuple[Path, Told], reference: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The launcher was killed, or ended after sending the job: the shards are there, the index is that of before."""
    features = tmp_path / "features"
    shutil.copytree(there[0] / "features", features)
    for name in ("segments.parquet", "videos.parquet"):
        (features / name).unlink()
    known = know(str(features), find_videos([str(reference.inputs)], "video"), dataset_of(ONE_SECOND).config)
    assert known.rows.keys() == set(storage.names(str(features / "shards"), ".parquet"))
    assert {video for video, _, _ in known.index} == {
        row["video"] for row in videos(there[0] / "features").values() if row["segments_done"]
    }
    monkeypatch.setattr("emobeam.pipelines.stages.extract.run_there", None)  # no job is sent
    told = extract_there([reference.inputs], features)
    assert told.events == []
    assert files(features, "*.parquet") == files(there[0] / "features", "*.parquet")
    (record,) = {*(features / "runs").iterdir()} - {
        features / "runs" / path.name for path in (there[0] / "features" / "runs").iterdir()
    }
    run = json.loads(record.read_text())
    assert (run["segments_done_before"], run["segments_of_this_run"]) == (len(known.rows), 0)


def test_workers_that_do_not_see_the_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(EmobeamError, match="doesn't see what the launcher wrote"):
        read_tasks(str(tmp_path / "elsewhere.jsonl"), VideoTask)


def test_a_planner_that_does_not_see_the_folder_plans_nothing(tmp_path: Path) -> None:
    """Else it would write failure records and lists to a folder of its own, and the run would end well without them."""
    exchange = Exchange(str(tmp_path / "elsewhere"))
    with pytest.raises(EmobeamError, match="doesn't see the folder of this run"):
        OnWorker(Beats(exchange)).find()
    with pytest.raises(EmobeamError, match="doesn't see the folder of this run"):
        list(_leave((0, []), exchange, "looked"))
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_word_of_a_video_has_not_ended_well(
    reference: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_another_disk(*args: object) -> RunMetrics:
        return RunMetrics()

    monkeypatch.setattr("emobeam.runners.engines.engine_run.run_remotely", on_another_disk)
    with pytest.raises(RunStopped, match=r"no worker told of 4 videos \(.*the same command does what is missing"):
        extract_there([reference.inputs], tmp_path / "features")


@pytest.mark.thorough
def test_a_run_that_left_nothing_of_a_video_has_not_ended_well(
    reference: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers told of all videos, and the shards of one went to another disk."""

    def shards_on_another_disk(*args: Any) -> RunMetrics:
        result = run_remotely(*args)
        for path in (tmp_path / "features" / "shards").glob("*.parquet"):
            if read_footer(str(path)).video == "nobody":
                path.unlink()
        return result

    monkeypatch.setattr("emobeam.runners.engines.engine_run.run_remotely", shards_on_another_disk)
    with pytest.raises(RunStopped, match=r"nothing was written of 1 video \(nobody\)"):
        extract_there([reference.inputs / "nobody.mp4"], tmp_path / "features")
    monkeypatch.undo()
    again = extract_there([reference.inputs / "nobody.mp4"], tmp_path / "features")
    assert again.items("extract") == len(shards(tmp_path / "features"))


@pytest.mark.thorough
def test_a_job_that_fails_says_why(reference: Run, tmp_path: Path) -> None:
    dataset = dataset_of(ONE_SECOND)
    config = replace(
        dataset.config, backbone=replace(dataset.config.backbone, weights="/nowhere/weights.pth", weights_sha256="0")
    )
    found = find_videos([str(reference.inputs)], "video")
    request = ExtractRequest(found, str(tmp_path / "f"), replace(dataset, config=config), engine=EMBEDDED)
    with pytest.raises(RunStopped, match=r"flink: .*weights\.pth.*the same command goes on from there"):
        run_extract(request, Told())


def test_elements_between_stages_are_small(reference: Run, tmp_path: Path) -> None:
    exchange = Exchange(str(tmp_path / "exchange"))
    exchange.begin()
    config = dataset_of(ONE_SECOND).config
    known = know(str(tmp_path), find_videos([str(reference.inputs)], "video"), config)

    def small(segments: list[PlannedSegment]) -> None:
        assert len(segments) == len(shards(reference.features))
        assert max(len(segment.data) for segment in segments) < 1000

    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        planner = PlanVideos(PlanJob(config, str(tmp_path), exchange), OnWorker(Beats(exchange)))
        plan = pipeline | beam.Create(known.tasks) | planner
        assert_that(plan.segments, small)


def test_the_graph_stays_small_and_has_one_heavy_step(tmp_path: Path, reference: Run) -> None:
    config = dataset_of(ONE_SECOND).config
    pipeline = beam.Pipeline(runner="FnApiRunner")
    uris = [f"gs://bucket/features/runs/exchange/tasks/{number:09d}.jsonl" for number in range(400)]  # 100,000 videos
    exchange, left = Exchange("gs://bucket/exchange"), dict[str, type[Any]]()
    ends = ends_on(EMBEDDED, exchange, uris, VideoTask, left)
    plan, extract = PlanJob(config, "gs://bucket/features", exchange), SegmentJob(config, "gs://bucket/features")
    extract_graph(pipeline, ends, plan, extract)
    assert left.keys() == {"looked", "shards"}
    proto = pipeline.to_runner_api()
    assert proto.ByteSize() < 2_000_000
    names = [transform.unique_name for transform in proto.components.transforms.values()]
    heavy = [name for name in names if name.endswith("/ExtractSegment")]
    assert len(heavy) == 1
    coders = {
        coder.spec.payload for coder in proto.components.coders.values() if b"PlannedSegmentCoder" in coder.spec.payload
    }
    assert coders, "segments travel by their own coder"
