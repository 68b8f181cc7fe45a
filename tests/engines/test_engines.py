"""The same command on this machine, on Flink and on Spark: the same bytes, and nothing left behind."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engines.clusters import Cluster, start_pool
from tests.engines.conftest import Reference
from tests.engines.jobs import LEAVE, Watcher, annotate, differences, left_over, written
from tests.engines.material import BROKEN, FINE
from tests.pipelines.runs import gone, videos

Note = Callable[[str, str, float], None]


def test_the_collection_is_worth_a_test(reference: Reference) -> None:
    outcomes = {name: row["outcome"] for name, row in videos(reference.output).items()}
    assert len(outcomes) == len(FINE) + len(BROKEN) >= 24
    assert set(outcomes.values()) == {"ok", "no_face", "partial", "failed"}
    kinds = {name.split("/")[0] for name in written(reference.output)}
    assert kinds == {"shards", "predictions", "submission"}
    assert left_over(reference.output) == []


def test_shards_predictions_and_submission_are_the_same_to_the_byte(
    cluster: Cluster, reference: Reference, tmp_path: Path, note: Note
) -> None:
    with Watcher(tmp_path) as watcher:
        ended = annotate(reference.inputs, tmp_path, cluster)
    assert ended.code == 1, ended.text + cluster.logs()
    assert differences(tmp_path, reference.output) == []
    assert watcher.broken == []
    assert watcher.opened >= len(watcher.seen) > len(FINE)
    assert left_over(tmp_path) == []
    assert gone(cluster.python_workers(), LEAVE)
    note("direct", "undisturbed", reference.seconds)
    note(cluster.engine, "undisturbed", ended.seconds)


def test_a_second_run_has_nothing_to_do(cluster: Cluster, reference: Reference, tmp_path: Path, note: Note) -> None:
    shutil.copytree(reference.output, tmp_path, dirs_exist_ok=True)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "features" / "shards").iterdir()}
    ended = annotate(reference.inputs, tmp_path, cluster)
    assert ended.code == 1, ended.text + cluster.logs()
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "features" / "shards").iterdir()} == before
    assert differences(tmp_path, reference.output) == []
    note(cluster.engine, "nothing to do", ended.seconds)


@pytest.mark.long
def test_one_pool_serves_the_workers_of_a_machine(cluster: Cluster, few: Reference, tmp_path: Path) -> None:
    """Two task managers, or executors, that count their workers alike."""
    pool = start_pool(cluster)
    ended = annotate(few.inputs, tmp_path, cluster, f"external:{pool}")
    assert ended.code == 1, ended.text + cluster.logs()
    assert differences(tmp_path, few.output) == []
    assert left_over(tmp_path) == []
    assert gone(cluster.python_workers(), LEAVE)
    process = cluster.daemons["python-pool"]
    process.terminate()
    assert process.wait(60) == 0
