"""How the command line was called: what a command knows beside its own options."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Invocation:
    """What is behind ``--``, and whose process this is.

    Attributes:
        beam_args: options for Beam.
        own_process: the process was started for the command, and ends with it.
    """

    beam_args: tuple[str, ...] = ()
    own_process: bool = False

    def load_lightly(self, runner: str = "direct") -> None:
        """Keeps out of a process of its own what libraries load just in case."""
        if not self.own_process:
            return
        from emobeam.emo_transforms.storage.lean_imports import arrow_without_pandas, beam_without_stores

        arrow_without_pandas()
        if runner == "direct":
            beam_without_stores()
