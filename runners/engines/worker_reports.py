"""What the launcher hears of the workers of a job, and what it makes of it."""

from __future__ import annotations

from collections.abc import Callable

from emobeam.emo_transforms.storage.run_mailbox import Exchange
from emobeam.runners.engines.jars import minor
from emobeam.runners.local import RunStopped
from emobeam.runners.worker_boot import versions
from emobeam.runners.worker_progress import Heard, Listener

_CALLED = {"python": "Python", "apache-beam": "Beam", "emobeam": "emobeam"}


class Workers:
    """What the launcher hears of the workers of a job."""

    def __init__(self, exchange: Exchange, on_heard: Callable[[Heard], None], warn: Callable[[str], None]) -> None:
        self._listener = Listener(exchange)
        self._on_heard = on_heard
        self._warn = warn
        self._told: set[tuple[str, str]] = set()
        self._deaf = False
        self.heard = Heard()

    @property
    def pause(self) -> float:
        """Seconds between two looks."""
        return self._listener.pause

    def listen(self) -> bool:
        """Looks what is new. False where that fails: the job doesn't depend on it, and goes on."""
        try:
            self.heard = self._listener.hear()
        except Exception as error:  # noqa: BLE001 - whatever a store's client raises
            if not self._deaf:
                self._deaf = True
                self._warn(f"how far the workers are can't be read ({error}); the job goes on")
            return False
        self._on_heard(self.heard)
        return True

    def compare(self) -> None:
        """Tells once of every machine whose workers run another Python (minor version) or Beam.

        Raises:
            RunStopped: they run another emobeam, which may write other bytes.
        """
        ours = versions()
        for host, theirs in self.heard.versions.items():
            for name, here in ours.items():
                there = theirs.get(name, "unknown")
                same = minor(there) == minor(here) if name == "python" else there == here
                if same:
                    continue
                text = f"{host}: workers run {_CALLED[name]} {there}, and here it is {here}"
                if name == "emobeam":
                    raise RunStopped(f"{text}; what they write may differ: install the same version there")
                if (host, name) not in self._told:
                    self._told.add((host, name))
                    self._warn(
                        f"{text}; what one of them writes the other may not read: install the same "
                        f"{'minor ' if name == 'python' else ''}version"
                    )
