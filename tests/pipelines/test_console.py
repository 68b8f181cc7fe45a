"""Progress as people see it: rate, real time, time left, lines on their own."""

from __future__ import annotations

import io
import os
import re
import time
from pathlib import Path

import pytest
from rich.console import Console

from emobeam.pipelines.console import OwnWarnings, _Bar, _Lines, _Work, command, duration_text, make_ui
from tests.pipelines.runs import Told


def console(*, terminal: bool = False) -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, force_terminal=terminal, width=160, highlight=False, soft_wrap=True), text


def wait(text: io.StringIO, pattern: str, seconds: float = 60.0) -> str:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if re.search(pattern, text.getvalue()):
            break
        time.sleep(0.01)
    return text.getvalue()


def test_lines_come_on_their_own_even_if_nothing_happens() -> None:
    out, text = console()
    ui = _Lines(out, fps=6.0, every=0.05)
    ui.start("extract", 60, 2, "segments")
    assert re.search(r"^extract: 0/2 segments, 0/60 frames, 0:\d\d elapsed$", wait(text, "elapsed\n"), re.MULTILINE)
    ui.event("frames", {"frames": 30})
    said = wait(text, "left\n")
    assert re.search(
        r"0/2 segments, 30/60 frames, [\d.]+ frames/s, [\d.]+ x real time, 0:\d\d elapsed, 0:\d\d left\n", said
    )
    ui.event("done", {"key": "a"})
    ui.event("failed", {"key": "b"})
    ui.finish()
    last = text.getvalue().splitlines()[-1]
    assert last.startswith("extract: 2/2 segments, 30/60 frames, ")
    assert last.endswith("elapsed, 1 failed")
    length = len(text.getvalue())
    time.sleep(0.15)
    assert len(text.getvalue()) == length, "no line after the end"


def test_speed_is_told_in_real_time_for_frames_alone() -> None:
    work = _Work("predict", 120, 1, "videos", "frames", 6.0)
    assert work.speed(12.0) == "12.0 frames/s, 2.0 x real time"
    assert _Work("train", 120, 1, "epochs", "steps", 6.0).speed(12.0) == "12.0 steps/s"
    assert _Work("extract", 120, 1, "segments", "frames", 0.0).speed(12.0) == "12.0 frames/s"
    assert work.speed(0.0) == ""


def test_what_an_earlier_run_did_is_no_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("emobeam.pipelines.console.time.monotonic", lambda: now[0])
    work = _Work("pretrain", 1000, 10, "epochs", "images", 0.0, began=now[0])
    work.take("earlier", {"frames": 900})
    work.take("frames", {"frames": 10})
    now[0] += 5.0
    assert "910/1000 images, 2.0 images/s, 0:05 elapsed, 0:45 left" in work.line()


def test_speed_is_that_of_late(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("emobeam.pipelines.console.time.monotonic", lambda: now[0])
    work = _Work("extract", 10_000, 10, "segments", "frames", 0.0, began=now[0])
    lines = []
    for second in range(10, 200, 10):
        now[0] = second
        work.take("frames", {"frames": 0 if second <= 60 else 100})
        lines.append(work.line())
    assert ", 10.0 frames/s, 3:10 elapsed, 14:30 left" in lines[-1]
    assert ", 6.8 frames/s, 3:10 elapsed" in work.line(last=True), "on the whole, at the end"


def test_a_bar_on_a_terminal() -> None:
    out, text = console(terminal=True)
    ui = _Bar(out, fps=6.0)
    ui.start("extract", 60, 2, "segments")
    for _ in range(3):
        ui.event("frames", {"frames": 10})
        time.sleep(0.02)
    ui.event("done", {"key": "a"})
    ui.warn("something")
    ui.finish()
    said = text.getvalue()
    assert "30/60" in said
    assert "1/2 segments" in said
    assert "x real time" in said
    assert "warning: something" in said
    ui.start("probe", 3, 3, "videos", measure="videos")
    ui.event("frames", {"frames": 3})
    ui.finish()
    assert "videos · 0/3 videos" not in text.getvalue()


def test_quiet_says_warnings_alone(capsys: pytest.CaptureFixture[str]) -> None:
    ui = make_ui(quiet=True)
    ui.start("extract", 1, 1, "segments")
    ui.say("hello")
    ui.event("frames", {"frames": 1})
    ui.event("died", {"key": "a", "code": -9})
    ui.warn("look out")
    ui.finish()
    assert capsys.readouterr().err.splitlines() == [
        "warning: a worker process died (exit status -9); its work goes to another",
        "warning: look out",
    ]


def test_small_texts() -> None:
    assert command("report", "my out/") == "emobeam report 'my out/'"
    assert duration_text(3725.4) == "1:02:05"


def test_a_terminal_hears_notes_on_an_output_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command is a process of its own, and said the same two lines; a log hears them from each."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def told(output: str, *, terminal: bool = True) -> list[str]:
        out, text = console(terminal=terminal)
        ui = _Lines(out)
        ui.note("AU23 unknown", output)
        ui.note("AU23 unknown", output)
        assert ui.warned == ["AU23 unknown"]
        return text.getvalue().splitlines()

    assert told("out") == ["warning: AU23 unknown"]
    assert told(str(tmp_path / "out")) == []
    assert told("other") == ["warning: AU23 unknown"]
    assert told("out", terminal=False) == ["warning: AU23 unknown"]
    (kept,) = (tmp_path / "cache" / "emobeam" / "told").iterdir()
    os.utime(kept, (0, 0))  # of a week ago: that session is over
    assert told("out") == ["warning: AU23 unknown"]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "t.txt"))
    (tmp_path / "t.txt").touch()  # nothing can be kept there
    assert told("out") == told("out") == ["warning: AU23 unknown"]


def test_each_run_of_a_job_keeps_its_own_warnings() -> None:
    told = Told()
    first, second = OwnWarnings(told), OwnWarnings(told)
    first.warn("of the first")
    first.note("of both", "out")
    for _ in range(2):
        second.warn("of the second")
        second.warn("of both")
    assert first.warned == ["of the first", "of both"]
    assert second.warned == ["of the second", "of both"], "what the first told already is true of it, too"
    assert told.warned == ["of the first", "of both", "of the second"]
