"""From the sums that workers leave to the events that people are told."""

from __future__ import annotations

from emobeam.pipelines.console import Ui


class Stage:
    """Tells a ``Ui`` what has been added since the last time. A retried bundle may count twice; sums never go back."""

    def __init__(self, ui: Ui) -> None:
        self._ui = ui
        self._told: dict[str, int] = {}

    def tell(self, event: str, now: int) -> None:
        """``now`` is the sum of an event (``frames``, ``done``, ``failed``) so far."""
        before = self._told.get(event, 0)
        if now <= before:
            return
        self._told[event] = now
        if event == "frames":
            self._ui.event("frames", {"frames": now - before})
            return
        for _ in range(now - before):
            self._ui.event(event, {"key": ""})
