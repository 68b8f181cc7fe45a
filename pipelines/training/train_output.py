"""What the job ``train`` is asked for, and the folder it leaves."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.abaw.scoring.measures import measure_of
from emobeam.emo_transforms.networks.heads.files import save_head
from emobeam.emo_transforms.networks.heads.head import Head
from emobeam.emo_transforms.storage.leftovers import sweep_beside
from emobeam.emo_transforms.training.curves import draw_curves
from emobeam.emo_transforms.training.heads.head_loop import SeedResult, TrainSetup
from emobeam.emo_transforms.training.heads.recipe import Recipe, recipe_to_json
from emobeam.emo_transforms.training.heads.samples import PRESENT, hold_activations
from emobeam.emo_transforms.training.holdout import Holdout
from emobeam.pipelines.run_origin import machine, versions
from emobeam.schemas.records import UsageError
from emobeam.schemas.tasks import Task
from emobeam.schemas.wording import counted

SUMMARY_VERSION = 1
"""Version of the layout of ``summary.json``."""

CURVES = "curves.png"

UNTUNED, TUNED = "untuned (0.5, no smoothing)", "tuned on the hold-out"
UNTUNED_ACTIVATIONS = f"untuned ({PRESENT:g}, no smoothing)"
"""What the two figures of the hold-out are called; of labels that say how active a unit is, the second one."""


def figures_of(setup: TrainSetup) -> dict[str, str]:
    """What the figures of ``summary.json`` are."""
    untuned = UNTUNED_ACTIVATIONS if hold_activations(setup.task, setup.joined.faces) else UNTUNED
    return {"untuned": untuned, "score": TUNED, "mean_untuned": untuned, "mean": TUNED}


@dataclass(frozen=True)
class TrainRequest:
    """What the user asked for.

    Attributes:
        features: URI of the cache.
        labels: the organisers' annotations: root, folder or file; or one or more people folders.
        output: the head's folder.
        seeds: one run of training each; the best on the hold-out becomes the head.
        holdout: a file with ids; ``""`` takes the recipe's fraction.
        partition: of the labels; ``""``: train.
        subjects: CSV file ``video,subject``: videos of one subject are held out together.
        backbone: name of the one that trains too, of end-to-end recipes; ``""``: that of the cache.
        backbone_weights: where the cache's backbone lies now; ``""``: where it lay when the cache was made.
        buffer_mb, readers, threads: memory of the loader in MB, threads that read, threads of torch (0: its own).
        restart: what an earlier run left is thrown away.
        experimental: outputs that the head marks so.
    """

    features: str
    task: Task
    labels: str | tuple[str, ...]
    output: str
    recipe: Recipe
    seeds: tuple[int, ...] = (1,)
    holdout: str = ""
    partition: str = ""
    allow_official: bool = False
    subjects: str = ""
    backbone: str = ""
    backbone_weights: str = ""
    device: str = "cpu"
    buffer_mb: int = 1024
    readers: int = 0
    threads: int = 0
    restart: bool = False
    experimental: tuple[str, ...] = ()

    @property
    def label_places(self) -> tuple[str, ...]:
        """Where the labels lie, as a tuple."""
        return (self.labels,) if isinstance(self.labels, str) else self.labels


@dataclass(frozen=True)
class TrainResult:
    """What a run left behind.

    Attributes:
        summary: what ``summary.json`` says.
        heads: one per seed, in the order of the request.
        best: index into them.
    """

    summary: Mapping[str, Any]
    heads: Sequence[Head]
    best: int


def measure_title(task: Task) -> str:
    """What the figures are, for people; at which thresholds is said beside them."""
    return measure_of(task).title


def make_summary(
    request: TrainRequest,
    setup: TrainSetup,
    cut: Holdout,
    partition: str,
    results: Sequence[SeedResult],
    best: int,
    seconds: float,
) -> dict[str, Any]:
    """What ``summary.json`` says: each seed, mean and standard deviation over them, what it was trained on."""
    scores = [result.score for result in results if result.score == result.score]
    untuned = [result.head.config.metrics["holdout"]["untuned"] for result in results if result.score == result.score]
    return {
        "schema_version": SUMMARY_VERSION,
        "task": setup.task.name,
        "measure": measure_title(setup.task),
        "features": request.features,
        "labels": request.labels if isinstance(request.labels, str) else list(request.labels),
        "partition": partition,
        "recipe": recipe_to_json(setup.recipe),
        "videos": {"train": len(cut.train), "holdout": len(cut.held), "groups": cut.groups, "grouped_by": cut.by},
        "unknown": list(setup.unknown),
        "experimental": list(setup.experimental),
        "counts": dict(vars(setup.joined.counts)) | {"missing": list(setup.joined.counts.missing)},
        "seeds": [
            {
                "seed": result.seed,
                "score": result.score if result.score == result.score else None,
                "untuned": result.head.config.metrics.get("holdout", {}).get("untuned"),
                "best_epoch": result.head.config.metrics["best_epoch"],
                "epochs": len(result.history),
                "weights_sha256": result.head.weights_sha256,
                "folder": f"seeds/{result.seed}",
            }
            for result in results
        ],
        "best_seed": results[best].seed,
        "mean": statistics.fmean(scores) if scores else None,
        "sd": statistics.stdev(scores) if len(scores) > 1 else None,
        "mean_untuned": statistics.fmean(untuned) if untuned else None,
        "sd_untuned": statistics.stdev(untuned) if len(untuned) > 1 else None,
        "figures": figures_of(setup),
        "device": request.device,
        "threads": torch.get_num_threads(),
        "seconds": round(seconds, 3),
        "machine": machine(),
        "versions": versions(),
    }


def rank(result: SeedResult) -> float:
    """By which the best seed is chosen; without a hold-out all are alike."""
    return result.score if result.score == result.score else float("-inf")


def check_output(output: str, *, restart: bool = False) -> None:
    """Raises :class:`UsageError` where the folder holds something else, which is left alone.

    Args:
        restart: a head that no run of training left there may be replaced.
    """
    if output.startswith("memory://"):
        raise UsageError("--output memory:// is lost when the command ends")
    if not storage.is_local(output):
        return
    folder = storage.local_path(output)
    if not folder.exists():
        return
    _sweep(folder)
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else {folder.name}
    if there & {"seeds", ".training"} and folder.is_dir():
        return
    if "head.json" in there and folder.is_dir():
        if not restart:
            raise UsageError(
                f"--output {output}: holds a head that no run of emobeam train left there; name another folder, or "
                "replace it with --restart"
            )
    elif there:
        raise UsageError(f"--output {output}: holds something that is no head; name another folder")


def _sweep(output: Path) -> None:
    """Removes what killed runs left in a head's folder."""
    for folder in (
        output,
        output / "seeds",
        *output.glob("seeds/*/"),
        output / ".training",
        *output.glob(".training/*/"),
    ):
        sweep_beside(folder)


def forget_other_seeds(output: str, seeds: Sequence[int]) -> None:
    """Removes heads and checkpoints of seeds that aren't among these; for ``--restart``."""
    kept = {str(seed) for seed in seeds}
    for folder, prefix in (("seeds", ""), (".training", "seed-")):
        fs, root = storage.file_system(storage.join(output, folder))
        if not fs.exists(root):
            continue
        for path in fs.ls(root, detail=False):
            name = str(path).rstrip("/").rpartition("/")[2]
            number = name.removeprefix(prefix)
            if name.startswith(prefix) and number.isdecimal() and number not in kept:
                fs.rm(path, recursive=True)


def write_output(
    request: TrainRequest,
    task: Task,
    results: Sequence[SeedResult],
    best: int,
    summary: Mapping[str, Any],
) -> None:
    """The best seed's head in ``output`` itself, ``head.json`` last: where it is, all is there, and nothing else."""
    chosen = results[best]
    spread = {key: summary[key] for key in ("mean", "sd", "best_seed")}
    spread["scores"] = [entry["score"] for entry in summary["seeds"]]
    config = replace(chosen.head.config, metrics=chosen.head.config.metrics | {"seeds": spread})
    staged = storage.join(request.output, ".training", "best")
    curves = draw_curves(
        f"{config.name}, {counted(len(results), 'seed')}",
        measure_title(task),
        {f"seed {result.seed}": result.history for result in results},
    )
    save_head(replace(chosen.head, config=config), staged, beside={CURVES: curves})
    storage.remove(storage.join(request.output, "head.json"))
    own = storage.join(request.output, "seeds", str(chosen.seed))
    files = dict.fromkeys(storage.names(own, ""), own) | dict.fromkeys(storage.names(staged, ""), staged)
    last = storage.read_bytes(storage.join(files.pop("head.json"), "head.json"))
    for name, folder in files.items():
        storage.write_bytes(storage.join(request.output, name), storage.read_bytes(storage.join(folder, name)))
    storage.write_record(storage.join(request.output, "summary.json"), summary)
    for name in storage.names(staged, ""):
        storage.remove(storage.join(staged, name))
    if storage.is_local(request.output):
        _drop_empty(storage.local_path(request.output) / ".training")
    storage.write_bytes(storage.join(request.output, "head.json"), last)


def _drop_empty(working: Path) -> None:
    """Removes the folders of checkpoints that hold nothing; those of other seeds that were stopped stay."""
    for folder in (*working.glob("*/"), working):
        with suppress(OSError):
            folder.rmdir()


def train_text(result: TrainResult, output: str) -> str:
    """One paragraph for people."""
    summary = result.summary
    lines = [f"{output}: {result.heads[result.best].config.name}, {summary['measure']}"]
    if summary["mean"] is not None:
        lines.append(f"   hold-out {summary['figures']['untuned']}, {TUNED}")
    for entry in summary["seeds"]:
        mark = "*" if entry["seed"] == summary["best_seed"] else " "
        figures = "-" if entry["score"] is None else f"{entry['untuned']:.4f}, {entry['score']:.4f}"
        lines.append(
            f" {mark} seed {entry['seed']}: hold-out {figures}, "
            f"best of {counted(entry['epochs'], 'epoch')}: {entry['best_epoch']}"
        )
    if summary["sd"] is not None:
        lines.append(
            f"   mean {summary['mean_untuned']:.4f} ± {summary['sd_untuned']:.4f}, {summary['mean']:.4f} ± "
            f"{summary['sd']:.4f} (standard deviation over {len(summary['seeds'])} seeds)"
        )
    return "\n".join(lines)
