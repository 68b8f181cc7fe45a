"""Files in object stores: real clients against emulators, through a proxy that counts requests and fails some."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import pickle
import re
import socket
from collections.abc import Callable
from pathlib import Path

import aiohttp
import fsspec
import google.auth.exceptions
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
from gcsfs.retry import ChecksumError, HttpError
from PIL import Image

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.abaw.text_files import is_file, list_folder
from emobeam.emo_transforms.cache.stored_crops import is_cache
from emobeam.emo_transforms.inputs.crop_folders import read_crop
from emobeam.emo_transforms.inputs.listing import sizes_of
from emobeam.emo_transforms.inputs.videos import keep_only, resolve_inputs
from emobeam.emo_transforms.results.studies.spans import files_below
from emobeam.emo_transforms.storage import OutputError, object_stores
from emobeam.emo_transforms.storage.fingerprints import fingerprint
from emobeam.emo_transforms.training.holdout import read_ids, read_persons
from emobeam.emo_transforms.training.images.face_layouts import read_face_data
from emobeam.schemas.records import EmobeamError, Fingerprint, Video
from tests.object_stores import Store, forget_clients

pytestmark = pytest.mark.usefixtures("short_waits")


def noise(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def test_what_is_put_is_there_whole(store: Store) -> None:
    uri = f"{store.uri}/deep/down/file.bin"
    assert not storage.exists(uri)
    assert not storage.file_exists(uri)
    storage.write_bytes(uri, b"content")
    assert storage.exists(uri)
    assert storage.file_exists(uri)
    assert storage.exists(f"{store.uri}/deep/down")
    assert not storage.file_exists(f"{store.uri}/deep/down")
    assert storage.size(uri) == 7
    assert storage.read_bytes(uri) == b"content"
    assert storage.read_range(uri, 2, 5) == b"nte"
    assert storage.names(f"{store.uri}/deep/down", ".bin") == {"file"}
    assert storage.sizes(f"{store.uri}/deep/down", ".bin") == {"file": 7}
    storage.remove(uri)
    storage.remove(uri)
    assert not storage.file_exists(uri)
    assert storage.sizes(f"{store.uri}/deep/down", ".bin") == {}


def test_an_empty_object_is_there(store: Store) -> None:
    storage.write_bytes(f"{store.uri}/empty.bin", b"")
    assert storage.file_exists(f"{store.uri}/empty.bin")
    assert storage.read_bytes(f"{store.uri}/empty.bin") == b""


@pytest.mark.parametrize("name", ["a::b.mp4", "x::y/::z.mp4", "\ufdd0a::b\ufdd1.mp4"])
def test_colons_are_part_of_a_name(store: Store, tmp_path: Path, name: str) -> None:
    for folder in (store.uri, str(tmp_path), f"file://{tmp_path}"):
        uri = f"{folder}/{name}"
        storage.write_bytes(uri, b"content")
        assert storage.exists(uri)
        assert storage.file_exists(uri)
        assert storage.read_bytes(uri) == b"content"
        assert fingerprint(uri).size == 7
    assert (tmp_path / name).read_bytes() == b"content"


@pytest.mark.parametrize(
    ("kind", "what"), [("put", 429), ("put", "reset"), ("get", 503), ("get", "reset"), ("list", 500)]
)
def test_trouble_that_passes_is_sat_out(store: Store, kind: str, what: int | str) -> None:
    uri = f"{store.uri}/trouble/{kind}-{what}.bin"
    if kind != "put":
        storage.write_bytes(uri, b"content")
    store.proxy.fail(kind, what, 1)
    if kind == "put":
        storage.write_bytes(uri, b"content")
    assert storage.read_range(uri, 0, 7) == b"content"
    assert uri.rsplit("/", 1)[1] in {f"{name}.bin" for name in storage.names(f"{store.uri}/trouble", ".bin")}
    assert not any(trouble.times for trouble in store.proxy.troubles)


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (TimeoutError(), True),
        (ConnectionResetError(), True),
        (OSError(errno.EBUSY, "SlowDown"), True),
        (OSError(errno.ENOSPC, "disk full"), False),
        (OSError("Forbidden: b/bucket"), False),
        (FileNotFoundError("bucket"), False),
        (PermissionError("AccessDenied"), False),
        (ValueError("Bad Request"), False),
        (HttpError({"code": 503, "message": "later"}), True),
        (HttpError({"code": "429", "message": "slower"}), True),
        (HttpError({"code": 401, "message": "who"}), False),
        (ChecksumError(), True),
        (aiohttp.ServerDisconnectedError(), True),
        (aiohttp.ServerTimeoutError(), True),
        (aiohttp.ClientPayloadError(), True),
        (requests.exceptions.ProxyError(), True),
        (requests.exceptions.ReadTimeout(), True),
        (requests.exceptions.InvalidURL(), False),
        (google.auth.exceptions.TransportError(), True),
        (google.auth.exceptions.DefaultCredentialsError(), False),
    ],
    ids=lambda each: repr(each)[:40],
)
def test_which_errors_are_tried_again(error: Exception, passes: bool) -> None:
    calls = []

    def call() -> str:
        calls.append(1)
        if len(calls) < 3:
            raise error
        return "done"

    assert object_stores.is_transient(error) == passes
    if passes:
        assert object_stores.patiently(call) == "done"
        return
    with pytest.raises(type(error)) as told:
        object_stores.patiently(call)
    assert told.value is error
    assert len(calls) == 1


def test_what_never_passes_is_given_up_as_an_os_error() -> None:
    calls = []

    def call() -> str:
        calls.append(1)
        raise HttpError({"code": 503, "message": "later"})

    with pytest.raises(OSError, match="HttpError: later") as told:
        object_stores.reading("gs://bucket/clip.mp4", call)
    assert told.value.filename == "gs://bucket/clip.mp4"
    assert len(calls) == 4


def test_an_answer_that_breaks_off_is_asked_for_again(store: Store) -> None:
    storage.write_bytes(f"{store.uri}/cut.bin", noise(200_000))
    store.proxy.fail("get", "cut", 1)
    assert storage.read_range(f"{store.uri}/cut.bin", 0, 200_000) == noise(200_000)


@pytest.mark.parametrize("what", [401, 403, 404])
def test_what_will_not_pass_fails_at_once(store: Store, what: int) -> None:
    store.proxy.fail("put", what, 9)
    with pytest.raises(OutputError, match=r"forbidden\.bin"):
        storage.write_bytes(f"{store.uri}/forbidden.bin", b"x")
    assert store.proxy.counts()["put"] == 1


def test_a_missing_bucket_is_told_at_once_and_not_made(store: Store) -> None:
    other = store.uri.partition("://")[0] + "://nobodys-bucket"
    storage.make_folder(f"{other}/out/shards")
    with pytest.raises(OutputError, match=r"nobodys-bucket/out/dataset\.json"):
        storage.write_bytes(f"{other}/out/dataset.json", b"{}")
    assert store.proxy.counts()["put"] == 1
    assert not storage.exists(other)


def test_reading_what_can_not_be_read_is_an_os_error(store: Store) -> None:
    storage.write_bytes(f"{store.uri}/closed.bin", b"content")
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(f"{store.uri}/nowhere.bin")
    for what in (401, 403):
        store.proxy.clear()
        store.proxy.fail("get", what, 9)
        with pytest.raises(OSError):  # noqa: PT011  # every client has its own words
            storage.read_range(f"{store.uri}/closed.bin", 0, 7)


def test_a_bucket_is_no_file(store: Store) -> None:
    storage.write_bytes(f"{store.uri}/file.txt", b"x")
    bucket = "/".join(store.uri.split("/")[:3])
    assert not is_file(bucket)
    assert not is_file(store.uri)
    assert not is_cache(bucket)


READERS: dict[str, Callable[[str], object]] = {
    "a table": lambda uri: resolve_inputs([f"{uri}/table.csv"]),
    "a Parquet table": lambda uri: resolve_inputs([f"{uri}/table.parquet"]),
    "a folder": lambda uri: resolve_inputs([f"{uri}/folder"]),
    "a glob": lambda uri: resolve_inputs([f"{uri}/folder/*.mp4"]),
    "names": lambda uri: keep_only([Video("a", "a.mp4")], f"{uri}/names.txt"),
    "sizes": lambda uri: sizes_of([f"{uri}/folder/a.mp4"]),
    "a cache": lambda uri: is_cache(f"{uri}/cache"),
    "a crop": lambda uri: read_crop(f"{uri}/crop.png"),
    "labelled faces": lambda uri: read_face_data(f"{uri}/faces.csv", images="/nowhere"),
    "ids to hold out": lambda uri: read_ids(f"{uri}/names.txt"),
    "persons": lambda uri: read_persons(f"{uri}/persons.csv", ["a"]),
    "a kind": lambda uri: is_file(f"{uri}/table.csv"),
    "annotations": lambda uri: list_folder(f"{uri}/folder").files,
    "ELAN files": lambda uri: files_below(f"{uri}/folder", (".mp4",)),
}


@pytest.mark.parametrize("what", READERS)
def test_a_store_that_gives_no_answer_is_named(store: Store, what: str) -> None:
    """By an error of ours, whatever the client's was, and never as a file that isn't there."""
    uri = f"{store.uri}/readers"
    if not storage.file_exists(f"{uri}/crop.png"):
        picture, table = io.BytesIO(), pa.table({"video": ["a.mp4"]})
        Image.new("RGB", (8, 8)).save(picture, "png")
        storage.write_bytes(f"{uri}/crop.png", picture.getvalue())
        with storage.atomic_file(f"{uri}/table.parquet") as path:
            pq.write_table(table, path)
        for name, text in {
            "table.csv": "video\na.mp4\n",
            "names.txt": "a\n",
            "faces.csv": "path,expression\na.jpg,sad\nb.jpg,happy\n",
            "persons.csv": "video,subject\na,Ann\n",
            "folder/a.mp4": "x",
            "cache/dataset.json": "{}",
        }.items():
            storage.write_bytes(f"{uri}/{name}", text.encode())
    read, client = READERS[what], fsspec.filesystem(store.uri.partition(":")[0])
    assert read(uri)
    client.invalidate_cache()
    for kind in ("get", "list", "stat"):
        store.proxy.fail(kind, 400, 1000)
    with pytest.raises(EmobeamError, match=rf"{re.escape(uri)}/.*can't be (read|listed|looked)") as told:
        read(uri)
    assert "no such" not in str(told.value)


def test_text_is_read_line_by_line(store: Store, tmp_path: Path) -> None:
    lines = [f"Größe {number}" for number in range(40_000)]
    data = ("\ufeff" + "\r\n".join(lines)).encode()
    for folder in (store.uri, str(tmp_path)):
        storage.write_bytes(f"{folder}/a::b.txt", data)
        with storage.open_text(f"{folder}/a::b.txt") as file:
            assert [line.rstrip("\n") for line in file] == lines
    assert store.proxy.counts()["get"] == 1
    with pytest.raises(FileNotFoundError), storage.open_text(f"{store.uri}/nowhere.txt"):
        pass


def test_a_parquet_file_is_read_by_ranges(store: Store) -> None:
    uri = f"{store.uri}/table.parquet"
    columns = {name: np.random.default_rng(i).normal(size=400_000) for i, name in enumerate("abcd")}
    with storage.atomic_file(uri) as path:
        pq.write_table(pa.table(columns), path, row_group_size=100_000, compression="none", use_dictionary=False)
        size = os.path.getsize(path)
    store.proxy.clear()
    with storage.open_read(uri, size=size) as file:
        assert pq.read_metadata(file).num_rows == 400_000
    assert store.proxy.counts() == {"get": 1}
    store.proxy.clear()
    with storage.open_read(uri, size=size) as file:
        parquet = pq.ParquetFile(file, pre_buffer=True)
        group = parquet.read_row_group(2, columns=["b", "c"])
    np.testing.assert_array_equal(group["c"].to_numpy(), columns["c"][200_000:300_000])
    assert store.proxy.counts() == {"get": 2}  # the footer, and two neighbouring columns at once


def test_a_fingerprint_reads_both_ends_only(store: Store, tmp_path: Path) -> None:
    data = noise(3_000_000)
    (tmp_path / "clip.mp4").write_bytes(data)
    storage.write_bytes(f"{store.uri}/clip.mp4", data)
    store.proxy.clear()
    found = fingerprint(f"{store.uri}/clip.mp4")
    ends = hashlib.sha256(data[: 256 << 10] + data[-(256 << 10) :]).hexdigest()
    assert found == Fingerprint(3_000_000, ends) == fingerprint(str(tmp_path / "clip.mp4"))
    assert store.proxy.counts("clip.mp4")["get"] == 2


def test_sizes_of_many_come_by_one_listing_per_folder(store: Store, tmp_path: Path) -> None:
    uris = [f"{store.uri}/many/{number % 2}/{number}.mp4" for number in range(10)]
    for number, uri in enumerate(uris):
        storage.write_bytes(uri, b"x" * number)
    (tmp_path / "a.mp4").write_bytes(b"local")
    store.proxy.clear()
    found = sizes_of([*uris, f"{store.uri}/many/0/other.mp4", str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4")])
    assert found == [*range(10), -1, 5, -1]
    assert store.proxy.counts("many")["list"] <= 2
    assert store.proxy.counts("many")["stat"] == 0


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (PermissionError(errno.EACCES, "Access Denied"), "no access (PermissionError: Access Denied); check the cre"),
        (HttpError({"code": 403, "message": "Forbidden"}), "no access (HttpError: Forbidden, 403); check the creden"),
        (HttpError({"code": 401, "message": "Anonymous caller"}), "no access (HttpError: Anonymous caller, 401)"),
        (google.auth.exceptions.RefreshError("expired"), "no access (RefreshError: expired)"),
        (ValueError("Bucket is requester pays. Set it"), "the store failed (ValueError: Bucket is requester pays. S"),
        (RuntimeError("two\nlines"), "the store failed (RuntimeError: two lines)"),
    ],
)
def test_what_a_store_says_is_one_line_with_the_address(raised: Exception, said: str) -> None:
    calls = []

    def call() -> None:
        calls.append(1)
        raise raised

    with pytest.raises(EmobeamError) as told:
        object_stores.reading("s3://ann:pa55@bucket/a.mp4", call)
    assert str(told.value).startswith(f"s3://ann:***@bucket/a.mp4: can't be read: {said}")
    assert "\n" not in str(told.value)
    assert isinstance(told.value, OSError), "one input's trouble is no reason to stop"
    assert len(calls) == 1
    assert str(pickle.loads(pickle.dumps(told.value))) == str(told.value)


def test_a_profile_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("s3fs")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    forget_clients()
    with pytest.raises(EmobeamError, match=r"^s3://bucket/a: can't be .*ProfileNotFound.*nobody"):
        storage.exists("s3://bucket/a")
    forget_clients()


@pytest.mark.parametrize(("variable", "uri"), [("AWS_ENDPOINT_URL", "s3://b/a"), ("STORAGE_EMULATOR_HOST", "gs://b/a")])
def test_where_nobody_listens_is_told_at_once(variable: str, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    with socket.socket() as mine:
        mine.bind(("127.0.0.1", 0))  # and doesn't listen
        place = f"http://127.0.0.1:{mine.getsockname()[1]}"
        monkeypatch.setenv(variable, place)
        with pytest.raises(EmobeamError, match=rf"^{uri}: nobody listens at {place} "):
            object_stores.check_endpoint(uri)
        mine.listen()
        object_stores.check_endpoint(uri)
    object_stores.check_endpoint("/local/path")


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("https://h/day/a.mp4?X-Amz-Signature=x/y.z", "a.mp4"),
        ("/day/a?b.mp4", "a?b.mp4"),
        ("s3://b/a::b.mp4", "a::b.mp4"),
        ("zip://in/x.mp4::http://h/a.zip", "x.mp4"),
        ("simplecache::gs://b/x.mp4", "x.mp4"),
        ("gs://b/folder/", "folder"),
    ],
)
def test_the_name_of_a_file_needs_nobody_to_ask(uri: str, name: str) -> None:
    assert storage.file_name(uri) == name
