"""What an output folder of stage 2 holds before and after a run: earlier runs' tables stay, and all files agree."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.prediction.face_roles import SIDES
from emobeam.emo_transforms.prediction.prediction_tables import Listing, Part, list_parts, part_name, read_part_footer
from emobeam.emo_transforms.prediction.subjects import Subjects
from emobeam.emo_transforms.prediction.video_parts import PredictTools, made_by, missing_parts, shards_id
from emobeam.emo_transforms.storage.parquet_files import read_parquet
from emobeam.pipelines.console import Ui
from emobeam.pipelines.stages.predict_request import PredictRequest
from emobeam.schemas.records import EmobeamError, UsageError, VideoFeatures
from emobeam.schemas.tables import FACES, VIDEOS
from emobeam.schemas.wording import counted

_NAMED = 3
_FLEETING = 3
"""Who is in fewer sampled frames is a passer-by, or no face at all."""


def list_earlier(request: PredictRequest) -> Listing:
    """The tables that lie in the output already."""
    if not storage.exists(storage.join(request.output, "predictions")):
        return Listing(request.output)
    return list_parts(request.output)


def check_earlier(request: PredictRequest, tools: PredictTools, videos: Collection[str], earlier: Listing) -> None:
    """Tables of one task that different heads made can't share a folder: nobody could tell their values apart.

    Args:
        videos: ids that the run is about; their tables it makes anew.

    Raises:
        UsageError: the output holds tables of other videos that this run's heads and settings would not have made.
    """
    if request.caller.owns_output:
        return
    for task in tools.heads:
        heads = tools.identity(task)
        identity = made_by(tools, task, request.config)
        others = [part for video, part in earlier.parts.get(task, {}).items() if video not in videos]
        strange = [part for part in others if not _alike(part, heads, identity)]
        if strange:
            shown = ", ".join(part.video for part in strange[:_NAMED]) + (" ..." if len(strange) > _NAMED else "")
            with_heads = any(list(part.footer.get("heads", ())) != heads for part in strange)
            raise UsageError(
                f"{request.output}: holds predictions of task {task} for {counted(len(strange), 'other video')} "
                f"({shown}), made by {'another head' if with_heads else 'other settings'} than this run's; mixed in "
                "one folder their values could not be compared. Choose another --output, or run it over all videos"
            )


def _alike(part: Part, heads: Sequence[Sequence[str]], identity: str) -> bool:
    made = part.footer.get("made_by")  # older tables name their heads alone
    return bool(made == identity) if made else list(part.footer.get("heads", ())) == heads


def tell_what_stays(earlier: Listing, videos: Collection[str], ui: Ui) -> None:
    """One line on the tables of videos that a run isn't about."""
    staying = [video for video in earlier.videos if video not in videos]
    if staying:
        verb = "stays" if len(staying) == 1 else "stay"
        ui.say(f"{counted(len(staying), 'video')} of earlier runs {verb} in {earlier.output}")
    damaged = [each.uri for each in earlier.damaged if each.video not in videos]
    if damaged:
        ui.warn(f"{counted(len(damaged), 'table')} of other videos can't be read, for example {damaged[0]}")


def to_do(
    request: PredictRequest, tools: PredictTools, items: Sequence[VideoFeatures], earlier: Listing
) -> list[VideoFeatures]:
    """The videos that lack a table of some task made from what the cache and the heads are now.

    The listing tells: its footers have been read, many at a time, and asking for each again costs minutes in a store.
    """
    there = {
        part.uri: str(part.footer.get("predict_id", "")) for own in earlier.parts.values() for part in own.values()
    }
    config = request.config
    return [
        item for item in items if missing_parts(item, tools, request.output, config, lambda uri: there.get(uri, ""))
    ]


@dataclass(frozen=True)
class Kept:
    """What a run that names nobody takes over from the tables it replaces.

    Attributes:
        subjects: by video, of those whose tables were made for named subjects.
        faces: ``all`` where the others' values were written, too; else as asked.
    """

    subjects: Mapping[str, Subjects]
    faces: str


def keep_people(
    request: PredictRequest, earlier: Listing, tools: PredictTools, items: Sequence[VideoFeatures], ui: Ui
) -> Kept:
    """Who was asked for in earlier runs, where this one names nobody and ``--faces`` was not given.

    Raises:
        UsageError: a name meant a person by number, and the cache has changed, so that numbers may mean others.
    """
    named = request.subjects or request.template or any(video.subject for video in request.videos or ())
    if named or request.faces_given or request.config.faces != "main":
        return Kept({}, request.config.faces)
    subjects, faces = {}, "main"
    for item in items:
        tables = [
            earlier.parts[task][item.video] for task in _order(earlier, tools) if item.video in earlier.parts[task]
        ]
        if any(part.footer.get("settings", {}).get("faces") == "all" for part in tables):
            faces = "all"
        part = next((part for part in tables if part.subjects not in ((), ("",))), None)
        if part is not None:
            subjects[item.video] = Subjects(part.subjects, _persons(request, part, item))
    if subjects:
        names = sorted({name for who in subjects.values() for name in who.names})
        who = ", ".join(name or "main face" for name in names)
        ui.say(f"{counted(len(subjects), 'video')}: people as before ({who}); --subjects or --faces asks for others")
    if faces == "all":
        ui.say("all faces, as before; --faces main asks for the main face alone")
    return Kept(subjects, faces)


def _order(listing: Listing, tools: PredictTools) -> list[str]:
    """Tasks that have tables, those of the run first."""
    return sorted(listing.parts, key=lambda task: task not in tools.heads)


def _persons(request: PredictRequest, part: Part, item: VideoFeatures) -> tuple[tuple[str, int], ...]:
    footer = part.footer
    persons = tuple((str(name), int(number)) for name, number in footer.get("persons", ()))
    renumbered = bool(persons) and footer.get("shards") != shards_id(item)
    unknown = "persons" not in footer and not {*part.subjects} <= {"", *SIDES}  # an older table
    if renumbered or unknown:
        raise UsageError(
            f"{request.output}: the people of {item.video} ({', '.join(part.subjects)}) were named by numbers that may "
            "mean others in this cache; name them again with --subjects FILE, or give --faces main"
        )
    return persons


@dataclass(frozen=True)
class Settled:
    """An output folder at the end of a run.

    Attributes:
        videos: what ``videos.parquet`` holds.
        rows: of the predictions tables by task, all tasks.
        listing: of all tables.
    """

    videos: pa.Table
    rows: Mapping[str, int]
    listing: Listing


def settle(
    request: PredictRequest,
    tools: PredictTools,
    table: pa.Table,
    done: Collection[str],
    cached: pa.Table,
    earlier: Listing,
) -> Settled:
    """Makes the folder agree: tables, ``faces.parquet``, ``videos.parquet``; what a killed writer left is removed.

    Args:
        table: rows of ``videos.parquet`` that the run is about.
        done: those of these videos that have tables of every task now; the others' older ones go.
        cached: all videos of the cache, for rows that the folder has lost.
        earlier: what the folder held before the run.
    """
    about = set(table["video"].to_pylist())
    for task in tools.heads:
        folder = storage.join(request.output, "predictions", task)
        storage.sweep_temporaries(folder)
        keep = {part_name(video) for video in done}
        _drop(folder, about, keep, _named_well(earlier, task), everything=request.caller.owns_output)
    listing = list_parts(request.output)
    faces: dict[tuple[str, str], list[dict[str, Any]]] = {}
    rows = dict.fromkeys(tools.heads, 0)
    for task in _order(listing, tools):
        for video, part in listing.parts[task].items():
            rows[task] = rows.get(task, 0) + int(part.footer.get("rows", 0))
            for subject in part.subjects:
                mine = [row for row in part.footer.get("faces", ()) if row["subject"] == subject]
                faces.setdefault((video, subject), mine)
    stretches = [row for key in sorted(faces) for row in faces[key]]
    _write_table(storage.join(request.output, "faces.parquet"), pa.Table.from_pylist(stretches, FACES))
    uri = storage.join(request.output, "videos.parquet")
    others = {*listing.videos, *(each.video for each in listing.damaged)} - about
    videos = _with_earlier(table, uri, others, cached)
    _write_table(uri, videos)
    return Settled(videos, rows, listing)


def _named_well(listing: Listing, task: str) -> set[str]:
    """URIs of the tables whose name is that of the video they hold: no run writes another video there."""
    parts = listing.parts.get(task, {}).values()
    return {part.uri for part in parts if part.uri.endswith(f"/{part_name(part.video)}")}


def _drop(
    folder: str, about: Collection[str], keep: Collection[str], known: Collection[str], *, everything: bool
) -> None:
    """Removes tables of the run's own videos that it has not made: of failed ones, and copies under other names.

    Args:
        known: URIs of tables that are of the video they are named after; nobody has to look into them.
    """
    mine = {part_name(video) for video in about}

    def look(name: str) -> None:
        uri = storage.join(folder, name)
        if everything or name in mine or (uri not in known and _video_of(uri) in about):
            storage.remove(uri)

    names = (f"{stem}.parquet" for stem in sorted(storage.names(folder, ".parquet")))
    storage.side_by_side(folder, look, [name for name in names if name not in keep])


def _video_of(uri: str) -> str:
    try:
        return str(read_part_footer(uri)["video"])
    except (EmobeamError, OSError):
        return ""


def _with_earlier(table: pa.Table, uri: str, others: Collection[str], cached: pa.Table) -> pa.Table:
    """The rows of a run and those of other videos that have tables, sorted by video."""
    found = [table]
    left = set(others)
    for source in (_read_videos(uri), cached):
        rows = source.filter(pc.is_in(source["video"], pa.array(sorted(left), pa.string())))
        left -= set(rows["video"].to_pylist())
        found.append(rows)
    return pa.concat_tables(found).sort_by("video")


def _read_videos(uri: str) -> pa.Table:
    with suppress(OSError, pa.ArrowException):
        table = read_parquet(uri)
        table = _with_later_columns(table)
        if table.schema.equals(VIDEOS):
            return table
    return VIDEOS.empty_table()


def _with_later_columns(table: pa.Table) -> pa.Table:
    """A table of an older version with the columns that came since, which are null."""
    there = set(table.column_names)
    if not there <= set(VIDEOS.names):
        return table
    columns = [table[field.name] if field.name in there else pa.nulls(len(table), field.type) for field in VIDEOS]
    return pa.table(columns, names=VIDEOS.names).cast(VIDEOS)


def _write_table(uri: str, table: pa.Table) -> None:
    with storage.atomic_file(uri) as path:
        pq.write_table(table, path, compression="zstd")


def people_notes(request: PredictRequest, tools: PredictTools, listing: Listing, videos: Collection[str]) -> list[str]:
    """What is worth saying of people in a run's videos: more were seen than written; somebody asked for never was."""
    task = next(iter(tools.heads))
    parts = [part for video, part in listing.parts.get(task, {}).items() if video in videos]
    more = [] if request.config.faces == "all" else [found for part in parts if (found := _more_people(part))]
    notes = []
    if more:
        video, seen, written = more[0]
        what = f"{seen} people seen in {video}, {written} written"
        others = f" (and more than written in {counted(len(more) - 1, 'other video')})" if len(more) > 1 else ""
        ways = "--faces all writes everybody; a column subject (left,right) or --subjects FILE names them"
        notes.append(f"{what}{others}: {ways}")
    absent = [f"{subject}: never seen in {part.video}" for part in parts for subject in _never_seen(part)]
    notes += absent[:_NAMED]
    if len(absent) > _NAMED:
        notes.append(f"... and {len(absent) - _NAMED} more who were asked for and never seen")
    return notes


def _more_people(part: Part) -> tuple[str, int, int] | None:
    """Video, people seen, people written, where the main face alone was asked for and others were there."""
    if part.subjects != ("",):
        return None
    sampled: dict[int, int] = {}
    written = set()
    for row in part.footer.get("faces", ()):
        sampled[row["person"]] = sampled.get(row["person"], 0) + row["sampled"]
        if row["face"] == 0:
            written.add(row["person"])
    seen = {person for person, frames in sampled.items() if frames >= _FLEETING} | written
    return (part.video, len(seen), len(written)) if len(seen) > len(written) else None


def _never_seen(part: Part) -> list[str]:
    seen = {row["subject"] for row in part.footer.get("faces", ()) if row["face"] == 0}
    return [subject for subject in part.subjects if subject and subject not in seen]


def with_people(items: Sequence[VideoFeatures], kept: Kept) -> list[VideoFeatures]:
    """The videos of a run, those of ``kept`` with the people that were asked for before."""
    return [
        replace(item, subjects=kept.subjects[item.video].names, persons=kept.subjects[item.video].persons)
        if item.video in kept.subjects
        else item
        for item in items
    ]
