"""What a record keeps of an earlier one."""

from __future__ import annotations

from pathlib import Path

import pytest

from emobeam.emo_transforms.abaw.scoring.fitted_videos import fitted_videos
from emobeam.emo_transforms.prediction.prediction_tables import read_run
from emobeam.pipelines.stages.run_record import _earlier
from emobeam.schemas.records import EmobeamError
from emobeam.schemas.tasks import task_named


@pytest.mark.parametrize("content", ["[]", '{"submissions": [1]}', '{"submissions": null}', "{bad", "{}"])
def test_a_record_of_another_form_is_as_good_as_none(content: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(content)
    assert _earlier(str(tmp_path), "submissions", "submission", ["au"]) == {}


@pytest.mark.parametrize("heads", ['{"au": [1]}', "[1]", '{"au": {"uri": "x"}}', "null"])
def test_heads_of_another_form_are_as_good_as_none(heads: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(f'{{"heads": {heads}}}')
    assert "names the head" in str(fitted_videos([str(tmp_path)], task_named("au")))


@pytest.mark.parametrize("content", ["[]", '{"submissions": [1]}', '{"heads": {"au": [1]}}', "{bad"])
def test_a_record_of_another_form_is_named(content: str, tmp_path: Path) -> None:
    """Whoever summarised, compared or exported such an output saw a traceback."""
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(EmobeamError, match=r"run\.json: not"):
        read_run(str(tmp_path))


def test_no_record_is_none(tmp_path: Path) -> None:
    assert read_run(str(tmp_path)) is None
