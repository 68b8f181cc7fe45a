"""From torch to what is prepared: networks are traced, converted and written down, then read again and compared.

What is written is believed only where it gives the numbers of the network compiled directly, to the bit.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from emobeam.emo_transforms.networks.backbones.prepared_backbones import (
    NETWORK,
    backbone_config_from,
    backbone_key,
    description_data,
    description_from,
    is_onnx,
    weights_file,
)
from emobeam.emo_transforms.networks.backbones.torch_backbones import (
    TorchBackbone,
    build_backbone,
    load_torch_backbone,
)
from emobeam.emo_transforms.networks.engines import compile_model, openvino_module, read_model, written_model
from emobeam.emo_transforms.networks.heads.architectures.costs import describe as describe_cost
from emobeam.emo_transforms.networks.heads.config import config_from_json
from emobeam.emo_transforms.networks.heads.files import load_head
from emobeam.emo_transforms.networks.heads.fresh_heads import seeded_head
from emobeam.emo_transforms.networks.heads.head import Head
from emobeam.emo_transforms.networks.heads.prepared_heads import head_key
from emobeam.emo_transforms.networks.prepared.head_graphs import graphs_of
from emobeam.emo_transforms.networks.prepared.keys import Key
from emobeam.emo_transforms.networks.prepared.store import Entry
from emobeam.emo_transforms.networks.shipped import is_shipped, shipped
from emobeam.emo_transforms.storage import file_sha256
from emobeam.schemas.records import EmobeamError, UsageError

_SAMPLES = 3

Made = Iterator[tuple[Key, Entry]]


def make(key: Key, recipe: Mapping[str, Any]) -> Made:
    """The entries that a recipe asks for, that of the key among them.

    Raises:
        UsageError, EmobeamError: what it names can't be used, or OpenVINO computes something else once it is written.
    """
    match recipe["make"]:
        case "description":
            return _description(key, recipe)
        case "backbone":
            config = backbone_config_from(recipe["config"])
            made = iter([(key, _backbone(load_torch_backbone(config)))])
            return _with_what_else_is_shipped(made, is_shipped(config.weights))
        case "head":
            folders = {str(ours.folder) for ours in shipped().heads.values()}
            made = _head(key, load_head(recipe["folder"]))
            return _with_what_else_is_shipped(made, recipe["folder"] in folders)
        case "fresh-head":
            return _head(key, seeded_head(config_from_json(recipe["config"])))
    raise ValueError(f"no such recipe: {recipe}")


def _description(key: Key, recipe: Mapping[str, Any]) -> Made:
    """The network comes along: whoever asks what it is will soon run it."""
    backbone = build_backbone(recipe["name"], recipe["weights"], recipe["input_size"], recipe["store"])
    weights = str(recipe["weights"])
    if (wanted := key.identity.get("sha256")) and file_sha256(weights_file(weights)) != wanted:
        again = "reinstall emobeam" if is_shipped(weights) else "begin again"
        raise EmobeamError(f"{weights}: not the weights that were asked for, they changed or are damaged; {again}")
    if not is_onnx(recipe["weights"]):
        yield backbone_key(backbone.config), _backbone(backbone)
    yield key, Entry(description_data(backbone), {})


def _with_what_else_is_shipped(made: Made, shipped_too: bool) -> Made:
    """What comes with emobeam is used together, and torch is loaded only once."""
    keys = set()
    for key, entry in made:
        keys.add(key.name)
        yield key, entry
    if not shipped_too:
        return
    ours = shipped()
    if ours.description:
        config = description_from(ours.description).config
        if backbone_key(config).name not in keys:
            yield backbone_key(config), _backbone(load_torch_backbone(config))
    for found in ours.heads.values():
        head = load_head(str(found.folder))
        key = head_key(head.config, head.weights_sha256)
        if key.name not in keys:
            yield from _head(key, head)


def _backbone(backbone: TorchBackbone) -> Entry:
    size = backbone.config.input_size
    whole = _Whole(backbone).eval()
    example = torch.zeros(1, size, size, 3, dtype=torch.uint8)
    with torch.inference_mode():
        outputs = whole(example)
    shapes = {name: list(values.shape[1:]) for name, values in zip(whole.names, outputs, strict=True)}
    rng = np.random.default_rng(0)
    samples = [[rng.integers(0, 256, (1, size, size, 3), np.uint8)] for _ in range(_SAMPLES)]
    samples += [[np.full((1, size, size, 3), value, np.uint8)] for value in (0, 255)]
    told = f"backbone {backbone.config.name}"
    return Entry({"shapes": shapes}, _written(whole, (example,), NETWORK, told, samples))


def _head(key: Key, head: Head) -> Made:
    files: dict[str, bytes] = {}
    for graph in graphs_of(head):
        rng = np.random.default_rng(0)
        samples = [
            [rng.normal(size=tuple(each.shape)).astype(np.float32) for each in graph.examples] for _ in range(_SAMPLES)
        ]
        files |= _written(graph.module, graph.examples, graph.name, f"head {head.config.name}", samples)
    cost = describe_cost(head.config)
    facts = {
        "weights_sha256": head.weights_sha256,
        "inputs": list(head.inputs),
        "streams": head.streams,
        "parameters": cost.parameters,
        "final_parameters": cost.final_parameters,
        "macs_per_frame": cost.macs_per_frame,
    }
    wanted = key.identity["weights_sha256"]
    if wanted and wanted != head.weights_sha256:
        raise EmobeamError(f"head {head.config.name!r}: its weights have changed just now; begin again")
    yield key, Entry(facts, files)
    if not wanted:  # a fresh one, found by its seed; the same once more by what its tensors are
        yield head_key(head.config, head.weights_sha256), Entry(facts, files)


def _written(
    module: nn.Module,
    examples: Sequence[Tensor],
    name: str,
    told: str,
    samples: Sequence[Sequence[NDArray[Any]]],
) -> dict[str, bytes]:
    """The files of a network, compared with what it is without them."""
    model = converted(module, examples, told)
    xml, numbers = written_model(model)
    direct, again = compile_model(model, "f32"), compile_model(read_model(xml, numbers), "f32")
    for values in samples:
        wanted = [output.copy() for output in direct(*values)]
        for one, other in zip(wanted, again(*values), strict=True):
            if one.tobytes() != other.tobytes():
                raise EmobeamError(
                    f"{told}: OpenVINO {openvino_module().__version__} gives other numbers once the network is "
                    "written down and read again; take --engine torch, and tell emobeam's authors"
                )
    return {f"{name}.xml": xml, f"{name}.bin": numbers}


def converted(module: nn.Module, examples: Sequence[Tensor], told: str) -> Any:
    """A module as an OpenVINO model whose inputs have the shapes of the examples.

    Raises:
        UsageError: OpenVINO can't take this network.
    """
    try:
        # The tracer remarks on every Python condition in timm's code.
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            # OpenVINO's own call of the tracer runs everything three times to check it; our tests compare outputs.
            with torch.no_grad():
                traced = torch.jit.trace(  # type: ignore[no-untyped-call]
                    module, tuple(examples), check_trace=False
                )
            model = openvino_module().convert_model(traced, example_input=tuple(examples))
        model.reshape({index: list(each.shape) for index, each in enumerate(examples)})
    except Exception as error:  # a converter has no one exception of its own
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UsageError(f"--engine openvino: can't compile {told} ({reason}); take --engine torch") from error
    return model


class _Whole(nn.Module):
    """From pixels, uint8 [N, S, S, 3], to a tuple of outputs, those without any values left out."""

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: TorchBackbone) -> None:
        super().__init__()
        self.network = backbone.network
        self._forward: Callable[[Tensor], Mapping[str, Tensor]] = backbone.forward
        self.names: tuple[str, ...] = ()
        self.register_buffer("mean", torch.tensor(backbone.config.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(backbone.config.std).view(1, 3, 1, 1))

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        pictures = pixels.permute(0, 3, 1, 2).float() / 255
        found = self._forward((pictures - self.mean) / self.std)
        self.names = tuple(name for name, values in found.items() if values.shape[1])
        return tuple(found[name] for name in self.names)
