from __future__ import annotations

import re
import time

from emobeam.pipelines.run_origin import new_run_id


def test_ids_of_runs_sort_by_time_within_a_second_too() -> None:
    """The newest record of a cache is found by its name."""
    ids = []
    for _ in range(50):
        ids.append(new_run_id())
        time.sleep(0.002)
    assert ids == sorted(ids)
    assert all(re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{8}", each) for each in ids)
    assert len({new_run_id() for _ in range(1000)}) == 1000
