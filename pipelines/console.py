"""What people see while a run goes on and when it ends: progress on standard error, in one place."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_LINE_EVERY = 10.0


class Ui(Protocol):
    """What a job tells people. Nothing of it goes to standard output."""

    def say(self, text: str) -> None:
        """One line of information."""

    def warn(self, text: str) -> None:
        """One line of warning."""

    def start(self, name: str, total: int, items: int, unit: str, measure: str = "frames") -> None:
        """A stretch of work begins: so many frames (or another measure) in so many pieces."""

    def event(self, event: str, data: Mapping[str, Any]) -> None:
        """Something happened: ``frames``, ``done``, ``failed``, ``retry``, ``died`` (see runners.local)."""

    def finish(self) -> None:
        """The stretch of work has ended."""


def make_ui(*, quiet: bool) -> Ui:
    """A progress bar on a terminal, a line every ten seconds elsewhere, warnings alone if quiet."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if quiet:
        return _Quiet(console)
    return _Bar(console) if sys.stderr.isatty() else _Lines(console)


class _Quiet:
    def __init__(self, console: Console) -> None:
        self.console = console

    def say(self, text: str) -> None:
        pass

    def warn(self, text: str) -> None:
        self.console.print(f"warning: {text}", markup=False)

    def start(self, name: str, total: int, items: int, unit: str, measure: str = "frames") -> None:
        pass

    def event(self, event: str, data: Mapping[str, Any]) -> None:
        if event == "died":
            self.warn(f"a worker process died (exit status {data['code']}); its work goes to another")

    def finish(self) -> None:
        pass


class _Lines(_Quiet):
    """For logs."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._name = self._unit = self._measure = ""
        self._total = self._items = self._frames = self._done = self._failed = 0
        self._began = self._last = 0.0

    def say(self, text: str) -> None:
        self.console.print(text, markup=False)

    def start(self, name: str, total: int, items: int, unit: str, measure: str = "frames") -> None:
        self._name, self._total, self._items, self._unit, self._measure = name, total, items, unit, measure
        self._frames = self._done = self._failed = 0
        self._began = self._last = time.monotonic()

    def event(self, event: str, data: Mapping[str, Any]) -> None:
        super().event(event, data)
        if event == "frames":
            self._frames += data["frames"]
        elif event in ("done", "failed"):
            self._done += 1
            self._failed += event == "failed"
        if time.monotonic() - self._last >= _LINE_EVERY:
            self._line()

    def finish(self) -> None:
        self._line()

    def _line(self) -> None:
        self._last = time.monotonic()
        elapsed = max(self._last - self._began, 1e-6)
        rate = self._frames / elapsed
        text = f"{self._name}: {self._done}/{self._items} {self._unit}"
        if self._measure != self._unit:
            text += f", {self._frames}/{self._total} {self._measure}"
        if rate > 0:
            left = max(self._total - self._frames, 0) / rate
            text += f", {rate:.1f} {self._measure}/s, {_span(elapsed)} gone, {_span(left)} left"
        self.say(text + (f", {self._failed} failed" if self._failed else ""))


class _Bar(_Quiet):
    """For terminals."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._progress: Progress | None = None
        self._unit = ""
        self._items = self._done = self._failed = 0

    def say(self, text: str) -> None:
        self.console.print(text, markup=False)

    def start(self, name: str, total: int, items: int, unit: str, measure: str = "frames") -> None:
        self._unit, self._items = unit, items
        self._done = self._failed = 0
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(measure + " · {task.fields[pieces]} · {task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
        )
        self._task = self._progress.add_task(name, total=total, pieces=self._pieces(), rate="")
        self._progress.start()

    def event(self, event: str, data: Mapping[str, Any]) -> None:
        super().event(event, data)
        if self._progress is None:
            return
        if event == "frames":
            self._progress.update(self._task, advance=data["frames"])
            speed = self._progress.tasks[0].speed
            self._progress.update(self._task, rate=f"{speed:.1f}/s" if speed else "")
        elif event in ("done", "failed"):
            self._done += 1
            self._failed += event == "failed"
            self._progress.update(self._task, pieces=self._pieces())

    def finish(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _pieces(self) -> str:
        failed = f", {self._failed} failed" if self._failed else ""
        return f"{self._done}/{self._items} {self._unit}{failed}"


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def size_text(count: float) -> str:
    """Bytes for people: ``1.4 GB``."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def duration_text(seconds: float) -> str:
    """A length of video for people: ``3:02:11`` or ``0:12``."""
    return _span(seconds)
