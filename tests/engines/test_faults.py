"""Workers killed, jobs stopped and started elsewhere, two jobs at once: complete, equal, nothing left behind."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.engines.clusters import WORKERS, Cluster, wait_for
from tests.engines.conftest import Reference
from tests.engines.jobs import Ended, Job, Watcher, annotate, differences, left_over
from tests.pipelines.runs import gone

Note = Callable[[str, str, float], None]

EARLY = 4
"""Shards written when the fault comes: work is in full swing, and most of it still to do."""


def _survived(ended: Ended, output: Path, reference: Reference, watcher: Watcher, *clusters: Cluster) -> None:
    logs = "\n".join(cluster.logs() for cluster in clusters)
    assert ended.code == 1, ended.text + logs  # as without the fault: some clips are broken
    assert differences(output, reference.output) == []
    assert watcher.broken == []
    assert left_over(output) == []
    for cluster in clusters:
        assert gone(cluster.python_workers(), 30), "Python workers outlive their job"


def test_a_python_worker_is_killed(cluster: Cluster, few: Reference, tmp_path: Path, note: Note) -> None:
    with Watcher(tmp_path) as watcher, Job(few.inputs, tmp_path, cluster) as job:
        job.until_shards(EARLY)
        victim = cluster.python_workers()[-1]
        children = victim.children(recursive=True)
        victim.kill()
        killed = time.monotonic()
        assert gone(children), "what a killed worker had started lives on"
        ended = job.wait()
    _survived(ended, tmp_path, few, watcher, cluster)
    note(cluster.engine, "python worker killed: standstill", watcher.standstill(killed))
    note(cluster.engine, "python worker killed: run", ended.seconds)


def test_a_machine_of_the_engine_is_killed(cluster: Cluster, few: Reference, tmp_path: Path, note: Note) -> None:
    """A task manager, or a Spark worker with its executors."""
    with Watcher(tmp_path) as watcher, Job(few.inputs, tmp_path, cluster) as job:
        job.until_shards(EARLY)
        root = psutil.Process(cluster.daemons["worker0"].pid)
        executors = root.children(recursive=True)
        cluster.kill("worker0")
        for process in executors:
            process.kill()
        killed = time.monotonic()
        ended = job.wait()
    try:
        _survived(ended, tmp_path, few, watcher, cluster)
    finally:
        cluster.restart("worker0")
        wait_for("worker0", lambda: cluster.workers_alive() == WORKERS)
    note(cluster.engine, "engine's worker killed: standstill", watcher.standstill(killed))
    note(cluster.engine, "engine's worker killed: run", ended.seconds)


@pytest.mark.parametrize(("first", "second"), [("flink", "spark"), ("spark", "flink")])
def test_a_job_is_stopped_and_started_again_on_another_engine(
    first: str, second: str, clusters: dict[str, Cluster], few: Reference, tmp_path: Path, note: Note
) -> None:
    with Watcher(tmp_path) as watcher:
        with Job(few.inputs, tmp_path, clusters[first]) as job:
            job.until_shards(EARLY)
            job.interrupt()
            stopped = time.monotonic()
            ended = job.wait()
        assert ended.code not in (0, 1), ended.text
        note(first, "Ctrl-C until the job is gone", time.monotonic() - stopped)
        wait_for("the end of the job", lambda: not _running(clusters[first]), 30)
        assert left_over(tmp_path) == []
        done = job.shards_now()
        before = {path: path.stat().st_ino for path in (tmp_path / "features" / "shards").iterdir()}
        ended = annotate(few.inputs, tmp_path, clusters[second])
    assert done >= EARLY
    _survived(ended, tmp_path, few, watcher, *clusters.values())
    assert {path: path.stat().st_ino for path in before} == before, "what was done is not done again"
    note(second, "the rest of another engine's run", ended.seconds)


def _running(cluster: Cluster) -> list[str]:
    return [job for job, state in cluster.jobs().items() if state in ("RUNNING", "CANCELLING", "CREATED", "RESTARTING")]


def test_a_job_is_cancelled_from_the_engine_side(clusters: dict[str, Cluster], few: Reference, tmp_path: Path) -> None:
    flink = clusters["flink"]
    with Watcher(tmp_path) as watcher:
        with Job(few.inputs, tmp_path, flink) as job:
            job.until_shards(EARLY)
            (running,) = _running(flink)
            request = urllib.request.Request(f"{flink.web}/jobs/{running}?mode=cancel", method="PATCH")
            with urllib.request.urlopen(request) as answer:
                assert answer.status == 202
            ended = job.wait()
        assert "the same command goes on from there" in ended.text
        ended = annotate(few.inputs, tmp_path, None)
    _survived(ended, tmp_path, few, watcher, flink)


def test_a_launcher_is_killed(cluster: Cluster, few: Reference, tmp_path: Path) -> None:
    """What it left goes when the next run ends, whatever the engine does with the job that nobody watches any more."""
    with Watcher(tmp_path) as watcher:
        with Job(few.inputs, tmp_path, cluster) as job:
            job.until_shards(EARLY)
            job.process.kill()
            job.process.wait()
        ended = annotate(few.inputs, tmp_path, cluster)
        wait_for("the end of the job", lambda: not _running(cluster), 60)
    _survived(ended, tmp_path, few, watcher, cluster)


def test_two_jobs_on_one_output_at_once(
    clusters: dict[str, Cluster], few: Reference, tmp_path: Path, note: Note
) -> None:
    flink, spark = clusters["flink"], clusters["spark"]
    with (
        Watcher(tmp_path) as watcher,
        Job(few.inputs, tmp_path, flink) as one,
        Job(few.inputs, tmp_path, spark) as other,
    ):
        first, second = one.wait(), other.wait()
    assert first.code == 1, first.text
    _survived(second, tmp_path, few, watcher, flink, spark)
    note("flink", "beside a Spark job on the same output", first.seconds)
    note("spark", "beside a Flink job on the same output", second.seconds)
