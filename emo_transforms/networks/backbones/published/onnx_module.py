"""An ONNX file as a module of torch, which describes it as it does all other backbones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from emobeam.emo_transforms.networks.backbones.published.onnx_networks import OnnxSession


class OnnxNetwork(nn.Module):
    """``forward`` takes normalised pictures [N, 3, S, S] and gives (embedding [N, D], scores [N, K]).

    It runs on the CPU whatever device its input is on, and has no weights that could be trained; ``state_dict`` gives
    the file's numbers by name, as an identity.

    Args:
        uri: see :class:`OnnxSession`, also for what is raised.
    """

    def __init__(self, uri: str) -> None:
        super().__init__()
        self.session = OnnxSession(uri)
        self.input_size = self.session.input_size
        self.embedding_length, self.scores_length = self.session.embedding_length, self.session.scores_length

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures ``[N, 3, H, W]`` to the embedding ``[N, D]`` and scores ``[N, K]``, computed on the CPU."""
        embedding, scores = self.session.run(pictures.detach().to("cpu", torch.float32).numpy())
        return torch.from_numpy(embedding).to(pictures.device), torch.from_numpy(scores).to(pictures.device)

    def state_dict(self, *_args: Any, **_keywords: Any) -> dict[str, Tensor]:  # type: ignore[override]
        """The numbers in the file by name: weights and other constants of the graph."""
        return {name: torch.from_numpy(array) for name, array in self.session.numbers.items()}
