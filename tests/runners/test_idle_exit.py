"""Workers that nobody ends: real processes that stay while there is a reason, and go with what they started."""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from emobeam.emo_transforms.storage.run_mailbox import Exchange, open_exchange
from emobeam.pipelines.run_origin import new_run_id
from emobeam.runners.idle_exit import Presence, is_worker
from emobeam.runners.worker_progress import Beats
from tests.pipelines.runs import gone, wait_for

_WORKER = """
import sys, time
from pathlib import Path
from emobeam.emo_transforms.storage.run_mailbox import Exchange
from emobeam.runners.worker_progress import Beats
from emobeam.runners.idle_exit import Patience, Presence
from emobeam.runners.engines.engine_children import Children
from emobeam.emo_transforms.extraction.child_work import Work
from tests.runners.jobs import Element, ElementsJob

folder, uri, what = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
beats = Beats(Exchange(uri))
beats._shared.acquire(lambda: Presence(Exchange(uri), Patience(0.3, 0.1), watched=what != "launcher"))
list(Children(beats).work_off(ElementsJob(str(folder)), [Work("a", 1, Element("a"))], lambda event, data: None))
beats("bundle", {})
(folder / "ready").touch()
if what == "busy":
    with beats.busy():
        while not (folder / "enough").exists():
            time.sleep(0.05)
time.sleep(600)
"""


@contextmanager
def forgotten(folder: Path, what: str = "idle") -> Iterator[psutil.Process]:
    """A worker with an idle child; its run is over when the block begins, and nobody has told it."""
    with open_exchange(str(folder / "out"), new_run_id()) as exchange:
        process = subprocess.Popen([sys.executable, "-c", _WORKER, str(folder), exchange.uri, what])
        try:
            wait_for((folder / "ready").exists)
            time.sleep(1.0)
            assert process.poll() is None, "it leaves though the run is on"
        except BaseException:
            process.kill()
            raise
    try:
        yield psutil.Process(process.pid)
        assert not Path(exchange.uri).exists()
    finally:
        process.kill()
        process.wait()


def test_a_worker_that_was_forgotten_leaves_with_its_children(tmp_path: Path) -> None:
    with forgotten(tmp_path) as process:
        child = int((tmp_path / "a.begun").read_text())  # it may be gone by now
        assert gone([process], 30)
        wait_for(lambda: not psutil.pid_exists(child), 30)


@pytest.mark.thorough
def test_a_worker_that_has_something_to_do_stays(tmp_path: Path) -> None:
    with forgotten(tmp_path, "busy") as process:
        assert not gone([process], 2)
        (tmp_path / "enough").touch()
        assert gone([process], 30)


@pytest.mark.thorough
def test_a_process_that_is_more_than_a_worker_stays(tmp_path: Path) -> None:
    with forgotten(tmp_path, "launcher") as process:
        assert not gone([process], 2)


def test_this_process_is_no_worker() -> None:
    assert not is_worker()


def test_beams_worker_is_one() -> None:
    """By the name of the module that engines and images start."""
    spec = find_spec("apache_beam.runners.worker.sdk_worker_main")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["__main__"], "__spec__", spec)
        assert is_worker()


def test_copies_in_one_process_know_of_each_other(tmp_path: Path) -> None:
    """The steps of a job are unpacked one by one; work in one of them counts for all."""
    beats = Beats(Exchange(str(tmp_path)))
    one, other = (pickle.loads(pickle.dumps(beats)) for _ in range(2))
    assert isinstance(one.presence, Presence)
    assert one.presence is other.presence
    assert one.presence is not Beats(Exchange(str(tmp_path))).presence
