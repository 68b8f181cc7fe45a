"""The job ``render``: ICT-FaceKit's face -> crops of people who never were, with the truth of every picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

import pyarrow as pa

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.storage.parquet_files import read_parquet
from emobeam.emo_transforms.training.material.rendering.face_model import FaceModel, load_face_model
from emobeam.emo_transforms.training.material.rendering.people import (
    REVISION,
    RenderConfig,
    RenderedCrop,
    render_person,
)
from emobeam.emo_transforms.training.material.rendering.units import UNIT_SHAPES
from emobeam.pipelines.console import Ui
from emobeam.pipelines.training.people_files import in_processes, write_person
from emobeam.schemas.records import UsageError

_UNITS = tuple(row.unit for row in UNIT_SHAPES)


@dataclass(frozen=True)
class RenderRequest:
    """What the user asked for.

    Attributes:
        model: path of ICT-FaceKit's model.
        first, people: numbers of the people to render: ``first`` to ``first + people - 1``.
        workers: processes.
    """

    model: str
    output: str
    first: int = 0
    people: int = 100
    config: RenderConfig = field(default_factory=RenderConfig)
    workers: int = 0


def run_render(request: RenderRequest, ui: Ui) -> dict[str, Any]:
    """Renders the people that are missing in the output; a person's file appears as a whole or not at all.

    Returns:
        Counts of people and crops, base rates of the units (activation at least 0.3), paths.

    Raises:
        EmobeamError: the model can't be read.
        UsageError: the output holds renders of other settings, or there is nothing to render.
    """
    config = request.config
    if request.people < 1 or (config.pictures > 0) == (config.clips > 0):
        raise UsageError("one folder holds pictures or clips: one of --pictures and --clips must be 0, the other not")
    load_face_model(request.model)
    _open(request)
    folder = storage.join(request.output, "people")
    wanted = {_name(number): number for number in range(request.first, request.first + request.people)}
    todo = [number for name, number in wanted.items() if name not in storage.names(folder, ".parquet")]
    each = config.pictures + config.clips * round(config.seconds * config.fps)
    ui.start("render", len(todo) * each, len(todo), "people", measure="crops")
    try:
        if todo:
            call = (request.model, request.output, request.config)
            for _, name in in_processes(_write_person, todo, call, request.workers):
                ui.event("frames", {"frames": each})
                ui.event("done", {"key": name})
    finally:
        ui.finish()
    return _summary(request, list(wanted))


@cache
def _model(uri: str) -> FaceModel:
    return load_face_model(uri)


def _write_person(number: int, model: str, output: str, config: RenderConfig) -> str:
    rows = [_row(number, crop, config) for crop in render_person(_model(model), number, config)]
    name = _name(number)
    write_person(output, name, rows)
    return name


def _row(number: int, crop: RenderedCrop, config: RenderConfig) -> dict[str, Any]:
    time = None if config.pictures else (crop.frame - 1) / config.fps
    truth = {**crop.truth, "shapes": list(crop.truth["shapes"].items())}
    return {"person": number, "clip": crop.clip, "frame": crop.frame, "time": time, "crop": crop.jpeg, **truth}


def _name(number: int) -> str:
    return f"{number:06d}"


def _open(request: RenderRequest) -> None:
    """Notes what the folder holds; refuses to mix settings in one folder."""
    try:
        storage.make_folder(storage.join(request.output, "people"))
    except storage.OutputError as error:
        raise UsageError(f"--output {error}") from error
    digest = storage.file_sha256(request.model)
    settings: dict[str, Any] = {"config": asdict(request.config), "revision": REVISION, "model_sha256": digest}
    note = storage.join(request.output, "render.json")
    if not storage.exists(note):
        storage.write_json(note, settings)
    elif (there := storage.read_json(note)) != settings:
        changed = sorted(
            key for key in settings["config"] if there.get("config", {}).get(key) != settings["config"][key]
        )
        what = ", ".join(changed) or "the model or this version of emobeam"
        raise UsageError(f"{request.output}: holds renders of other settings ({what}); choose another --output")
    storage.sweep_temporaries(storage.join(request.output, "people"))


def _summary(request: RenderRequest, names: list[str]) -> dict[str, Any]:
    columns = ["clip", *_UNITS]
    tables = []
    for name in names:
        tables.append(read_parquet(storage.join(request.output, "people", f"{name}.parquet"), columns))
    table = pa.concat_tables(tables)
    rates: Mapping[str, float | None] = {
        unit: None if values.null_count == len(values) else round(float((values.to_numpy() >= 0.3).mean()), 4)
        for unit in _UNITS
        for values in [table[unit]]
    }
    return {"output": request.output, "people": len(names), "crops": len(table), "base_rates": dict(rates)}
