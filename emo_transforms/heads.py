"""Heads: what turns windows of feature maps into the outputs of a task, and the folders they are kept in.

A head is a folder with ``head.json`` (:class:`HeadConfig`) and ``head.safetensors`` (final layer, mixers, output
layer, float32). ``weights_sha256`` identifies the tensors themselves, whatever file they came from.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from emo_transforms.head_config import (
    HeadConfig,
    activation_groups,
    check_config,
    config_from_json,
    config_to_json,
    map_shape,
)
from emo_transforms.storage import is_local, join, local_path, make_folder, read_bytes, write_bytes
from emo_transforms.tam import LEVELS, Tam
from emo_transforms.weights import tensors_sha256
from schemas.records import EmobeamError

__all__ = [
    "Head",
    "HeadConfig",
    "activate",
    "build",
    "check_head",
    "load_head",
    "save_head",
    "untrained_head",
]

CONFIG_FILE = "head.json"
WEIGHTS_FILE = "head.safetensors"
BACKBONE_FILE = "backbone.safetensors"


@dataclass(frozen=True, eq=False)
class Head:
    """A head ready to run.

    Attributes:
        weights_sha256: digest of the tensors of ``module`` as they were when the head was made or loaded.
    """

    config: HeadConfig
    module: Tam
    weights_sha256: str

    @property
    def maps(self) -> tuple[str, ...]:
        """Names of the maps it reads, finest first."""
        return self.module.maps

    def run(self, maps: Mapping[str, NDArray[Any]], *, device: str = "cpu") -> NDArray[np.float32]:
        """Results of a batch of windows.

        Args:
            maps: ``[B, T, C, H, W]`` float16 or float32 by name.
            device: ``cpu`` or ``cuda``; the weights are moved there.

        Returns:
            Frame scope: activated values ``[B, T, K]``. Clip scope: window vectors ``[B, D]`` for :meth:`pool`.
        """
        module = self.module.to(device).eval()
        with _reproducible():
            batch = {name: torch.from_numpy(maps[name]).to(device).float() for name in self.maps}
            if self.config.scope == "clip":
                return _numpy(module.vectors(batch))
            return _numpy(activate(module(batch), self.config.activation))

    def pool(self, vectors: NDArray[np.float32], valid: NDArray[Any]) -> NDArray[np.float32]:
        """Activated values ``[K]`` of a video, clip scope only.

        Args:
            vectors: ``[N, D]``, one per window, from :meth:`run`.
            valid: ``[N]`` number of real frames in each window.
        """
        module = self.module.eval()
        device = module.output.weight.device
        with _reproducible():
            logits = module.pool(torch.from_numpy(vectors).to(device), torch.from_numpy(valid).to(device))
            return _numpy(activate(logits, self.config.activation))


def activate(logits: Tensor, activation: str) -> Tensor:
    """Logits ``[..., K]`` to values: tanh in [-1, 1], sigmoid and softmax (over its group) in [0, 1].

    Args:
        activation: as in :class:`HeadConfig`.

    Raises:
        EmobeamError: unknown activation.
    """
    groups = activation_groups(activation, logits.shape[-1])
    parts = torch.split(logits, [length for _, length in groups], dim=-1)
    return torch.cat([_activated(part, name) for part, (name, _) in zip(parts, groups, strict=True)], dim=-1)


def _activated(logits: Tensor, name: str) -> Tensor:
    if name == "softmax":
        return logits.softmax(dim=-1)
    return {"none": logits, "tanh": logits.tanh(), "sigmoid": logits.sigmoid()}[name]


def build(config: HeadConfig) -> Tam:
    """The module of a config, initialised by torch's current random state."""
    return Tam(
        config.map_shapes,
        len(config.outputs),
        scope=config.scope,
        form=config.form,
        window=config.window,
        time_patch=config.time_patch,
        dim=config.dim,
        final_channels=config.final_channels,
    )


def untrained_head(
    task_name: str,
    outputs: Sequence[str],
    scope: str,
    activation: str,
    features_id: str,
    map_shapes: Mapping[str, Sequence[int]],
    *,
    levels: int | None = None,
    form: str = "clip",
    window: int = 8,
    time_patch: int = 4,
    rate: float = 6.0,
    crop_style: str = "square",
    backbone: str = "mobilenetv4_conv_small",
    final_channels: int = 960,
    final: Mapping[str, Tensor] | None = None,
    seed: int = 0,
) -> Head:
    """A head with seeded random weights: the start of training, and what stands in where none is at hand.

    The same arguments give the same bytes; torch's global random state is left alone.

    Args:
        map_shapes: maps of the cache; those a head doesn't read are ignored.
        levels: 1, 2 or 3; None takes as many as the maps allow.
        final: tensors of the backbone's own final layer (``blocks[4].state_dict()``) to start from.
    """
    if levels is None:
        levels = max((n for n, names in LEVELS.items() if set(names) <= set(map_shapes)), default=1)
    needed = LEVELS.get(levels)
    if needed is None:
        raise EmobeamError(f"a head has 1, 2 or 3 levels, not {levels}")
    if missing := [name for name in needed if name not in map_shapes]:
        raise EmobeamError(f"a head of {levels} levels reads the maps {','.join(needed)}; {','.join(missing)} missing")
    config = HeadConfig(
        name=f"{task_name}-tam{levels}-untrained",
        task=task_name,
        outputs=tuple(outputs),
        scope=scope,
        activation=activation,
        features_id=features_id,
        map_shapes={name: map_shape(map_shapes[name]) for name in needed},
        form=form,
        levels=levels,
        window=window,
        time_patch=time_patch,
        rate=rate,
        crop_style=crop_style,
        backbone=backbone,
        final_channels=final_channels,
        seed=seed,
    )
    check_config(config)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        module = build(config).eval()
    if final is not None and module.final is not None:
        module.final.load_timm(final)
    return Head(config, module, tensors_sha256(module.state_dict()))


def save_head(head: Head, folder: str, *, backbone: Mapping[str, Tensor] | None = None) -> None:
    """Writes a head's folder; a head that is already there is replaced.

    A local folder appears as a whole (written beside its place, then renamed). In an object store ``head.json``
    comes last, so that a folder without it is no head.

    Args:
        folder: local path or any fsspec URI.
        backbone: tensors of the backbone where it was trained too.

    Raises:
        EmobeamError: the folder holds something else, or can't be written.
    """
    files = {WEIGHTS_FILE: _tensor_bytes(head.module.state_dict())}
    if backbone is not None:
        files[BACKBONE_FILE] = _tensor_bytes(backbone)
    files[CONFIG_FILE] = config_to_json(head.config).encode()
    if not is_local(folder):
        for name, data in files.items():
            write_bytes(join(folder, name), data)
        return
    target = local_path(folder).absolute()
    if target.exists() and not (target / CONFIG_FILE).exists() and (not target.is_dir() or any(target.iterdir())):
        raise EmobeamError(f"{folder}: holds something that is no head; name another folder for the head")
    make_folder(str(target.parent))
    fresh, old = (target.parent / f".{target.name}-{uuid.uuid4().hex}" for _ in range(2))
    try:
        make_folder(str(fresh))
        for name, data in files.items():
            write_bytes(str(fresh / name), data)
        _replace(fresh, target, old)
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
        config = config_from_json(_read(config_uri))
        with torch.device("meta"):  # shapes alone; the values come from the file
            module = build(config)
    except EmobeamError as error:
        raise EmobeamError(f"{config_uri}: {error}") from error
    try:
        state = load(_read(weights_uri))
    except SafetensorError as error:
        raise EmobeamError(f"{weights_uri}: damaged ({error}); copy the head again") from error
    except EmobeamError as error:
        raise EmobeamError(f"{weights_uri}: {error}") from error
    _check_tensors(state, module.state_dict(), weights_uri)
    module.load_state_dict(state, assign=True)
    return Head(config, module.eval(), tensors_sha256(state))


def check_head(
    head: Head, *, features_id: str, map_shapes: Mapping[str, Sequence[int]], rate: float, crop_style: str
) -> list[str]:
    """Whether a head may run on a cache.

    Args:
        features_id, map_shapes, rate, crop_style: of the cache.

    Returns:
        Warnings: what differs from the data the head was made for without forbidding its use.

    Raises:
        EmobeamError: other features, or maps that the cache lacks.
    """
    config = head.config
    if features_id != config.features_id:
        raise EmobeamError(
            f"head {config.name!r} was made for features {config.features_id}, the cache holds {features_id}:"
            " another backbone, weights, input size or normalisation; extract again with the head's backbone,"
            " or take a head made for this cache"
        )
    if missing := [name for name in head.maps if name not in map_shapes]:
        raise EmobeamError(
            f"head {config.name!r} reads the maps {','.join(head.maps)}, the cache lacks {','.join(missing)};"
            f" extract with --maps {','.join(head.maps)}"
        )
    for name in head.maps:
        if map_shape(map_shapes[name]) != config.map_shapes[name]:
            raise EmobeamError(
                f"head {config.name!r} reads map {name} of shape {config.map_shapes[name]},"
                f" the cache holds {map_shape(map_shapes[name])}"
            )
    warnings = []
    if rate != config.rate:
        warnings.append(f"head {config.name!r} was made for {_rate(config.rate)}, the cache holds {_rate(rate)}")
    if crop_style != config.crop_style:
        warnings.append(
            f"head {config.name!r} was made for {config.crop_style!r} crops, the cache holds {crop_style!r} ones"
        )
    return warnings


@contextmanager
def _reproducible() -> Iterator[None]:
    """Inference whose bits depend on nothing but the input, on one kind of machine.

    On the CPU, matrix products split their work by the number of threads, and their last bits follow (measured
    with 1 to 16 threads); so kernels run on one thread, and workers give the parallelism. On CUDA, TF32 would
    cost three digits.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with (
            torch.inference_mode(),
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
        ):
            yield
    finally:
        torch.set_num_threads(threads)


def _read(uri: str) -> bytes:
    try:
        return read_bytes(uri)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise EmobeamError(
            f"no such file; a head is a folder with {CONFIG_FILE} and {WEIGHTS_FILE}, check its name"
        ) from error


def _tensor_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    return save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})


def _replace(fresh: Path, target: Path, old: Path) -> None:
    """Renames ``fresh`` to ``target``; what was there is put aside as ``old`` and removed at the end."""
    if not target.exists():
        os.rename(fresh, target)
        return
    os.rename(target, old)
    try:
        os.rename(fresh, target)
    except OSError:
        os.rename(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)


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


def _numpy(values: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = values.float().cpu().numpy()
    return array


def _rate(rate: float) -> str:
    return f"{rate:g} frames per second" if rate else "the native frame rate"
