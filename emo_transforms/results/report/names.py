"""What outputs are called for people who don't know the codes by heart."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

ACTION_UNITS: Mapping[str, str] = MappingProxyType(
    {
        "AU1": "inner brow raiser",
        "AU2": "outer brow raiser",
        "AU4": "brow lowerer",
        "AU6": "cheek raiser",
        "AU7": "lid tightener",
        "AU10": "upper lip raiser",
        "AU12": "lip corner puller",
        "AU15": "lip corner depressor",
        "AU23": "lip tightener",
        "AU24": "lip pressor",
        "AU25": "lips part",
        "AU26": "jaw drop",
    }
)
"""Names of the action units (Facial Action Coding System; Ekman, Friesen & Hager 2002)."""


def output_title(output: str) -> str:
    """A few words beside an output's own name, ``""`` where that says it all."""
    return ACTION_UNITS.get(output, "")
