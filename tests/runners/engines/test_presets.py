from __future__ import annotations

import json

import pytest

from emobeam.runners.beam_options import check_beam_args
from emobeam.runners.engines.dataflow import DataflowConfig
from emobeam.runners.engines.presets import (
    EngineConfig,
    WorkerEnvironment,
    default_command,
    engine_options,
    hints_of,
    job_server_command,
    split_spark_settings,
    worker_environment,
)
from emobeam.schemas.records import UsageError

PROCESS = WorkerEnvironment("process", "/opt/emobeam/bin/emobeam-worker")


def options(config: EngineConfig, endpoint: str = "localhost:7070") -> dict[str, str]:
    pairs = [option.removeprefix("--").partition("=") for option in engine_options(config, endpoint)]
    return {name: value for name, _, value in pairs}


def test_flink() -> None:
    found = options(EngineConfig("flink", workers=64, flink_master="jm:8081", environment=PROCESS))
    assert found["runner"] == "PortableRunner"
    assert found["job_endpoint"] == "localhost:7070"
    assert found["flink_master"] == "http://jm:8081"
    assert found["parallelism"] == "64"
    assert found["execution_mode_for_batch"] == "BATCH"
    assert found["environment_type"] == "PROCESS"
    assert json.loads(found["environment_config"]) == {"command": PROCESS.value}


def test_a_job_server_that_runs_already_has_a_master_of_its_own() -> None:
    """It takes that for Beam's default words alone; on an empty name it waits for ever."""
    assert options(EngineConfig("flink", job_endpoint="js:8099"))["flink_master"] == "[auto]"
    assert "spark_master_url" not in options(EngineConfig("spark", job_endpoint="js:8099"))


def test_without_workers_spark_decides() -> None:
    command = " ".join(job_server_command(EngineConfig("spark", spark_master="spark://m:7077"), "java", "j", 1, "a"))
    assert "spark.cores.max" not in command


def test_spark_has_its_settings_from_the_job_server() -> None:
    config = EngineConfig("spark", workers=8, spark_master="spark://m:7077", environment=PROCESS)
    assert options(config)["spark_master_url"] == "spark://m:7077"
    command = job_server_command(config, "/usr/bin/java", "/jars/s.jar", 8099, "/tmp/a")
    assert command[0] == "/usr/bin/java"
    settings = dict(option[2:].split("=", 1) for option in command if option.startswith("-Dspark"))
    assert settings["spark.cores.max"] == "8"
    assert settings["spark.default.parallelism"] == "16"
    assert int(settings["spark.task.maxFailures"]) > 1
    assert "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED" in settings["spark.executor.extraJavaOptions"]
    after = command[command.index("-jar") :]
    assert after[:4] == ["-jar", "/jars/s.jar", "--spark-master-url", "spark://m:7077"]
    assert after[after.index("--job-port") + 1] == "8099"


def test_settings_of_spark_go_to_the_job_server() -> None:
    settings, rest = split_spark_settings(["--spark.executor.memory=4g", "--a_beam_option", "--spark.a=b=c"])
    assert (settings, rest) == ({"spark.executor.memory": "4g", "spark.a": "b=c"}, ["--a_beam_option"])
    config = EngineConfig("spark", spark_master="spark://m:7077")
    command = job_server_command(config, "java", "j", 1, "a", {**settings, "spark.locality.wait": "1s"})
    assert "-Dspark.executor.memory=4g" in command[: command.index("-jar")]
    assert [part for part in command if part.startswith("-Dspark.locality.wait")] == ["-Dspark.locality.wait=1s"]
    check_beam_args(["--spark.executor.memory=4g"], "spark")
    with pytest.raises(UsageError, match=r"Beam has no option --spark\.executor\.memory"):
        check_beam_args(["--spark.executor.memory=4g"], "flink")
    with pytest.raises(UsageError, match=r"spark\.cores\.max is set by emobeam; name it --workers"):
        check_beam_args(["--spark.cores.max=4"], "spark")


def test_the_flink_job_server_is_told_where_the_cluster_is() -> None:
    command = job_server_command(EngineConfig("flink", flink_master="jm:8081"), "java", "f.jar", 1, "a")
    assert command[command.index("--flink-master") + 1] == "http://jm:8081"
    embedded = job_server_command(EngineConfig("flink", flink_master="[local]"), "java", "f.jar", 1, "a")
    assert embedded[embedded.index("--flink-master") + 1] == "[local]"


def test_dataflow_is_what_its_own_module_says() -> None:
    dataflow = DataflowConfig("p", "r", "gs://bucket/tmp", "image", accelerator="nvidia-l4")
    config = EngineConfig("dataflow", workers=10, dataflow=dataflow)
    assert options(config)["max_num_workers"] == "10"
    assert "accelerator" in hints_of(config)
    assert hints_of(EngineConfig("flink", flink_master="jm:8081")) == {}
    with pytest.raises(UsageError, match="--project"):
        engine_options(EngineConfig("dataflow"))


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("process", "process", default_command()),
        ("process:/opt/w", "process", "/opt/w"),
        ("external:localhost:50000", "external", "localhost:50000"),
        ("docker:registry:5000/emobeam:1", "docker", "registry:5000/emobeam:1"),
        ("loopback", "loopback", ""),
    ],
)
def test_worker_environments(text: str, kind: str, value: str) -> None:
    assert worker_environment(text, embedded=False) == WorkerEnvironment(kind, value)


@pytest.mark.parametrize("text", ["", "docker", "external:", "kubernetes:x", "loopback:x"])
def test_a_cluster_needs_to_know_its_workers(text: str) -> None:
    with pytest.raises(UsageError, match=r"--worker-environment.*process\[:COMMAND\]"):
        worker_environment(text, embedded=False)


def test_an_embedded_engine_works_in_this_process() -> None:
    assert worker_environment("", embedded=True) == WorkerEnvironment("loopback")
    assert EngineConfig("flink", flink_master="[local]").embedded
    assert EngineConfig("spark", spark_master="local[4]").embedded
    assert not EngineConfig("flink", flink_master="localhost:8081").embedded
