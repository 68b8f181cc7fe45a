"""Inputs, caches, heads and outputs in object stores: the same bytes as on the disk, and few requests."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.networks.heads.files import save_head
from emobeam.emo_transforms.networks.heads.fresh_heads import untrained_for
from emobeam.emo_transforms.storage import downloads
from emobeam.emo_transforms.storage.fingerprints import DIGEST_BYTES, fingerprint
from emobeam.pipelines.cli import main
from emobeam.schemas.config import ExtractConfig
from emobeam.schemas.tasks import task_named
from tests.clips import portrait
from tests.object_stores import STORES, Proxy, Store
from tests.pipelines.runs import LocalPool, dataset_of, emobeam, emobeam_processes, gone, working_in

MEASURES = ("--backbone-weights", "untrained", "--segment-seconds", "1", "--workers", "1", "--maps", "s32", "--quiet")


def call(*args: str | Path) -> int:
    """The command line in this process; workers are processes of their own."""
    with pytest.raises(SystemExit) as ended:
        main([str(arg) for arg in args])
    return int(ended.value.code or 0)


@pytest.fixture(scope="module", autouse=True)
def own_copies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Downloads of this module lie by themselves: workers of other tests that leave clear away what nobody uses."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("own")))
        patch.setattr(tempfile, "tempdir", None)
        yield


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of two seconds, one of which only has a name that is hard to keep."""
    folder = tmp_path_factory.mktemp("clips")
    (folder / "day 1").mkdir()
    portrait(folder / "talk.mp4", frames=50)
    portrait(folder / "day 1" / "a::b #ü.mp4", frames=40)
    (folder / "broken.mp4").write_bytes(b"no video at all")
    return folder


@pytest.fixture(scope="module")
def local(clip_folder: Path, tmp_path_factory: pytest.TempPathFactory, pool: LocalPool) -> Path:
    """All commands on the disk: what those on the stores have to equal."""
    folder = tmp_path_factory.mktemp("local")
    shutil.copytree(clip_folder, folder / "videos")
    with working_in(pool):
        assert call(*main_job(str(folder))) == 1  # broken.mp4
    everything_else(str(folder))
    return folder


def main_job(root: str) -> list[str]:
    """The command line of the main job, and its head."""
    features, out, head = f"{root}/features", f"{root}/out", f"{root}/heads/au"
    save_head(untrained_for(task_named("au"), dataset_of(ExtractConfig(maps=("s32",))).offer), head)
    return ["annotate", f"{root}/videos", "--features", features, "--output", out, "--head", head, *MEASURES]


def everything_else(root: str) -> None:
    """The commands that read what others wrote; two of them find nothing left to do."""
    features, out, head = f"{root}/features", f"{root}/out", f"{root}/heads/au"
    assert call("extract", f"{root}/videos", "--output", features, *MEASURES) == 1
    assert call("predict", features, "--head", head, "--output", out, "--workers", "1", "--quiet") in (0, 1)
    assert call("submit", out, "--task", "au", "--edition", "8") == 0
    assert call("validate", f"{out}/submission/au/predictions.txt", "--task", "au", "--edition", "8") == 0
    storage.write_bytes(f"{root}/labels/talk.txt", labels())
    assert call("score", "--task", "au", "--truth", f"{root}/labels", "--predictions", out, "--json") == 0
    for place, code in ((features, 1), (out, 0)):  # broken.mp4 is an error of the cache alone
        assert call("inspect", place, "--json") == code


def labels() -> bytes:
    """Annotations of the 50 frames of talk.mp4 as the organisers write them."""
    names = task_named("au").outputs
    rows = [",".join(str((frame + unit) % 2) for unit in range(len(names))) for frame in range(50)]
    return "\n".join([",".join(names), *rows, ""]).encode()


def content(root: str) -> dict[str, Any]:
    """Every file below a folder by relative name, but run records; tables of places as rows, without the places."""
    fs, path = storage.file_system(root)
    fs.invalidate_cache()
    found = {name[len(path) :].lstrip("/"): fs.cat_file(name) for name in fs.find(path)}
    kept = {name: data for name, data in found.items() if "runs/" not in name and not name.endswith("run.json")}
    study = root.removesuffix("/features").encode()
    return {
        name: repr(pq.read_table(pa.BufferReader(data)).to_pylist()).replace(study.decode(), "ROOT")
        if name.endswith("videos.parquet")  # holds messages with the names of files
        else data.replace(study, b"ROOT")
        for name, data in kept.items()
    }


@pytest.fixture(scope="module", params=["gs", pytest.param("s3", marks=pytest.mark.slow)])
def store(request: pytest.FixtureRequest, clip_folder: Path) -> Iterator[Store]:
    with STORES[request.param]() as bucket:
        for path in clip_folder.rglob("*.mp4"):
            storage.write_bytes(f"{bucket.uri}/study/videos/{path.relative_to(clip_folder)}", path.read_bytes())
        yield bucket


@pytest.fixture(scope="module")
def remote(store: Store, local: Path, seen_by_annotate: Proxy) -> Store:
    everything_else(f"{store.uri}/study")
    return store


@pytest.fixture(scope="module")
def seen_by_annotate(store: Store) -> Proxy:
    """What the main job asked of the store, by the console script, whose only tie to it is its environment."""
    command = emobeam(*main_job(f"{store.uri}/study"))
    store.proxy.clear()
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 1, done.stderr  # broken.mp4
    return Proxy(store.proxy.backend, list(store.proxy.seen))


def test_the_same_bytes_as_on_the_disk(remote: Store, local: Path) -> None:
    on_disk, in_store = content(str(local)), content(f"{remote.uri}/study")
    assert set(on_disk) == set(in_store)
    assert [name for name in on_disk if on_disk[name] != in_store[name]] == []
    assert sum(name.startswith("features/shards/") for name in in_store) == 4
    assert "out/submission/au/predictions.txt" in in_store


def test_no_copy_is_left_on_the_local_disk(remote: Store) -> None:
    assert copies(remote) == []


def copies(store: Store) -> list[Path]:
    """Copies of the videos on this machine, which others may use as well."""
    contents = [(uri, fingerprint(uri)) for uri in (f"{store.uri}/study/videos/{name}" for name in VIDEOS)]
    return [place for place in (downloads._place(*content) for content in contents) if place.exists()]


VIDEOS = ("talk.mp4", "day 1/a::b #ü.mp4", "broken.mp4")


def test_few_requests(remote: Store, seen_by_annotate: Proxy) -> None:
    """Of the main job, per video and per segment, whatever the number of frames: docs/object-storage.md."""
    for name in VIDEOS[:2]:
        ends = 1 if storage.size(f"{remote.uri}/study/videos/{name}") <= 2 * DIGEST_BYTES else 2
        seen = seen_by_annotate.counts(name)
        assert seen["get"] == ends + 1  # then all of it, once for all segments
        assert seen["stat"] + seen["list"] <= 3, seen  # its size
    segments = read_rows(f"{remote.uri}/study/features/segments.parquet")
    assert len(segments) == 4
    for row in segments:
        seen = seen_by_annotate.counts(row["shard"])
        assert seen["get"] <= 1 + 2 * 3, seen  # not there yet; stage 2: four looks at footer and rows
        assert seen["stat"] + seen["list"] <= 3, seen
    for name in ("shards", "predictions/au"):
        keys = [key for kind, key in seen_by_annotate.seen if kind == "list" and f"{name}/" in key]
        listed = [key for key in keys if ".parquet" not in key]
        assert len(listed) <= 3, listed  # before and after stage 1, and by stage 2


def read_rows(uri: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(pa.BufferReader(storage.read_bytes(uri))).to_pylist()
    return rows


def test_a_second_run_has_nothing_to_do_and_asks_little(remote: Store) -> None:
    features = f"{remote.uri}/study/features"
    before = content(features)
    remote.proxy.clear()
    assert call("extract", f"{remote.uri}/study/videos", "--output", features, *MEASURES) == 1
    assert content(features) == before
    for row in read_rows(f"{features}/segments.parquet"):
        seen = [kind for kind, name in remote.proxy.seen if row["shard"] in name and kind in ("put", "stat")]
        assert seen == []


@pytest.mark.slow
def test_a_killed_run_leaves_whole_shards_and_the_next_one_ends_it(remote: Store, local: Path) -> None:
    root = f"{remote.uri}/killed"
    whole = content(str(local / "features"))
    command = emobeam("extract", f"{remote.uri}/study/videos", "--output", f"{root}/features", *MEASURES)
    remote.proxy.clear()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not storage.names(f"{root}/features/shards", ".parquet"):
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.02)
    children = emobeam_processes(under=process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert gone(children)
    left = content(f"{root}/features")
    assert {name: whole[name] for name in left if name.startswith("shards/")} == {
        name: data for name, data in left.items() if name.startswith("shards/")
    }
    assert not [name for name in left if name.endswith(".tmp")]
    remote.proxy.fail("put", 503, 1)
    remote.proxy.fail("get", "reset", 1)
    command = ["extract", f"{remote.uri}/study/videos", "--output", f"{root}/features", *MEASURES]
    assert call(*command) == 1
    now = content(f"{root}/features")
    assert set(now) == set(whole)
    assert now["segments.parquet"] == whole["segments.parquet"]
    assert copies(remote) == []


def test_a_bucket_that_is_not_there_is_named(remote: Store, capsys: pytest.CaptureFixture[str]) -> None:
    other = remote.uri.partition("://")[0] + "://nobodys-bucket"
    began = time.monotonic()
    assert call("extract", f"{remote.uri}/study/videos", "--output", f"{other}/features", *MEASURES) == 2
    assert time.monotonic() - began < 240
    assert f"{other}/features" in capsys.readouterr().err
    assert call("extract", f"{other}/videos", "--output", f"{remote.uri}/unused", *MEASURES) == 2
    assert f"{other}/videos" in capsys.readouterr().err
