"""The model card of a pretrained backbone, made of what ``pretrain.json`` holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def backbone_card(result: Mapping[str, Any]) -> str:
    """The text of ``README.md``: what it is, how to use it, data, figures, limits."""
    network, data, weights = result["network"], result["data"], result["weights"]
    classes = [name for name in network["outputs"] if name not in ("valence", "arousal")]
    size, recipe = network["input_size"], result["recipe"]
    shown = ", ".join(classes) if len(classes) <= 12 else f"{len(classes)} classes"
    more = " and linear valence and arousal" if len(classes) < len(network["outputs"]) else ""
    parts = [
        f"# {network['architecture']}, trained on face images\n",
        (
            f"A network of timm with {len(network['outputs'])} outputs: logits of {shown}{more}. Input: RGB face crops "
            f"of {size}x{size} px, values in [0, 1], normalised by mean {_numbers(network['mean'])} and standard "
            f"deviation {_numbers(network['std'])}.\n"
        ),
        "## Use\n",
        (
            "```\n"
            f"emobeam extract videos/ --backbone {network['architecture']} --backbone-weights {weights['file']} "
            "--output features/\n```\n"
        ),
        (
            "```python\n"
            "import timm\n"
            f"timm.create_model({network['architecture']!r}, num_classes={len(network['outputs'])}, "
            f"checkpoint_path={weights['file']!r})\n```\n"
        ),
        "## Training\n",
        (
            f"Recipe `{recipe['name']}` (every value is in `pretrain.json`), seed {result['seed']}, started from "
            f"{weights['start']}; epoch {result['best_epoch']} of {len(result['history'])} was the best on the "
            "hold-out.\n"
        ),
        _data_table(data),
        "## Figures\n",
        _figures(
            "Hold-out, cut from the training images; it chose the epoch, so it flatters a little.", result["holdout"]
        ),
    ]
    if result["official"] is not None:
        parts.append(_figures("Official validation split, looked at once, after training.", result["official"]))
    if result["unreadable"]["count"]:
        parts.append(f"{result['unreadable']['count']} images could not be read and were left out.\n")
    parts += [
        "## Limits\n",
        (
            "Expressions as annotators saw them in still pictures are not feelings, and figures differ between people, "
            "light and cameras. Not for decisions about people. The terms of the training data apply to these weights "
            "as well; many data sets of faces allow research alone.\n"
        ),
        f"Tensors sha256 `{weights['sha256']}`.\n",
    ]
    return "\n".join(parts)


def _data_table(data: Mapping[str, Any]) -> str:
    splits = [
        (name, data[key]) for name, key in (("training", "train"), ("hold-out", "holdout"), ("official", "official"))
    ]
    lines = ["| split | images | sha256 of ids and labels |", "|---|---|---|"]
    lines += [
        f"| {name} | {split['images']} | `{split['sha256'][:16]}` |" for name, split in splits if split is not None
    ]
    return "\n".join(lines) + "\n"


def _figures(title: str, figures: Mapping[str, Any]) -> str:
    text = f"{title} Accuracy {figures['accuracy']:.4f}"
    if "accuracy_7" in figures:
        text += f" ({figures['accuracy_7']:.4f} over seven classes)"
    text += f", mean recall {figures['mean_recall']:.4f}, macro F1 {figures['macro_f1']:.4f}"
    for name in ("valence", "arousal"):
        if name in figures:
            text += f", CCC of {name} {figures[name]['ccc']:.4f}"
    lines = [text + f" ({figures['images']} images).", ""]
    if len(figures["classes"]) <= 12:
        lines += ["| class | images | recall | precision | F1 |", "|---|---|---|---|---|"]
        lines += [
            f"| {name} | {row['images']} | {row['recall']:.3f} | {row['precision']:.3f} | {row['f1']:.3f} |"
            for name, row in figures["classes"].items()
        ]
        lines.append("")
    return "\n".join(lines)


def _numbers(values: Any) -> str:
    return ", ".join(f"{value:g}" for value in values)
