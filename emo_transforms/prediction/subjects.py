"""Who is to be predicted in each video: names from input tables, templates and ``--subjects`` files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from emobeam.emo_transforms.inputs.user_tables import read_table
from emobeam.schemas.records import UsageError, Video
from emobeam.schemas.row_keys import SUBJECTS, match_names
from emobeam.schemas.wording import did_you_mean


@dataclass(frozen=True)
class Subjects:
    """Subjects of one video, and the persons some of them mean (by the numbers of ``faces.parquet``)."""

    names: tuple[str, ...] = ("",)
    persons: tuple[tuple[str, int], ...] = ()


def gather_subjects(
    videos: Sequence[str],
    *,
    inputs: Iterable[Video] = (),
    template_names: Iterable[str] = (),
    overrides: Mapping[str, Mapping[str, int]] | None = None,
) -> dict[str, Subjects]:
    """Subjects of every video.

    A video that no one says anything about has the subject ``""``: its main face. Otherwise it has those that
    its input table, the templates (``video49_left`` means ``left`` of ``video49``) and the overrides name.

    Args:
        videos: ids in the cache.
        inputs: videos of this run with the subjects their table names.
        template_names: names as templates write them.
        overrides: person by subject by video, see :func:`read_overrides`.

    Raises:
        EmobeamError: a name may mean several videos.
        UsageError: somebody is asked for of whom nobody says who it is.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for video in inputs:
        if video.subject:
            found[video.id].update(name.strip() for name in video.subject.split(","))
    for video_id, subject in match_names(template_names, videos).found.values():
        found[video_id].add(subject)
    persons: dict[str, dict[str, int]] = defaultdict(dict)
    for name, (video_id, _) in match_names((overrides or {}).keys(), videos).found.items():
        persons[video_id].update((overrides or {})[name])
        found[video_id].update((overrides or {})[name])
    for video_id in sorted(found):
        for name in sorted(found[video_id] - {"", *SUBJECTS, *persons[video_id]}):
            raise UsageError(
                f"{video_id}: unknown subject '{name}': left and right are known; --subjects FILE says who other names "
                f"mean{did_you_mean(name, SUBJECTS)}"
            )
    return {
        video: Subjects(tuple(sorted(found[video])) or ("",), tuple(sorted(persons[video].items()))) for video in videos
    }


def read_overrides(uri: str) -> dict[str, dict[str, int]]:
    """Reads a ``--subjects`` file: CSV with the columns ``video``, ``subject`` and ``person``.

    ``person`` is a number from the column of that name in ``faces.parquet`` of an earlier run.

    Raises:
        UsageError: it is no CSV file, a column is missing, or a person is no number.
        EmobeamError: there is no such file.
    """
    overrides: dict[str, dict[str, int]] = defaultdict(dict)
    for row in read_table(uri, "--subjects", ("video", "subject", "person")):
        if not (row["person"].isascii() and row["person"].isdecimal()):
            text = f"--subjects {uri}, line {row['']}: person '{row['person']}' is not a number of faces.parquet"
            if any(letter.isalpha() for letter in row["person"]):
                text += "; this looks like a file of people's names, which is for --persons of events and summarise"
            raise UsageError(text)
        overrides[row["video"]][row["subject"]] = int(row["person"])
    return dict(overrides)
