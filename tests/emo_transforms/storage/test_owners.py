"""Whose leftovers are whose, shown with real processes and containers."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from emobeam.emo_transforms.storage.leftovers import is_abandoned, is_ours, owner_mark

_MARK = "from emobeam.emo_transforms.storage.leftovers import owner_mark; print(owner_mark(), flush=True)"
_WAIT = f"{_MARK}; import sys; sys.stdin.read()"
_NAMESPACE = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc")
_YEAR = 365 * 24 * 3600.0


@pytest.fixture(scope="module")
def container() -> tuple[str, ...]:
    """What starts a program where process ids count anew, under the same host name."""
    if (
        not shutil.which("unshare")
        or subprocess.run([*_NAMESPACE, "true"], check=False, capture_output=True).returncode
    ):
        pytest.skip("this machine lets nobody make namespaces")
    return _NAMESPACE


def test_who_lives_has_abandoned_nothing(dead_mark: str) -> None:
    with subprocess.Popen([sys.executable, "-c", _WAIT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        mark = child.stdout.readline().decode().strip()
        for made in (0.0, time.time(), time.time() + _YEAR):  # whatever the clocks say
            assert not is_abandoned(mark, made, 1.0)
            assert not is_abandoned(owner_mark(), made, 1.0)
            assert is_abandoned(dead_mark, made, _YEAR)
        assert is_ours(mark)
        assert is_ours(owner_mark())
        child.kill()
        _wait_until_ended(child.pid)
        assert is_abandoned(mark, time.time(), _YEAR), "nobody has asked for its exit status yet"
    assert is_abandoned(mark, time.time(), _YEAR)
    assert not is_ours(mark)
    assert not is_ours(dead_mark)


def _wait_until_ended(pid: int) -> None:
    deadline = time.monotonic() + 30
    while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_marks_of_one_process_are_equal_and_name_its_machine() -> None:
    assert owner_mark() == owner_mark()
    assert owner_mark().startswith(f"{socket.gethostname()}-")
    assert "/" not in owner_mark()
    assert owner_mark().rpartition("-")[2].isdigit(), "what is named after it looks for this"


def test_what_nobody_here_can_know_is_left_until_it_is_old(dead_mark: str) -> None:
    host, realm, pid, begun = dead_mark.rsplit("-", 3)
    for mark in (
        f"else-{realm}-{pid}-{begun}",
        f"{host}-{realm[::-1]}-{pid}-{begun}",  # another container or machine of this name, or before a restart
        f"{host}-{pid}",  # as versions before wrote it
        f"{host}-{os.getpid()}",
        "detached-0",
        "",
    ):
        assert not is_abandoned(mark, time.time() - 5, 60.0)
        assert is_abandoned(mark, time.time() - 65, 60.0)
        assert not is_ours(mark)


def test_a_container_leaves_alone_what_another_works_on(container: tuple[str, ...], tmp_path: Path) -> None:
    """Of the same host name, and on the same folder. This process has an id that there is none of in there."""
    work = tmp_path / f".emobeam-{owner_mark()}-0a.tmp"
    work.write_bytes(b"half")
    code = f"from emobeam.emo_transforms import storage; print(storage.sweep_temporaries({str(tmp_path)!r}))"
    swept = subprocess.run([*container, sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert swept.stdout == "0\n"
    assert work.exists()
    inside = subprocess.run([*container, sys.executable, "-c", _MARK], check=True, capture_output=True, text=True)
    mark = inside.stdout.strip()
    assert mark.startswith(f"{socket.gethostname()}-")
    assert not is_abandoned(mark, time.time(), 60.0)
    assert is_abandoned(mark, time.time() - 65, 60.0)
