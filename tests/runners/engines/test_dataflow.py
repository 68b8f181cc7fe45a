"""Options, hints, checks and messages of Dataflow jobs, without Beam's Google Cloud part (see tests/engines)."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from apache_beam.options.pipeline_options import PipelineOptions, _BeamArgumentParser
from apache_beam.transforms.resources import parse_resource_hints

from emobeam.runners.beam_options import check_beam_args
from emobeam.runners.engines import dataflow
from emobeam.runners.engines.dataflow import DataflowConfig, cores_of, dataflow_options, heavy_step_hints
from emobeam.schemas.records import UsageError

IMAGE = "europe-west4-docker.pkg.dev/lab/images/emobeam:0.1.0"
CONFIG = DataflowConfig("lab", "europe-west4", "gs://lab-affect/tmp", IMAGE)
IN_THE_STORE = {"inputs": ["gs://lab-affect/videos"], "outputs": ["gs://lab-affect/features"]}


def parsed(config: DataflowConfig, workers: int = 0) -> dict[str, object]:
    """Options as Beam reads them; one that it doesn't know is an error here."""
    parser = _BeamArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for options in PipelineOptions.__subclasses__():
        options._add_argparse_args(parser)
    known, unknown = parser.parse_known_args(dataflow_options(config, workers))
    assert not unknown
    return vars(known)


def test_beam_knows_every_option_and_reads_what_was_meant() -> None:
    full = replace(CONFIG, job_name="emobeam-1", service_account="w@lab", network="n", subnetwork="regions/r/s")
    seen = parsed(full, workers=64)
    assert seen["runner"] == "DataflowRunner"
    assert (seen["project"], seen["region"]) == ("lab", "europe-west4")
    assert seen["temp_location"] == seen["staging_location"] == "gs://lab-affect/tmp"
    assert (seen["sdk_container_image"], seen["sdk_location"]) == (IMAGE, "container")
    assert (seen["max_num_workers"], seen["number_of_worker_harness_threads"]) == (64, 1)
    assert (seen["machine_type"], seen["disk_size_gb"]) == ("n2-standard-8", 60)
    assert seen["use_public_ips"] is False
    assert (seen["job_name"], seen["service_account_email"]) == ("emobeam-1", "w@lab")
    assert (seen["network"], seen["subnetwork"]) == ("n", "regions/r/s")


def test_what_is_not_named_is_left_to_dataflow() -> None:
    seen = parsed(CONFIG)
    assert seen["max_num_workers"] is None
    assert seen["job_name"] is None
    assert parsed(replace(CONFIG, public_ips=True))["use_public_ips"] is True
    assert parsed(replace(CONFIG, staging_location="gs://lab-affect/s"))["staging_location"] == "gs://lab-affect/s"


def test_whatever_is_set_here_is_refused_after_the_dashes() -> None:
    full = replace(CONFIG, job_name="a", service_account="b", network="c", subnetwork="d")
    options = [*dataflow_options(full, 3), *dataflow_options(replace(full, public_ips=True), 3)]
    names = {option.removeprefix("--").partition("=")[0] for option in options}
    assert names <= {*dataflow.OWNED, *dataflow.FREE}


def test_what_no_option_of_ours_names_may_follow_the_dashes() -> None:
    free = [
        *("--service_account_email=w@lab", "--network=n", "--subnetwork=regions/r/s", "--use_public_ips"),
        *("--disk_size_gb=200", "--staging_location=gs://lab-affect/s", "--job_name=emobeam-7"),
    ]
    check_beam_args(free, "dataflow")
    seen = PipelineOptions([*dataflow_options(CONFIG, 0), *free]).get_all_options()
    assert (seen["service_account_email"], seen["network"]) == ("w@lab", "n")
    assert (seen["use_public_ips"], seen["disk_size_gb"]) == (True, 200)
    assert (seen["staging_location"], seen["job_name"]) == ("gs://lab-affect/s", "emobeam-7")
    with pytest.raises(UsageError, match="--sdk_container_image is set by emobeam"):
        check_beam_args(["--sdk_container_image=other"], "dataflow")


@pytest.mark.parametrize(
    ("machine", "cores"),
    [("n2-standard-8", 8), ("n1-highmem-16", 16), ("g2-standard-4", 4), ("n2-custom-6-20480", 6), ("e2-medium", 2)],
)
def test_memory_is_asked_for_by_core(machine: str, cores: int) -> None:
    hints = heavy_step_hints(replace(CONFIG, machine_type=machine))
    assert hints == {"min_ram": f"{2 * cores}GB"}
    ((_, value),) = parse_resource_hints(hints).items()
    assert int(value) == 2 * cores * 10**9


@pytest.mark.parametrize(
    ("cores", "machines"),
    [
        (1, "f1-micro g1-small n1-standard-1 custom-1-3840 n1-custom-1-3840"),
        (2, "e2-micro e2-small e2-medium e2-custom-medium-2048 e2-custom-micro-1024 e2-highcpu-2 e2-custom-2-4096"),
        (4, "g2-standard-4 g2-custom-4-20480 c4-standard-4-lssd c3-standard-4 c4a-standard-4 n4-custom-4-8192"),
        (8, "n2-custom-8-16384 n2d-custom-8-65536-ext custom-8-16384-ext c4a-highmem-8-lssd z3-highmem-8-highlssd"),
        (14, "z3-highmem-14-standardlssd"),
        (30, "c2-standard-30"),
        (96, "n1-megamem-96 g2-standard-96 t2d-standard-96 m1-megamem-96"),
        (192, "c3-standard-192-metal z3-highmem-192-highlssd-metal h4d-highmem-192-lssd"),
        (360, "c3d-standard-360-lssd"),
        (416, "m2-ultramem-416"),
        (12, "a2-highgpu-1g a2-ultragpu-1g zones/us-central1-a/machineTypes/a2-highgpu-1g"),
        (24, "a2-highgpu-2g a2-ultragpu-2g"),
        (48, "a2-highgpu-4g a2-ultragpu-4g g4-standard-48"),
        (96, "a2-highgpu-8g a2-ultragpu-8g a2-megagpu-16g"),
        (26, "a3-highgpu-1g"),
        (52, "a3-highgpu-2g"),
        (104, "a3-highgpu-4g"),
        (208, "a3-highgpu-8g a3-megagpu-8g a3-edgegpu-8g a3-edgegpu-8g-nolssd"),
        (224, "a3-ultragpu-8g a3-ultragpu-8g-nolssd a4-highgpu-8g"),
        (140, "a4x-highgpu-4g"),
        (144, "a4x-maxgpu-4g-metal"),
        (8, "a9-highgpu-1g ct5lp-hightpu-1t something"),
    ],
)
def test_cores_are_those_of_the_tables_of_compute_engine(cores: int, machines: str) -> None:
    """Of types that nobody knows eight are taken, never the number of their accelerators."""
    assert {name: cores_of(name) for name in machines.split()} == dict.fromkeys(machines.split(), cores)


def test_an_accelerator_comes_with_its_driver_and_is_shared_by_the_processes() -> None:
    hints = heavy_step_hints(replace(CONFIG, accelerator="nvidia-l4", min_ram_gb=12.5))
    assert hints == {
        "min_ram": "12.5GB",
        "accelerator": "type:nvidia-l4;count:1;install-nvidia-driver;use_nvidia_mps",
    }
    assert len(parse_resource_hints(hints)) == 2
    own = "type:nvidia-tesla-t4;count:2;install-nvidia-driver:535"
    assert heavy_step_hints(replace(CONFIG, accelerator=own))["accelerator"] == own


@pytest.mark.parametrize(
    ("changes", "where", "says"),
    [
        ({"project": ""}, {}, "needs --project"),
        ({"region": ""}, {}, "needs --region"),
        ({"temp_location": ""}, {}, "needs --temp-location"),
        ({"image": ""}, {}, "needs --image"),
        ({"temp_location": "/tmp"}, {}, "needs a place in Cloud Storage"),
        ({"temp_location": "gs://T/x"}, {}, "'T' can't be the name of a bucket"),
        ({"staging_location": "gs:///x"}, {}, "'' can't be the name of a bucket"),
        ({"job_name": "My_Job"}, {}, "lower case letters"),
        ({"accelerator": "count:1"}, {}, "name a type"),
        ({"accelerator": "nvidia-tesla-t4"}, {}, "no n2-standard-8 with it, only n1 machines; add --machine-type n1-"),
        ({"accelerator": "type:nvidia-l4;count:1", "machine_type": "n1-standard-8"}, {}, "--machine-type g2-standard"),
        ({"accelerator": "nvidia-tesla-v100", "machine_type": "g2-standard-8"}, {}, "only n1 machines"),
        ({"accelerator": "nvidia-a100-80gb", "machine_type": "a3-highgpu-1g"}, {}, "only a2 machines"),
        ({"accelerator": "nvidia-h100-80gb", "machine_type": "a2-highgpu-1g"}, {}, "only a3 machines"),
        ({}, {"inputs": ["videos/"]}, "can't see this machine's files"),
        ({}, {"outputs": ["out/"]}, "can't see this machine's files"),
        ({}, {"outputs": ["gs://A!/out"]}, "can't be the name of a bucket"),
    ],
)
def test_what_cannot_work_is_told_before_a_job_is_sent(
    changes: dict[str, str], where: dict[str, list[str]], says: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(says)):
        dataflow.check_dataflow(replace(CONFIG, **changes), **{**IN_THE_STORE, **where})


@pytest.mark.parametrize(
    ("accelerator", "machine_type"),
    [
        ("nvidia-tesla-t4", "n1-highmem-8"),
        ("type:nvidia-tesla-p100;count:2;install-nvidia-driver", "n1-custom-6-20480"),
        ("nvidia-l4", "g2-standard-4"),
        ("nvidia-tesla-a100", "a2-highgpu-1g"),
        ("nvidia-h100-80gb", "a3-highgpu-1g"),
        ("nvidia-of-tomorrow", "z9-standard-8"),
    ],
)
def test_accelerators_that_their_machines_have(accelerator: str, machine_type: str) -> None:
    dataflow.check_accelerator(accelerator, machine_type)


def test_flexrs_is_refused_where_hints_are_used() -> None:
    with pytest.raises(UsageError, match="flexrs_goal: FlexRS doesn't go with the resource hints"):
        check_beam_args(["--flexrs_goal=COST_OPTIMIZED"], "dataflow")


def test_weights_in_the_image_need_no_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataflow, "dataflow_installed", lambda: True)
    dataflow.check_dataflow(CONFIG, inputs=["/opt/weights/backbone.safetensors"])
    with pytest.raises(UsageError, match="can't see"):
        dataflow.check_dataflow(CONFIG, outputs=["/opt/weights/features"])


def test_the_missing_part_of_beam_is_told_last_with_the_line_that_brings_it() -> None:
    if dataflow.dataflow_installed():
        dataflow.check_dataflow(CONFIG, **IN_THE_STORE)
    else:
        with pytest.raises(UsageError, match=re.escape(dataflow.INSTALL)):
            dataflow.check_dataflow(CONFIG, **IN_THE_STORE)


def test_the_link_leads_to_the_job() -> None:
    link = dataflow.job_link(CONFIG, "2026-11-21_01_02_03-4")
    assert link == "https://console.cloud.google.com/dataflow/jobs/europe-west4/2026-11-21_01_02_03-4?project=lab"


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ("Your default credentials were not found.", "gcloud auth application-default login"),
        ("Dataflow API has not been used in project 12 before or it is disabled", "gcloud services enable"),
        ("Back-off pulling image: ImagePullBackOff", "roles/artifactregistry.reader"),
        ("ZONE_RESOURCE_POOL_EXHAUSTED: zone europe-west4-a", "--machine-type"),
        ("Quota 'CPUS' exceeded", "quota"),
        ("division by zero", ""),
    ],
)
def test_common_errors_come_with_what_mends_them(message: str, advice: str) -> None:
    found = dataflow.mending(message)
    assert advice in found
    assert bool(found) == bool(advice)
