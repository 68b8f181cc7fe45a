from __future__ import annotations

import errno
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from emobeam.emo_transforms.extraction.child_work import Job, Outcome, Report, Work
from emobeam.runners.children.child import packed
from emobeam.runners.children.pool import LocalPool
from emobeam.runners.children.settings import LocalConfig, RunStopped, local_config
from emobeam.schemas.records import EmobeamError
from tests.pipelines.runs import wait_for
from tests.runners.jobs import BrokenStartJob, Element, ElementsJob, LoadingJob, SlowToLoad, Unloadable


class Heard:
    """Counts what is told of each element."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    def __call__(self, event: str, data: Mapping[str, Any]) -> None:
        self.events.append((event, data["key"]))

    def of(self, event: str) -> list[str]:
        return sorted(key for name, key in self.events if name == event)


def work(*elements: Element) -> list[Work]:
    return [Work(element.key, 1, element) for element in elements]


def fine(count: int, prefix: str = "fine") -> list[Element]:
    return [Element(f"{prefix}{number:03d}") for number in range(count)]


def times_begun(folder: Path, key: str) -> int:
    path = folder / f"{key}.begun"
    return len(path.read_text().splitlines()) if path.exists() else 0


def crashes_of(pool: LocalPool, job: Job, items: list[Work], listen: Report) -> list[Outcome]:
    """Works all off; what crashed."""
    return [outcome for outcome in pool.work_off(job, items, listen) if outcome.crashed]


def run_locally(job: Job, items: list[Work], config: LocalConfig, heard: Heard) -> list[Outcome]:
    with LocalPool(config) as pool:
        return crashes_of(pool, job, items, heard)


def run(folder: Path, elements: list[Element], heard: Heard, **settings: Any) -> list[Outcome]:
    return run_locally(ElementsJob(str(folder)), work(*elements), LocalConfig(**settings), heard)


def workers_now() -> list[psutil.Process]:
    return [
        child for child in psutil.Process().children() if "emobeam.runners.children.child" in " ".join(child.cmdline())
    ]


OTHERS: list[psutil.Process] = []
"""Workers that other tests keep for the whole session."""


@pytest.fixture(autouse=True)
def _leave_others_alone() -> None:
    OTHERS[:] = workers_now()


def children() -> list[psutil.Process]:
    return [child for child in workers_now() if child not in OTHERS]


@pytest.mark.parametrize("workers", [1, 3])
def test_every_element_is_done_once(tmp_path: Path, workers: int) -> None:
    elements = fine(40)
    heard = Heard()
    assert run(tmp_path, elements, heard, workers=workers) == []
    assert heard.of("done") == [element.key for element in elements]
    assert all(times_begun(tmp_path, element.key) == 1 for element in elements)
    processes = {(tmp_path / f"{element.key}.begun").read_text() for element in elements}
    assert 1 <= len(processes) <= workers
    assert children() == []


def test_a_job_that_comes_again_is_not_loaded_again(tmp_path: Path) -> None:
    """As children of an engine's worker get their work: one element in each run, right after the one before."""
    job = LoadingJob(str(tmp_path))
    heard = Heard()
    with LocalPool(LocalConfig(workers=1)) as pool:
        for number in range(60):
            assert crashes_of(pool, job, work(Element(f"e{number:02d}")), heard) == []
    assert len(heard.of("done")) == 60
    assert len((tmp_path / "loads").read_text().splitlines()) == 1


def test_no_work_starts_no_process(tmp_path: Path) -> None:
    with LocalPool(LocalConfig(workers=2)) as pool:
        assert crashes_of(pool, ElementsJob(str(tmp_path)), [], Heard()) == []
        assert children() == []


def test_heavy_elements_come_first(tmp_path: Path) -> None:
    heard = Heard()
    items = [Work(element.key, weight, element) for weight, element in enumerate(fine(6))]
    run_locally(ElementsJob(str(tmp_path)), items, LocalConfig(workers=1), heard)
    began = [key for event, key in heard.events if event == "start"]
    assert began == [item.key for item in reversed(items)]


def test_a_death_is_survived_and_what_was_in_flight_tried_again(tmp_path: Path) -> None:
    elements = [*fine(10), Element("once", "abort once")]
    heard = Heard()
    assert run(tmp_path, elements, heard, workers=2) == []
    assert heard.of("done") == sorted(element.key for element in elements)
    assert heard.of("retry") == ["once"]
    assert len([event for event, _ in heard.events if event == "died"]) == 1
    assert times_begun(tmp_path, "once") == 2


@pytest.mark.parametrize("workers", [1, 2])
def test_in_flight_at_two_deaths_is_a_crash(tmp_path: Path, workers: int) -> None:
    elements = [*fine(5, "a"), Element("m1", "abort"), Element("m2", "abort"), *fine(5, "z")]
    heard = Heard()
    crashes = run(tmp_path, elements, heard, workers=workers)
    assert [(crash.work.key, crash.reason) for crash in sorted(crashes, key=lambda c: c.work.key)] == [
        ("m1", "crash"),
        ("m2", "crash"),
    ]
    assert "died (exit status -6) 2 times" in crashes[0].message
    assert heard.of("failed") == ["m1", "m2"]
    assert heard.of("done") == sorted(element.key for element in elements if element.what == "fine")
    assert times_begun(tmp_path, "m1") == times_begun(tmp_path, "m2") == 2
    assert children() == []


def test_an_unexpected_exception_fails_its_element_with_the_last_words(tmp_path: Path) -> None:
    heard = Heard()
    crashes = run(tmp_path, [*fine(3), Element("odd", "raise")], heard, workers=1)
    assert [(crash.work.key, crash.reason) for crash in crashes] == [("odd", "crash")]
    assert "nobody expected this" in crashes[0].message
    assert len(heard.of("done")) == 3


def test_standing_still_is_a_timeout(tmp_path: Path) -> None:
    heard = Heard()
    crashes = run(tmp_path, [*fine(4), Element("hang", "hang")], heard, workers=2, stall_timeout=2.0)
    assert [(crash.work.key, crash.reason) for crash in crashes] == [("hang", "timeout")]
    assert "stood still and was killed 2 times" in crashes[0].message
    assert len(heard.of("done")) == 4
    assert children() == []


@pytest.mark.timeout(60)
def test_a_job_that_hangs_while_it_is_unpacked_stops_the_run(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(RunStopped, match="can't start; the last one stood still and was killed"):
        run_locally(SlowToLoad(str(tmp_path)), work(*fine(3)), LocalConfig(workers=1, start_timeout=2.0), Heard())
    assert time.monotonic() - began < 30
    assert len((tmp_path / "loading").read_text().splitlines()) == 3
    assert children() == []


@pytest.mark.timeout(60)
@pytest.mark.parametrize("when", ["at work", "between two runs"])
def test_a_child_that_somebody_stopped_is_replaced(tmp_path: Path, when: str) -> None:
    """SIGSTOP: it neither works nor dies, nor takes what is sent to it."""
    heard = Heard()
    big = [Work(f"big{number}", 1, Element(f"big{number}", marker="x" * 200_000)) for number in range(3)]
    with LocalPool(LocalConfig(workers=1, stall_timeout=2.0)) as pool:
        outcomes = pool.work_off(ElementsJob(str(tmp_path)), work(Element("first"), Element("second")), heard)
        assert next(outcomes).work.key == "first"
        (child,) = children()
        if when == "at work":
            child.suspend()
        assert [outcome.reason for outcome in outcomes] == [""]
        if when != "at work":
            child.suspend()
        assert crashes_of(pool, ElementsJob(str(tmp_path)), big, heard) == []
        assert children() != [child]
    assert heard.of("done") == ["big0", "big1", "big2", "first", "second"]


def test_an_element_without_report_is_a_crash_and_not_waited_for(tmp_path: Path) -> None:
    heard = Heard()
    crashes = run(tmp_path, [*fine(3), Element("lost", "forget")], heard, workers=1)
    assert [crash.work.key for crash in crashes] == ["lost"]
    assert "did not report" in crashes[0].message
    assert len(heard.of("done")) == 3


def test_an_error_of_ours_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(RunStopped, match="the disk is full"):
        run(tmp_path, [Element("full", "stop"), *fine(20)], Heard(), workers=2)
    assert issubclass(RunStopped, EmobeamError)
    assert children() == []


def test_workers_that_cannot_begin_stop_the_run_with_their_last_words() -> None:
    with pytest.raises(RunStopped, match="a_library_that_is_missing"):
        run_locally(BrokenStartJob(), work(*fine(5)), LocalConfig(workers=2), Heard())
    assert children() == []


def test_a_job_that_cannot_be_loaded_stops_the_run_with_the_reason() -> None:
    with pytest.raises(RunStopped, match="a_job_that_is_missing"):
        run_locally(Unloadable(), work(*fine(5)), LocalConfig(workers=1), Heard())
    assert children() == []


def test_a_worker_whose_launcher_dies_while_it_loads_goes_at_once(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-m", "emobeam.runners.children.child", "1"], stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(packed(("job", 1, SlowToLoad(str(tmp_path)))))
    process.stdin.flush()
    wait_for((tmp_path / "loading").exists)
    process.stdin.close()
    assert process.wait(120) == 0


@pytest.mark.thorough
def test_deaths_before_work_may_add_up_over_a_long_run(tmp_path: Path) -> None:
    elements = [Element(f"once{number}", "abort once") for number in range(5)]
    heard = Heard()
    assert run(tmp_path, [*fine(2), *elements], heard, workers=2) == []
    assert len(heard.of("done")) == 7


def test_a_pool_serves_one_job_after_another(tmp_path: Path) -> None:
    with LocalPool(LocalConfig(workers=2)) as pool:
        processes = set()
        for round_ in range(5):
            folder = tmp_path / str(round_)
            folder.mkdir()
            elements = fine(1 + 3 * (round_ % 2), f"round{round_}-")
            heard = Heard()
            assert crashes_of(pool, ElementsJob(str(folder)), work(*elements), heard) == []
            assert Counter(heard.of("done")) == Counter(element.key for element in elements)
            assert {path.stem for path in folder.glob("*.begun")} == {element.key for element in elements}
            assert all(times_begun(folder, element.key) == 1 for element in elements)
            processes |= {path.read_text() for path in folder.glob("*.begun")}
        assert len(processes) <= 2
    assert children() == []


def test_after_a_death_other_workers_go_on_with_the_job_of_now(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    with LocalPool(LocalConfig(workers=2)) as pool:
        crashes_of(pool, ElementsJob(str(first)), work(*fine(8)), Heard())
        heard = Heard()
        assert crashes_of(pool, ElementsJob(str(second)), work(Element("once", "abort once")), heard) == []
        assert heard.of("done") == ["once"]
    assert not (first / "once.begun").exists()
    assert times_begun(second, "once") == 2


def test_a_worker_killed_between_two_jobs_is_replaced(tmp_path: Path) -> None:
    with LocalPool(LocalConfig(workers=1)) as pool:
        crashes_of(pool, ElementsJob(str(tmp_path)), work(*fine(2, "a")), Heard())
        for child in children():
            child.kill()
        heard = Heard()
        assert crashes_of(pool, ElementsJob(str(tmp_path)), work(*fine(2, "b")), heard) == []
        assert len(heard.of("done")) == 2


def test_children_killed_while_they_are_idle_are_no_failed_starts(tmp_path: Path) -> None:
    with LocalPool(LocalConfig(workers=3)) as pool:
        worked: set[str] = set()
        while len(worked) < 3:  # some may still be loading when others have done all
            crashes_of(pool, ElementsJob(str(tmp_path)), work(*fine(6, "a")), Heard())
            worked = {pid for path in tmp_path.glob("*.begun") for pid in path.read_text().split()}
        for child in (idle := children()):
            child.kill()
        psutil.wait_procs(idle, timeout=30)
        heard = Heard()
        assert crashes_of(pool, ElementsJob(str(tmp_path)), work(*fine(3, "b")), heard) == []
        assert (len(heard.of("done")), heard.of("died")) == (3, [])


def test_a_child_that_can_not_be_started_leaves_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*args: object, **options: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(subprocess, "Popen", no_memory)
    before = psutil.Process().num_fds()
    with LocalPool(LocalConfig()) as pool:
        held = psutil.Process().num_fds()
        with pytest.raises(OSError, match="Cannot allocate memory"):
            crashes_of(pool, ElementsJob(str(tmp_path)), work(*fine(1)), Heard())
        assert psutil.Process().num_fds() == held
    assert psutil.Process().num_fds() == before


def test_cores_are_divided_among_workers() -> None:
    assert local_config(1).threads >= local_config(2).threads >= local_config(1000).threads == 1
    assert local_config(0).workers >= 1
    assert local_config(0).threads == 1
