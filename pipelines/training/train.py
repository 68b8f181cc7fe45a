"""The job ``train``: feature cache and labels -> a head's folder, and how sure its figure is."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.abaw.labels.reading import VideoLabels
from emobeam.emo_transforms.cache.dataset import Dataset, read_dataset
from emobeam.emo_transforms.networks.backbones.mobilenet_maps import final_layer_state
from emobeam.emo_transforms.networks.backbones.torch_backbones import TorchBackbone, load_torch_backbone
from emobeam.emo_transforms.networks.heads.config import config_to_json
from emobeam.emo_transforms.networks.heads.files import load_head, save_head
from emobeam.emo_transforms.training.curves import draw_curves
from emobeam.emo_transforms.training.fitting import forget
from emobeam.emo_transforms.training.heads.head_loop import SeedResult, TrainSetup, train_seed
from emobeam.emo_transforms.training.heads.head_start import head_config, reads_final_layer, skipped_levels
from emobeam.emo_transforms.training.heads.people_labels import held_names
from emobeam.emo_transforms.training.heads.samples import Joined, check_cut, join_labels
from emobeam.emo_transforms.training.holdout import (
    Holdout,
    cut_holdout,
    group_of,
    grouped_by,
    named_holdout,
    read_ids,
    read_persons,
)
from emobeam.pipelines.console import Ui
from emobeam.pipelines.training.train_labels import read_training_labels
from emobeam.pipelines.training.train_output import (
    CURVES,
    TUNED,
    TrainRequest,
    TrainResult,
    check_output,
    forget_other_seeds,
    make_summary,
    measure_title,
    rank,
    write_output,
)
from emobeam.schemas.records import EmobeamError, UsageError
from emobeam.schemas.tasks import Task
from emobeam.schemas.wording import counted, noun


def run_train(request: TrainRequest, ui: Ui) -> TrainResult:
    """Trains a head with every seed and writes ``output``; a run that was broken off goes on.

    ``output`` itself is the head of the best seed (on the hold-out); ``output/seeds/N`` holds that of seed N.

    Raises:
        EmobeamError: cache or labels can't be used, or don't belong together.
        UsageError: the request makes no sense, or ``output`` holds another run.
    """
    check_output(request.output, restart=request.restart)
    return train_prepared(request, prepare(request, ui), ui)


@dataclass(frozen=True)
class Prepared:
    """What is known before the first step.

    Attributes:
        cut: by names of labels.
        partition: of the labels.
        start: the backbone that trains too, of end-to-end recipes.
        persons: who each name of labels is about, where the labels tell.
    """

    setup: TrainSetup
    cut: Holdout
    partition: str
    start: TorchBackbone | None = None
    persons: Mapping[str, str] = field(default_factory=dict)


def train_prepared(request: TrainRequest, prepared: Prepared, ui: Ui) -> TrainResult:
    """:func:`run_train` with labels that are joined already; one :class:`Prepared` may serve several recipes."""
    began = time.monotonic()
    if request.threads:
        torch.set_num_threads(request.threads)
    if request.restart:
        forget_other_seeds(request.output, request.seeds)
    results = [_seed(request, prepared, seed, ui) for seed in request.seeds]
    best = max(range(len(results)), key=lambda index: (rank(results[index]), -index))
    setup, seconds = prepared.setup, time.monotonic() - began
    summary = make_summary(request, setup, prepared.cut, prepared.partition, results, best, seconds)
    write_output(request, setup.task, results, best, summary)
    return TrainResult(summary, [result.head for result in results], best)


def prepare(request: TrainRequest, ui: Ui) -> Prepared:
    """Everything before the first step: labels joined with the cache, the hold-out cut, the start of the head.

    Raises:
        EmobeamError: labels or cache can't be used, or one side of the cut has no valid label of some outputs.
        UsageError: the request makes no sense.
    """
    return prepare_all([request], ui)[0]


def prepare_all(requests: Sequence[TrainRequest], ui: Ui) -> list[Prepared]:
    """:func:`prepare` for several caches with one cut: a group is held out of all of them or of none.

    Args:
        requests: of one task and the same labels; the first one's recipe cuts.
    """
    gathered = [_gathered(request, ui) for request in requests]
    sizes: dict[str, int] = {}
    for prepared in gathered:
        for face in prepared.setup.joined.faces:
            rows = int(face.valid.any(axis=1).sum())
            sizes[face.name] = max(sizes.get(face.name, 0), rows)
    persons = {name: person for prepared in gathered for name, person in prepared.persons.items()}
    cut = _cut(requests[0], sizes, persons, ui)
    _tell_cut(cut, ui)
    return [_with_cut(prepared, cut, ui) for prepared in gathered]


def _gathered(request: TrainRequest, ui: Ui) -> Prepared:
    """All but the cut."""
    dataset = read_dataset(request.features)
    recipe, task = request.recipe, request.task
    start = _start_backbone(request, dataset, ui) if recipe.end_to_end else None
    final = None if start is not None else start_of_head(request, dataset, ui)
    labels, partition, persons = read_training_labels(request, ui)
    joined = _joined(request, dataset, labels, ui)
    for line in joined.counts.lines():
        ui.say(line)
    if joined.counts.not_in_cache:
        lacking, verb = joined.counts.not_in_cache, noun(joined.counts.not_in_cache, "is", "are")
        ui.warn(f"{lacking} of {counted(joined.counts.labelled, 'labelled video')} {verb} not in the cache")
    setup = TrainSetup(
        task,
        recipe,
        request.features,
        dataset,
        joined,
        (),
        (),
        final,
        request.buffer_mb,
        request.readers,
        request.device,
        start.config.weights_sha256 if start is not None else "",
        request.experimental,
    )
    return Prepared(setup, Holdout((), ()), partition, start, persons)


def _with_cut(prepared: Prepared, cut: Holdout, ui: Ui) -> Prepared:
    setup, held = prepared.setup, set(cut.held)
    faces = setup.joined.faces
    setup = replace(
        setup,
        train=tuple(index for index, face in enumerate(faces) if face.name not in held),
        held=tuple(index for index, face in enumerate(faces) if face.name in held),
    )
    if held and not setup.held:
        raise EmobeamError(
            f"{setup.features}: holds none of the {len(held)} videos that are held out; name some that all caches have "
            "with --holdout FILE"
        )
    if setup.unknown:
        ui.warn(f"nobody teaches {', '.join(setup.unknown)}: the labels to train on hold none; the head says so")
    if both := sorted(set(setup.unknown) & set(setup.experimental)):
        raise UsageError(f"--experimental: no label to train on is about {', '.join(both)}; leave it out")
    for line in check_cut(setup.task, faces, setup.train, setup.held):
        ui.warn(line)
    own = replace(
        cut,
        train=tuple(sorted(faces[index].name for index in setup.train)),
        held=tuple(sorted(faces[index].name for index in setup.held)),
    )
    return replace(prepared, setup=setup, cut=own)


def resolve_device(name: str) -> str:
    """The concrete device; raises :class:`UsageError` where there is no such one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        if not torch.cuda.is_available():
            raise UsageError("--device cuda: torch finds no CUDA device here; use --device cpu")
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS may add in another order
    return name


def start_of_head(request: TrainRequest, dataset: Dataset, ui: Ui) -> dict[str, Tensor] | None:
    """Says what will be trained; tensors of the backbone's final layer where the head has it."""
    recipe = request.recipe
    config = head_config(request.task, dataset, recipe, 0)
    seconds = f" ({config.window / config.rate:.2f} s)" if config.rate else " (native frames)"
    ui.say(
        f"recipe {recipe.name}: {config.architecture}, windows of {config.window} frames{seconds}, reads "
        f"{', '.join(config.inputs)}"
    )
    if text := skipped_levels(recipe, dataset):
        ui.warn(f"recipe {recipe.name}: {text}")
    if not reads_final_layer(recipe, dataset):
        return None
    weights = request.backbone_weights or dataset.config.backbone.weights
    try:
        return final_layer_state(load_torch_backbone(replace(dataset.config.backbone, weights=weights)).network)
    except EmobeamError as error:
        raise EmobeamError(
            f"{error}; the head starts from the final layer of the cache's backbone: say where it is with "
            "--backbone-weights, or start from a random one with --set final_start=random"
        ) from error


def _joined(request: TrainRequest, dataset: Dataset, labels: Sequence[VideoLabels], ui: Ui) -> Joined:
    def alive() -> None:
        ui.event("frames", {"frames": 1})
        ui.event("done", {"key": ""})

    ui.start("join labels", len(labels), len(labels), "videos", "videos")
    try:
        return join_labels(
            request.features,
            dataset,
            request.task,
            labels,
            alive=alive,
        )
    finally:
        ui.finish()


def _cut(request: TrainRequest, sizes: Mapping[str, int], known: Mapping[str, str], ui: Ui) -> Holdout:
    """The cut of names with so many labelled rows each, of known persons."""
    task, names = request.task, list(sizes)
    if request.holdout:
        return named_holdout(names, held_names(read_ids(request.holdout), known))
    groups = {name: known.get(name) or group_of(task, name) for name in names}
    by = "person" if known else grouped_by(task)
    if request.subjects:
        groups |= {name: f"subject {person}" for name, person in read_persons(request.subjects, names).items()}
        by = "subject"
    elif by == "clip" and request.recipe.holdout:
        ui.warn(
            f"names of {task.name} don't tell who is who: single clips are held out, and people may be on both sides; "
            "name them with --subjects FILE (video,subject)"
        )
    return cut_holdout(sizes, groups, request.recipe.holdout, seed=request.recipe.holdout_seed, by=by)


def _tell_cut(cut: Holdout, ui: Ui) -> None:
    if not cut.held:
        ui.warn("nothing is held out: the last epoch is taken, and there is no figure of how good it is")
        return
    ui.say(f"{counted(len(cut.train), 'video')} to train on, {len(cut.held)} held out to select and tune ({cut.by})")


def _seed(request: TrainRequest, prepared: Prepared, seed: int, ui: Ui) -> SeedResult:
    setup = prepared.setup
    folder = storage.join(request.output, "seeds", str(seed))
    working = storage.join(request.output, ".training", f"seed-{seed}")
    if request.restart:
        forget(working)
    elif storage.exists(storage.join(folder, "head.json")):
        result = _finished(folder, setup, seed, ui)
        forget(working)  # of a run that was killed after it had written the head
        return result
    told = _Told(ui, seed, setup.recipe.epochs)
    backbone = None
    try:
        if prepared.start is not None:
            result, backbone = _end_to_end(setup, prepared.start, seed, working, told, ui)
        else:
            result = train_seed(setup, seed, working, told)
    finally:
        told.end()
    save_head(result.head, folder, backbone=backbone, beside={CURVES: _curves(result, setup.task)})
    forget(working)
    ui.say(f"seed {seed}: {_figure(result)} after {len(result.history)} epochs, {result.seconds:.0f} s")
    return result


def _curves(result: SeedResult, task: Task) -> bytes:
    return draw_curves(result.head.config.name, measure_title(task), {f"seed {result.seed}": result.history})


def _start_backbone(request: TrainRequest, dataset: Dataset, ui: Ui) -> TorchBackbone:
    """The backbone that a recipe which trains it begins with."""
    from emobeam.emo_transforms.training.end_to_end.crops_learner import start_backbone

    start = start_backbone(dataset, request.backbone_weights, request.backbone)
    if start.config.untrained:
        ui.warn(f"no weights named: {start.config.name} starts untrained (seeded); name some with --backbone-weights")
    return start


def _end_to_end(
    setup: TrainSetup, start: TorchBackbone, seed: int, working: str, told: _Told, ui: Ui
) -> tuple[SeedResult, Mapping[str, Tensor]]:
    """One seed of a recipe that trains the backbone too, and the backbone's tensors."""
    from emobeam.emo_transforms.training.end_to_end.crops_learner import EndToEndConfig, train_end_to_end
    from emobeam.emo_transforms.training.heads.row_groups import reader_count

    config = EndToEndConfig(workers=reader_count(setup.readers))
    done = train_end_to_end(setup, seed, working, told, backbone=start, config=config)
    if done.unreadable:
        ui.warn(f"{done.unreadable} crops could not be decoded and took no part")
    return done.result, done.backbone


def _finished(folder: str, setup: TrainSetup, seed: int, ui: Ui) -> SeedResult:
    head = load_head(folder)
    differences = setup.differences(head.config)
    if differences or head.config.provenance.get("identity") != setup.identity(seed):
        raise UsageError(
            f"{folder}: holds a head that was trained with other data or settings: "
            f"{'; '.join(differences) or 'another version, or another start of its backbone'}; name another --output, "
            "or throw it away with --restart"
        )
    if head.config.experimental != setup.experimental:  # a mark alone, the weights are the same
        head = replace(head, config=replace(head.config, experimental=setup.experimental))
        storage.write_bytes(storage.join(folder, "head.json"), config_to_json(head.config).encode())
    metrics = head.config.metrics
    score = metrics.get("holdout", {}).get("score", float("nan"))
    ui.say(f"seed {seed}: done already")
    result = SeedResult(seed, head, tuple(metrics["history"]), score, 0.0)
    if not storage.exists(storage.join(folder, CURVES)):  # a version that drew them last was stopped
        storage.write_bytes(storage.join(folder, CURVES), _curves(result, setup.task))
    return result


class _Told:
    """Turns what training tells into progress."""

    def __init__(self, ui: Ui, seed: int, epochs: int) -> None:
        self._ui, self._seed, self._epochs = ui, seed, epochs
        self._running = False
        self._before = 0

    def __call__(self, event: str, data: Mapping[str, Any]) -> None:
        if event == "resume":
            self._ui.say(f"seed {self._seed}: goes on in epoch {data['epoch'] + 1}, after step {data['step']}")
            self._before = data["epoch"]
        elif event == "step":
            if not self._running:
                left = self._epochs - self._before
                self._ui.start(f"train seed {self._seed}", left * data["steps"], left, "epochs", "steps")
                self._running = True
            self._ui.event("frames", {"frames": 1})
        elif event == "epoch":
            self._ui.event("done", {"key": f"epoch {data['epoch']}"})
            score = f", hold-out {data['holdout_score']:.4f}" if "holdout_loss" in data else ""
            self._ui.say(f"seed {self._seed}, epoch {data['epoch']}: loss {data.get('loss', float('nan')):.4f}{score}")

    def end(self) -> None:
        if self._running:
            self._ui.finish()


def _figure(result: SeedResult) -> str:
    if result.score != result.score:
        return "trained"
    return f"hold-out {result.head.config.metrics['holdout']['untuned']:.4f} untuned, {result.score:.4f} {TUNED}"
