"""The limits of planning are limits, and memory is that of all processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.benchmarks import plan_scale
from tests.benchmarks.plan_scale import Planned, main, make_videos, plan, tree_bytes

_HOLDS = "import sys, time; held = bytearray(b'x') * 60_000_000; print('ready', flush=True); time.sleep(60)"


def test_each_limit_counts() -> None:
    assert Planned(120.0, 2.0, {"element_bytes": 1000}).too_much() == []
    assert "121.0 s" in Planned(121.0, 1.0, {"element_bytes": 1}).too_much()[0]
    assert "2.01 GB" in Planned(1.0, 2.01, {"element_bytes": 1}).too_much()[0]
    assert "1001 bytes" in Planned(1.0, 1.0, {"element_bytes": 1001}).too_much()[0]
    assert len(Planned(121.0, 3.0, {"element_bytes": 2000}).too_much()) == 3


def test_memory_of_children_is_counted() -> None:
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {_HOLDS!r}])"
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            root = psutil.Process(process.pid)
            assert root.memory_info().rss < 60e6 < tree_bytes(root) < 150e6
        finally:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
    assert tree_bytes(root) == 0


@pytest.mark.thorough
def test_a_plan_is_measured_and_ends_in_1_beyond_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_scale, "LENGTHS", (2, 3))
    make_videos(tmp_path, 4)
    found = plan(tmp_path / "videos")
    assert found.told["segments"]["value"] == 4
    assert 0 < found.told["element_bytes"] <= plan_scale.MOST_BYTES
    assert 0.01 < found.gigabytes < plan_scale.MOST_GB
    monkeypatch.setattr(plan_scale, "plan", lambda videos: found)
    monkeypatch.setattr(plan_scale, "MOST_BYTES", 1)
    with pytest.raises(SystemExit, match="1 bytes is the limit"):
        main(["--videos", "4"])
