from __future__ import annotations

import logging

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from emobeam.runners.beam_options import check_beam_args
from emobeam.schemas.records import UsageError


def test_every_option_that_beam_has_passes() -> None:
    """Those in Beam's own list of options that are plain texts."""
    known = PipelineOptions([]).get_all_options()
    assert len(known) > 100
    for name in ("temp_location", "job_name", "artifacts_dir", "region"):
        assert name in known
        check_beam_args([f"--{name}=text"])


@pytest.mark.parametrize("argument", ["--tempp_location=x", "--temp_loc=x", "--help", "-h", "name"])
def test_what_beam_has_not_is_an_error(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Beam itself drops it without a word, completes a name, or prints its own help."""
    with pytest.raises(UsageError, match=f"Beam has no option {argument}; emobeam's own options stand before --"):
        check_beam_args([argument])
    assert capsys.readouterr() == ("", "")


def test_a_value_that_beam_does_not_take_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="after --: argument --parallelism: invalid int value: 'many'"):
        check_beam_args(["--parallelism=many"])
    assert capsys.readouterr() == ("", "")


def test_logging_of_the_program_stays_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])
    check_beam_args(["--temp_location=x"])
    assert logging.root.handlers == []
