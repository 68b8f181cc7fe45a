"""The content of one video as the page's script reads it (see ``pack``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from emobeam.emo_transforms.results.report.pack import STEP, TIME_UNIT, Packer
from emobeam.emo_transforms.results.report.series import FaceSeries, PartSeries, statistics_of
from emobeam.emo_transforms.results.report.truth import TaskTruth, labels_at
from emobeam.schemas.wording import without_secrets


@dataclass(frozen=True)
class Sprite:
    """Pictures of one face, side by side in one image.

    Attributes:
        data: the encoded image, ``len(at)`` cells of ``edge`` px in a row.
        at: where on the axis each picture was taken.
    """

    subject: str
    face: int
    data: bytes
    kind: str
    edge: int
    at: tuple[float, ...]


def pack_video(
    parts: Sequence[PartSeries], truths: Mapping[str, TaskTruth], sprites: Sequence[Sprite] = (), note: str = ""
) -> str:
    """Packs the tables of one video.

    The document holds ``step`` and ``unit`` (of values and times), ``timed``, the ``faces`` with their stretches,
    ``rows`` (frames, times, sources; tables with equal rows share them), ``tasks`` with a column per output and
    perhaps the truth and the ``statistics`` of all sampled rows (see ``statistics_of``; those left out count, too),
    ``clips`` of clip-level tasks, ``thumbs`` and a ``note``.
    """
    packer = Packer()
    faces: dict[tuple[str, int], dict[str, Any]] = {}
    rows: dict[bytes, int] = {}
    rows_made: list[dict[str, Any]] = []
    tasks: dict[str, list[dict[str, Any]]] = {}
    clips: dict[str, list[dict[str, Any]]] = {}
    for part in parts:
        name = part.task.name
        known = truths.get(name)
        for clip in part.clips:
            values = [None if np.isnan(value) else round(float(value), 5) for value in clip.values]
            figure = known.figures.get((part.video, clip.subject)) if known else None
            labels = known.labels.get((part.video, clip.subject)) if known else None
            true = labels_at(part.task, labels, labels.frames)[0].tolist() if labels is not None else None
            entry = {"subject": clip.subject, "values": values, "truth": true}
            clips.setdefault(name, []).append(entry | {"score": figure.score if figure else None})
        for face in part.faces:
            faces.setdefault((face.subject, face.face), _face(face))
            key = face.frames.tobytes() + face.sources.tobytes()
            if key not in rows:
                rows[key] = len(rows_made)
                rows_made.append(
                    {
                        "frame": packer.add_whole(face.frames),
                        "time": None if face.times is None else packer.add_times(face.times),
                        "source": packer.add_codes(face.sources),
                    }
                )
            entry = {"subject": face.subject, "face": face.face, "rows": rows[key]}
            entry["values"] = [packer.add_values(column) for column in face.values.T]
            entry["statistics"] = statistics_of(face.seen)
            tasks.setdefault(name, []).append(entry | _truth(part, face, known, packer))
    thumbs = [
        {"subject": s.subject, "face": s.face, "kind": s.kind, "edge": s.edge, "at": [round(x, 3) for x in s.at]}
        | {"data": packer.add_bytes(s.data)}
        for s in sprites
    ]
    document = {
        "step": STEP,
        "unit": TIME_UNIT,
        "timed": all(face.times is not None for part in parts for face in part.faces),
        "faces": list(faces.values()),
        "rows": rows_made,
        "tasks": tasks,
        "clips": clips,
        "thumbs": thumbs,
        "note": without_secrets(note),
    }
    return packer.close(document)


def _face(face: FaceSeries) -> dict[str, Any]:
    axis = face.axis
    return {
        "subject": face.subject,
        "face": face.face,
        "span": [round(float(axis[0]), 4), round(float(axis[-1]), 4)] if len(axis) else [0, 0],
        "stretches": [[round(s.first, 4), round(s.last, 4), s.source] for s in face.stretches],
        "counts": list(face.rows),
        "thinned": face.thinned,
    }


def _truth(part: PartSeries, face: FaceSeries, known: TaskTruth | None, packer: Packer) -> dict[str, Any]:
    if known is None or face.face:
        return {}
    found: dict[str, Any] = {}
    place = (part.video, face.subject)
    if place in known.figures:
        figure = known.figures[place]
        found["figure"] = {"measure": known.measure, "score": figure.score, "outputs": dict(figure.outputs)}
    if place in known.labels:
        values = labels_at(part.task, known.labels[place], face.frames)
        found["truth"] = [packer.add_values(column) for column in values.T]
    return found
