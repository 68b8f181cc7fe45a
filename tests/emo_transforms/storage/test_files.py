from __future__ import annotations

import errno
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from gcsfs.retry import HttpError

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.storage import OutputError, atomic_file, write_bytes
from emobeam.emo_transforms.storage.leftovers import owner_mark
from emobeam.emo_transforms.storage.output_errors import explained
from emobeam.schemas.records import EmobeamError


class Interrupted(Exception):
    """Stands for whatever may happen in the middle of writing."""


@pytest.fixture
def memory() -> Iterator[str]:
    yield "memory://emobeam-storage"
    fs = fsspec.filesystem("memory")
    if fs.exists("/emobeam-storage"):
        fs.rm("/emobeam-storage", recursive=True)


@pytest.fixture(params=["local", "file://", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, memory: str) -> str:
    return {"local": str(tmp_path), "file://": f"file://{tmp_path}", "memory": memory}[request.param]


def fail_halfway(uri: str) -> None:
    with storage.atomic_file(uri) as path:
        Path(path).write_bytes(b"half a fi")
        raise Interrupted


@contextmanager
def unprivileged() -> Iterator[None]:
    """Root may write anywhere; nobody may not."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_what_is_written_is_read(folder: str) -> None:
    uri = storage.join(folder, "deep", "down", "file.bin")
    assert not storage.exists(uri)
    storage.write_bytes(uri, b"content")
    assert storage.exists(uri)
    assert storage.size(uri) == 7
    assert storage.read_bytes(uri) == b"content"
    storage.write_bytes(uri, b"other")
    assert storage.read_bytes(uri) == b"other"
    storage.remove(uri)
    storage.remove(uri)
    assert not storage.exists(uri)


def test_a_failed_write_leaves_neither_file_nor_temporary(folder: str) -> None:
    uri = storage.join(folder, "file.bin")
    with pytest.raises(Interrupted):
        fail_halfway(uri)
    fs, path = storage.file_system(folder)
    assert not fs.exists(path) or fs.find(path) == []


def test_a_failed_write_leaves_the_old_content(folder: str) -> None:
    uri = storage.join(folder, "file.bin")
    storage.write_bytes(uri, b"old")
    with pytest.raises(Interrupted):
        fail_halfway(uri)
    assert storage.read_bytes(uri) == b"old"
    fs, path = storage.file_system(folder)
    assert len(fs.find(path)) == 1


def test_the_file_is_not_there_before_it_is_whole(folder: str) -> None:
    uri = storage.join(folder, "file.bin")
    with storage.atomic_file(uri) as path:
        Path(path).write_bytes(b"whole")
        assert not storage.exists(uri)
        assert storage.names(folder, ".bin") == set()
    assert storage.names(folder, ".bin") == {"file"}


def test_a_killed_writer_leaves_a_hidden_file_that_the_next_run_sweeps(tmp_path: Path) -> None:
    target = tmp_path / "file.parquet"
    target.write_bytes(b"old")
    script = (
        "import os, signal, sys; from pathlib import Path; from emobeam.emo_transforms.storage import atomic_file\n"
        "with atomic_file(sys.argv[1]) as path:\n"
        "    Path(path).write_bytes(b'half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(target)], cwd=Path(__file__).parents[3], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2
    assert target.read_bytes() == b"old"
    assert storage.names(str(tmp_path), ".parquet") == {"file"}
    assert storage.names(str(tmp_path), ".tmp") == set()
    assert storage.sweep_temporaries(str(tmp_path)) == 1
    assert list(tmp_path.iterdir()) == [target]


def test_sweeping_takes_what_no_one_writes_any_more(tmp_path: Path, dead_mark: str) -> None:
    day = 24 * 3600
    stays = {
        "live": f".emobeam-{owner_mark()}-0a.tmp",
        "young of another host": f".emobeam-b-{dead_mark}-0b.tmp",
        "not ours": f".other-{dead_mark}-0c.tmp",
        "result": "video.parquet",
    }
    goes = {
        "dead": f".emobeam-{dead_mark}-0d.tmp",
        "old of another host": ".emobeam-else-where-1-0e.tmp",
    }
    for name in (*stays.values(), *goes.values()):
        (tmp_path / name).write_bytes(b"")
    os.utime(tmp_path / goes["old of another host"], (time.time() - 2 * day,) * 2)
    os.utime(tmp_path / stays["result"], (time.time() - 2 * day,) * 2)
    assert storage.sweep_temporaries(str(tmp_path)) == len(goes)
    assert {path.name for path in tmp_path.iterdir()} == set(stays.values())
    assert storage.sweep_temporaries(str(tmp_path / "nowhere")) == 0


FILL = """
import sys
import numpy as np
from emobeam.emo_transforms.cache.shards import ShardWriter
from emobeam.emo_transforms.storage import OutputError, atomic_file, write_bytes
from emobeam.schemas.tables import feature_schema

def plain(uri):
    write_bytes(uri, np.random.default_rng(0).bytes(1 << 20))

def shard(uri):
    columns = {"video": ["v"] * 64, "track": [0] * 64, "frame": list(range(64)), "time": [0.0] * 64}
    columns |= {"score": [1.0] * 64, "box": [[0.0] * 4] * 64, "landmarks": [[0.0] * 10] * 64}
    columns["map_s32"] = np.random.default_rng(0).normal(size=(64, 128, 7, 7))
    with atomic_file(uri) as path:
        writer = ShardWriter(path, feature_schema({"s32": (128, 7, 7)}))
        try:
            for _ in range(4):
                writer.add(columns)
        except BaseException:
            writer.abandon()
            raise

for write in (plain, shard):
    try:
        write(sys.argv[1])
    except OutputError as error:
        print(error)
"""


def fill(target: Path, *before: str, limit: int = 0) -> list[str]:
    """Writes too much in a process of its own; returns its messages."""
    command = [*before, sys.executable, "-c", FILL, str(target)]
    done = subprocess.run(
        command,
        cwd=Path(__file__).parents[3],
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))) if limit else None,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_full_disk_stops_the_run(tmp_path: Path) -> None:
    mounted = f"mount -t tmpfs -o size=64k tmpfs {tmp_path}"
    own = ["unshare", "--mount", "sh", "-c", f'{mounted} && "$@" && ls -A {tmp_path}', "sh"]
    if not shutil.which("unshare") or subprocess.run([*own, "true"], capture_output=True, check=False).returncode:
        pytest.skip("a small disk can't be mounted here")
    target = tmp_path / "file.parquet"
    lines = fill(target, *own)
    assert len(lines) == 2  # and no third one: ls finds nothing left on the disk
    for line in lines:
        assert str(target) in line
        assert os.strerror(errno.ENOSPC) in line


def test_a_limit_on_the_size_of_files_stops_the_run(tmp_path: Path) -> None:
    target = tmp_path / "file.parquet"
    lines = fill(target, limit=1 << 16)
    assert len(lines) == 2
    assert all(str(target) in line and os.strerror(errno.EFBIG) in line for line in lines)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_permission_stops_the_run(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    with unprivileged(), pytest.raises(OutputError, match=str(closed / "file")):
        storage.write_bytes(str(closed / "file"), b"x")
    with unprivileged(), pytest.raises(OutputError, match=str(closed / "sub")):
        storage.make_folder(str(closed / "sub"))


def test_a_read_only_file_system_is_not_told_to_free_space() -> None:
    message = r"/out/x: can't be written \(Read-only file system\); choose"
    with pytest.raises(OutputError, match=message) as caught, explained("/out/x", Path("/out")):
        raise OSError(errno.EROFS, "Read-only file system")
    assert "space" not in str(caught.value)


def test_where_nothing_can_be_written_what_is_there_already_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.json"
    write_bytes(str(path), b"as it is")
    before = path.stat()
    monkeypatch.setattr(os, "access", lambda place, mode: Path(place) != tmp_path)
    write_bytes(str(path), b"as it is")
    assert (path.stat(), list(tmp_path.iterdir())) == (before, [path])
    for place, data in ((path, b"another"), (tmp_path / "new", b"as it is")):
        with pytest.raises(OutputError, match="choose another --output"):
            write_bytes(str(place), data)
    assert path.read_bytes() == b"as it is"


def test_an_output_that_is_removed_meanwhile_is_named(tmp_path: Path) -> None:
    output = tmp_path / "out"

    def write() -> None:
        with atomic_file(str(output / "x")) as path:
            Path(path).write_bytes(b"half")
            shutil.rmtree(output)

    with pytest.raises(OutputError, match=rf"{output}: is no longer there"):
        write()


def test_a_file_in_the_way_of_a_folder_stops_the_run(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"")
    with pytest.raises(OutputError, match="out/sub/file"):
        storage.write_bytes(f"{tmp_path}/out/sub/file", b"x")
    with pytest.raises(OutputError, match="out"):
        storage.make_folder(f"{tmp_path}/out")


def test_a_folder_in_the_way_of_a_file_stops_the_run(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputError, match="out"):
        storage.write_bytes(f"{tmp_path}/out", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


class Store(MemoryFileSystem):  # type: ignore[misc]
    """An object store as gcsfs shows it: it remembers listings, and may refuse."""

    protocol = "store"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    cachable = True
    refusal: ClassVar[Exception | None] = None
    listings: ClassVar[dict[tuple[str, bool], list[Any]]] = {}

    def ls(self, path: str, detail: bool = True, **options: Any) -> list[Any]:
        key = (path.rstrip("/"), detail)
        if key not in self.listings:
            self.listings[key] = super().ls(path, detail=detail, **options)
        return self.listings[key]

    def exists(self, path: str, **options: Any) -> bool:
        parent, _, name = path.rpartition("/")
        return any(entry.rsplit("/", 1)[-1] == name for entry in self.ls(parent, detail=False))

    def invalidate_cache(self, path: str | None = None) -> None:
        self.listings.clear()

    def put_file(self, *arguments: Any, **options: Any) -> None:
        if self.refusal is not None:
            raise self.refusal
        super().put_file(*arguments, **options)

    def makedirs(self, *arguments: Any, **options: Any) -> None:
        if self.refusal is not None:
            raise self.refusal
        super().makedirs(*arguments, **options)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> str:
    fsspec.register_implementation("store", Store, clobber=True)
    monkeypatch.setattr(Store, "store", {})
    monkeypatch.setattr(Store, "listings", {})
    return "store://bucket"


@pytest.mark.parametrize(
    "refusal",
    [
        OSError("Forbidden: b/bucket\nno storage.objects.create access"),
        HttpError({"code": 401, "message": "Anonymous caller"}),
        FileNotFoundError("bucket"),
    ],
    ids=["forbidden", "anonymous", "no bucket"],
)
def test_a_store_that_refuses_stops_the_run(store: str, monkeypatch: pytest.MonkeyPatch, refusal: Exception) -> None:
    monkeypatch.setattr(Store, "refusal", refusal)
    with pytest.raises(OutputError, match="store://bucket/file"):
        storage.write_bytes(f"{store}/file", b"x")
    with pytest.raises(OutputError, match="store://bucket/folder"):
        storage.make_folder(f"{store}/folder")
    with pytest.raises(Interrupted):  # what happens while the content is made isn't the store's fault
        fail_halfway(f"{store}/file")


def test_files_that_others_put_into_a_store_are_seen(store: str) -> None:
    storage.write_bytes(f"{store}/shards/one.parquet", b"x")
    assert storage.names(f"{store}/shards", ".parquet") == {"one"}
    assert not storage.exists(f"{store}/shards/two.parquet")
    fs, path = storage.file_system(f"{store}/shards/two.parquet")
    fs.pipe_file(path, b"by another process")
    assert len(fs.ls(f"{store}/shards", detail=False)) == 1  # the client's own memory
    assert storage.exists(f"{store}/shards/two.parquet")
    assert storage.names(f"{store}/shards", ".parquet") == {"one", "two"}


def test_paths_may_be_relative_and_look_like_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("file:a.txt", "local:a.txt", "./b.txt", "sub/../c.txt"):
        storage.write_bytes(name, name.encode())
        assert storage.read_bytes(name) == name.encode()
        assert storage.locate(name)[1] == os.path.abspath(name)
    assert storage.names(".", ".txt") == {"file:a", "local:a", "b", "c"}


def test_a_local_copy_of_a_local_file_is_the_file(tmp_path: Path) -> None:
    for uri in (str(tmp_path / "a.mp4"), f"file://{tmp_path}/a.mp4"):
        with storage.local_copy(uri) as path:
            assert path == str(tmp_path / "a.mp4")


def test_a_local_copy_of_an_object_has_its_content_and_goes_afterwards(memory: str) -> None:
    storage.write_bytes(f"{memory}/clip.mp4", b"content")
    with storage.local_copy(f"{memory}/clip.mp4") as path:
        assert Path(path).read_bytes() == b"content"
        assert Path(path).suffix == ".mp4"
    assert not Path(path).exists()
    with pytest.raises(FileNotFoundError), storage.local_copy(f"{memory}/other.mp4"):
        pass


@pytest.mark.parametrize(
    ("uri", "joined"),
    [
        ("out", "out/a/b"),
        ("out/", "out/a/b"),
        ("/", "/a/b"),
        ("gs://bucket", "gs://bucket/a/b"),
        ("gs://bucket/x/", "gs://bucket/x/a/b"),
        ("memory://", "memory://a/b"),
    ],
)
def test_join(uri: str, joined: str) -> None:
    assert storage.join(uri, "a", "b") == joined
    assert storage.is_local(joined) == storage.is_local(uri)


def test_names_are_of_one_kind_and_visible(folder: str) -> None:
    assert storage.names(storage.join(folder, "nowhere"), ".json") == set()
    for name in ("a.json", "b.c.json", "d.txt", ".e.json"):
        storage.write_bytes(storage.join(folder, name), b"{}")
    assert storage.names(folder, ".json") == {"a", "b.c"}


def test_equal_json_gives_equal_bytes(folder: str) -> None:
    one, two = storage.join(folder, "1.json"), storage.join(folder, "2.json")
    storage.write_json(one, {"b": [1.5, None], "a": "Größe"})
    storage.write_json(two, {"a": "Größe", "b": (1.5, None)})
    assert storage.read_bytes(one) == storage.read_bytes(two)
    assert storage.read_json(one) == json.loads(storage.read_bytes(one)) == {"a": "Größe", "b": [1.5, None]}


def test_the_digest_of_a_file_is_that_of_its_bytes(folder: str) -> None:
    data = bytes(range(256)) * 5000
    storage.write_bytes(storage.join(folder, "w.bin"), data)
    assert storage.file_sha256(storage.join(folder, "w.bin")) == hashlib.sha256(data).hexdigest()
    with pytest.raises(EmobeamError, match=r"nowhere\.bin: can't be read"):
        storage.file_sha256(storage.join(folder, "nowhere.bin"))


def test_damaged_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text('{"a": ')
    with pytest.raises(EmobeamError, match=r"broken\.json.*not valid JSON"):
        storage.read_json(str(tmp_path / "broken.json"))
