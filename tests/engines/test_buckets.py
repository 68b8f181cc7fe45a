"""A job whose videos, cache and output lie in a bucket: an emulator of Google Cloud Storage beside the cluster."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from tests.engines.clusters import Cluster, start_pool
from tests.engines.conftest import Reference
from tests.engines.jobs import LEAVE, annotate, differences, left_over
from tests.object_stores import google_store
from tests.pipelines.runs import gone


@pytest.mark.parametrize("cluster", ["flink"], indirect=True)
def test_videos_cache_and_output_lie_in_a_bucket(cluster: Cluster, few: Reference, tmp_path: Path) -> None:
    """Workers come from a pool that was started after the emulator, so they know its address."""
    with google_store() as store:
        bucket = fsspec.filesystem("gs")
        bucket.put(f"{few.inputs}/", f"{store.uri}/clips/", recursive=True)
        pool = start_pool(cluster)
        ended = annotate(f"{store.uri}/clips", f"{store.uri}/out", cluster, f"external:{pool}")
        assert ended.code == 1, ended.text + cluster.logs()
        assert gone(cluster.python_workers(), LEAVE)
        bucket.invalidate_cache()
        bucket.get(f"{store.uri}/out/", f"{tmp_path}/out/", recursive=True)
    assert differences(tmp_path / "out", few.output) == []
    assert left_over(tmp_path / "out") == []
