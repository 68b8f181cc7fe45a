"""SIGTERM is heard as Ctrl-C, once, by the process that it is meant for."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from emobeam.pipelines import stopping
from emobeam.pipelines.stopping import Stops, Terminated
from tests.pipelines.runs import gone, wait_for


@pytest.fixture(autouse=True)
def _default() -> Iterator[None]:
    """As in a process of its own."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


def test_it_ends_a_block_and_tells_its_exit_code() -> None:
    stops = Stops()
    assert stops.code == 130
    with pytest.raises(KeyboardInterrupt), stops.heard():
        signal.raise_signal(signal.SIGTERM)
    assert stops.code == 143
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def told_twice(stops: Stops, cleared: list[str]) -> None:
    """Is told to end once more while it clears away."""
    with stops.heard():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)
            cleared.append("away")


def test_told_twice_it_clears_away_in_peace(monkeypatch: pytest.MonkeyPatch) -> None:
    stops, cleared = Stops(), list[str]()
    with pytest.raises(Terminated):  # timeout(1) tells the process, and then its group
        told_twice(stops, cleared)
    assert cleared == ["away"]
    monkeypatch.setattr(stopping, "_SAME", 0.0)  # as if somebody had waited, and asks again
    with pytest.raises(Terminated):
        told_twice(stops, cleared)
    assert cleared == ["away"]


@pytest.mark.parametrize("own", [signal.SIG_IGN, lambda number, frame: None])
def test_whoever_handles_it_already_goes_on(own: signal.Handlers) -> None:
    signal.signal(signal.SIGTERM, own)
    stops = Stops()
    with stops.heard():
        signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is own
    assert signal.getsignal(signal.SIGTERM) is own
    assert stops.code == 130


def test_other_threads_change_nothing() -> None:
    seen = []

    def block() -> None:
        with Stops().heard():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=block)
    thread.start()
    thread.join()
    assert seen == [signal.SIG_DFL]


FORKED = """
import os, signal, sys, time
from emobeam.pipelines.stopping import Stops, Terminated
stops, (read, write) = Stops(), os.pipe()
try:
    with stops.heard():
        child = os.fork()
        if not child:
            os.write(write, b"x")
            time.sleep(60)
            os._exit(3)
        os.read(read, 1)
        os.kill(child, signal.SIGTERM)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
except Terminated:
    sys.exit(stops.code)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="needs fork")
def test_forked_children_end_as_ever() -> None:
    """Data loaders fork theirs, and end them by SIGTERM."""
    command = [sys.executable, "-c", FORKED]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=240, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (143, f"{-signal.SIGTERM}\n", "")


COMMAND = """
import signal, sys
from pathlib import Path
from emobeam.emo_transforms import storage
from emobeam.pipelines import cli
from emobeam.runners.children.pool import LocalPool
from emobeam.runners.children.settings import local_config
from emobeam.emo_transforms.extraction.child_work import Work
from tests.runners.jobs import Element, ElementsJob

signal.signal(signal.SIGINT, signal.default_int_handler)  # shells make what they start in the background deaf to it
folder = sys.argv[1]

@cli.cli.command("work")
def work() -> None:
    with storage.atomic_file(folder + "/table") as path, LocalPool(local_config(2)) as pool:
        Path(path).write_text("half a table")
        hanging = [Work(name, 1, Element(name, "hang")) for name in ("a", "b")]
        list(pool.work_off(ElementsJob(folder), hanging))

cli.main(["work"])
"""
"""A command with two workers that never end, in the middle of writing a file."""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_command_with_workers_ends_them_and_clears_away(number: signal.Signals, code: int, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(lambda: process.poll() is not None or len(list(tmp_path.glob("*.begun"))) == 2)
        assert process.poll() is None, process.communicate()
        children = psutil.Process(process.pid).children(recursive=True)
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]
        process.send_signal(number)
        told, errors = process.communicate(timeout=240)
    finally:
        process.kill()
    assert (process.returncode, told) == (code, "")
    assert errors.strip() == "stopped; the same command goes on where this one ended"
    assert len(children) == 2
    assert gone(children)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.begun", "b.begun"]
