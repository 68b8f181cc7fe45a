"""Jobs for Dataflow as Beam would send them: graph, image, hints and options, by its dry run.

Needs Beam's Google Cloud part, which has an environment of its own (``make test-dataflow``): importing it would slow
everything else down.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2

from emobeam.emo_transforms.storage.run_mailbox import Exchange, open_exchange
from emobeam.pipelines.run_origin import new_run_id
from emobeam.pipelines.stages.engines.child_tasks import PredictTask
from emobeam.pipelines.stages.engines.extract_graph import extract_graph
from emobeam.pipelines.stages.engines.predict_graph import predict_graph
from emobeam.runners.engines.dataflow import DataflowConfig, Detached, check_dataflow, dataflow_installed
from emobeam.runners.engines.engine_run import run_remotely
from emobeam.runners.engines.presets import EngineConfig, engine_options, hints_of
from emobeam.schemas.config import ExtractConfig

pytestmark = [
    pytest.mark.engines,
    pytest.mark.skipif(not dataflow_installed(), reason="Beam's Google Cloud part isn't installed: make test-dataflow"),
]

IMAGE = "europe-west4-docker.pkg.dev/lab/images/emobeam:0.1.0"
DATAFLOW = DataflowConfig("lab-project", "europe-west4", "gs://lab-affect/tmp", IMAGE, job_name="emobeam-test")
ENGINE = EngineConfig("dataflow", workers=20, dataflow=DATAFLOW)
FEATURES = "gs://lab-affect/features"
EXCHANGE = Exchange(f"{FEATURES}/runs/.emobeam-host-1-run.work")
TASKS = [f"{EXCHANGE.uri}/tasks/000000000.jsonl"]

Job = Any


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No look for credentials: outside of Google's cloud that would ask the network for a minute."""
    monkeypatch.setenv("NO_GCE_CHECK", "true")


def dry_run(build: Callable[[Any], None], engine: EngineConfig) -> Job:
    """The job as it would be sent."""
    pipeline = beam.Pipeline(options=PipelineOptions([*engine_options(engine), "--dry_run=True"]))
    build(pipeline)
    return pipeline.run().job


def extract_job(engine: EngineConfig = ENGINE) -> Job:
    def build(pipeline: Any) -> None:
        extract_graph(pipeline, TASKS, ExtractConfig(), FEATURES, EXCHANGE, engine)

    return dry_run(build, engine)


@pytest.fixture(scope="module")
def extract() -> Job:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_GCE_CHECK", "true")
        return extract_job()


@pytest.fixture(scope="module")
def predict() -> Job:
    """Stage 2; what its workers unpack plays no part before a job is sent."""

    def build(pipeline: Any) -> None:
        predict_graph(pipeline, TASKS, PredictTask(pickle.dumps("a head")), EXCHANGE, ENGINE)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_GCE_CHECK", "true")
        return dry_run(build, ENGINE)


def shuffles(job: Job) -> set[str]:
    """Names of the steps that redistribute."""
    return {name.split("/Reshuffle")[0] for name in steps(job) if "/Reshuffle/" in name}


def steps(job: Job) -> dict[str, beam_runner_api_pb2.PTransform]:
    """Steps without parts, by their full names."""
    return {
        step.unique_name: step for step in job.proto_pipeline.components.transforms.values() if not step.subtransforms
    }


def hints(job: Job, step: beam_runner_api_pb2.PTransform) -> dict[str, str]:
    """Resource hints of a step by their short names."""
    if not step.environment_id:  # a step of the engine itself
        return {}
    environment = job.proto_pipeline.components.environments[step.environment_id]
    return {
        re.sub(r"^beam:resources:|:v1$", "", urn): value.decode() for urn, value in environment.resource_hints.items()
    }


def images(job: Job) -> set[str]:
    """Images of all environments."""
    found = set()
    for environment in job.proto_pipeline.components.environments.values():
        assert environment.urn == common_urns.environments.DOCKER.urn
        payload = beam_runner_api_pb2.DockerPayload.FromString(environment.payload)
        found.add(payload.container_image)
    return found


def heavy(job: Job) -> list[str]:
    """Names of the steps with hints."""
    return [name for name, step in steps(job).items() if hints(job, step)]


def test_what_is_checked_before_is_fine() -> None:
    check_dataflow(DATAFLOW, inputs=["gs://lab-affect/videos"], outputs=[FEATURES])


def test_the_graph_of_stage_1_has_its_steps_and_two_redistributions(extract: Job) -> None:
    names = set(steps(extract))
    assert any("Plan" in name for name in names)
    assert len(shuffles(extract)) == 2, shuffles(extract)


def test_the_graph_of_stage_2_has_one_redistribution_and_one_heavy_step(predict: Job) -> None:
    assert shuffles(predict) == {next(name for name in shuffles(predict) if name.startswith("Videos/"))}
    found = heavy(predict)
    assert found
    for name in found:
        assert name.startswith("Predict/")
        assert hints(predict, steps(predict)[name]) == {"min_ram_bytes": str(16 * 10**9)}
    assert any(name.startswith("NotDone/") for name in steps(predict))
    assert images(predict) == {IMAGE}
    assert len(predict.proto_pipeline.SerializeToString()) < 200_000


def test_only_the_heavy_step_asks_for_memory(extract: Job) -> None:
    found = heavy(extract)
    assert found
    assert all(name.startswith("Extract/") for name in found), found
    for name in found:
        assert hints(extract, steps(extract)[name]) == {"min_ram_bytes": str(16 * 10**9)}
    planning = [name for name in steps(extract) if name.startswith(("Plan/", "Videos/"))]
    assert planning
    assert not set(planning) & set(found)


def test_an_accelerator_goes_to_the_heavy_step_alone() -> None:
    engine = replace(ENGINE, dataflow=replace(DATAFLOW, accelerator="nvidia-l4", machine_type="g2-standard-4"))
    job = extract_job(engine)
    found = heavy(job)
    assert found
    for name in found:
        assert name.startswith("Extract/")
        assert hints(job, steps(job)[name]) == {
            "min_ram_bytes": str(8 * 10**9),
            "accelerator": "type:nvidia-l4;count:1;install-nvidia-driver;use_nvidia_mps",
        }
    options = job.options.get_all_options()
    assert not [each for each in options["dataflow_service_options"] or [] if "accelerator" in each]


def test_every_environment_is_our_image_and_nothing_is_staged(extract: Job) -> None:
    assert images(extract) == {IMAGE}
    staged = {
        beam_runner_api_pb2.ArtifactStagingToRolePayload.FromString(artifact.role_payload).staged_name
        for environment in extract.proto_pipeline.components.environments.values()
        for artifact in environment.dependencies
    }
    assert staged <= {"submission_environment_dependencies.txt"}, "a list for people who look for an error"


def test_options_of_the_job(extract: Job) -> None:
    options = extract.options.get_all_options()
    expected = {
        "project": "lab-project",
        "region": "europe-west4",
        "max_num_workers": 20,
        "machine_type": "n2-standard-8",
        "use_public_ips": False,
        "number_of_worker_harness_threads": 1,
        "sdk_location": "container",
        "job_name": "emobeam-test",
    }
    assert {name: options[name] for name in expected} == expected
    for name in ("temp_location", "staging_location"):  # Beam adds the job's name
        assert options[name].startswith("gs://lab-affect/tmp/emobeam-test")
    assert "use_runner_v2" in options["experiments"]
    assert not options["streaming"]


def test_the_graph_is_small_whatever_the_number_of_videos(extract: Job) -> None:
    """Dataflow takes graphs up to 10 MB; tasks lie in files, so it grows by a name for every 250 videos."""
    size = len(extract.proto_pipeline.SerializeToString())
    assert size < 200_000


def test_a_detached_launcher_goes_and_leaves_what_workers_need(tmp_path: Path) -> None:
    engine = replace(ENGINE, dataflow=replace(DATAFLOW, detach=True))
    said: list[str] = []
    with open_exchange(str(tmp_path), new_run_id(), keep=True) as exchange:
        uri = exchange.put_records("tasks", "0.jsonl", [])

        def build(pipeline: Any) -> None:
            extract_graph(pipeline, [uri], ExtractConfig(), FEATURES, exchange, engine)

        with pytest.raises(Detached, match="the same command settles"):
            run_remotely(build, engine, ["--dry_run=True"], exchange, lambda heard: None, said.append, said.append)
    assert "console.cloud.google.com/dataflow/jobs/europe-west4/" in said[0]
    assert Path(uri).exists()
    with open_exchange(str(tmp_path), new_run_id()):
        assert Path(uri).exists(), "another run of this machine leaves it to the workers"


def test_hints_are_left_out_on_other_engines() -> None:
    assert hints_of(EngineConfig("flink")) == {}
