"""Which person a row is about: the stitched identities of ``faces.parquet``, and names given by users."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.inputs.user_tables import read_table
from emobeam.emo_transforms.results.studies.face_series import Trace
from emobeam.emo_transforms.results.studies.spans import who_in
from emobeam.emo_transforms.storage.parquet_files import read_parquet
from emobeam.schemas.records import UsageError
from emobeam.schemas.row_keys import match_names


@dataclass(frozen=True)
class Stretch:
    """A stretch of frames (both ends included) in which a face is one person."""

    first: int
    last: int
    person: int


@dataclass(frozen=True)
class Persons:
    """Who is who.

    Attributes:
        stretches: by (video, subject, face), in order of frames.
        by_face: names given for (video, subject, face).
        by_number: names given for (video, person of ``faces.parquet``); they win.
        missing: names of videos in the users' file that mean no video here.
    """

    stretches: Mapping[tuple[str, str, int], Sequence[Stretch]]
    by_face: Mapping[tuple[str, str, int], str] = field(default_factory=dict)
    by_number: Mapping[tuple[str, int], str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    def of(self, trace: Trace) -> tuple[list[str], NDArray[np.int64]]:
        """Names that occur in a trace, and for each of its rows which of them it is.

        A row between two stretches belongs to the nearer one. A person without a given name is called
        ``<video>#<number>``, so that it is never taken for a person of another video; ``""`` is nobody.
        """
        stretches = self.stretches.get(trace.key, ())
        numbers = np.full(len(trace.frames), -1)
        if stretches:
            first, last = (np.array([getattr(each, end) for each in stretches]) for end in ("first", "last"))
            frames = trace.frames[:, None]
            away = np.maximum(np.maximum(first - frames, frames - last), 0)
            numbers = np.array([each.person for each in stretches])[away.argmin(axis=1)]
        found: dict[str, int] = {}
        rows = np.zeros(len(numbers), np.int64)
        for number in np.unique(numbers).tolist():
            name = self._name(trace, number)
            rows[numbers == number] = found.setdefault(name, len(found))
        return list(found), rows

    def given(self) -> dict[str, set[str]]:
        """By given name the videos in which somebody is called so; nobody else is seen in more than one video."""
        videos: dict[str, set[str]] = defaultdict(set)
        for face, name in self.by_face.items():
            videos[name].add(face[0])
        for number, name in self.by_number.items():
            videos[name].add(number[0])
        return dict(videos)

    def _name(self, trace: Trace, number: int) -> str:
        given = self.by_number.get((trace.video, number)) or self.by_face.get(trace.key)
        if given:
            return given
        if number >= 0:
            return f"{trace.video}#{number}"
        # Without any faces.parquet a face is taken for one person; with one, nobody was ever seen here.
        return "" if self.stretches else f"{trace.video}#{trace.subject or trace.face}"

    def mixed(self, trace: Trace) -> bool:
        """Whether one given name covers several stitched persons."""
        if trace.key not in self.by_face:
            return False
        numbers = {each.person for each in self.stretches.get(trace.key, ())}
        return len({number for number in numbers if (trace.video, number) not in self.by_number}) > 1


class Remaining:
    """Tells when the last video of a person is done, so that nothing of them has to be kept any longer.

    Only a given name can be about several videos, so it is known beforehand which ones.

    Args:
        persons: who is who.
        videos: ids of all videos that will be gone through.
    """

    def __init__(self, persons: Persons, videos: Iterable[str]) -> None:
        there = set(videos)
        self._left = {name: own & there for name, own in persons.given().items()}
        self._names: dict[str, list[str]] = defaultdict(list)
        for name in sorted(self._left):
            for video in self._left[name]:
                self._names[video].append(name)
        self.order = sorted(there, key=lambda video: (self._names.get(video, [video])[0], video))
        """The videos so that those of one person stand together as far as that goes."""

    def done(self, video: str, seen: Iterable[str]) -> list[str]:
        """Marks a video as done.

        Args:
            seen: names of all who were seen in it.

        Returns:
            Of them and of those who were expected in it, the people who are in no other video to come.
        """
        names = self._names.get(video, [])
        for name in names:
            self._left[name].discard(video)
        return [name for name in sorted({*names, *seen}) if not self._left.get(name)]


def read_persons(output: str, videos: Iterable[str], uri: str = "") -> Persons:
    """Reads ``faces.parquet`` of an output folder and a file of names.

    Args:
        uri: CSV with the columns ``video`` and ``person`` (a name), and optionally ``subject``, ``face`` (default 0) or
            ``number`` (the person's number in ``faces.parquet``). One name in several videos is one person.

    Raises:
        UsageError, EmobeamError: the file can't be used; names file and line.
    """
    stretches: dict[tuple[str, str, int], list[Stretch]] = defaultdict(list)
    faces = storage.join(output, "faces.parquet")
    if storage.exists(faces):
        columns = ["video", "subject", "face", "person", "first_frame", "last_frame"]
        for row in read_parquet(faces, columns).to_pylist():
            key = (row["video"], row["subject"], row["face"])
            stretches[key].append(Stretch(row["first_frame"], row["last_frame"], row["person"]))
    if not uri:
        return Persons(stretches)
    rows = read_table(uri, "--persons", ("video", "person"))
    matches = match_names([row["video"] for row in rows], videos)
    by_face: dict[tuple[str, str, int], str] = {}
    by_number: dict[tuple[str, int], str] = {}
    for row in rows:
        if not row["person"]:
            raise UsageError(f"--persons {uri}, line {row['']}: names no person")
        subject, face = who_in(row, uri, "--persons")
        if row["video"] not in matches.found:
            continue
        video, side = matches.found[row["video"]]
        number = row.get("number", "")
        if number and not (number.isascii() and number.isdecimal()):
            raise UsageError(f"--persons {uri}, line {row['']}: number '{number}' is no number of faces.parquet")
        if number:
            by_number[video, int(number)] = row["person"]
        else:
            by_face[video, side or subject or "", face or 0] = row["person"]
    return Persons(stretches, by_face, by_number, tuple(matches.missing))
