"""The job ``models convert``: checkpoints of any form as safetensors."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.networks.backbones.published.catalogue import CATALOGUE, Entry
from emobeam.emo_transforms.networks.backbones.sources import classifier, source_of
from emobeam.emo_transforms.networks.backbones.timm_vectors import TimmVectors, scores_length
from emobeam.emo_transforms.networks.checkpoints.pickle_policy import told
from emobeam.emo_transforms.networks.checkpoints.reading import fit_names, read_with_kind
from emobeam.emo_transforms.networks.checkpoints.weight_notes import NOTE_KEY, NetworkInfo
from emobeam.emo_transforms.networks.weights_digest import tensors_sha256
from emobeam.schemas.records import EmobeamError, UsageError


def convert(file: str, output: str, *, architecture: str = "") -> dict[str, Any]:
    """Writes a checkpoint of any form as safetensors; nothing in it is executed.

    Args:
        file: a checkpoint, see :func:`emobeam.emo_transforms.networks.checkpoints.reading.read_checkpoint`.
        output: a ``.safetensors`` file, local or any fsspec URI.
        architecture: a timm model, ``mobilefacenet``, ``ddamfn``, or a name of the catalogue: the tensors have to fit
            it exactly and are written by its names, with the network noted in the file; of a name of the catalogue
            also input size, normalisation and what the scores are of. Without it they are written as they are.

    Raises:
        UsageError: ``output`` has another extension, or there is no such network.
        EmobeamError: the file can't be read or doesn't fit.
    """
    if not output.endswith(".safetensors"):
        raise UsageError(f"--output {output}: the file is a safetensors file; let its name end in .safetensors")
    state, kind = read_with_kind(file)
    model = next((model for model in CATALOGUE if model.name == architecture), None)
    known = model.architecture if model else architecture
    if known:
        state = _fitting(state, file, known)
    tensors = {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}
    bad = [name for name, value in tensors.items() if value.is_floating_point() and not torch.isfinite(value).all()]
    if bad:
        raise EmobeamError(f"{file}: holds NaN or infinite weights (first: {told(bad[0])})")
    source = storage.file_sha256(file)
    metadata = {"format": "pt", "source_sha256": source, "source": file.rsplit("/", 1)[-1], "architecture": known}
    if known:
        metadata[NOTE_KEY] = json.dumps(_note(model, scores_length(tensors)) or {"architecture": known})
    storage.write_bytes(output, save(tensors, metadata={**metadata, "source_class": kind}))
    return {
        "output": output,
        "architecture": known,
        "source_class": kind,
        "source_sha256": source,
        "tensors": len(tensors),
        "parameters": sum(value.numel() for value in tensors.values() if value.is_floating_point()),
        "scores": scores_length(tensors),
        "weights_sha256": tensors_sha256(tensors),
    }


def _note(model: Entry | None, scores: int) -> dict[str, Any]:
    """What loading needs to know, as ``emobeam pretrain`` notes it of its own."""
    if model is None or len(model.score_names) not in (0, scores):
        return {}
    info = NetworkInfo(model.architecture, model.score_names, model.input_size, model.mean, model.std)
    return asdict(info)


def _fitting(state: dict[str, Tensor], file: str, architecture: str) -> dict[str, Tensor]:
    network = classifier(source_of(architecture, "untrained"), scores_length(state))
    fitted = fit_names(network, state, file)
    return {
        name.removeprefix("network.") if isinstance(network, TimmVectors) else name: t for name, t in fitted.items()
    }
