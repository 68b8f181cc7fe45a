"""What commands print: nothing that steers a terminal, no secrets; and streams that nobody listens to."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table

from emobeam.pipelines.cli import main
from emobeam.pipelines.console import Terminal, make_ui
from emobeam.pipelines.printing import NotPrinted, echo, printed, scarce

NASTY = "talk\x1b]0;owned\x07\x9b2J [bold] :smile: https://ann:pa55@h/a?sig=ab12"
SHOWN = "talk\\u001b]0;owned\\u0007\\u009b2J [bold] :smile: https://ann:***@h/a?sig=***"


def test_ids_and_addresses_are_shown_and_do_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    echo(NASTY)
    echo(NASTY, err=True)
    make_ui(quiet=False).warn(NASTY)
    text = io.StringIO()
    table = Table("video", box=None)
    table.add_row(NASTY)
    Terminal(file=text, width=200).print(NASTY, table)
    shown = capsys.readouterr()
    assert shown.out == f"{SHOWN}\n"
    assert shown.err == f"{SHOWN}\nwarning: {SHOWN}\n"
    assert text.getvalue().count(SHOWN) == 2
    echo(json.dumps({"video": NASTY[:12]}, ensure_ascii=False))
    assert json.loads(capsys.readouterr().out) == {"video": NASTY[:12]}


def test_mistakes_on_the_command_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    for args in (["extract", "a", f"--no-{NASTY}"], ["inspect", f"/nowhere/{NASTY}"]):
        with pytest.raises(SystemExit, match="2"):
            main(args)
        told = capsys.readouterr().err
        assert "]0;owned" in told
        assert not set("\x1b\x07\x9b") & set(told)


def test_an_output_that_takes_nothing_is_told_and_a_log_is_not_missed() -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(NotPrinted, match=r"^standard output: can't be written \(No space left on device\)"), printed():
        raise full
    with printed(err=True):
        raise full
    with pytest.raises(BrokenPipeError), printed():
        raise BrokenPipeError
    with printed(err=True):
        raise BrokenPipeError


@pytest.mark.parametrize("redirected", ["2>&-", "2>/dev/full", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_command_does_its_work_whoever_listens(redirected: str, tmp_path: Path) -> None:
    """And no file that it opens takes the place of a closed stream."""
    code = (
        "import os, sys; from emobeam.pipelines.cli import main; from emobeam.pipelines import printing\n"
        "printing.open_closed_streams(); printing.echo('to nobody', err=True); printing.echo('words')\n"
        f"os.write(os.open({str(tmp_path / 'file')!r}, os.O_CREAT | os.O_WRONLY), b'content')\n"
        "os.write(1, b'C says'); os.write(2, b'C says') if 'full' not in sys.argv[1] else None\n"
        f"open({str(tmp_path / 'done')!r}, 'w').write('done')"
    )
    command = f'"{sys.executable}" -c "$CODE" "{redirected}" {redirected}'
    subprocess.run(["sh", "-c", command], env={**os.environ, "CODE": code}, check=False, stdout=subprocess.DEVNULL)
    assert (tmp_path / "done").read_text() == "done"
    assert (tmp_path / "file").read_bytes() == b"content"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ImportError("libtorch_cuda.so: failed to map segment from shared object"), "isn't enough memory or address s"),
        (MemoryError(), r"isn't enough memory or address space \(allocation failed\)"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "isn't enough memory"),
        (RuntimeError("can't start new thread"), "isn't enough memory"),
        (PermissionError(errno.EACCES, "Permission denied", "/data/x"), "^/data/x: Permission denied$"),
        (ImportError("No module named 'x'"), None),
        (OSError("something of a library's own"), None),
        (ValueError("a mistake of ours"), None),
    ],
)
def test_what_the_machine_lacks_is_a_line(error: Exception, text: str | None) -> None:
    told = scarce(error)
    if text is None:
        assert told is None
    else:
        assert told is not None
        assert "\n" not in told
        assert re.search(text, told)
