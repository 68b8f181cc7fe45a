"""What of a head becomes a network of its own: one window at a time, so that no value depends on its neighbours.

* frame scope: ``logits`` of a window from its columns; of a head that streams, from columns and the past of each of
  its blocks, with the past of the frames that follow.
* clip scope: ``vectors`` of a window, and ``read_out``, from the statistics of a video to logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from emobeam.emo_transforms.networks.heads.architectures.module import HeadModule
from emobeam.emo_transforms.networks.heads.head import Head

LOGITS, VECTORS, READ_OUT = "logits", "vectors", "read_out"


@dataclass(frozen=True)
class Graph:
    """One network of a head.

    Attributes:
        module: takes and gives tensors by their order.
        examples: an input of each; columns first, float32.
    """

    name: str
    module: nn.Module
    examples: tuple[Tensor, ...]


def graphs_of(head: Head) -> list[Graph]:
    """All networks of a head."""
    config, module = head.config, head.module.eval()
    shapes: dict[str, Sequence[int]] = {**config.map_shapes, **{k: (n,) for k, n in config.vector_lengths.items()}}
    columns = tuple(torch.zeros(1, config.window, *shapes[name]) for name in head.inputs)
    if config.scope == "clip":
        window = _Vectors(module, head.inputs).eval()
        with torch.inference_mode():
            width = window(*columns).shape[-1] * len(module.statistics)
        return [
            Graph(VECTORS, window, columns),
            Graph(READ_OUT, _ReadOut(module, head.inputs).eval(), (torch.zeros(1, width),)),
        ]
    if not head.streams:
        return [Graph(LOGITS, _Logits(module, head.inputs).eval(), columns)]
    with torch.inference_mode():
        _, pasts = module.stream(dict(zip(head.inputs, columns, strict=True)), None)
    streaming = _Streaming(module, head.inputs).eval()
    return [Graph(LOGITS, streaming, (*columns, *(torch.zeros_like(past) for past in pasts)))]


class _Part(nn.Module):
    def __init__(self, module: HeadModule, inputs: Sequence[str]) -> None:
        super().__init__()
        self.module, self.inputs = module, tuple(inputs)

    def batch(self, columns: Sequence[Tensor]) -> dict[str, Tensor]:
        return dict(zip(self.inputs, columns, strict=True))


class _Logits(_Part):
    def forward(self, *columns: Tensor) -> Tensor:
        logits: Tensor = self.module(self.batch(columns))
        return logits


class _Vectors(_Part):
    def forward(self, *columns: Tensor) -> Tensor:
        return self.module.vectors(self.batch(columns))


class _ReadOut(_Part):
    def forward(self, statistics: Tensor) -> Tensor:
        return self.module.read_out(statistics)


class _Streaming(_Part):
    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        count = len(self.inputs)
        logits, pasts = self.module.stream(self.batch(given[:count]), given[count:])
        return (logits, *pasts)
