"""Copies of videos on the local disk: made once, shared, and left to those who use them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.storage import downloads, object_stores
from emobeam.emo_transforms.storage.fingerprints import fingerprint
from emobeam.schemas.records import InputError
from tests.emo_transforms.storage.test_object_stores import noise
from tests.object_stores import Store

pytestmark = pytest.mark.usefixtures("short_waits")


def test_a_video_is_downloaded_once_in_parts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_stores, "PART_BYTES", 1 << 20)
    data = noise(int(4.5 * (1 << 20)))
    uri = f"{store.uri}/long.mp4"
    storage.write_bytes(uri, data)
    print_ = fingerprint(uri)
    store.proxy.clear()
    store.proxy.fail("get", 503, 1)
    signs = []
    for _ in range(3):
        with downloads.video_copy(uri, print_, lambda: signs.append(1)) as path:
            assert Path(path).read_bytes() == data
            assert path.endswith(".mp4")
    assert store.proxy.counts()["get"] == 6  # five parts, one of them twice
    assert len(signs) >= 5
    assert downloads.sweep() == 0
    assert downloads.drop([(uri, print_), (f"{uri}.other", print_)]) == 1
    assert not Path(path).exists()


def test_a_copy_in_use_stays_and_its_name_stays_inside(store: Store) -> None:
    uri = f"{store.uri}/used.mp4"
    storage.write_bytes(uri, b"content")
    print_ = fingerprint(uri)

    def use() -> None:
        with downloads.video_copy(uri, print_) as path:
            assert downloads.leave() == 0
            raise InputError(f"{path}: no video", stage="open", reason="damaged", permanent=True)

    with pytest.raises(InputError) as told:
        use()
    assert str(told.value) == f"{uri}: no video"
    assert told.value.reason == "damaged"
    assert downloads.leave() == 1


@pytest.mark.parametrize("how", ["leave()", "drop([(uri, print_)])"])
def test_copies_that_other_jobs_come_back_to_stay(store: Store, tmp_path: Path, how: str) -> None:
    """Nobody holds them between two segments. This process is the other job of one that ends."""
    uri = f"{store.uri}/theirs.mp4"
    storage.write_bytes(uri, b"content")
    print_ = fingerprint(uri)
    with downloads.video_copy(uri, print_) as path:
        pass
    code = f"""
from emobeam.emo_transforms.storage import downloads
from emobeam.schemas.records import Fingerprint
uri, print_ = {uri!r}, Fingerprint({print_.size}, {print_.digest!r})
with downloads.video_copy(uri, print_) as path:
    pass
print(downloads.{how}, path)
"""
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "TMPDIR": str(tmp_path / "temporary")}
    store.proxy.clear()
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert done.stdout == f"0 {path}\n"
    assert Path(path).read_bytes() == b"content"
    assert store.proxy.counts()["get"] == 0
    assert downloads.leave() == 1, "the other one is gone"
    assert not Path(path).exists()


def test_a_video_that_changed_or_went_is_told(store: Store) -> None:
    uri = f"{store.uri}/changing.mp4"
    storage.write_bytes(uri, b"content")
    print_ = fingerprint(uri)
    storage.write_bytes(uri, b"CONTENT")
    with pytest.raises(InputError, match="has changed"), downloads.video_copy(uri, print_):
        pass
    storage.write_bytes(uri, b"shorter"[:3])
    with pytest.raises(OSError, match="being changed"), downloads.video_copy(uri, print_):
        pass
    storage.remove(uri)
    with pytest.raises(FileNotFoundError), downloads.video_copy(uri, print_):
        pass
    assert list(downloads._folder().iterdir()) == []


def test_those_who_come_later_wait_for_the_first(store: Store) -> None:
    uri = f"{store.uri}/shared.mp4"
    storage.write_bytes(uri, noise(100_000))
    print_ = fingerprint(uri)
    store.proxy.clear()
    store.proxy.delay = 0.5
    signs: list[int] = []
    read: list[bytes] = []

    def use() -> None:
        with downloads.video_copy(uri, print_, lambda: signs.append(1)) as path:
            read.append(Path(path).read_bytes())

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    store.proxy.delay = 0.0
    assert read == [noise(100_000)] * 4
    assert store.proxy.counts()["get"] == 1
    assert len(signs) > 4  # those who wait are alive


HOLD = """
import os, signal, sys
from emobeam.emo_transforms.storage import downloads
from emobeam.emo_transforms import storage
from emobeam.schemas.records import Fingerprint
def die(*args, **options):
    open(args[1], "wb").write(b"half"); os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[4] == "loading":
    storage.download = die
with downloads.video_copy(sys.argv[1], Fingerprint(int(sys.argv[2]), sys.argv[3])) as path:
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("when", ["loading", "using"])
def test_a_killed_worker_lets_go(store: Store, when: str, tmp_path: Path) -> None:
    uri = f"{store.uri}/killed.mp4"
    storage.write_bytes(uri, b"content")
    print_ = fingerprint(uri)
    command = [sys.executable, "-c", HOLD, uri, str(print_.size), print_.digest, when]
    environment = {**os.environ, "TMPDIR": str(tmp_path / "temporary")}
    done = subprocess.run(command, cwd=Path(__file__).parents[3], env=environment, check=False, capture_output=True)
    assert done.returncode < 0, done.stderr.decode()
    assert len(list(downloads._folder().iterdir())) == 1
    store.proxy.clear()
    with downloads.video_copy(uri, print_) as path:
        assert Path(path).read_bytes() == b"content"
    assert store.proxy.counts()["get"] == (1 if when == "loading" else 0)
    assert downloads.leave() == 1


def test_copies_make_room_for_others(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "MOST_BYTES", 250_000)
    prints = {}
    for name in "abc":
        storage.write_bytes(f"{store.uri}/{name}.mp4", noise(100_000, ord(name)))
        prints[name] = fingerprint(f"{store.uri}/{name}.mp4")
        with downloads.video_copy(f"{store.uri}/{name}.mp4", prints[name]) as path:
            assert Path(path).stat().st_size == 100_000
        time.sleep(0.02)
    assert len(list(downloads._folder().iterdir())) == 2
    store.proxy.clear()
    with downloads.video_copy(f"{store.uri}/b.mp4", prints["b"]):
        pass
    assert store.proxy.counts()["get"] == 0
    assert downloads.leave() == 2
