"""What is said at the end of a run."""

from __future__ import annotations

import pyarrow as pa

from emobeam.pipelines.stages.extract import ExtractResult
from emobeam.pipelines.stages.run_summary import extract_summary
from emobeam.schemas.config import NO_BACKBONE, BackboneConfig
from emobeam.schemas.tables import VIDEOS


def test_a_cache_of_crops_alone_needs_a_backbone_next() -> None:
    """It said ``next: emobeam predict``, which always fails there."""
    row = dict.fromkeys(VIDEOS.names) | {"video": "v", "outcome": "ok", "sampled": 3, "rows": 3, "duration": 1.0}
    videos = pa.Table.from_pylist([row])
    for backbone, line in (
        (NO_BACKBONE, "emobeam extract crops --output FEATURES"),
        (BackboneConfig(weights="w"), "emobeam predict crops --output OUT"),
    ):
        summary = extract_summary(ExtractResult("run", videos, 1.0, untrained=False, backbone=backbone), "crops")
        assert summary["next"] == {"next": line}
