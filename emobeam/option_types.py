"""Types of the options of functions, for type checkers; written from the configs by ``make options``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypedDict

from emobeam.arguments import Place


class ExtractOptions(TypedDict, total=False):
    """Of ``emobeam.extract``."""

    only: str | Sequence[str]
    fps: float | Literal["native"] | None
    segment_seconds: float
    decoder: Literal["auto", "pyav", "decord"]
    decode_timeout: float
    decode_memory: int
    stream: int | None
    crops: Literal["affwild2", "emi", "bah", "people"] | None
    crops_fps: float
    videos: Place
    min_face: int
    min_score: float
    detector: Literal["exact", "track", "facenet"]
    align: Literal["square", "5pt"]
    margin: float
    backbone: str
    backbone_weights: Place
    input_size: int | None
    device: Literal["auto", "cpu", "cuda"]
    engine: Literal["auto", "torch", "openvino"]
    maps: str | Sequence[str]
    store: str | Sequence[str] | None
    views: int
    runner: Literal["direct", "flink", "spark", "dataflow"]
    workers: int
    shared_files: bool
    patience: float
    stall_timeout: float
    flink_master: str
    flink_version: str
    spark_master: str
    job_server_jar: Place
    job_endpoint: str
    worker_environment: str
    project: str
    region: str
    temp_location: Place
    image: str
    machine_type: str
    accelerator: str
    detach: bool
    verbose: bool


class PredictOptions(TypedDict, total=False):
    """Of ``emobeam.predict``."""

    only: str | Sequence[str]
    device: Literal["auto", "cpu", "cuda"]
    engine: Literal["auto", "torch", "openvino"]
    heads: Place | Sequence[Place]
    tasks: str | Sequence[str]
    subjects: Place
    faces: Literal["main", "all"]
    max_gap: float
    window_gap: float
    stride: int
    edition: int | None
    template: Place | Sequence[Place]
    truth: Place
    partition: str
    runner: Literal["direct", "flink", "spark", "dataflow"]
    workers: int
    shared_files: bool
    patience: float
    stall_timeout: float
    flink_master: str
    flink_version: str
    spark_master: str
    job_server_jar: Place
    job_endpoint: str
    worker_environment: str
    project: str
    region: str
    temp_location: Place
    image: str
    machine_type: str
    accelerator: str
    verbose: bool


class AnnotateOptions(TypedDict, total=False):
    """Of ``emobeam.annotate``."""

    features: Place
    only: str | Sequence[str]
    fps: float | Literal["native"] | None
    segment_seconds: float
    decoder: Literal["auto", "pyav", "decord"]
    decode_timeout: float
    decode_memory: int
    stream: int | None
    crops: Literal["affwild2", "emi", "bah", "people"] | None
    crops_fps: float
    videos: Place
    min_face: int
    min_score: float
    detector: Literal["exact", "track", "facenet"]
    align: Literal["square", "5pt"]
    margin: float
    backbone: str
    backbone_weights: Place
    input_size: int | None
    device: Literal["auto", "cpu", "cuda"]
    engine: Literal["auto", "torch", "openvino"]
    maps: str | Sequence[str]
    store: str | Sequence[str] | None
    views: int
    heads: Place | Sequence[Place]
    tasks: str | Sequence[str]
    subjects: Place
    faces: Literal["main", "all"]
    max_gap: float
    window_gap: float
    stride: int
    edition: int | None
    template: Place | Sequence[Place]
    truth: Place
    partition: str
    runner: Literal["direct", "flink", "spark", "dataflow"]
    workers: int
    shared_files: bool
    patience: float
    stall_timeout: float
    flink_master: str
    flink_version: str
    spark_master: str
    job_server_jar: Place
    job_endpoint: str
    worker_environment: str
    project: str
    region: str
    temp_location: Place
    image: str
    machine_type: str
    accelerator: str
    verbose: bool
