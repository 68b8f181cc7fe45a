"""Checkpoints of every form they are published in, and loading that is never partial and never silent.

Read are safetensors files, state dicts (bare, or wrapped the way timm and common training scripts do, averaged weights
first) and pickles of whole modules (as data, see :mod:`emobeam.emo_transforms.networks.checkpoints.pickles`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from emobeam.emo_transforms.networks.checkpoints.pickle_policy import PickleRefused, told
from emobeam.emo_transforms.networks.checkpoints.pickles import is_module, module_state, read_pickle
from emobeam.emo_transforms.storage import local_copy
from emobeam.schemas.records import EmobeamError

_WRAPPERS = ("state_dict_ema", "model_ema", "ema_state_dict", "state_dict", "model_state_dict", "model", "net")
_PREFIXES = ("", "module.", "model.", "network.", "backbone.", "_orig_mod.", "module.backbone.", "model.backbone.")
HEAD_NAMES = r"(conv_head|norm_head|classifier|head|fc)\..*"
"""Tensors of timm's classifiers behind the last map."""


def read_checkpoint(uri: str) -> dict[str, Tensor]:
    """Tensors of a checkpoint by the names it gives them.

    Args:
        uri: a local path or any fsspec URI. ``.safetensors`` by extension; everything else is what ``torch.save``
            wrote, in either of its formats. Of a wrapped checkpoint the averaged (EMA) weights come first, then
            ``state_dict``, ``model_state_dict``, ``model``, ``net``; what is wrapped may be a whole module.

    Raises:
        EmobeamError: there is no such file, it is none of these, or it asks for code to run.
    """
    return read_with_kind(uri)[0]


def read_with_kind(uri: str) -> tuple[dict[str, Tensor], str]:
    """As :func:`read_checkpoint`, with the class of a pickled module (``timm.models.efficientnet.EfficientNet``)."""
    content: Any
    kind = ""
    try:
        with local_copy(uri) as path:
            if path.endswith(".safetensors"):
                return load_file(path), ""
            if path.endswith(".onnx"):
                raise EmobeamError(f"{uri}: an ONNX file; it is used as it is and has no checkpoint to read")
            # Not torch's careful reader first: it runs nothing either, but a file can make it hang or fill the memory.
            pickled = read_pickle(path)
            content, kind = pickled.content, pickled.kind
    except EmobeamError:
        raise
    except FileNotFoundError as error:
        raise EmobeamError(f"--backbone-weights {uri}: no such file") from error
    except PickleRefused as error:
        raise EmobeamError(
            f"--backbone-weights {uri}: neither a safetensors file nor a checkpoint that can be read without running "
            f"code: {error}"
        ) from error
    except Exception as error:  # every reader has its own exceptions; the file is what they have in common
        reason = str(error).splitlines()[0] if str(error) else "no reason given"
        raise EmobeamError(
            f"--backbone-weights {uri}: neither a safetensors file nor a checkpoint of plain tensors "
            f"({type(error).__name__}: {reason})"
        ) from error
    return _state_in(content, uri), kind


def load_into(
    network: nn.Module, state: Mapping[str, Tensor], uri: str, *, extra: Sequence[str] = (HEAD_NAMES,)
) -> None:
    """Puts a checkpoint into a network, all of it or none.

    Names may carry a prefix (``module.``, ``backbone.`` ...). A network that has ``published_names(state)`` is asked
    to translate a publisher's names into its own, and one that has ``unused_names`` knows tensors that published files
    hold and it doesn't need.

    Args:
        extra: patterns (regular expressions of whole names, without prefix) of further tensors that the file may
            hold; by default a classifier, for networks without one. Anything else left over is an error.

    Raises:
        EmobeamError: naming the file and the first tensor that is missing, left over, of another shape, or not
            finite; or the network doesn't hold the file's numbers after loading.
    """
    fitted = fit_names(network, state, uri, extra=extra)
    network.load_state_dict(fitted, strict=False)
    for name, tensor in network.state_dict().items():
        if name in fitted and not torch.equal(tensor.cpu(), fitted[name].to(tensor.dtype)):
            raise EmobeamError(f"{uri}: loading left {name} as it was; this is a mistake of the network, not the file")


def fit_names(
    network: nn.Module,
    state: Mapping[str, Tensor],
    uri: str,
    *,
    extra: Sequence[str] = (HEAD_NAMES,),
    optional: Sequence[str] = (),
) -> dict[str, Tensor]:
    """The tensors of a checkpoint that a network needs, by the network's names; arguments and errors of `load_into`.

    Args:
        optional: patterns as in ``extra``, of the network's own tensors that may be missing from the file or have
            another shape in it; they aren't in the result then.
    """
    own = network.state_dict()
    spared = [re.compile(pattern) for pattern in optional]
    candidates = [(prefix, _renamed(network, _without(state, prefix))) for prefix in _PREFIXES]
    prefix, found = max(candidates, key=lambda candidate: sum(name in candidate[1] for name in own))
    missing = [name for name in own if name not in found and not _allowed(name, spared)]
    if missing:
        raise EmobeamError(
            f"{uri}: {len(missing)} of {len(own)} tensors of the backbone are not in it (first: {missing[0]}; the "
            f"file has {told(next(iter(state), 'none'))} ...); is it a checkpoint of this model?"
        )
    fresh = {
        name: found[name]
        for name in own
        if name in found and (found[name].shape == own[name].shape or not _allowed(name, spared))
    }
    wrong = [name for name, tensor in fresh.items() if tensor.shape != own[name].shape]
    if wrong:
        theirs, ours = tuple(fresh[wrong[0]].shape), tuple(own[wrong[0]].shape)
        raise EmobeamError(f"{uri}: {wrong[0]} has shape {theirs}, the backbone needs {ours}; is it another model's?")
    bad = [name for name, value in fresh.items() if value.is_floating_point() and not torch.isfinite(value).all()]
    if bad:
        raise EmobeamError(f"{uri}: holds NaN or infinite weights (first: {bad[0]})")
    allowed = [re.compile(pattern) for pattern in (*extra, *getattr(network, "unused_names", ()))]
    left = [name for name in found if name not in own and not _allowed(name, allowed)]
    left += [name for name in state if not name.startswith(prefix) and not _allowed(name, allowed)]
    if left:
        raise EmobeamError(
            f"{uri}: {len(left)} of its {len(state)} tensors have no place in the backbone (first: {told(left[0])}); "
            "is it a checkpoint of this very model?"
        )
    return fresh


def _allowed(name: str, patterns: Sequence[re.Pattern[str]]) -> bool:
    return name.endswith("num_batches_tracked") or any(pattern.fullmatch(name) for pattern in patterns)


def _without(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _renamed(network: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
    translate = getattr(network, "published_names", None)
    return translate(state) if translate is not None else state


def _state_in(content: Any, uri: str) -> dict[str, Tensor]:
    if isinstance(content, dict):
        for wrapper in _WRAPPERS:
            if isinstance(content.get(wrapper), dict) or is_module(content.get(wrapper)):
                content = content[wrapper]
                break
    if is_module(content):
        try:
            content = module_state(content)
        except PickleRefused as error:
            raise EmobeamError(f"--backbone-weights {uri}: {error}") from error
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise EmobeamError(f"--backbone-weights {uri}: holds no dictionary of tensors")
    return {str(name): tensor for name, tensor in content.items()}
