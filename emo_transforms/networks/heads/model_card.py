"""The model card of a head: ``README.md`` in its folder, made from ``head.json`` alone."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from emobeam.emo_transforms.networks.heads.architectures.costs import describe
from emobeam.emo_transforms.networks.heads.config import HeadConfig
from emobeam.emo_transforms.networks.heads.output_quality import marks_of
from emobeam.schemas.tasks import TASKS

_FORMS = {
    "tam": "temporal aggregation module: a 3D MLP-Mixer over feature maps (Nguyen, Nguyen and Huynh, ABAW8, 2025)",
    "tcn": "temporal convolutional network of dilated depthwise-separable blocks over pooled features",
    "frame": "feed-forward head on each frame by itself",
    "clip-statistics": "feed-forward head on statistics over all frames of a video",
    "ready": "a selection of the backbone's own scores, without weights of its own",
}

_LIMITS = """\
Made for research on facial behaviour in video: annotating collections whose recording and use the people shown agreed
to, comparing methods, taking part in challenges.

It estimates what annotators would call the *visible behaviour* of a face. It does not measure what a person feels,
thinks, intends or is like, and agreement between annotators limits how well even that can be known. Don't use it for
decisions about people: hiring, education, insurance, credit, policing, border control, health or the workplace; in some
of these places the law forbids it.

Errors aren't spread evenly. Expect them to grow with profile views, occlusion, small or blurred faces, poor light, and
for ages, skin tones, cultures and ways of recording that are rare in the training data; check on data of your own
before you rely on it. Values beyond the frames in which a face was seen are marked as such in the tables.
"""


def model_card(config: HeadConfig) -> str:
    """The card as Markdown, with the metadata block that model hubs read.

    Args:
        config: of the head; ``metrics`` and ``provenance`` may hold any plain JSON data. Of a list of numbers, one per
            seed, the card gives mean, standard deviation and range.
    """
    sections = [
        _front_matter(config),
        f"# {config.name}\n",
        _what(config),
        _outputs(config),
        _data(config),
        _metrics(config),
        f"## Intended use and limits\n\n{_LIMITS}",
        _running(config),
    ]
    return "\n".join(section for section in sections if section)


def _front_matter(config: HeadConfig) -> str:
    tags = ["facial-affect", "video", config.task, config.architecture]
    lines = ["---", "library_name: emobeam", "pipeline_tag: video-classification", "tags:"]
    return "\n".join([*lines, *(f"- {tag}" for tag in tags), "---", ""])


def _what(config: HeadConfig) -> str:
    task = TASKS.get(config.task)
    scope = "each frame" if config.scope == "frame" else "a whole video"
    cost = describe(config)
    seconds = f" ({config.window_seconds:.2f} s)" if config.window_seconds else ""
    rate = f"{config.rate:g} per second" if config.rate else "at the native rate"
    rows = [
        ("task", f"{config.task}" + (f", {task.title}" if task else "")),
        ("values for", scope),
        ("architecture", f"{config.architecture}, {_FORMS[config.architecture]}"),
        ("reads", ", ".join(f"{name} {_size(config, name)}" for name in config.inputs)),
        ("window", f"{config.window} sampled frame{'s' if config.window > 1 else ''}{seconds}"),
        ("sampled frames", rate),
        ("crops", config.crop_style),
        ("backbone", f"{config.backbone}, features `{config.features_id}`"),
        ("parameters", f"{_millions(cost.parameters)}, final layer of the backbone {_millions(cost.final_parameters)}"),
        (
            "multiplications per frame",
            f"{_millions(cost.macs_per_frame)}, final layer {_millions(cost.final_macs / cost.window)}",
        ),
        ("smoothing", f"box of {2 * config.smoothing + 1} sampled frames" if config.smoothing else "none"),
        ("weights", config.weights),
        ("seed", str(config.seed)),
    ]
    return _table(("", ""), rows)


def _outputs(config: HeadConfig) -> str:
    marks = "".join(f"\n{line[0].upper()}{line[1:]}.\n" for line in marks_of([config]).notes(config.task))
    return _values(config) + marks


def _values(config: HeadConfig) -> str:
    thresholds: Sequence[Any] = config.thresholds or ("",) * len(config.outputs)
    if not config.thresholds:
        return f"## Outputs\n\n{', '.join(config.outputs)} (activation `{config.activation}`)\n"
    rows = [(name, f"{threshold:.3f}") for name, threshold in zip(config.outputs, thresholds, strict=True)]
    return f"## Outputs\n\nActivation `{config.activation}`.\n\n" + _table(("output", "threshold"), rows)


def _data(config: HeadConfig) -> str:
    parts = [
        (
            f"Trained on {_count(config.trained_on)}, thresholds and smoothing tuned on {_count(config.tuned_on)}; "
            "`head.json` lists their ids."
        )
    ]
    if config.provenance:
        parts.append(_table(("", ""), [(key, _text(value)) for key, value in _flat(config.provenance)]))
    return "## Data and training\n\n" + "\n\n".join(parts)


def _metrics(config: HeadConfig) -> str:
    if not config.metrics:
        return ""
    rows = [(key, _text(value)) for key, value in _flat(config.metrics)]
    return "## Metrics\n\n" + _table(("", ""), rows)


def _running(config: HeadConfig) -> str:
    store = [*(["maps"] if config.maps else []), *config.vector_lengths]
    own = config.provenance.get("backbone")
    file = own.get("file") if isinstance(own, Mapping) else None
    weights = f"HEAD/{file}" if file else "WEIGHTS"
    backbone = "the backbone that was trained with the head" if file else "the backbone's weights at hand"
    return (
        "## How to run it\n\nWith this folder as `HEAD` and a feature cache made with the same backbone\n"
        f"(features `{config.features_id}`, `--store {','.join(store)}`):\n\n"
        "```sh\nemobeam predict FEATURES --head HEAD --output OUT\n```\n\n"
        f"From videos, with {backbone}:\n\n"
        f"```sh\nemobeam annotate VIDEOS --backbone {config.backbone} --backbone-weights {weights} "
        "--head HEAD --output OUT\n```\n"
    )


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested data; what is told of several seeds (``mean`` with ``sd`` or ``std``) is a leaf as well."""
    for key, value in data.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value and not _is_spread(value):
            yield from _flat(value, f"{name} / ")
        else:
            yield name, value


def _is_spread(value: Mapping[str, Any]) -> bool:
    return "mean" in value and bool({"sd", "std"} & set(value))


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        if not _is_spread(value):
            return ""
        spread = f"{_text(value['mean'])} ± {_text(value.get('sd', value.get('std')))}"
        more = [f"{key} {_text(rest)}" for key, rest in value.items() if key not in ("mean", "sd", "std")]
        return spread + (f" ({'; '.join(more)})" if more else "")
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "not known"}[value]
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else "undefined"
    if isinstance(value, (list, tuple)) and any(isinstance(each, (Mapping, list)) for each in value):
        return f"{len(value)} entries in `head.json`"
    if isinstance(value, (list, tuple)):
        numbers = [n for n in value if isinstance(n, (int, float)) and not isinstance(n, bool)]
        if any(isinstance(n, float) for n in numbers) and len(numbers) == len(value) > 1:
            mean, sd = statistics.fmean(numbers), statistics.stdev(numbers)
            return f"{_text(mean)} ± {_text(sd)} (n {len(numbers)}, {_text(min(numbers))} to {_text(max(numbers))})"
        return ", ".join(map(_text, value)) if len(value) <= 12 else f"{len(value)} entries"
    return str(value).replace("|", "\\|").replace("\n", " ")


def _table(header: tuple[str, str], rows: Sequence[tuple[str, str]]) -> str:
    lines = [f"| {left} | {right} |" for left, right in [header, ("---", "---"), *rows]]
    return "\n".join(lines) + "\n"


def _count(ids: Sequence[str]) -> str:
    return f"{len(ids)} named videos" if ids else "no named videos"


def _size(config: HeadConfig, name: str) -> str:
    shape = config.map_shapes.get(name) or (config.vector_lengths[name],)
    return "x".join(map(str, shape))


def _millions(number: float) -> str:
    return f"{number / 1e6:.3f} M" if number else "0"
