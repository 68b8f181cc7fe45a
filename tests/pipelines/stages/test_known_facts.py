"""What a run that did not come to its end may know of its videos: who is known is not looked at again."""

from __future__ import annotations

from typing import Any

import pytest

from emobeam.pipelines.stages.extract import _Run
from emobeam.pipelines.stages.graphs.stage_run import StageRun
from emobeam.pipelines.stages.remaining_work import Known
from emobeam.schemas.records import Fingerprint, Looked, ShardRecord, VideoFacts


@pytest.mark.parametrize(("earlier", "made", "known"), [(True, 1, False), (True, 2, True), (False, 1, True)])
def test_facts_of_a_video_with_older_shards_wait_for_its_new_ones(earlier: bool, made: int, known: bool) -> None:
    rows: dict[str, dict[str, Any]] = {"old": {"video": "talk"}} if earlier else {}
    run = _Run(Known([], rows, {}))
    looked = Looked("talk", Fingerprint(1, "aa"), segments=2, facts=VideoFacts())
    shards = [ShardRecord({"video": "talk", "shard": str(number)}) for number in range(made)]
    run.take(StageRun({"looked": [looked], "shards": shards}))
    assert ("talk" in run.facts) == known
