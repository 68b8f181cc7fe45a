"""What a record keeps of an earlier one."""

from __future__ import annotations

from pathlib import Path

import pytest

from emobeam.emo_transforms.abaw.scoring.fitted_videos import fitted_videos
from emobeam.pipelines.stages.run_record import _earlier
from emobeam.schemas.tasks import task_named


@pytest.mark.parametrize("content", ["[]", '{"submissions": [1]}', '{"submissions": null}', "{bad", "{}"])
def test_a_record_of_another_form_is_as_good_as_none(content: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(content)
    assert _earlier(str(tmp_path), str(tmp_path / "run.json"), "submissions", "submission", ["au"]) == {}


@pytest.mark.parametrize("heads", ['{"au": [1]}', "[1]", '{"au": {"uri": "x"}}', "null"])
def test_heads_of_another_form_are_as_good_as_none(heads: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(f'{{"heads": {heads}}}')
    assert "names the head" in str(fitted_videos([str(tmp_path)], task_named("au")))
