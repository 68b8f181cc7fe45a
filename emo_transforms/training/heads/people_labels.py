"""Labels from people folders: how active each action unit is on every crop, and whose face it is."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from emobeam.emo_transforms.abaw.labels.reading import VideoLabels
from emobeam.emo_transforms.inputs.people_folders import clips_of, collected_files, read_columns
from emobeam.emo_transforms.storage import locate
from emobeam.schemas.records import EmobeamError, UsageError
from emobeam.schemas.tasks import Task


@dataclass(frozen=True, eq=False)
class PeopleLabels:
    """Labels of the clips and pictures of people folders.

    Attributes:
        entries: by name, ``<folder>/<person>-<clip>``; values in [0, 1], NaN where that unit alone is unknown.
        persons: ``<collection>/<person>`` of each name: equal numbers in different folders are one person where both
            are rendered (``render/000012``) or both labelled photographs (``photo/000012``), else different people
            (``<folder>/<person>``), see :func:`emobeam.emo_transforms.inputs.people_folders.collection_of`.
    """

    entries: tuple[VideoLabels, ...]
    persons: Mapping[str, str]


def check_people_task(task: Task) -> None:
    """Raises :class:`UsageError` where people folders hold no labels of the task."""
    if task.name != "au":
        raise UsageError(f"--task {task.name}: people folders label action units; take --task au")


def read_people_labels(uris: Sequence[str], task: Task) -> PeopleLabels:
    """Reads the labels of people folders, or of folders above some.

    Raises:
        UsageError: no people in a folder, or a task whose outputs they don't hold.
        EmobeamError: a file can't be read or lacks a unit, an activation outside [0, 1], or two folders of one name
            hold the same clip.
    """
    check_people_task(task)
    found: dict[str, VideoLabels] = {}
    persons: dict[str, str] = {}
    places: dict[str, str] = {}
    for uri in uris:
        own = posixpath.basename(locate(uri)[1])
        for inner, file, collection in collected_files(uri, own):
            folder = "/".join(part for part in (own, inner) if part)
            for entry, person in _of_file(file, folder, inner, task):
                if entry.name in found:
                    raise EmobeamError(
                        f"{places[entry.name]} and {file} both hold {entry.name}; give their folders different names"
                    )
                found[entry.name], places[entry.name] = entry, file
                persons[entry.name] = f"{collection}/{person}"
    return PeopleLabels(tuple(found[name] for name in sorted(found)), persons)


def held_names(wanted: Sequence[str], persons: Mapping[str, str]) -> list[str]:
    """Ids to hold out, where persons are known all names of those that they name.

    An id is that of a clip or of a person, as much of its folders as one likes before it; in whichever folder it is. A
    person's clips are all held out, also those of other folders (:attr:`PeopleLabels.persons`); of a clip that is
    named, that one alone.
    """
    of_person: dict[str, list[str]] = {}
    for name, person in persons.items():
        of_person.setdefault(person, []).append(name)
    by: dict[str, dict[str, None]] = {}
    for name, person in persons.items():
        folder, number = posixpath.dirname(name), posixpath.basename(person)
        for whole, meant in (
            (person, of_person[person]),
            (posixpath.join(folder, number), of_person[person]),
            (name, [name]),
        ):
            parts = whole.split("/")
            for start in range(len(parts)):
                by.setdefault("/".join(parts[start:]), {}).update(dict.fromkeys(meant))
    return list(dict.fromkeys(name for entry in wanted for name in by.get(entry, [entry])))


def _of_file(file: str, folder: str, inner: str, task: Task) -> list[tuple[VideoLabels, str]]:
    table = read_columns(file, ("person", "clip", "frame", "time", *task.label_columns))
    columns = [table[name].to_numpy(zero_copy_only=False) for name in task.label_columns]
    values = np.stack([np.asarray(column, np.float32) for column in columns], axis=1)
    wrong = (values < 0) | (values > 1)  # False where it is unknown
    if wrong.any():
        row, column = np.argwhere(wrong)[0].tolist()
        raise EmobeamError(
            f"{file}: {task.label_columns[column]} is {values[row, column]:g} in row {row + 1}, expected 0 to 1"
        )
    entries = []
    for clip in clips_of(table, file):
        own = values[clip.rows]
        known = np.asarray((~np.isnan(own)).any(axis=1), np.bool_)
        valid = np.repeat(known.reshape(-1, 1), len(task.groups), axis=1)
        name, also = posixpath.join(folder, clip.name), posixpath.join(inner, clip.name)
        entries.append((VideoLabels(name, clip.frames, own, valid, also), clip.person))
    return entries
