"""Dataflow: what a job there is started with, what is checked before, and where to look at it afterwards.

Workers run the image of ``runners/images/Dockerfile``, so nothing is installed or staged when they start. Memory and
accelerator are asked for by resource hints on the one heavy step (Dataflow calls it right fitting); the steps
around it run on what is at hand.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Annotated

from emobeam.schemas.options import Option, Section
from emobeam.schemas.records import EmobeamError, UsageError

INSTALL = "pip install 'emobeam[dataflow]'"
"""Brings what Beam needs to talk to Dataflow."""

OWNED = (
    *("runner", "project", "region", "temp_location"),
    *("sdk_container_image", "worker_harness_container_image", "sdk_location"),
    *("save_main_session", "no_save_main_session"),
    *("max_num_workers", "autoscaling_algorithm", "worker_machine_type", "machine_type"),
    "number_of_worker_harness_threads",
)
"""Beam's options that :func:`dataflow_options` sets and that have an option of ours, or must be so; after ``--`` they
are refused."""

FREE = (
    *("staging_location", "job_name", "disk_size_gb", "service_account_email", "network", "subnetwork"),
    *("use_public_ips", "no_use_public_ips"),
)
"""Those that :func:`dataflow_options` may set, too, and that no option of ours names: what follows ``--`` counts."""

_RAM_PER_CORE_GB = 2.0
"""A process with its decoder stays below 1.6 GB at 1080p (docs/speed.md), and Dataflow starts one process per core."""

_CORES_OF_UNKNOWN = 8

_MACHINES_OF_GPUS = (
    (r"nvidia-tesla-(t4|v100|p100|p4)\b", "n1"),
    (r"nvidia-l4\b", "g2"),
    (r"nvidia-(tesla-)?a100\b", "a2"),
    (r"nvidia-h100\b|nvidia-h200\b", "a3"),
)
"""Google ties types of GPUs to series of machines; GPUs that aren't here go unchecked."""
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_JOB_NAME = re.compile(r"[a-z]([-a-z0-9]{0,1022}[a-z0-9])?")
_STORES = ("gs://", "s3://")
_HERE = ("dataflow",)

IN_THE_IMAGE = "/opt/weights/"
"""Where the image keeps weights and heads that were put into it; launcher and workers find them there."""


class Detached(EmobeamError):
    """No failure: the job was sent, and nobody waits for it (``--detach``)."""


@dataclass(frozen=True)
class DataflowConfig:
    """Where and on what a Dataflow job runs.

    Attributes:
        project: Google Cloud project id.
        region: such as ``europe-west4``; best where the bucket is.
        temp_location: ``gs://`` folder for the job's own temporary files.
        image: the worker image as a worker pulls it, ``europe-west4-docker.pkg.dev/PROJECT/REPOSITORY/emobeam:TAG``.
        staging_location: ``gs://`` folder; empty: ``temp_location``.
        machine_type: of the workers; one process works per virtual core.
        disk_gb: boot disk of a worker. Holds the image and the videos that are worked on.
        accelerator: ``nvidia-tesla-t4`` or Beam's full form (``type:nvidia-l4;count:1;install-nvidia-driver``).
        min_ram_gb: memory a worker must have; 0: 2 GB per core of ``machine_type``.
        service_account: e-mail of the account workers run as; empty: the project's default.
        network, subnetwork: as Dataflow's own options; empty: the project's default.
        public_ips: whether workers have external addresses. Without, their subnetwork needs Private Google Access.
        job_name: lower case, digits and hyphens; empty: one that Beam makes up.
        detach: the launcher ends as soon as the job is sent; the next run settles what it left.
    """

    project: Annotated[
        str, Option("Dataflow: Google Cloud project.", Section.DATAFLOW, metavar="ID", unset="", runners=_HERE)
    ]
    region: Annotated[
        str, Option("Dataflow: such as europe-west4.", Section.DATAFLOW, metavar="REGION", unset="", runners=_HERE)
    ]
    temp_location: Annotated[
        str,
        Option("Dataflow: its own files.", Section.DATAFLOW, metavar="gs://...", unset="", place=True, runners=_HERE),
    ]
    image: Annotated[
        str, Option("Dataflow: the worker image.", Section.DATAFLOW, metavar="IMAGE", unset="", runners=_HERE)
    ]
    staging_location: str = ""
    machine_type: Annotated[
        str, Option("Dataflow: of the workers.", Section.DATAFLOW, metavar="TYPE", runners=_HERE)
    ] = "n2-standard-8"
    disk_gb: int = 60
    accelerator: Annotated[
        str, Option("Dataflow: GPU of --machine-type.", Section.DATAFLOW, metavar="TYPE", runners=_HERE)
    ] = ""
    min_ram_gb: float = 0.0
    service_account: str = ""
    network: str = ""
    subnetwork: str = ""
    public_ips: bool = False
    job_name: str = ""
    detach: Annotated[
        bool,
        Option("Dataflow: send the job and don't wait for its end.", Section.DATAFLOW, runners=_HERE),
    ] = False


def dataflow_options(config: DataflowConfig, workers: int) -> list[str]:
    """Beam's options for a Dataflow job.

    Args:
        workers: machines at most; 0 leaves the limit to Dataflow. It starts with few and adds more as work shows.
    """
    options = [
        "--runner=DataflowRunner",
        f"--project={config.project}",
        f"--region={config.region}",
        f"--temp_location={config.temp_location}",
        f"--staging_location={config.staging_location or config.temp_location}",
        # Everything is in the image: nothing is staged, downloaded or installed when a worker starts.
        f"--sdk_container_image={config.image}",
        "--sdk_location=container",
        "--no_save_main_session",
        "--autoscaling_algorithm=THROUGHPUT_BASED",
        f"--worker_machine_type={config.machine_type}",
        f"--disk_size_gb={config.disk_gb}",
        # One segment at a time in each process: processes are what uses the cores, and memory stays bounded.
        "--number_of_worker_harness_threads=1",
        "--use_public_ips" if config.public_ips else "--no_use_public_ips",
    ]
    if workers:
        options.append(f"--max_num_workers={workers}")
    named = {
        "job_name": config.job_name,
        "service_account_email": config.service_account,
        "network": config.network,
        "subnetwork": config.subnetwork,
    }
    return options + [f"--{name}={value}" for name, value in named.items() if value]


def heavy_step_hints(config: DataflowConfig) -> dict[str, str]:
    """Resource hints of the step that decodes, detects and embeds, for ``PTransform.with_resource_hints``.

    Steps with other hints run in another environment and aren't fused with it, so no other step gets any.
    """
    gigabytes = config.min_ram_gb or _RAM_PER_CORE_GB * cores_of(config.machine_type)
    hints = {"min_ram": f"{gigabytes:g}GB"}
    if config.accelerator:
        hints["accelerator"] = full_accelerator(config.accelerator)
    return hints


def check_accelerator(accelerator: str, machine_type: str) -> None:
    """Whether machines of this type can have this GPU.

    Raises:
        UsageError: they can't, or the accelerator is not named as Beam names them.
    """
    full = full_accelerator(accelerator)
    if not full.startswith("type:"):
        raise UsageError(
            f"--accelerator {accelerator}: name a type such as nvidia-tesla-t4, or write "
            "'type:nvidia-l4;count:1;install-nvidia-driver'"
        )
    kind = full.removeprefix("type:").partition(";")[0]
    for pattern, series in _MACHINES_OF_GPUS:
        if re.match(pattern, kind) and not machine_type.startswith(f"{series}-"):
            raise UsageError(
                f"--accelerator {kind}: there are no {machine_type} with it, only {series} machines; add "
                f"--machine-type {_EXAMPLES[series]}, for example"
            )


_EXAMPLES = {"n1": "n1-standard-8", "g2": "g2-standard-8", "a2": "a2-highgpu-1g", "a3": "a3-highgpu-1g"}


def full_accelerator(name: str) -> str:
    """``nvidia-tesla-t4`` in Beam's form: one, with its driver, shared by the processes of a worker."""
    if ":" in name or ";" in name:
        return name
    return f"type:{name};count:1;install-nvidia-driver;use_nvidia_mps"


def cores_of(machine_type: str) -> int:
    """Virtual cores of a machine type, from its name (``n2-standard-8``, ``n2-custom-6-20480``).

    A number at the end is that of the cores, except of machines with GPUs (``a2-highgpu-1g``), where it is that of the
    GPUs. A type that isn't known counts as 8 cores.
    """
    name = machine_type.rpartition("/")[2]
    series = name.partition("-")[0]
    if name in _SHARED_CORES or re.match(r"e2-custom-(micro|small|medium)-", name):
        return _SHARED_CORES.get(name, 2)
    if gpus := re.search(r"-([a-z]+gpu)-(\d+)g\b", name):
        return _CORES_OF_GPUS.get(f"{series}-{gpus[1]}", {}).get(int(gpus[2]), _CORES_OF_UNKNOWN)
    found = re.search(r"(?:^|-)custom-(\d+)-\d+", name) or re.search(r"-(\d+)(?:-[a-z]*lssd)?(?:-metal)?$", name)
    return int(found[1]) if found else _CORES_OF_UNKNOWN


_SHARED_CORES = {"e2-micro": 2, "e2-small": 2, "e2-medium": 2, "f1-micro": 1, "g1-small": 1}
"""What these tell their systems; they get a part of that time only."""

_CORES_OF_GPUS = {
    "a2-highgpu": {1: 12, 2: 24, 4: 48, 8: 96},
    "a2-megagpu": {16: 96},
    "a2-ultragpu": {1: 12, 2: 24, 4: 48, 8: 96},
    "a3-highgpu": {1: 26, 2: 52, 4: 104, 8: 208},
    "a3-megagpu": {8: 208},
    "a3-edgegpu": {8: 208},
    "a3-ultragpu": {8: 224},
    "a4-highgpu": {8: 224},
    "a4x-highgpu": {4: 140},
    "a4x-maxgpu": {4: 144},
}
"""Virtual cores by number of GPUs; G2 and G4 machines are called after their cores, as others are."""


def check_dataflow(config: DataflowConfig, *, inputs: Sequence[str] = (), outputs: Sequence[str] = ()) -> None:
    """Looks at everything that can be known before a job is sent.

    Args:
        inputs: videos, caches and heads that workers read.
        outputs: folders that workers write.

    Raises:
        UsageError: naming what is missing or wrong, and what to do.
    """
    for option, value in (
        ("--project", config.project),
        ("--region", config.region),
        ("--temp-location", config.temp_location),
        ("--image", config.image),
    ):
        if not value:
            raise UsageError(f"--runner dataflow needs {option}; see docs/engines.md, section Dataflow")
    for option, value in (("--temp-location", config.temp_location), ("staging location", config.staging_location)):
        if value:
            _check_bucket(option, value)
    if config.job_name and not _JOB_NAME.fullmatch(config.job_name):
        raise UsageError(
            f"job name {config.job_name!r}: Dataflow takes lower case letters, digits and hyphens, a letter first"
        )
    if config.accelerator:
        check_accelerator(config.accelerator, config.machine_type)
    for kind, uris in (("input", inputs), ("output", outputs)):
        for uri in uris:
            if kind == "input" and uri.startswith(IN_THE_IMAGE):
                continue
            if not uri.startswith(_STORES):
                raise UsageError(
                    f"{kind} {uri}: Dataflow's workers can't see this machine's files; copy it to a bucket and name "
                    "it gs://BUCKET/..."
                )
            if uri.startswith("gs://"):
                _check_bucket(kind, uri)
    if not dataflow_installed():
        raise UsageError(f"--runner dataflow needs Beam's Google Cloud part; install it with: {INSTALL}")


def _check_bucket(what: str, uri: str) -> None:
    """A bad bucket name is told at once; Beam would ask the network about it for minutes."""
    if not uri.startswith("gs://"):
        raise UsageError(f"{what} {uri}: Dataflow needs a place in Cloud Storage, gs://BUCKET/...")
    bucket = uri.removeprefix("gs://").partition("/")[0]
    if not _BUCKET.fullmatch(bucket):
        raise UsageError(
            f"{what} {uri}: {bucket!r} can't be the name of a bucket (3 to 222 lower case letters, digits, hyphens, "
            "underscores, dots)"
        )


def dataflow_installed() -> bool:
    """Whether Beam's Google Cloud part is there; looks for its packages without importing them."""
    try:
        return find_spec("google.cloud.dataflow_v1beta3") is not None and find_spec("google.cloud.storage") is not None
    except ModuleNotFoundError:
        return False


def job_link(config: DataflowConfig, job_id: str) -> str:
    """Where to watch a job in the console."""
    return f"https://console.cloud.google.com/dataflow/jobs/{config.region}/{job_id}?project={config.project}"


def mending(message: str) -> str:
    """What to do about an error of Dataflow or of its client; empty where nothing is known about it."""
    for pattern, advice in _ADVICE:
        if re.search(pattern, message, flags=re.IGNORECASE):
            return advice
    return ""


_ADVICE = (
    (
        r"could not automatically determine credentials|default credentials",
        "run: gcloud auth application-default login",
    ),
    (
        r"dataflow api has not been used|SERVICE_DISABLED",
        "run: gcloud services enable dataflow.googleapis.com --project PROJECT",
    ),
    (
        r"imagepullbackoff|error pulling|failed to pull|manifest unknown",
        (
            "workers can't pull --image: check its name and tag, and give the workers' service account the role "
            "roles/artifactregistry.reader"
        ),
    ),
    (
        r"private google access|no_use_public_ips|external ip",
        (
            "switch Private Google Access on: gcloud compute networks subnets update SUBNETWORK --region REGION "
            "--enable-private-ip-google-access"
        ),
    ),
    (
        r"ZONE_RESOURCE_POOL_EXHAUSTED|stockout",
        "this zone is out of such machines: try another --machine-type or --region",
    ),
    (r"quota", "ask for a higher quota of CPUs, addresses or accelerators in this region, or lower --workers"),
)
