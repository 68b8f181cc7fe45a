"""The published split, and whether weights were trained on its test side."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from emobeam.emo_transforms.networks.checkpoints.trained_on import PRETRAIN_FILE, trained_on
from emobeam.emo_transforms.networks.shipped import SHIPPED

_FILE = Path(__file__).resolve().parents[3] / "emo_transforms" / "networks" / "shipped" / "split.json"
_LABELLED = "pseudo-label.json"
_PHOTOGRAPHS = re.compile(r"london|(?:^|/)(?:photo|moving)\d*(?:/|$)")
_PERSON = re.compile(r"(?:(?P<folder>.*)/)?(?P<person>\d+)(?:-\d+)*")


def read_split() -> dict[str, Any]:
    """The content of ``split.json``."""
    split: dict[str, Any] = json.loads(_FILE.read_text())
    return split


def london_test() -> list[str]:
    """Identities of the London set on the test side."""
    return sorted(read_split()["london"]["test"])


def renders_test() -> tuple[int, int]:
    """First and last number of the rendered people of the test side."""
    first, last = read_split()["renders"]["test"]
    return int(first), int(last)


def leaked(names: Iterable[str], folders: Iterable[str] = ()) -> list[str]:
    """Which training videos or people belong to the test side.

    Args:
        names: ids of stage 1 over people folders, ``<person>-<clip>``, below the name of the folder where there are
            several; or groups of people, ``<folder>/<person>`` or ``photo/<person>``; or names of real clips.
        folders: people folders that were trained on, as far as they are known and still there: one that holds
            labelled photographs (``pseudo-label.json``) holds London identities.

    Folders are taken for London photographs by what they hold, or by their names: ``photo`` (the collection of all
    labelled photographs), ``moving``, or with ``london`` in it. Numbers of all others are those of rendered people.
    """
    split = read_split()
    first, last = renders_test()
    london = {int(name) for name in split["london"]["test"]}
    clips = {Path(name).stem for name in split["clips"]["test"]}
    photographs = {Path(folder).name for folder in folders if (Path(folder) / _LABELLED).exists()}
    found = []
    for name in names:
        match = _PERSON.fullmatch(name)
        if match is None:
            known = Path(name).stem in clips
        else:
            folder, person = match["folder"] or "", int(match["person"])
            known = first <= person <= last
            if photographs & set(folder.split("/")) or _PHOTOGRAPHS.search(folder.lower()):
                known |= person in london
        if known:
            found.append(name)
    return found


def backbone_people(backbone: str) -> tuple[list[str] | None, list[str]]:
    """Groups of people that a backbone was trained on, and its people folders, as far as the files beside it tell.

    Args:
        backbone: ``shipped``, or path of its file.

    Returns:
        None for the groups where nobody says; see ``emobeam.emo_transforms.networks.checkpoints.trained_on``.
    """
    note = Path(backbone).parent / PRETRAIN_FILE
    beside = backbone != SHIPPED and note.exists()
    folders = json.loads(note.read_text()).get("data", {}).get("sources", []) if beside else []
    return trained_on(backbone), list(folders)
