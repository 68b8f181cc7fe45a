"""Which training videos select and tune: cut by person where names tell, never official validation videos."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.abaw.labels.reading import (
    VideoLabels,
    Warn,
    chosen_partition,
    label_sources,
    partitions,
    read_labels,
)
from emobeam.emo_transforms.inputs.user_tables import read_table
from emobeam.schemas.records import EmobeamError, UsageError
from emobeam.schemas.row_keys import match_names, participant_of, without_side
from emobeam.schemas.tasks import Task

_PART = re.compile(r"(?:[-_ ]?part[-_ ]?\d+|(?<=\d)-\d{1,3}|_\d{1,3})$", re.IGNORECASE)
"""The number of a part at the end of a name: ``_part2``, ``video12-1``, ``video45_1``."""

OVERSHOOT = 1.5
"""A group is passed over where the hold-out would become this many times what was asked for."""


@dataclass(frozen=True)
class Holdout:
    """A cut of the training names.

    Attributes:
        train, held: names of labels, sorted.
        groups: how many groups (persons, recordings) there were.
        by: what made a group, for people.
    """

    train: tuple[str, ...]
    held: tuple[str, ...]
    groups: int = 0
    by: str = ""


def group_of(task: Task, name: str) -> str:
    """What a name belongs to: names of one group may show the same person.

    * BAH: the participant's folder.
    * Else the recording: the name without ``_left``/``_right`` and one part number (``video12-1``, ``a_part2``,
      ``122-60-1920x1080-5``). The size in ``14-30-1920x1080`` is no part number.
    * Where names don't tell (EMI, LSD): the name itself.
    """
    if task.labels.subjects == "folder":
        return participant_of(name)
    if task.labels.subjects != "name":
        return name
    stem = without_side(name)
    return _PART.sub("", stem) or stem


def grouped_by(task: Task) -> str:
    """What :func:`group_of` puts together, for people: ``clip`` where names don't tell who is who."""
    return {"folder": "participant", "name": "recording"}.get(task.labels.subjects, "clip")


def cut_holdout(
    sizes: Mapping[str, int],
    groups: Mapping[str, str],
    fraction: float,
    *,
    seed: int = 0,
    by: str = "recording",
) -> Holdout:
    """Holds whole groups out until about ``fraction`` of the rows is reached; never all groups.

    Groups come in the order of a hash of the seed and their name, so the cut hangs on nothing else, and adding a
    group changes little.

    Args:
        sizes: rows of each name.
        groups: group of each name.
        fraction: 0 holds nothing out.

    Raises:
        EmobeamError: there are fewer than two groups.
    """
    members: dict[str, list[str]] = defaultdict(list)
    for name in sizes:
        members[groups[name]].append(name)
    if not fraction:
        return Holdout(tuple(sorted(sizes)), (), len(members), by)
    if len(members) < 2:
        raise EmobeamError(
            f"all {len(sizes)} labelled videos belong to one {by} ({next(iter(members), '-')!r}), so none can be held "
            "out; name --subjects FILE (video,subject), --holdout FILE with ids, or --holdout 0"
        )
    weight = {group: sum(max(sizes[name], 1) for name in names) for group, names in members.items()}
    wanted = fraction * sum(weight.values())
    order = sorted(members, key=lambda group: (_hash(f"{seed}:{group}"), group))
    held: list[str] = []
    taken = 0
    for group in order:
        if taken >= wanted or len(held) == len(order) - 1:
            break
        if taken + weight[group] <= max(OVERSHOOT * wanted, 1):
            held.append(group)
            taken += weight[group]
    if not held:
        held = [min(order, key=lambda group: weight[group])]
    chosen = set(held)
    return Holdout(
        tuple(sorted(name for name in sizes if groups[name] not in chosen)),
        tuple(sorted(name for name in sizes if groups[name] in chosen)),
        len(members),
        by,
    )


def named_holdout(names: Sequence[str], wanted: Sequence[str]) -> Holdout:
    """The cut that a list of ids asks for: names of labels, or of videos (then all people in them).

    Raises:
        UsageError: an id is no labelled video, or nothing is left to train on.
    """
    held = {name for name in names if name in set(wanted)}
    rest = [entry for entry in wanted if entry not in held]
    matches = match_names(names, rest) if rest else None
    by_video = {name for name, (video, _) in matches.found.items() if video} if matches else set()
    found = {matches.found[name][0] for name in by_video} if matches else set()
    if missing := [entry for entry in rest if entry not in found]:
        raise UsageError(f"--holdout: {len(missing)} ids are no labelled videos, for example {missing[0]!r}")
    held |= by_video
    train = tuple(sorted(set(names) - held))
    if not held or not train:
        raise UsageError(f"--holdout: {len(held)} of {len(names)} labelled videos are held out; some must be left")
    return Holdout(train, tuple(sorted(held)), len(names), "list")


def read_ids(uri: str) -> list[str]:
    """Ids from a text file, one a line; empty lines and those that begin with ``#`` don't count.

    Raises:
        EmobeamError: there is no such file, or it names none.
    """
    try:
        with storage.open_text(uri) as file:
            ids = [line.strip() for line in file]
    except (FileNotFoundError, IsADirectoryError) as error:
        raise EmobeamError(f"--holdout {uri}: no such file; give a fraction, or a file with an id a line") from error
    except OSError as error:
        raise EmobeamError(f"--holdout {uri}: can't be read ({error})") from error
    except UnicodeDecodeError as error:
        raise EmobeamError(f"--holdout {uri}: not a text file ({error})") from error
    found = [entry for entry in ids if entry and not entry.startswith("#")]
    if not found:
        raise EmobeamError(f"--holdout {uri}: holds no ids")
    return found


def read_persons(uri: str, names: Iterable[str]) -> dict[str, str]:
    """The person of each name, from a CSV file with the columns ``video`` and ``subject``.

    Videos of one subject are held out together. Names that the file doesn't list are left out of the result.

    Raises:
        UsageError: no CSV file, or a column is missing.
        EmobeamError: no such file, or it lists none of the names.
    """
    person = {row["video"]: row["subject"] for row in read_table(uri, "--subjects", ("video", "subject"))}
    wanted = list(names)
    found = {name: person[name] for name in wanted if name in person}
    rest = [name for name in wanted if name not in found]
    found |= {name: person[video] for name, (video, _) in match_names(rest, person).found.items()}
    if not found:
        raise EmobeamError(f"--subjects {uri}: lists none of the labelled videos, for example {wanted[0]!r}")
    return found


def training_labels(
    uri: str, task: Task, *, warn: Warn, partition: str = "", allow_official: bool = False
) -> tuple[list[VideoLabels], str]:
    """The labels to train on, and their partition.

    Args:
        warn: as for ``read_labels``.
        partition: ``""`` takes ``train``, or all there is where nothing says what is what.
        allow_official: labels of the official validation (or test) set may be trained on.

    Raises:
        UsageError: the partition is the official validation or test set.
        EmobeamError: unusable labels, or names that are in the validation set too.
    """
    there = partitions(uri, task)
    chosen = chosen_partition(uri, task, partition, "train")[0] or ("train" if "train" in there else "")
    if not chosen and there != [""]:
        chosen = there[0] if len(there) == 1 else "train"
    official = chosen not in {"", "train"}
    if official and not allow_official:
        raise UsageError(
            f"{uri}: partition {chosen!r} is an official one, and a head trained or selected on it can't be judged by "
            "it; name the training labels, or --allow-official-validation"
        )
    labels = list(read_labels(uri, task, partition=chosen, warn=warn))
    if not allow_official:
        _check_apart(uri, task, there, {entry.name for entry in labels})
    return labels, chosen


def _check_apart(uri: str, task: Task, there: Sequence[str], names: set[str]) -> None:
    for other in there:
        if other in {"", "train"}:
            continue
        both = sorted(names & _names_of(uri, task, other))
        if both:
            raise EmobeamError(
                f"{uri}: {len(both)} training videos are in partition {other!r} too, for example {both[0]!r}; "
                "they can't be trained on and judged by"
            )


def _names_of(uri: str, task: Task, partition: str) -> set[str]:
    names: set[str] = set()
    for source in label_sources(uri, task, partition=partition):
        if source.name:
            names.add(source.name)
        elif source.only is not None:
            names |= source.only
        else:
            names |= {entry.name for entry in read_labels(uri, task, partition=partition, warn=lambda text: None)}
    return names


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
