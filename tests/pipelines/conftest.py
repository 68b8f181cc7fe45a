"""Runs that many tests look at, each made once. Starting a worker takes seconds, so one pool serves them all."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from emobeam.pipelines.stages.extract import ExtractResult
from emobeam.pipelines.stages.run_record import PredictResult
from emobeam.runners.children.pool import LocalPool
from emobeam.runners.children.settings import LocalConfig
from tests.clips import absent_in_the_middle, no_face, portrait, two_faces
from tests.pipelines.runs import Told, extract, predict, working_in


@dataclass(frozen=True)
class Run:
    """Folders and results of a run of both stages."""

    inputs: Path
    features: Path
    output: Path
    extracted: ExtractResult
    predicted: PredictResult
    told: Told


@pytest.fixture(scope="session")
def pool() -> Iterator[LocalPool]:
    """One worker with one thread: several get into each other's way on a busy machine."""
    with LocalPool(LocalConfig(workers=1, threads=1)) as shared:
        yield shared


@pytest.fixture
def in_pool(pool: LocalPool) -> Iterator[None]:
    """Commands that a test runs in this process work in the shared pool."""
    with working_in(pool):
        yield


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four clips of two to three seconds: one face, two, one that goes away, none."""
    folder = tmp_path_factory.mktemp("collection")
    (folder / "day 1").mkdir()
    portrait(folder / "talk.mp4", frames=75)
    two_faces(folder / "day 1" / "pair.mp4", frames=50)
    absent_in_the_middle(folder / "absent.mp4", frames=75)
    no_face(folder / "nobody.mp4")
    return folder


@pytest.fixture(scope="session")
def reference(clip_folder: Path, tmp_path_factory: pytest.TempPathFactory, pool: LocalPool) -> Run:
    """Both stages over the four clips, segments of a second, one worker, nothing disturbed."""
    output = tmp_path_factory.mktemp("reference")
    extracted, told = extract([clip_folder], output / "features", pool)
    predicted, _ = predict(output / "features", output, pool, edition=8)
    return Run(clip_folder, output / "features", output, extracted, predicted, told)


@pytest.fixture
def copy_of_features(reference: Run, tmp_path: Path) -> Callable[[], Path]:
    """A copy of the reference's cache that a test may change."""

    def copy() -> Path:
        shutil.copytree(reference.features, tmp_path / "features")
        return tmp_path / "features"

    return copy
