"""The job ``pseudo-label``: real pictures -> crops with the action units that a teacher sees in them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

import pyarrow as pa

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.storage.parquet_files import read_parquet
from emobeam.emo_transforms.training.material.labelling.labelled_people import REVISION, Counts, LabelConfig, Labeller
from emobeam.emo_transforms.training.material.labelling.sources import Source, find_people
from emobeam.emo_transforms.training.material.labelling.teacher import Teacher
from emobeam.emo_transforms.training.material.labelling.warping import MovableMesh
from emobeam.emo_transforms.training.material.rendering.face_model import load_face_model
from emobeam.emo_transforms.training.material.rendering.units import UNIT_SHAPES
from emobeam.pipelines.console import Ui
from emobeam.pipelines.training.people_files import crops_schema, in_processes, write_person
from emobeam.schemas.config import digest_of
from emobeam.schemas.plain_json import parsed
from emobeam.schemas.records import UsageError

NOTE = "pseudo-label.json"
_COUNTS_KEY = b"emobeam.pseudo_label"


@dataclass(frozen=True)
class PseudoLabelRequest:
    """What the user asked for.

    Attributes:
        inputs: folders, globs or files of pictures, or feature caches that store crops.
        teacher: path of MediaPipe's ``face_landmarker.task``.
        person, only: see ``teaching.sources.find_people``.
        model: path of ICT-FaceKit's model; needed for clips.
        workers: processes; 0 is one per core.
    """

    inputs: tuple[str, ...]
    teacher: str
    output: str
    person: str = ""
    only: str = ""
    model: str = ""
    config: LabelConfig = field(default_factory=LabelConfig)
    workers: int = 0


def run_pseudo_label(request: PseudoLabelRequest, ui: Ui) -> dict[str, Any]:
    """Labels the people that are missing in the output; a person's file appears as a whole or not at all.

    A person in none of whose pictures a face is found gets no file in ``people/`` but a note in ``without/``, so that
    the next run passes them over.

    Returns:
        Counts of people, crops, pictures without a face and unreadable ones, means of the units, paths.

    Raises:
        EmobeamError: mediapipe is missing, or teacher or model can't be read.
        UsageError: the output holds labels of other settings, or there is nothing to label.
    """
    if request.config.clips and not request.model:
        raise UsageError("--clips moves faces by ICT-FaceKit's shapes: name its model with --model ict_light.npz")
    sources = find_people(request.inputs, request.person, request.only)
    _check(request, sources)
    Teacher(request.teacher).close()
    if request.config.clips:
        load_face_model(request.model)
    settings = _open(request)
    done = storage.names(storage.join(request.output, "people"), ".parquet")
    done |= storage.names(storage.join(request.output, "without"), ".json")
    todo = [source for source in sources if source.file not in done]
    each = 1 + request.config.clips * round(request.config.seconds * request.config.fps)
    measure = "videos" if any(source.cache for source in todo) else "crops"
    ui.start("pseudo-label", sum(_pictures(source) * each for source in todo), len(todo), "people", measure=measure)
    try:
        if todo:
            _label(request, todo, each, ui)
    finally:
        ui.finish()
    summary = _summary(request, sources)
    storage.write_json(storage.join(request.output, NOTE), settings | {"result": summary})
    return {"output": request.output, **summary}


def _pictures(source: Source) -> int:
    return len(source.pictures or source.names)


def _check(request: PseudoLabelRequest, sources: Sequence[Source]) -> None:
    numbers: dict[int, str] = {}
    for source in sources:
        other = numbers.setdefault(source.number, source.name)
        if other != source.name:
            raise UsageError(f"--person: '{other}' and '{source.name}' have one number, {source.number}; rename one")
        if request.config.clips and source.cache:
            raise UsageError(f"--clips: {source.cache} holds clips already; it is made of photographs only")


def _label(request: PseudoLabelRequest, todo: Sequence[Source], each: int, ui: Ui) -> None:
    call = (request.teacher, request.model if request.config.clips else "", request.output, request.config)
    for source, problems in in_processes(_write_person, todo, call, request.workers):
        for problem in problems:
            ui.warn(problem)
        ui.event("frames", {"frames": _pictures(source) * each})
        ui.event("done", {"key": source.name})


@cache
def _labeller(teacher: str, model: str) -> Labeller:
    return Labeller(Teacher(teacher), MovableMesh(load_face_model(model)) if model else None)


def _write_person(source: Source, teacher: str, model: str, output: str, config: LabelConfig) -> list[str]:
    """Writes a person's file; returns what could not be read."""
    counts = Counts()
    rows = list(_labeller(teacher, model).label(source, config, counts))
    noted = {**asdict(counts), "person": source.name, "names": list(source.names)}
    if not rows:
        storage.write_json(storage.join(output, "without", f"{source.file}.json"), noted)
        return counts.unreadable
    write_person(output, source.file, rows, {_COUNTS_KEY: json.dumps(noted, sort_keys=True).encode()})
    return counts.unreadable


def _open(request: PseudoLabelRequest) -> dict[str, Any]:
    """Notes what the folder holds; refuses to mix settings in one folder."""
    try:
        for name in ("people", "without"):
            storage.make_folder(storage.join(request.output, name))
    except storage.OutputError as error:
        raise UsageError(f"--output {error}") from error
    config = asdict(request.config)
    settings: dict[str, Any] = {
        "config": config,
        "person": request.person,
        "revision": REVISION,
        "teacher_sha256": storage.file_sha256(request.teacher),
        "model_sha256": storage.file_sha256(request.model) if request.config.clips else None,
    }
    whole = {"settings": settings, "digest": digest_of(settings)}
    note = storage.join(request.output, NOTE)
    if storage.exists(storage.join(request.output, "render.json")):
        raise UsageError(f"{request.output}: holds renders; choose another --output")
    if not storage.exists(note):
        storage.write_json(note, whole)
    elif (there := storage.read_json(note).get("settings", {})) != settings:
        old = {**there.get("config", {}), **there}
        changed = sorted(k for k, v in {**config, **settings}.items() if k != "config" and old.get(k) != v)
        raise UsageError(
            f"{request.output}: holds labels of other settings ({', '.join(changed)}); choose another --output"
        )
    for name in ("people", "without"):
        storage.sweep_temporaries(storage.join(request.output, name))
    return whole


def _summary(request: PseudoLabelRequest, sources: Sequence[Source]) -> dict[str, Any]:
    """Of the people of this run, those labelled before included."""
    units = [row.unit for row in UNIT_SHAPES]
    tables, counts = [], []
    people = storage.names(storage.join(request.output, "people"), ".parquet")
    for source in sources:
        if source.file in people:
            uri = storage.join(request.output, "people", f"{source.file}.parquet")
            tables.append(read_parquet(uri, ["clip", *units]))
            counts.append(parsed((tables[-1].schema.metadata or {})[_COUNTS_KEY]))
        else:
            counts.append(storage.read_json(storage.join(request.output, "without", f"{source.file}.json")))
    table = pa.concat_tables(tables) if tables else crops_schema().empty_table()
    means = {unit: table[unit].drop_null().to_numpy() for unit in units}
    return {
        "people": len(tables),
        "without": len(sources) - len(tables),
        "crops": len(table),
        "pictures": sum(count["pictures"] for count in counts),
        "no_face": sum(count["no_face"] for count in counts),
        "unseen": sum(count["unseen"] for count in counts),
        "unreadable": [name for count in counts for name in count["unreadable"]],
        "mean": {unit: round(float(values.mean()), 4) if len(values) else None for unit, values in means.items()},
        "base_rates": {
            unit: round(float((values >= 0.3).mean()), 4) if len(values) else None for unit, values in means.items()
        },
    }
