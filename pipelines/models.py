"""The job ``models``: what can be had, fetching it, packing it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.networks.backbones.published.catalogue import CATALOGUE, entry, ready_outputs
from emobeam.emo_transforms.networks.backbones.published.fetching import Fetched, fetch, models_folder
from emobeam.emo_transforms.networks.heads.config import config_from_json
from emobeam.emo_transforms.networks.heads.folder import CARD_FILE, CONFIG_FILE
from emobeam.emo_transforms.networks.heads.output_quality import marks_of
from emobeam.emo_transforms.networks.shipped import is_shipped, read_shipped, shipped
from emobeam.pipelines.console import Ui, size_text
from emobeam.pipelines.printing import echo
from emobeam.schemas.records import UsageError


def describe_shipped() -> dict[str, Any]:
    """The weights that come with emobeam, as plain JSON data."""
    found = shipped()
    heads = {}
    for task, head in found.heads.items():
        config = config_from_json((head.folder / CONFIG_FILE).read_bytes())
        heads[task] = {
            "path": str(head.folder),
            "bytes": head.tensors.bytes,
            "sha256": head.tensors.sha256,
            "weights_sha256": head.tensors.weights_sha256,
            "outputs": list(config.outputs),
            **marks_of([config]).to_json(),
        }
    return {
        "name": found.name,
        "architecture": found.architecture,
        "features_id": found.features_id,
        "path": str(found.backbone.path),
        "bytes": found.backbone.bytes,
        "sha256": found.backbone.sha256,
        "weights_sha256": found.backbone.weights_sha256,
        "heads": heads,
        "model_card": str(found.backbone.path.parent / CARD_FILE),
        "terms": _TERMS,
    }


_TERMS = "Apache-2.0, as emobeam itself; not for decisions about people (see the model card)"


def print_shipped(data: dict[str, Any]) -> None:
    """Prints what comes with emobeam on standard output."""
    echo(f"comes with emobeam, and is used where nothing is named: {data['name']}")
    echo(f"  backbone {data['architecture']}: {size_text(data['bytes'])}, sha256 {data['weights_sha256'][:12]}")
    for task, head in data["heads"].items():
        echo(f"  head {task}: {size_text(head['bytes'])}, sha256 {head['weights_sha256'][:12]}")
        for kind in ("experimental", "unknown"):
            if head[kind]:
                echo(f"    {kind}: {', '.join(head[kind])}")
    echo(f"  terms: {data['terms']}")
    echo(f"  {data['model_card']}")


def describe_models(folder: str = "") -> list[dict[str, Any]]:
    """The catalogue as plain JSON data, with where each model lies if it has been fetched."""
    place = Path(folder) if folder else models_folder()
    described = []
    for model in CATALOGUE:
        path = place / model.file_name
        described.append(
            {
                **asdict(model),
                "bytes": model.size,
                "ready_for": [task for task in ("expr", "va") if _ready(model.name, task)],
                "path": str(path) if path.is_file() else "",
            }
        )
    return described


def _ready(name: str, task: str) -> bool:
    try:
        ready_outputs(entry(name), task)
    except UsageError:
        return False
    return True


def print_models(models: list[dict[str, Any]]) -> None:
    """Prints the catalogue as a table, and the terms below it, on standard output."""
    terms = sorted({model["terms"] for model in models})
    rows = [("name", "network", "px", "embedding", "scores", "ready for", "size", "terms", "fetched")]
    for model in models:
        rows.append(
            (
                model["name"],
                model["architecture"],
                str(model["input_size"]),
                str(model["embedding"]),
                _scores(model["score_names"]),
                ",".join(model["ready_for"]),
                size_text(model["bytes"]),
                f"[{terms.index(model['terms']) + 1}]",
                "yes" if model["path"] else "no" if model["url"] else "by hand",
            )
        )
    # Not rich's table: where the output is no terminal, that one cuts names short.
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    echo("")
    for number, text in enumerate(terms, 1):
        echo(f"[{number}] {text}")
    for model in models:
        if not model["url"]:
            echo(f"{model['name']}: {model['note']}")


def _scores(names: tuple[str, ...]) -> str:
    rest = [name for name in names if name not in ("valence", "arousal")]
    return f"{len(rest)} expr" + (" + VA" if len(rest) < len(names) else "") if names else ""


def fetch_model(name: str, *, accepted: bool, folder: str, ui: Ui, sha256: str = "") -> Fetched:
    """Fetches a model of the catalogue; see :func:`.networks.backbones.published.fetching.fetch`."""
    model = entry(name)
    begun = False

    def progress(count: int, expected: int) -> None:
        nonlocal begun
        if not begun:
            begun = True
            ui.start(f"fetching {name}", expected or model.size, 1, "files", "bytes")
        ui.event("frames", {"frames": count})

    try:
        place = Path(folder).expanduser() if folder else None
        result = fetch(model, place, accepted=accepted, progress=progress, sha256=sha256)
        if begun:
            ui.event("done", {})
    finally:
        if begun:
            ui.finish()
    if result.downloaded and not result.pinned:
        ui.say(f"sha256 {result.sha256}, written down beside the file; later downloads have to match it")
    return result


def run_pack(
    output: str, *, backbone: str = "", heads: Sequence[str] = (), name: str = "", architecture: str = "", ui: Ui
) -> dict[str, Any]:
    """Packs weights into a folder; see :mod:`emobeam.emo_transforms.networks.packing`.

    Returns:
        What the folder holds now, as plain JSON data.

    Raises:
        UsageError: nothing to pack, a backbone without a name, or a folder that isn't local.
        EmobeamError: see there.
    """
    from emobeam.emo_transforms.networks.packing import pack_backbone, pack_head

    if not backbone and not heads:
        raise UsageError("--backbone FILE or --head HEAD: say what to pack")
    if backbone and not name:
        raise UsageError("--name: say what the weights are called, with a version, such as lab-au-1")
    if (name or architecture) and not backbone:
        raise UsageError("--name and --architecture belong to --backbone")
    if not storage.is_local(output):
        raise UsageError(f"--output {output}: name a local folder")
    if is_shipped(name):
        ui.warn(
            f"--name {name}: names emobeam-... are for weights that come with emobeam; take another unless you build "
            "the package"
        )
    folder = Path(storage.local_path(output))
    packed = pack_backbone(backbone, folder, name, architecture) if backbone else read_shipped(folder)
    for head in heads:
        packed = pack_head(head, folder)
    files = [packed.backbone, *(head.tensors for head in packed.heads.values())]
    return {
        "name": packed.name,
        "features_id": packed.features_id,
        "bytes": packed.bytes,
        "files": [{"path": str(file.path), "bytes": file.bytes, "sha256": file.sha256} for file in files],
    }
