"""The job ``compare``: caches and labels -> what each kind of head gives with several seeds, and what it costs.

``OUT/heads/<cell>`` is what ``emobeam train`` writes, a cell's name ending in a digest of all that decides it; so a
cell that is done is not done again, and another recipe is another cell.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.abaw.labels.reading import VideoLabels, read_labels, scored_partition
from emobeam.emo_transforms.cache.dataset import Dataset, read_dataset
from emobeam.emo_transforms.cache.index import make_index
from emobeam.emo_transforms.networks.heads.files import load_head, save_head
from emobeam.emo_transforms.storage.leftovers import scratch_folder
from emobeam.emo_transforms.training.comparison.cells import Cell, cache_labels, cells_of, spread
from emobeam.emo_transforms.training.comparison.head_costs import counted, measured, onnx_size, processor_name
from emobeam.emo_transforms.training.comparison.results_report import draw_results, results_markdown
from emobeam.emo_transforms.training.heads.head_start import reads_final_layer
from emobeam.emo_transforms.training.heads.recipe import recipe_named, recipe_to_json
from emobeam.pipelines.challenge.score import edition_of, run_score
from emobeam.pipelines.console import OwnWarnings, Ui, duration_text
from emobeam.pipelines.run_origin import machine, versions
from emobeam.pipelines.stages.predict import run_predict
from emobeam.pipelines.stages.predict_request import Caller, PredictRequest
from emobeam.pipelines.training.train import Prepared, prepare_all, start_of_head, train_prepared
from emobeam.pipelines.training.train_output import TUNED, UNTUNED, TrainRequest, TrainResult, measure_title
from emobeam.runners.children.pool import LocalPool
from emobeam.runners.children.settings import LocalConfig
from emobeam.schemas.records import EmobeamError, UsageError, Video
from emobeam.schemas.row_keys import match_names
from emobeam.schemas.tasks import Task
from emobeam.schemas.wording import counted as number_of
from emobeam.schemas.wording import noun

RESULTS_VERSION = 1
"""Version of the layout of ``results.json``."""

COMPARE = Caller("compare", owns_output=True)

_OWN = {"heads", "official", "results.json", "results.md", "results.png"}


@dataclass(frozen=True)
class CompareRequest:
    """What the user asked for.

    Attributes:
        features: URIs of caches.
        train: what all cells have in common, as for ``emobeam train``; its ``features``, ``recipe`` and ``output``
            play no part, but for the output's place.
        output: the folder of the comparison.
        recipe: name of a recipe or URI of a JSON file.
        settings: ``field=value``, or ``kind.field=value`` for one architecture.
        kinds: architectures; empty: all that fit the task.
        truth: the organisers' annotations with the official validation set; ``""``: it isn't looked at.
        truth_partition: of it.
        edition: whose rules count; 0: see ``emobeam.pipelines.challenge.score``.
        local: workers that predict the validation videos.
    """

    features: tuple[str, ...]
    train: TrainRequest
    output: str
    recipe: str = "emobeam"
    settings: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    levels: tuple[int, ...] = (1, 2, 3)
    truth: str = ""
    truth_partition: str = "validation"
    edition: int = 0
    local: LocalConfig = field(default_factory=LocalConfig)


@dataclass(frozen=True)
class _Trained:
    cell: Cell
    name: str
    folder: str
    result: TrainResult


def run_compare(request: CompareRequest, ui: Ui, pool: LocalPool | None = None) -> dict[str, Any]:
    """Trains what isn't trained yet, measures it, and writes ``results.json``, ``results.md`` and ``results.png``.

    The official validation set is looked at when all heads are trained, and only where ``truth`` names it.

    Returns:
        What ``results.json`` holds: neither paths nor names of people or videos.

    Raises:
        EmobeamError: caches or labels can't be used, or don't belong together.
        UsageError: the request makes no sense.
    """
    _check_output(request.output)
    task = request.train.task
    datasets = [read_dataset(uri) for uri in request.features]
    caches = dict(zip(cache_labels(datasets), request.features, strict=True))
    by_label = dict(zip(caches, datasets, strict=True))
    cells, notes = cells_of(
        task, by_label, request.recipe, request.settings, kinds=request.kinds, levels=request.levels
    )
    for note in notes:
        ui.warn(note)
    seeds = len(request.train.seeds)
    ui.say(f"{number_of(len(cells), 'cell')} with {number_of(seeds, 'seed')} each")
    prepared = _prepared(request, cells, caches, ui)
    trained = []
    began = time.monotonic()
    for number, cell in enumerate(cells, start=1):
        spent = time.monotonic() - began
        left = f", about {duration_text(spent / (number - 1) * (len(cells) - number + 1))} left" if number > 1 else ""
        ui.say(f"[{number} of {len(cells)}] {cell.cache}: {cell.title}{left}")
        common = replace(request.train, features=caches[cell.cache], recipe=cell.recipe)
        trained.append(_train(request, cell, common, prepared[cell.cache], ui))
    figures = [_cell_figures(each, task) for each in trained]
    if request.truth:
        own = pool or LocalPool(request.local)
        try:
            chosen, _ = scored_partition(request.truth, task, request.truth_partition, ui.warn)
            truth = list(read_labels(request.truth, task, partition=chosen, warn=ui.warn))
            for each, found in zip(trained, figures, strict=True):
                _add_official(request, each, found, truth, by_label[each.cell.cache], caches, own, ui)
        finally:
            if pool is None:
                own.close()
    results = _results(request, by_label, prepared, figures, notes)
    storage.write_record(storage.join(request.output, "results.json"), results)
    storage.write_bytes(storage.join(request.output, "results.md"), results_markdown(results).encode())
    draw_results(storage.join(request.output, "results.png"), results)
    return results


def _check_output(output: str) -> None:
    if output.startswith("memory://"):
        raise UsageError("--output memory:// is lost when the command ends")
    if not storage.is_local(output):
        return
    folder = storage.local_path(output)
    if folder.exists() and (
        not folder.is_dir() or (any(folder.iterdir()) and not _OWN & {path.name for path in folder.iterdir()})
    ):
        raise UsageError(f"--output {output}: holds something that is no comparison; name another folder")


def _prepared(request: CompareRequest, cells: Sequence[Cell], caches: Mapping[str, str], ui: Ui) -> dict[str, Prepared]:
    """Each cache that cells read, by label; people are held out of all caches or of none."""
    first: dict[str, Cell] = {}
    for cell in cells:
        first.setdefault(cell.cache, cell)
    asked = [replace(request.train, features=caches[label], recipe=cell.recipe) for label, cell in first.items()]
    found = dict(zip(first, prepare_all(asked, ui), strict=True))
    every = {name for prepared in found.values() for name in prepared.cut.held}
    for label, prepared in found.items():
        if missing := sorted(every - set(prepared.cut.held)):
            ui.warn(
                f"{label}: lacks {len(missing)} of {number_of(len(every), 'video')} held out, for example "
                f"{missing[0]}; its figures are of fewer videos than those of other caches"
            )
    return found


def _train(request: CompareRequest, cell: Cell, common: TrainRequest, prepared: Prepared, ui: Ui) -> _Trained:
    """Every seed of a cell, and the best one's costs."""
    final = None
    if reads_final_layer(cell.recipe, prepared.setup.dataset):
        final = prepared.setup.final or start_of_head(common, prepared.setup.dataset, ui)
    setup = replace(prepared.setup, recipe=cell.recipe, final=final)
    name = f"{cell.slug}-{setup.identity(0)[:10]}"
    folder = storage.join(request.output, "heads", name)
    result = train_prepared(replace(common, output=folder), replace(prepared, setup=setup), ui)
    return _Trained(cell, name, folder, result)


def _cell_figures(each: _Trained, task: Task) -> dict[str, Any]:
    cell, summary = each.cell, each.result.summary
    seeds = [
        {
            "seed": entry["seed"],
            "holdout": entry["score"],
            "untuned": entry["untuned"],
            "official": None,
            "official_untuned": None,
            "best_epoch": entry["best_epoch"],
            "epochs": entry["epochs"],
            "weights_sha256": entry["weights_sha256"],
        }
        for entry in summary["seeds"]
    ]
    return {
        "cache": cell.cache,
        "architecture": cell.kind,
        "inputs": list(cell.inputs),
        "levels": cell.levels,
        "recipe": recipe_to_json(cell.recipe),
        "seeds": seeds,
        "holdout": spread(entry["holdout"] for entry in seeds),
        "untuned": spread(entry["untuned"] for entry in seeds),
        "official": None,
        "official_untuned": None,
        **_costs(each),
    }


def _costs(each: _Trained) -> dict[str, Any]:
    """What the head costs; measured once on a kind of machine, as the costs are those of the architecture."""
    uri = storage.join(each.folder, "costs.json")
    here = processor_name()
    if storage.exists(uri):
        known = storage.read_json(uri)
        if isinstance(known, dict) and known.get("processor") == here and known.get("onnx_bytes") is not None:
            return known
    head = each.result.heads[each.result.best]
    size, reason = onnx_size(head)
    found = {**counted(head), **measured(each.folder), "onnx_bytes": size, "onnx_note": reason}
    storage.write_json(uri, found)
    return found


def _add_official(
    request: CompareRequest,
    each: _Trained,
    found: dict[str, Any],
    truth: Sequence[VideoLabels],
    dataset: Dataset,
    caches: Mapping[str, str],
    pool: LocalPool,
    ui: Ui,
) -> None:
    """Figures of every seed on the official validation set, by the challenge's own rules over native frames."""
    task, features = request.train.task, caches[each.cell.cache]
    videos: list[Video] | None = None
    edition = edition_of(task, request.edition)
    for entry in found["seeds"]:
        head = storage.join(each.folder, "seeds", str(entry["seed"]))
        output = storage.join(request.output, "official", each.name, str(entry["seed"]))
        about = {
            "truth": _digest(truth),
            "edition": edition,
            "head": entry["weights_sha256"],
            "cache": dataset.config.cache_id,
        }
        noted = storage.join(output, "official.json")
        known = storage.read_json(noted) if storage.exists(noted) else {}
        if known.get("about") == about and "untuned" in known:
            entry["official"], entry["official_untuned"] = known["score"], known["untuned"]
            continue
        if videos is None:
            videos = _videos(features, truth, ui)
        loaded = load_head(head)
        config = loaded.config
        ask = PredictRequest(features, output, heads=(head,), tasks=(task.name,), videos=videos, local=request.local)
        score = _official(request, ask, config.thresholds, pool, ui)
        untuned = score
        if config.smoothing:
            with scratch_folder("head") as folder:
                plain = str(folder / "head")
                save_head(replace(loaded, config=replace(config, smoothing=0, thresholds=())), plain)
                untuned = _official(request, replace(ask, output=f"{output}-untuned", heads=(plain,)), (), pool, ui)
        elif config.thresholds:
            untuned = _score(request, output, (), ui)
        entry["official"], entry["official_untuned"] = score, untuned
        storage.write_json(noted, {"about": about, "score": score, "untuned": untuned})
        ui.say(
            f"{each.cell.title}, seed {entry['seed']}: official {request.truth_partition} {untuned:.4f} untuned, "
            f"{score:.4f} {TUNED}"
        )
    found["official"] = spread(entry["official"] for entry in found["seeds"])
    found["official_untuned"] = spread(entry["official_untuned"] for entry in found["seeds"])


def _official(
    request: CompareRequest, ask: PredictRequest, thresholds: Sequence[float], pool: LocalPool, ui: Ui
) -> float:
    """The figure of a head's predictions, which are made first."""
    done = run_predict(replace(ask, caller=COMPARE), OwnWarnings(ui), pool)
    for video, message in done.failed.items():
        ui.warn(f"{video}: {message}")
    return _score(request, ask.output, thresholds, ui)


def _score(request: CompareRequest, output: str, thresholds: Sequence[float], ui: Ui) -> float:
    task = request.train.task
    data = run_score(
        task,
        request.truth,
        [output],
        ui=ui,
        edition=edition_of(task, request.edition),
        partition=request.truth_partition,
        thresholds=thresholds,
        resamples=0,
    )
    # The first figure is always that at 0.5; given thresholds have one of their own.
    return float(data["at_thresholds"]["score"] if len(thresholds) else data["score"])


def _videos(features: str, truth: Sequence[VideoLabels], ui: Ui) -> list[Video]:
    """The labelled videos of a cache, with the people in them that are labelled."""
    _, table = make_index(features)
    matches = match_names([entry.name for entry in truth], table["video"].to_pylist())
    if not matches.found:
        raise EmobeamError(f"--truth: none of its {len(truth)} videos is in the cache {features}")
    if matches.missing:
        ui.warn(
            f"{len(matches.missing)} of {number_of(len(truth), 'video')} of --truth "
            f"{noun(len(matches.missing), 'is', 'are')} not in the cache, for example "
            f"{matches.missing[0]}; their rows count with neutral values"
        )
    subjects: dict[str, set[str]] = {}
    for video, subject in matches.found.values():
        subjects.setdefault(video, set()).add(subject)
    return [Video(video, "", subject=",".join(sorted(names))) for video, names in sorted(subjects.items())]


def _digest(truth: Sequence[VideoLabels]) -> str:
    found = hashlib.sha256()
    for entry in truth:
        found.update(entry.name.encode())
        for array in (entry.frames, entry.values, entry.valid):
            found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]


def _results(
    request: CompareRequest,
    datasets: Mapping[str, Dataset],
    prepared: Mapping[str, Prepared],
    cells: Sequence[Mapping[str, Any]],
    notes: Sequence[str],
) -> dict[str, Any]:
    task = request.train.task
    first = next(iter(prepared.values()))
    recipe = recipe_named(request.recipe, task.name, [entry for entry in request.settings if _general(entry)])
    return {
        "schema_version": RESULTS_VERSION,
        "task": task.name,
        "title": task.title,
        "measure": measure_title(task),
        "figures": {"untuned": UNTUNED, "holdout": TUNED, "official_untuned": UNTUNED, "official": TUNED},
        "recipe": recipe_to_json(recipe),
        "seeds": list(request.train.seeds),
        "caches": [_cache(label, dataset, prepared.get(label)) for label, dataset in datasets.items()],
        "videos": {
            "train": len(first.cut.train),
            "holdout": len(first.cut.held),
            "groups": first.cut.groups,
            "grouped_by": first.cut.by,
        },
        "partition": first.partition,
        "official": {"partition": request.truth_partition, "edition": edition_of(task, request.edition)}
        if request.truth
        else None,
        "cells": [dict(cell) for cell in cells],
        "notes": [*notes, *_onnx_notes(cells)],
        "device": request.train.device,
        "machine": machine() | {"processor": processor_name()},
        "versions": versions(),
    }


def _general(setting: str) -> bool:
    return "." not in setting.partition("=")[0]


def _cache(label: str, dataset: Dataset, prepared: Prepared | None) -> dict[str, Any]:
    config = dataset.config
    joined = prepared.setup.joined if prepared else None
    return {
        "label": label,
        "backbone": config.backbone.name,
        "backbone_sha256": config.backbone.weights_sha256,
        "untrained": config.backbone.untrained,
        "input_size": config.backbone.input_size,
        "features_id": config.features_id,
        "cache_id": config.cache_id,
        "rate": config.sampling.fps,
        "crop_style": config.crop_style,
        "map_shapes": {name: list(shape) for name, shape in dataset.map_shapes.items()},
        "embedding": dataset.embedding,
        "scores": dataset.scores,
        "labels": joined.digest if joined else "",
        "rows": joined.counts.rows if joined else 0,
        "videos": {"train": len(prepared.cut.train), "holdout": len(prepared.cut.held)} if prepared else {},
    }


def _onnx_notes(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    reasons = dict.fromkeys(cell["onnx_note"] for cell in cells if cell["onnx_bytes"] is None)
    return [f"no size as ONNX: {reason}" for reason in reasons]
