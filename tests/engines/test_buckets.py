"""A job whose videos, cache and output lie in a bucket: an emulator of Google Cloud Storage beside the cluster."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import fsspec
import pytest

from tests.engines.clusters import Cluster, start_pool
from tests.engines.conftest import Reference
from tests.engines.jobs import LEAVE, annotate, differences, left_over
from tests.object_stores import google_store
from tests.pipelines.runs import gone, rows


@pytest.mark.long
@pytest.mark.parametrize("cluster", ["flink"], indirect=True)
def test_videos_cache_and_output_lie_in_a_bucket(cluster: Cluster, few: Reference, tmp_path: Path) -> None:
    """The same bytes as on the disk, nothing left behind, and the requests that docs/object-storage.md tells of.

    Workers come from a pool that was started after the emulator, so they know its address.
    """
    with google_store() as store:
        bucket = fsspec.filesystem("gs")
        bucket.put(f"{few.inputs}/", f"{store.uri}/clips/", recursive=True)
        pool = start_pool(cluster)
        store.proxy.clear()
        ended = annotate(f"{store.uri}/clips", f"{store.uri}/out", cluster, f"external:{pool}")
        assert ended.code == 1, ended.text + cluster.logs()
        assert gone(cluster.python_workers(), LEAVE)
        cluster.daemons["python-pool"].terminate()
        seen = list(store.proxy.seen)
        bucket.invalidate_cache()
        bucket.get(f"{store.uri}/out/", f"{tmp_path}/out/", recursive=True)
    assert differences(tmp_path / "out", few.output) == []
    assert left_over(tmp_path / "out") == []
    check_requests(
        seen,
        [row["shard"] for row in rows(tmp_path / "out" / "features" / "segments.parquet")],
        sent_again=ended.text.count("sending what is left again"),
    )


def check_requests(seen: list[tuple[str, str]], shards: list[str], *, sent_again: int) -> None:
    """Launcher and workers together, whatever the number of workers.

    Args:
        seen: kind and object, or query, of every request.
        shards: names of all shards, each with one row group.
        sent_again: how often a job was sent again that lost its workers.
    """
    listings = [query for kind, query in seen if kind == "list" and "features/shards/" in query]
    of_folder = [query for query in listings if ".parquet" not in query]
    # Before and after stage 1, and by stage 2; workers never list. For a job that is sent again: two more.
    assert 1 <= len(of_folder) <= 3 + 2 * sent_again, of_folder
    asked: Counter[str] = Counter()
    for shard in shards:
        asked.update(kind for kind, name in seen if shard in name)
    # Is it there; its footer in the index; stage 2's four readings, each of footer and row group. One shard may be
    # looked for once more where a bundle is done again, and most need less than four readings, so the sum counts.
    assert len(shards) <= asked["get"] <= (2 + 4 * 2 + sent_again) * len(shards), asked
    # Its size, once: gcsfs asks for a file and a folder at once.
    assert asked["list"] + asked["stat"] <= 3 * (1 + sent_again) * len(shards), asked
