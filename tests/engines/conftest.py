"""A collection of clips, what a run on this machine makes of it, and the two clusters."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.engines import install
from tests.engines.clusters import Cluster, flink_cluster, spark_cluster
from tests.engines.jobs import annotate
from tests.engines.material import ALL, BROKEN, FEW, write_collection

ENGINES = ("flink", "spark")

Clips = Mapping[str, Callable[[Path], Path]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this folder need clusters."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.engines)
            item.add_marker(pytest.mark.timeout(3600))


@dataclass(frozen=True)
class Reference:
    """A run on this machine that nothing disturbed."""

    inputs: Path
    output: Path
    seconds: float


def _undisturbed(clips: Clips, factory: pytest.TempPathFactory) -> Reference:
    inputs = write_collection(factory.mktemp("collection"), clips)
    output = factory.mktemp("direct")
    ended = annotate(inputs, output, None)
    assert ended.code == 1, ended.text  # some are broken
    broken = clips.keys() & BROKEN.keys()
    # Beside the broken ones, a clip that was cut out of a longer one lacks the frames its first frames refer to.
    assert len(list((output / "features" / "failures").glob("*.json"))) >= len(broken) > 0
    return Reference(inputs, output, ended.seconds)


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """All clips and their annotations by ``--runner direct``."""
    return _undisturbed(ALL, tmp_path_factory)


@pytest.fixture(scope="session")
def few(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """As ``reference``, of fewer clips."""
    return _undisturbed(FEW, tmp_path_factory)


@pytest.fixture(scope="session")
def clusters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Cluster]]:
    """Both clusters; their logs stay in pytest's folder."""
    if not install.installed():
        pytest.skip("no engines here; make engines brings them")
    folder = tmp_path_factory.mktemp("clusters")
    with flink_cluster(folder / "flink") as flink, spark_cluster(folder / "spark") as spark:
        yield {"flink": flink, "spark": spark}


@pytest.fixture
def calm(clusters: dict[str, Cluster]) -> Iterator[dict[str, Cluster]]:
    """Both clusters; what a test that failed left running there doesn't disturb the next one."""
    yield clusters
    for cluster in clusters.values():
        cluster.calm_down()


@pytest.fixture(params=ENGINES)
def cluster(request: pytest.FixtureRequest, calm: dict[str, Cluster]) -> Cluster:
    """One cluster after the other."""
    return calm[request.param]


@pytest.fixture(scope="session")
def note() -> Callable[[str, str, float], None]:
    """Takes a figure (engine, what, seconds); with ``EMOBEAM_FIGURES=FILE`` all so far are written there as JSON."""
    figures: dict[str, dict[str, float]] = {}

    def take(engine: str, what: str, seconds: float) -> None:
        figures.setdefault(engine, {})[what] = round(seconds, 1)
        if target := os.environ.get("EMOBEAM_FIGURES"):
            Path(target).write_text(json.dumps(figures, indent=2, sort_keys=True))

    return take
