"""What people see of a stage: one account of events, whether they come from this process or as sums from workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from emobeam.pipelines.console import Ui


class ExtractProgress:
    """First the look at the inputs, then the segments they have, whose number is known once all are looked at.

    Args:
        planned: called when all inputs are looked at.
    """

    def __init__(self, ui: Ui, videos: int, planned: Callable[[], None] = lambda: None) -> None:
        self._ui = ui
        self._left = videos
        self._planned = planned
        self._segments = self._frames = 0
        ui.start("probe", videos, videos, "videos", measure="videos")

    @property
    def extracting(self) -> bool:
        """Whether all inputs are looked at."""
        return not self._left

    def __call__(self, event: str, data: Mapping[str, Any]) -> None:
        """Takes an event of a step."""
        if event != "looked":
            if event != "bundle":
                self._ui.event(event, data)
            return
        if not self._left:
            return  # a bundle that was tried again
        self._left -= 1
        self._segments += data["segments"]
        self._frames += data["frames"]
        self._ui.event("frames", {"frames": 1})
        self._ui.event("failed" if data["failed"] else "done", {"key": data["key"]})
        if not self._left:
            self._ui.finish()
            self._planned()
            self._ui.start("extract", self._frames, self._segments, "segments")

    def finish(self) -> None:
        """The run has ended."""
        self._ui.finish()


class PredictProgress:
    """Videos of a stage 2."""

    extracting = True

    def __init__(self, ui: Ui, frames: int, videos: int) -> None:
        self._ui = ui
        ui.start("predict", frames, videos, "videos")

    def __call__(self, event: str, data: Mapping[str, Any]) -> None:
        """Takes an event of a step."""
        if event != "bundle":
            self._ui.event(event, data)

    def finish(self) -> None:
        """The run has ended."""
        self._ui.finish()


Progress = ExtractProgress | PredictProgress


class FromSums:
    """Makes events of the sums that workers leave. A bundle that is tried again counts twice; sums never go back."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._told: dict[str, int] = {}

    def __call__(self, counts: Mapping[str, int]) -> None:
        """Takes what all workers together have counted so far."""
        segments, frames = self._more(counts, "planned"), self._more(counts, "planned_frames")
        for _ in range(self._more(counts, "videos")):
            self._progress("looked", {"key": "", "segments": segments, "frames": frames, "failed": False})
            segments = frames = 0
        if not self._progress.extracting:  # an engine may extract what is planned while it plans the rest
            return
        if more := self._more(counts, "frames"):
            self._progress("frames", {"frames": more})
        for event in ("done", "failed"):
            for _ in range(self._more(counts, event)):
                self._progress(event, {"key": ""})

    def _more(self, counts: Mapping[str, int], name: str) -> int:
        more = max(0, counts.get(name, 0) - self._told.get(name, 0))
        self._told[name] = self._told.get(name, 0) + more
        return more
