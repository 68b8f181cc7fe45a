"""What a record keeps of an earlier one."""

from __future__ import annotations

from pathlib import Path

import pytest

from emobeam.pipelines.stages.run_record import _earlier


@pytest.mark.parametrize("content", ["[]", '{"submissions": [1]}', '{"submissions": null}', "{bad", "{}"])
def test_a_record_of_another_form_is_as_good_as_none(content: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(content)
    assert _earlier(str(tmp_path), str(tmp_path / "run.json"), "submissions", "submission", ["au"]) == {}
