"""The model card of a backbone pretrained on action units, made of what ``pretrain.json`` holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def units_card(result: Mapping[str, Any]) -> str:
    """The text of ``README.md``: what it is, how to use it, data, figures, limits."""
    network, data, weights, recipe = (result[key] for key in ("network", "data", "weights", "recipe"))
    size, figures = network["input_size"], result["holdout"]
    units = [name for name in network["outputs"] if name in figures["units"]]
    parts = [
        f"# {network['architecture']}, trained on action units\n",
        (
            f"A network of timm with {len(network['outputs'])} outputs: logits of {', '.join(units)} and of "
            "blendshapes, then coordinates of 51 landmarks, from the middle of the crop and in the face's own frame. "
            f"Input: RGB face crops of {size}x{size} px, values in [0, 1], normalised by mean "
            f"{_numbers(network['mean'])} and standard deviation {_numbers(network['std'])}.\n"
        ),
        "## Use\n",
        (
            f"```\nemobeam extract videos/ --backbone {network['architecture']} --backbone-weights {weights['file']} "
            "--output features/\n```\n"
        ),
        "## Training\n",
        (
            f"Recipe `{recipe['name']}` (every value is in `pretrain.json`), seed {result['seed']}, started from "
            f"{weights['start']}; epoch {result['best_epoch']} of {len(result['history'])} was the best on the "
            "hold-out.\n"
        ),
        "| split | crops | people | sha256 |\n|---|---|---|---|\n"
        + "".join(
            f"| {title} | {data[key]['crops']} | {data[key]['people']} | `{data[key]['sha256'][:16]}` |\n"
            for title, key in (("training", "train"), ("hold-out", "holdout"))
        ),
        "## Figures\n",
        (
            f"Hold-out, people never trained on; it chose the epoch, so it flatters a little ({figures['crops']} "
            "crops). A unit counts as shown from an activation of 0.3.\n"
        ),
        "| unit | crops | shown | correlation | AUC |\n|---|---|---|---|---|\n"
        + "".join(
            f"| {unit} | {row['crops']} | {_figure(row['base_rate'])} | {_figure(row['correlation'])} | "
            f"{_figure(row['auc'])} |\n"
            for unit, row in figures["units"].items()
        ),
        "## Limits\n",
        (
            "What was learned from rendered faces holds for rendered faces; measure it on real ones. Action units are "
            "movements, not feelings. Not for decisions about people. The terms of the training data apply to these "
            "weights as well.\n"
        ),
        f"Tensors sha256 `{weights['sha256']}`.\n",
    ]
    return "\n".join(parts)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _numbers(values: Any) -> str:
    return ", ".join(f"{value:g}" for value in values)
