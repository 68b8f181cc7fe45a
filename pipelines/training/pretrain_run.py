"""What every run of ``pretrain`` has in common, whatever it learns: its request, its network, its files."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import timm
import torch

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.networks.checkpoints.weight_notes import NetworkInfo
from emobeam.emo_transforms.networks.weights_digest import tensors_sha256
from emobeam.emo_transforms.training.curves import draw_curves
from emobeam.emo_transforms.training.fitting import FitPlan, Fitted, Learner, fit, forget, has_checkpoint
from emobeam.emo_transforms.training.pretraining.affect_network import make_network, write_network
from emobeam.emo_transforms.training.pretraining.affect_pretraining import Setting
from emobeam.emo_transforms.training.pretraining.recipe import PretrainRecipe, pretrain_recipe
from emobeam.pipelines.console import Ui
from emobeam.schemas.records import UsageError

WEIGHTS_FILE = "backbone.safetensors"
RESULT_FILE = "pretrain.json"
CARD_FILE = "README.md"
CURVES_FILE = "curves.png"
HOLDOUT_FILE = "holdout.txt"
WORK_FOLDER = ".training"
_NAMED = 4


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What is asked for, whatever is learned; see ``emobeam pretrain --help``.

    Attributes:
        start: ``untrained``, ``timm``, ``shipped`` or a file of weights.
        workers: processes that read images; -1 is one per core.
        checkpoint_minutes: between two checkpoints within an epoch.
    """

    output: str
    backbone: str = "mobilenetv4_conv_small"
    start: str
    recipe: str
    settings: tuple[str, ...] = ()
    seed: int = 0
    workers: int = 0
    device: str = "cpu"
    checkpoint_minutes: float = 5.0


class PretrainLearner(Learner, Protocol):
    """A learner that knows how long it takes."""

    @property
    def epochs(self) -> int:
        """Epochs at most."""


@dataclass(frozen=True)
class Start:
    """A network as it is before the first step, and the digest of its weights."""

    network: Any
    info: NetworkInfo
    weights_sha256: str


def recipe_of(request: RunRequest) -> PretrainRecipe:
    """The recipe of a run that may write to its output.

    Raises:
        UsageError: the output holds something else, or the recipe makes no sense.
    """
    check_output(request.output)
    recipe = pretrain_recipe(request.recipe, request.settings)
    if not recipe.holdout:
        raise UsageError("recipe: holdout is 0, but the best epoch is chosen on it; give a share such as 0.05")
    return recipe


def start_of(request: RunRequest, outputs: tuple[str, ...], recipe: PretrainRecipe, ui: Ui) -> Start:
    """Makes the network; says which of its tensors the weights to start from lack."""
    network, info, untrained = make_network(
        request.backbone,
        request.start,
        outputs,
        input_size=recipe.input_size,
        dropout=recipe.dropout,
        drop_path=recipe.drop_path,
        seed=request.seed,
    )
    if untrained:
        ui.warn(
            f"--start {request.start}: {len(untrained)} tensors are not in it as the network needs them and start "
            f"untrained: {', '.join(untrained[:_NAMED])}{', ...' if len(untrained) > _NAMED else ''}"
        )
    return Start(network, info, tensors_sha256(network.state_dict()))


def setting_of(request: RunRequest) -> Setting:
    """Device and processes of a run."""
    return Setting(choose_device(request.device), choose_workers(request.workers))


def done_already(output: str, identity: str, ui: Ui) -> dict[str, Any] | None:
    """The result of a run that has ended, which is said; None where there is none.

    Raises:
        UsageError: the result there is another run's.
    """
    uri = storage.join(output, RESULT_FILE)
    if not storage.exists(uri):
        return None
    result: dict[str, Any] = storage.read_json(uri)
    if result.get("identity") != identity:
        raise UsageError(
            f"{output}: holds a backbone trained on other data or with other settings; name another --output"
        )
    ui.say(f"{output}: done already; nothing to do")
    return result


def fit_telling(
    learner: PretrainLearner,
    plan: FitPlan,
    output: str,
    batch: int,
    things: str,
    tell_epoch: Callable[[Mapping[str, Any]], str],
    ui: Ui,
) -> Fitted:
    """Trains, or goes on training, and shows how far it is.

    Args:
        batch: ``things`` (images, crops) of a step.
        tell_epoch: what the hold-out says after an epoch, by the figures of ``Learner.evaluate``.
    """

    def tell(event: str, data: Mapping[str, Any]) -> None:
        if event == "resume":
            ui.say(f"going on with epoch {data['epoch'] + 1}, step {data['step'] + 1}")
            ui.event("earlier", {"frames": (data["epoch"] * learner.steps(0) + data["step"]) * batch})
        elif event == "step":
            ui.event("frames", {"frames": batch})
        elif event == "epoch":
            ui.event("done", {"key": str(data["epoch"])})
            ui.say(f"epoch {data['epoch']}/{data['epochs']}: loss {data['loss']:.4f}, {tell_epoch(data)}")

    ui.start("pretrain", plan.epochs * learner.steps(0) * batch, plan.epochs, "epochs", things)
    try:
        return fit(learner, plan, storage.join(output, WORK_FOLDER), tell)
    finally:
        ui.finish()


def result_of(
    request: RunRequest,
    start: Start,
    fitted: Fitted,
    recipe: PretrainRecipe,
    identity: str,
    data: Mapping[str, Any],
    figures: Mapping[str, Any],
) -> dict[str, Any]:
    """What ``pretrain.json`` holds, as plain JSON data.

    Args:
        data: what was trained on.
        figures: ``holdout``, and whatever else was measured.
    """
    found = {
        "identity": identity,
        "weights": {
            "file": WEIGHTS_FILE,
            "sha256": tensors_sha256(fitted.weights),
            "start": request.start,
            "start_sha256": start.weights_sha256,
        },
        "network": asdict(start.info),
        "recipe": asdict(recipe),
        "seed": request.seed,
        "data": data,
        "best_epoch": fitted.best_epoch + 1,
        "history": [dict(row) for row in fitted.history],
        **figures,
        "versions": {"torch": torch.__version__, "timm": timm.__version__, "python": platform.python_version()},
        "device": choose_device(request.device),
    }
    result: dict[str, Any] = json.loads(json.dumps(found))
    return result


def write_run(
    output: str,
    fitted: Fitted,
    info: NetworkInfo,
    result: Mapping[str, Any],
    *,
    held: Iterable[str],
    measure: str,
    card: str,
) -> None:
    """Writes the folder, the result last of all, and removes the checkpoint.

    Args:
        held: who or what was held out, one per line.
        measure: what selects the best epoch, for the picture of the curves.
    """
    write_network(storage.join(output, WEIGHTS_FILE), fitted.weights, info)
    lines = "\n".join(held) + "\n"
    storage.write_bytes(storage.join(output, HOLDOUT_FILE), lines.encode("utf-8", "backslashreplace"))
    curves = draw_curves(info.architecture, measure, {"pretrain": fitted.history})
    storage.write_bytes(storage.join(output, CURVES_FILE), curves)
    storage.write_bytes(storage.join(output, CARD_FILE), card.encode())
    storage.write_json(storage.join(output, RESULT_FILE), result)
    forget(storage.join(output, WORK_FOLDER))


def how_to_use(result: Mapping[str, Any], output: str) -> str:
    """The command that makes features with the new weights."""
    return (
        f"use it: emobeam extract ... --backbone {result['network']['architecture']} "
        f"--backbone-weights {storage.join(output, WEIGHTS_FILE)}"
    )


def check_output(output: str) -> None:
    """Raises :class:`UsageError` where the folder holds something else, which is left alone."""
    if output.startswith("memory://"):
        raise UsageError("--output memory:// is lost when the command ends")
    if storage.is_local(output) and storage.exists(output) and not storage.local_path(output).is_dir():
        raise UsageError(f"--output {output}: is a file; name a folder")
    found = storage.names(output, "")
    if not found or RESULT_FILE in found:
        return
    if has_checkpoint(storage.join(output, WORK_FOLDER)) and "head.json" not in found:
        return
    raise UsageError(f"--output {output}: holds something that is no pretrained backbone; name another folder")


def choose_device(name: str) -> str:
    """``cpu`` or ``cuda``; ``auto`` is what there is."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch finds no CUDA device here; use --device cpu")
    return name


def choose_workers(wanted: int) -> int:
    """Processes; -1 is one per core this process may use."""
    return len(os.sched_getaffinity(0)) if wanted < 0 else wanted
