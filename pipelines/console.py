"""What people see while a run goes on and when it ends: progress on standard error, in one place."""

from __future__ import annotations

import errno
import os
import shlex
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, NoReturn, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from emobeam.pipelines.printing import printed
from emobeam.schemas.wording import told

_LINE_EVERY = 10.0
_WINDOW = 6
"""Speed is that of so many lines, a minute: what workers took to start is soon forgotten."""


class Terminal(Console):
    """A console of rich whose strings, those in tables included, pass the check of ``emobeam.pipelines.printing``.

    They are shown as they are: without markup, unless that is asked for.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"highlight": False, "markup": False, "emoji": False, **options})

    def render_str(self, text: str, **options: Any) -> Text:
        """As rich does, of the text as it may be shown."""
        return super().render_str(told(text), **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich does; see ``printed`` for what it raises."""
        with printed(err=self.stderr):
            super().print(*objects, **options)

    def on_broken_pipe(self) -> NoReturn:
        """Where rich would end the process."""
        raise BrokenPipeError(errno.EPIPE, "nobody reads any more")


class Ui(Protocol):
    """What a job tells people. Nothing of it goes to standard output.

    Whatever makes a result different from what its user will believe is told by :meth:`warn`, and by nothing else: so
    it is on the screen, in ``warned``, in the record of the run that keeps those, and in the report that shows them.

    Attributes:
        warned: all warnings so far, in order, each once.
    """

    warned: list[str]

    def say(self, text: str) -> None:
        """One line of information."""

    def warn(self, text: str) -> None:
        """One line of warning; the same text again is no news."""

    def note(self, text: str, output: str) -> None:
        """A warning that is true of an output folder, whatever is made of it: once a session.

        That is one of Python, or of a terminal; logs hear it from each command.
        """

    def start(self, name: str, total: int, items: int, unit: str, measure: str = "frames") -> None:
        """A stretch of work begins: so many frames (or another measure) in so many pieces."""

    def event(self, event: str, data: Mapping[str, Any]) -> None:
        """Something happened: ``frames``, ``done``, ``failed``, ``retry``, ``died`` (see the pool of children),
        or ``earlier``: so many ``frames`` were done by an earlier run, and tell nothing of the speed of this one.
        """

    def finish(self) -> None:
        """The stretch of work has ended."""


class OwnWarnings:
    """The ``Ui`` of one run among several of a job: all is told by that of the job, but ``warned`` is of this run."""

    def __init__(self, ui: Ui) -> None:
        self._ui = ui
        self.warned: list[str] = []
        self.say, self.start, self.event, self.finish = ui.say, ui.start, ui.event, ui.finish

    def warn(self, text: str) -> None:
        """See :meth:`Ui.warn`."""
        self._keep(text)
        self._ui.warn(text)

    def note(self, text: str, output: str) -> None:
        """See :meth:`Ui.note`."""
        self._keep(text)
        self._ui.note(text, output)

    def _keep(self, text: str) -> None:
        if text not in self.warned:
            self.warned.append(text)


def make_ui(*, quiet: bool, fps: float = 0.0) -> Ui:
    """A progress bar on a terminal or in a notebook, a line every ten seconds elsewhere, warnings alone if quiet.

    Args:
        fps: frames per second of video that work is measured in, where that is the same for all: speed is then told
            in multiples of real time as well. 0: not known.
    """
    console = Terminal(stderr=True, soft_wrap=True)
    if quiet:
        return _Quiet(console)
    # rich draws in notebooks by ipywidgets, and nothing at all without them.
    drawn = sys.stderr.isatty() or (console.is_jupyter and find_spec("ipywidgets") is not None)
    return _Bar(console, fps) if drawn else _Lines(console, fps)


class _Quiet:
    def __init__(self, console: Console) -> None:
        self.console = console
        self.warned: list[str] = []

    def say(self, text: str) -> None:
        pass

    def warn(self, text: str) -> None:
        if text not in self.warned:
            self.warned.append(text)
            self._print_warning(text)

    def note(self, text: str, output: str) -> None:
        if self.console.is_terminal and text not in self.warned:  # a log is read from one command on
            from emobeam.emo_transforms.storage.user_folders import heard_in_session

            if heard_in_session(f"{os.path.abspath(output)}: {text}"):
                self.warned.append(text)
        self.warn(text)

    def start(self, name: str, total: int, items: int, unit: str, measure: str = "frames") -> None:
        pass

    def event(self, event: str, data: Mapping[str, Any]) -> None:
        if event == "died":  # results stay the same, so it is no matter for the record
            self._print_warning(f"a worker process died (exit status {data['code']}); its work goes to another")

    def finish(self) -> None:
        pass

    def _print_warning(self, text: str) -> None:
        self.console.print(f"warning: {text}", markup=False)


@dataclass
class _Work:
    """One stretch of work, counted.

    Attributes:
        frames: done, in the measure of the work; ``earlier`` of them by an earlier run.
        samples: (seconds since the beginning, frames of this run) now and then, for the speed of late.
    """

    name: str
    total: int
    items: int
    unit: str
    measure: str
    fps: float
    frames: int = 0
    earlier: int = 0
    done: int = 0
    failed: int = 0
    began: float = field(default_factory=time.monotonic)
    samples: deque[tuple[float, int]] = field(default_factory=lambda: deque([(0.0, 0)], maxlen=_WINDOW))

    def take(self, event: str, data: Mapping[str, Any]) -> None:
        if event in ("frames", "earlier"):
            self.frames += data["frames"]
            self.earlier += data["frames"] if event == "earlier" else 0
        elif event in ("done", "failed"):
            self.done += 1
            self.failed += event == "failed"

    @property
    def elapsed(self) -> float:
        return max(time.monotonic() - self.began, 1e-6)

    @property
    def pieces(self) -> str:
        return f"{self.done}/{self.items} {self.unit}"

    def speed(self, rate: float) -> str:
        """``28.8 frames/s, 4.8 x real time``; nothing where it isn't known yet."""
        if rate <= 0:
            return ""
        text = f"{rate:.1f} {self.measure}/s"
        return text + (f", {rate / self.fps:.1f} x real time" if self.fps and self.measure == "frames" else "")

    def line(self, *, last: bool = False) -> str:
        """The state of things: of late while it goes on, on the whole at its end."""
        now = (self.elapsed, self.frames - self.earlier)
        before = (0.0, 0) if last else self.samples[0]
        self.samples.append(now)
        rate = (now[1] - before[1]) / max(now[0] - before[0], 1e-6)
        parts = [f"{self.name}: {self.pieces}"]
        if self.measure != self.unit:
            parts.append(f"{self.frames}/{self.total} {self.measure}")
        parts += [self.speed(rate)] if rate > 0 else []
        parts.append(f"{_span(now[0])} elapsed")
        if not last and rate > 0:
            parts.append(f"{_span(max(self.total - self.frames, 0) / rate)} left")
        return ", ".join(parts + ([f"{self.failed} failed"] if self.failed else []))


class _Lines(_Quiet):
    """For logs: a line every ten seconds, whether anything happened or not."""

    def __init__(self, console: Console, fps: float = 0.0, every: float = _LINE_EVERY) -> None:
        super().__init__(console)
        self._fps, self._every = fps, every
        self._work: _Work | None = None
        self._over = threading.Event()
        self._lock = threading.Lock()

    def say(self, text: str) -> None:
        self.console.print(text)

    def start(self, name: str, total: int, items: int, unit: str, measure: str = "frames") -> None:
        self._over.set()
        self._over = threading.Event()
        self._work = _Work(name, total, items, unit, measure, self._fps)
        threading.Thread(target=self._tick, args=(self._work, self._over), daemon=True).start()

    def event(self, event: str, data: Mapping[str, Any]) -> None:
        super().event(event, data)
        if self._work is not None:
            with self._lock:
                self._work.take(event, data)

    def finish(self) -> None:
        self._over.set()
        if self._work is not None:
            with self._lock:
                line = self._work.line(last=True)
            self.say(line)
            self._work = None

    def _tick(self, work: _Work, over: threading.Event) -> None:
        while not over.wait(self._every):
            with self._lock:
                line = work.line()
            self.say(line)


class _Bar(_Quiet):
    """For terminals."""

    def __init__(self, console: Console, fps: float = 0.0) -> None:
        super().__init__(console)
        self._fps = fps
        self._progress: Progress | None = None
        self._work: _Work | None = None

    def say(self, text: str) -> None:
        self.console.print(text)

    def start(self, name: str, total: int, items: int, unit: str, measure: str = "frames") -> None:
        self.finish()
        self._work = _Work(name, total, items, unit, measure, self._fps)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn(measure + "{task.fields[pieces]}{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
        )
        self._task = self._progress.add_task(name, total=total, pieces=self._pieces(self._work), rate="")
        self._progress.start()

    def event(self, event: str, data: Mapping[str, Any]) -> None:
        super().event(event, data)
        if self._progress is None or self._work is None:
            return
        self._work.take(event, data)
        if event == "earlier":  # rich would take it for speed
            self._progress.reset(self._task, completed=self._work.frames)
        elif event == "frames":
            self._progress.update(self._task, advance=data["frames"])
            speed = self._work.speed(self._progress.tasks[0].speed or 0.0)
            self._progress.update(self._task, rate=f" · {speed}" if speed else "")
        elif event in ("done", "failed"):
            self._progress.update(self._task, pieces=self._pieces(self._work))

    def finish(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    @staticmethod
    def _pieces(work: _Work) -> str:
        pieces = f" · {work.pieces}" if work.unit != work.measure else ""
        return pieces + (f", {work.failed} failed" if work.failed else "")


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def command(name: str, *parts: str) -> str:
    """A command as it is typed; words with blanks are quoted."""
    return shlex.join(["emobeam", name, *parts])


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
