"""Backbones on OpenVINO: the same network, compiled for one core of the CPU."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from emobeam.emo_transforms.networks.engines import compile_model, openvino_module
from emobeam.schemas.config import BackboneConfig
from emobeam.schemas.records import UsageError

Forward = Callable[[Tensor], Mapping[str, Tensor]]


def compiled_run(
    network: nn.Module, forward: Forward, config: BackboneConfig
) -> Callable[[NDArray[np.uint8]], dict[str, NDArray[np.float32]]]:
    """All outputs of a batch of crops, float32, by name; one crop at a time, which a core's cache can hold.

    Args:
        forward: outputs by name of normalised pictures [N, 3, S, S]; calls ``network``.

    Raises:
        UsageError: OpenVINO can't take this network.
    """
    size = config.input_size
    example = torch.zeros(1, size, size, 3, dtype=torch.uint8)
    whole = _Whole(network, forward, config).eval()
    with torch.inference_mode():
        whole(example)  # tells the names of the outputs
    names = whole.names
    try:
        # The tracer remarks on every Python condition in timm's code.
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            # OpenVINO's own call of the tracer runs everything three times to check it; our tests compare outputs.
            traced = torch.jit.trace(  # type: ignore[no-untyped-call]
                whole, example, check_trace=False
            )
            model = openvino_module().convert_model(traced, example_input=example)
        model.reshape([1, size, size, 3])
        run_one = compile_model(model, "f32")
    except Exception as error:  # a converter has no one exception of its own
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UsageError(f"--engine openvino: can't compile {config.name} ({reason}); take --engine torch") from error

    def run(pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        found: dict[str, NDArray[np.float32]] = {}
        for index in range(len(pixels)):
            for name, values in zip(names, run_one(pixels[index : index + 1]), strict=True):
                if index == 0:
                    found[name] = np.empty((len(pixels), *values.shape[1:]), np.float32)
                found[name][index] = values[0]
        return found

    return run


class _Whole(nn.Module):
    """From pixels, uint8 [N, S, S, 3], to a tuple of outputs, those without any values left out."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, forward: Forward, config: BackboneConfig) -> None:
        super().__init__()
        self.network = network
        self._forward: Any = forward
        self.names: tuple[str, ...] = ()
        self.register_buffer("mean", torch.tensor(config.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(config.std).view(1, 3, 1, 1))

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        pictures = pixels.permute(0, 3, 1, 2).float() / 255
        found = self._forward((pictures - self.mean) / self.std)
        self.names = tuple(name for name, values in found.items() if values.shape[1])
        return tuple(found[name] for name in self.names)
