"""The folder of a head, written and read with torch.

A head is a folder with ``head.json`` (:class:`HeadConfig`) and ``head.safetensors`` (all tensors, float32, or float16
where it was packed); beside them ``README.md``, the model card, where it is known how the head was made, and
``backbone.safetensors``, where the backbone was trained too. ``weights_sha256`` identifies the tensors themselves, as
float32 and whatever file they came from.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from emobeam.emo_transforms.networks.heads.architectures.registry import build
from emobeam.emo_transforms.networks.heads.config import config_from_json, config_to_json
from emobeam.emo_transforms.networks.heads.folder import (
    BACKBONE_FILE,
    CARD_FILE,
    CONFIG_FILE,
    WEIGHTS_FILE,
    read_file,
)
from emobeam.emo_transforms.networks.heads.head import Head
from emobeam.emo_transforms.networks.heads.model_card import model_card
from emobeam.emo_transforms.networks.weights_digest import tensors_sha256
from emobeam.emo_transforms.storage import is_local, join, local_path, make_folder, write_bytes
from emobeam.emo_transforms.storage.leftovers import replace_folder, unfinished_beside
from emobeam.schemas.records import EmobeamError


def save_head(
    head: Head,
    folder: str,
    *,
    backbone: Mapping[str, Tensor] | None = None,
    dtype: torch.dtype = torch.float32,
    beside: Mapping[str, bytes] | None = None,
) -> None:
    """Writes a head's folder; a head that is already there is replaced.

    A local folder appears as a whole (written beside its place, then renamed). In an object store ``head.json``
    comes last, so that a folder without it is no head.

    A head that says where it comes from (``provenance``) gets a model card, ``README.md``.

    Args:
        folder: local path or any fsspec URI.
        backbone: tensors of the backbone where it was trained too.
        dtype: of the numbers in ``head.safetensors``; :func:`load_head` gives float32 whatever it is.
        beside: other files of the folder, by name.

    Raises:
        EmobeamError: the folder holds something else, or can't be written.
    """
    state = head.module.state_dict()
    kept = {name: value.to(dtype) if value.is_floating_point() else value for name, value in state.items()}
    files = {**(beside or {}), WEIGHTS_FILE: _tensor_bytes(kept)}
    if backbone is not None:
        files[BACKBONE_FILE] = _tensor_bytes(backbone, _note(head.config.provenance.get("backbone")))
    if head.config.provenance:
        files[CARD_FILE] = model_card(head.config).encode()
    files[CONFIG_FILE] = config_to_json(head.config).encode()
    if not is_local(folder):
        for name, data in files.items():
            write_bytes(join(folder, name), data)
        return
    target = local_path(folder).absolute()
    if target.exists() and not (target / CONFIG_FILE).exists() and (not target.is_dir() or any(target.iterdir())):
        raise EmobeamError(f"{folder}: holds something that is no head; name another folder for the head")
    make_folder(str(target.parent))
    fresh = unfinished_beside(target)
    try:
        make_folder(str(fresh))
        for name, data in files.items():
            write_bytes(str(fresh / name), data)
        replace_folder(fresh, target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def load_head(folder: str) -> Head:
    """Reads a head's folder (local path or any fsspec URI); the module is in eval mode on the CPU.

    Raises:
        EmobeamError: a file is missing or damaged, the description has unknown keys or makes no sense, or the
            tensors aren't those of the description: missing, too many, of other shapes, not finite.
    """
    config_uri, weights_uri = join(str(folder), CONFIG_FILE), join(str(folder), WEIGHTS_FILE)
    try:
        config = config_from_json(read_file(config_uri))
        with torch.device("meta"):  # shapes alone; the values come from the file
            module = build(config)
    except EmobeamError as error:
        raise EmobeamError(f"{config_uri}: {error}") from error
    try:
        state = _wide(load(read_file(weights_uri)))
    except SafetensorError as error:
        raise EmobeamError(f"{weights_uri}: damaged ({error}); copy the head again") from error
    except EmobeamError as error:
        raise EmobeamError(f"{weights_uri}: {error}") from error
    _check_tensors(state, module.state_dict(), weights_uri)
    module.load_state_dict(state, assign=True)
    return Head(config, module.eval(), tensors_sha256(state))


def _wide(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """float16 numbers as float32, which is what heads compute in."""
    return {name: value.float() if value.dtype == torch.float16 else value for name, value in tensors.items()}


def _tensor_bytes(tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    return save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, metadata)


def _note(about: object) -> dict[str, str] | None:
    """What the file of a trained backbone says of itself: how its input is normalised."""
    note = about.get("note") if isinstance(about, dict) else None
    if not note:
        return None
    from emobeam.emo_transforms.networks.checkpoints.weight_notes import (
        NOTE_KEY,  # loads timm, which reading a head doesn't need
    )

    return {NOTE_KEY: json.dumps(note, sort_keys=True)}


def _check_tensors(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], uri: str) -> None:
    problems = [f"{name} is missing" for name in expected if name not in found]
    problems += [f"{name} is unexpected" for name in found if name not in expected]
    for name in expected.keys() & found.keys():
        want, have = expected[name], found[name]
        if (want.shape, want.dtype) != (have.shape, have.dtype):
            problems.append(
                f"{name} is {_kind(have)}, the description asks for {_kind(want)}",
            )
        elif not bool(torch.isfinite(have).all()):
            problems.append(f"{name} holds NaN or infinite values")
    if problems:
        more = f" and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise EmobeamError(
            f"{uri}: not the tensors that {CONFIG_FILE} describes: {'; '.join(sorted(problems)[:4])}{more}"
        )


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
