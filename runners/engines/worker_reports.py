"""What the launcher hears of the workers of a job, and what it makes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from emobeam.emo_transforms.storage.run_mailbox import Exchange
from emobeam.runners.children.settings import RunStopped
from emobeam.runners.engines.jars import minor
from emobeam.runners.worker_boot import versions
from emobeam.runners.worker_progress import Heard, Listener

_CALLED = {"python": "Python", "apache-beam": "Beam", "emobeam": "emobeam"}


class Workers:
    """What the launcher hears of the workers of a job."""

    def __init__(self, exchange: Exchange, on_heard: Callable[[Heard], None], warn: Callable[[str], None]) -> None:
        self._listener = Listener(exchange)
        self._on_heard = on_heard
        self._warn = warn
        self._ours = versions()
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
        for host, theirs in self.heard.versions.items():
            for name, (there, here) in differences(theirs, self._ours).items():
                text = f"{host}: workers run {_CALLED[name]} {there}, and here it is {here}"
                if name == "emobeam":
                    raise RunStopped(f"{text}; what they write may differ: install the same version there")
                if (host, name) not in self._told:
                    self._told.add((host, name))
                    self._warn(
                        f"{text}; what one of them writes the other may not read: install the same "
                        f"{'minor ' if name == 'python' else ''}version"
                    )


def differences(theirs: Mapping[str, str], ours: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Where workers differ from the launcher: in Python's minor version, in Beam, or in emobeam's code.

    Args:
        theirs: what workers said; those of another emobeam may leave anything out.
        ours: see :func:`emobeam.runners.worker_boot.versions`.

    Returns:
        By name, what it is there and what it is here.
    """
    found = {}
    for name, key in (("python", "python"), ("apache-beam", "apache-beam"), ("emobeam", "code")):
        there, here = theirs.get(key, ""), ours[key]
        if minor(there) != minor(here) if name == "python" else there != here:
            found[name] = (_called(name, theirs), _called(name, ours))
    return found


def _called(name: str, versions: Mapping[str, str]) -> str:
    version = versions.get(name) or "unknown"
    return f"{version} (code {versions.get('code') or 'unknown'})" if name == "emobeam" else version
