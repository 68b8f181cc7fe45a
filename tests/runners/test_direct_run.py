"""Graphs in this process: Beam's in-process runner over real children, what it keeps and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from emobeam.emo_transforms.extraction.beam_records import Ends
from emobeam.emo_transforms.extraction.child_work import Finder
from emobeam.runners.children.pool import LocalPool
from emobeam.runners.children.settings import LocalConfig, RunStopped
from emobeam.runners.direct_run import run_direct
from emobeam.runners.interrupts import held_back
from emobeam.schemas.records import EmobeamError
from tests.pipelines.runs import gone, wait_for
from tests.runners.jobs import Element
from tests.runners.steps import graph


def nobody(event: str, data: Mapping[str, Any]) -> None:
    pass


def run(folder: Path, elements: list[Element], told: Any = nobody) -> tuple[list[str], dict[str, int]]:
    records: dict[str, list[str]] = {}
    with LocalPool(LocalConfig(workers=1)) as pool:
        metrics = run_direct(graph(folder), elements, pool, told, [], records)
    return records["done"], metrics.counts


def test_the_heaviest_come_first_and_what_is_done_is_kept_and_counted(tmp_path: Path) -> None:
    elements = [Element(f"e{weight}", marker=f"{weight}") for weight in (2, 5, 1, 9)]
    elements += [Element("bad", "abort", marker="3"), Element("odd", "abort once", marker="4")]
    done, counts = run(tmp_path, elements)
    assert sorted(done) == ["bad", "e1", "e2", "e5", "e9", "odd"]
    assert [key for key in done if key.startswith("e")] == ["e9", "e5", "e2", "e1"]
    assert counts == {"done": 5, "crash": 1, "died": 3}


def test_all_happens_on_the_calling_thread(tmp_path: Path) -> None:
    threads = set()

    def told(event: str, data: Mapping[str, Any]) -> None:
        threads.add(threading.get_ident())

    run(tmp_path, [Element("a"), Element("b")], told)
    assert threads == {threading.get_ident()}


def test_what_is_done_stays_where_the_rest_breaks(tmp_path: Path) -> None:
    records: dict[str, list[str]] = {}
    elements = [Element("a", marker="3"), Element("b", marker="2"), Element("full", "stop")]
    with LocalPool(LocalConfig(workers=1)) as pool, pytest.raises(RunStopped) as stopped:
        run_direct(graph(tmp_path), elements, pool, nobody, [], records)
    assert str(stopped.value) == "the disk is full"
    assert records["done"] == ["a", "b"]


class OfTheUi(BaseException):
    """Nothing that Beam could make again from a text."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__()


def test_an_error_of_the_one_who_is_told_comes_out_as_it_is(tmp_path: Path) -> None:
    def told(event: str, data: Mapping[str, Any]) -> None:
        raise OfTheUi(1, 2)

    with pytest.raises(OfTheUi):
        run(tmp_path, [Element("a")], told)


def test_a_step_that_outlives_its_run_finds_nobody(tmp_path: Path) -> None:
    kept: list[Finder] = []

    def build(pipeline: Any, ends: Ends) -> None:
        kept.append(ends.finder)
        _ = pipeline | ends.tasks

    with LocalPool(LocalConfig(workers=1)) as pool:
        run_direct(build, ["a"], pool, nobody, [], {})
    with LocalPool(LocalConfig(workers=1)) as pool:
        run_direct(build, ["a"], pool, nobody, [], {})
    with pytest.raises(EmobeamError, match="has ended"):
        kept[0].find()


COMMAND = """
import signal, sys
from pathlib import Path
from emobeam.pipelines import cli
from emobeam.runners.children.pool import LocalPool
from emobeam.runners.children.settings import local_config
from tests.runners.jobs import Element

signal.signal(signal.SIGINT, signal.default_int_handler)  # shells make what they start in the background deaf to it
folder = Path(sys.argv[1])

def slow(element):
    import time
    (folder / "in a step").touch()
    time.sleep(0.3)
    return element

@cli.cli.command("work")
def work() -> None:
    from emobeam.runners.direct_run import run_direct
    from tests.runners.steps import graph
    what = "hang" if sys.argv[2] == "children" else "fine"
    elements = [Element(str(number), what) for number in range(20)]
    before = slow if what == "fine" else (lambda element: element)
    with LocalPool(local_config(2)) as pool:
        run_direct(graph(folder, before), elements, pool, lambda event, data: None, [], {})

cli.main(["work"])
"""
"""A command in the middle of a graph: children that hang, or a step of Beam's that takes its time."""


@pytest.mark.parametrize("where", ["children", "step"])
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.thorough)]
)
def test_a_signal_in_a_graph_ends_it_without_a_word(
    number: signal.Signals, code: int, where: str, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(tmp_path), where],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    begun = "*.begun" if where == "children" else "in a step"
    try:
        wait_for(lambda: process.poll() is not None or bool(list(tmp_path.glob(begun))))
        assert process.poll() is None, process.communicate()
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        told, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, told) == (code, "")
    assert errors.strip() == "stopped; the same command goes on where this one ended"
    assert gone(children)


def test_a_second_signal_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emobeam.runners.interrupts._IMPATIENT", 0.0)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    looked: list[bool] = []

    def never_looks() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        looked.append(True)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError

    try:
        with pytest.raises(KeyboardInterrupt), held_back():
            never_looks()
    finally:
        signal.signal(signal.SIGINT, before)
    assert looked
