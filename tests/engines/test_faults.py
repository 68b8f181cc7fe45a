"""Workers killed, jobs stopped and started elsewhere, two jobs at once: complete, equal, nothing left behind."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.engines.clusters import Cluster, wait_for
from tests.engines.conftest import Reference
from tests.engines.jobs import LEAVE, Ended, Job, Watcher, annotate, differences, left_over
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
        assert gone(cluster.python_workers(), LEAVE), "Python workers outlive their job"


def test_a_python_worker_is_killed(cluster: Cluster, few: Reference, tmp_path: Path, note: Note) -> None:
    with Watcher(tmp_path) as watcher, Job(few.inputs, tmp_path, cluster) as job:
        job.until_shards(EARLY)
        job.until("a worker has children", lambda: bool(cluster.with_children()))
        victim, children = cluster.with_children()[-1]
        victim.kill()
        killed = time.monotonic()
        assert gone(children, LEAVE), "what a killed worker had started lives on"
        ended = job.wait()
    _survived(ended, tmp_path, few, watcher, cluster)
    note(cluster.engine, "python worker killed: standstill", watcher.standstill(killed))
    note(cluster.engine, "python worker killed: run", ended.seconds)


@pytest.mark.long
def test_a_python_worker_is_killed_in_stage_2(cluster: Cluster, few: Reference, tmp_path: Path, note: Note) -> None:
    """While its child begins with the first videos."""
    shutil.copytree(few.output / "features", tmp_path / "features")
    with Watcher(tmp_path) as watcher, Job(few.inputs, tmp_path, cluster) as job:
        job.until("a worker predicts", lambda: bool(cluster.with_children()))
        victim, children = cluster.with_children()[0]
        victim.kill()
        killed = time.monotonic()
        assert gone(children, LEAVE), "what a killed worker had started lives on"
        ended = job.wait()
    _survived(ended, tmp_path, few, watcher, cluster)
    note(cluster.engine, "python worker killed in stage 2: standstill", watcher.standstill(killed))


def test_a_machine_of_the_engine_is_killed(cluster: Cluster, few: Reference, tmp_path: Path, note: Note) -> None:
    """A task manager, or a Spark worker with its executors."""
    with Watcher(tmp_path) as watcher, Job(few.inputs, tmp_path, cluster) as job:
        job.until_shards(EARLY)
        root = psutil.Process(cluster.daemons["worker0"].pid)
        job.until("that machine has work", lambda: bool(root.children(recursive=True)))
        executors = root.children(recursive=True)
        cluster.kill("worker0")
        for process in executors:
            process.kill()
        killed = time.monotonic()
        ended = job.wait()
    _survived(ended, tmp_path, few, watcher, cluster)
    note(cluster.engine, "engine's worker killed: standstill", watcher.standstill(killed))
    note(cluster.engine, "engine's worker killed: run", ended.seconds)


@pytest.mark.parametrize(
    ("first", "second"), [("flink", "spark"), pytest.param("spark", "flink", marks=pytest.mark.long)]
)
def test_a_job_is_stopped_and_started_again_on_another_engine(
    first: str, second: str, calm: dict[str, Cluster], few: Reference, tmp_path: Path, note: Note
) -> None:
    with Watcher(tmp_path) as watcher:
        with Job(few.inputs, tmp_path, calm[first]) as job:
            job.until_shards(EARLY)
            job.interrupt()
            stopped = time.monotonic()
            ended = job.wait()
        assert ended.code == 130, ended.text  # Ctrl-C, as docs/engines.md says
        note(first, "Ctrl-C until the job is gone", time.monotonic() - stopped)
        wait_for("the end of the job", lambda: not calm[first].running_jobs())
        assert left_over(tmp_path) == []
        done = job.shards_now()
        before = {path: path.stat().st_ino for path in (tmp_path / "features" / "shards").iterdir()}
        ended = annotate(few.inputs, tmp_path, calm[second])
    assert done >= EARLY
    _survived(ended, tmp_path, few, watcher, *calm.values())
    assert {path: path.stat().st_ino for path in before} == before, "what was done is not done again"
    note(second, "the rest of another engine's run", ended.seconds)


@pytest.mark.long
def test_a_job_is_cancelled_from_the_engine_side(calm: dict[str, Cluster], few: Reference, tmp_path: Path) -> None:
    """It stays ended: somebody wanted that. One that lost its workers would be sent again."""
    flink = calm["flink"]
    with Watcher(tmp_path) as watcher:
        with Job(few.inputs, tmp_path, flink) as job:
            job.until_shards(EARLY)
            (running,) = flink.running_jobs()
            known = flink.jobs().keys()
            flink.cancel(running)
            ended = job.wait()
        assert ended.code == 1, ended.text  # as after every run that had to stop; what it says tells why
        assert "sending what is left again" not in ended.text
        assert "the same command goes on from there" in ended.text
        assert flink.jobs().keys() == known
        assert flink.jobs()[running] == "CANCELED"
        ended = annotate(few.inputs, tmp_path, None)
    _survived(ended, tmp_path, few, watcher, flink)


@pytest.mark.long
def test_a_launcher_is_killed(cluster: Cluster, few: Reference, tmp_path: Path) -> None:
    """What it left goes when the next run ends, whatever the engine does with the job that nobody watches any more."""
    with Watcher(tmp_path) as watcher:
        with Job(few.inputs, tmp_path, cluster) as job:
            job.until_shards(EARLY)
            job.process.kill()
            job.process.wait()
        ended = annotate(few.inputs, tmp_path, cluster)
        wait_for("the end of the job", lambda: not cluster.running_jobs())
    _survived(ended, tmp_path, few, watcher, cluster)


@pytest.mark.long
def test_two_jobs_on_one_output_at_once(calm: dict[str, Cluster], few: Reference, tmp_path: Path, note: Note) -> None:
    flink, spark = calm["flink"], calm["spark"]
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
