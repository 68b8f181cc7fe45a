"""Which videos the heads behind predictions were trained and tuned on: a figure on those is no evidence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.networks.heads.config import HeadConfig
from emobeam.emo_transforms.networks.heads.folder import read_head
from emobeam.emo_transforms.networks.shipped import SHIPPED, UNTRAINED, shipped_head
from emobeam.emo_transforms.prediction.prediction_tables import read_run
from emobeam.schemas.records import EmobeamError
from emobeam.schemas.row_keys import match_names
from emobeam.schemas.tasks import Task
from emobeam.schemas.wording import counted, noun

_NAMED = 5


@dataclass(frozen=True)
class FittedVideos:
    """What is known of the heads behind predictions.

    Attributes:
        heads: their names, those that nobody trained left out.
        trained_on, tuned_on: names or ids of videos.
        unknown: why it isn't known of some, a line each.
    """

    heads: tuple[str, ...] = ()
    trained_on: tuple[str, ...] = ()
    tuned_on: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    def with_head(self, config: HeadConfig) -> FittedVideos:
        """With what a head's description says; a random head has seen nothing."""
        if config.weights == UNTRAINED and not (config.trained_on or config.tuned_on):
            return self
        if config.architecture == "ready":
            return self.without(f"the values are {config.weights}, which name no videos")
        return replace(
            self,
            heads=(*self.heads, config.name),
            trained_on=(*self.trained_on, *config.trained_on),
            tuned_on=(*self.tuned_on, *config.tuned_on),
        )

    def without(self, why: str) -> FittedVideos:
        """With one more head of which nothing is known."""
        return self if why in self.unknown else replace(self, unknown=(*self.unknown, why))

    def notes(self, names: Sequence[str]) -> list[str]:
        """What to warn of where these labelled, or submitted, videos are looked at."""
        used = (("trained", self.trained_on), ("tuned", self.tuned_on))
        found = [(verb, both) for verb, videos in used if (both := names_among(names, videos))]
        return [
            f"{len(both)} of these {counted(len(names), 'video')} {noun(len(both), 'was', 'were')} {verb} on, for "
            f"example {both[0]}: a figure on them is no evidence"
            for verb, both in found
        ]

    def overlap(self, names: Sequence[str]) -> dict[str, Any]:
        """The same as plain JSON data, with the heads that are known, and why others aren't."""
        used = {"tuned_on_this_data": self.tuned_on, "trained_on_this_data": self.trained_on}
        found = {key: names_among(names, videos) for key, videos in used.items()}
        return {
            "fitted": {"heads": list(self.heads), "unknown": list(self.unknown)},
            **{key: {"videos": len(both), "first": both[:_NAMED]} if both else None for key, both in found.items()},
        }


def names_among(names: Sequence[str], used: Sequence[str]) -> list[str]:
    """Those of the organisers' names that mean a video that was used, sorted.

    A name that may mean one of several is among them: all of those were used.
    """
    matches = match_names(names, used, strict=False)
    return sorted({*matches.found, *matches.unclear})


def fitted_by(heads: Iterable[HeadConfig]) -> FittedVideos:
    """What is known of heads that are at hand."""
    found = FittedVideos()
    for config in heads:
        found = found.with_head(config)
    return found


def fitted_videos(places: Sequence[str], task: Task) -> FittedVideos:
    """What the records beside predictions say of the heads that made them.

    Args:
        places: outputs, folders of tables, or submissions.
    """
    found = FittedVideos()
    for place in places:
        record = _record(place, task)
        heads = record.get("heads") or {}
        entries = heads.get(task.name) or heads.get(task.source) or ()
        if not entries:
            found = found.without(f"no run.json beside {place} names the head; name it with --head")
        for entry in entries:
            found = _with_entry(found, entry, task)
    return found


def _with_entry(found: FittedVideos, entry: Mapping[str, Any], task: Task) -> FittedVideos:
    uri, weights = str(entry.get("uri") or ""), str(entry.get("weights") or "")
    if weights == UNTRAINED:
        return found
    if uri == SHIPPED and (ours := shipped_head(task.name)) is not None:
        uri = str(ours.folder)
    if not uri:
        return found.without(f"the values are {weights or 'those of a backbone'}, which name no videos")
    try:
        config, digest = read_head(uri)
    except (EmobeamError, OSError):
        return found.without(f"the head {uri} can't be read any more; say with --head where it is now")
    if entry.get("sha256") not in (None, "", digest):
        return found.without(f"the head {uri} isn't the one that made the predictions any more")
    return found.with_head(config)


def _record(place: str, task: Task) -> Mapping[str, Any]:
    """The ``run.json`` of predictions, empty where there is none: of an output, or of what lies in one."""
    place = str(storage.local_path(place).absolute()) if storage.is_local(place) else place.rstrip("/")
    marks = (f"/{part}/{name}" for part in ("predictions", "submission") for name in (task.name, task.source) if name)
    for folder in (place, *(place.rpartition(mark)[0] for mark in marks if mark in place)):
        try:
            if (run := read_run(folder)) is not None:
                return run
        except EmobeamError:
            return {}
    return {}
