"""Any timm classifier as a network that gives its pooled embedding and its class scores.

HSEmotion's networks are such classifiers: ``tf_efficientnet_b0`` (embedding 1280), ``tf_efficientnet_b2`` (1408) and
``mobilevitv2_150`` (768); the MobileNetV4 family gives 1280 numbers. The embedding is what the last linear layer sees.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import timm
from torch import Tensor, nn

from emobeam.schemas.records import EmobeamError, UsageError

_PREFIX = "network."


class TimmVectors(nn.Module):
    """``forward`` takes normalised pictures [N, 3, S, S] and gives (embedding [N, D], scores [N, K]).

    Args:
        name: a timm model.
        scores: length K of the scores; 0 leaves the last layer out.
        pretrained: timm fetches its own default weights; ``scores`` must then be timm's number of classes or 0.

    Raises:
        UsageError: timm knows no such model, or the model has no pooled embedding before one linear layer.
        EmobeamError: timm can't fetch the weights.
    """

    def __init__(self, name: str, scores: int, *, pretrained: bool = False) -> None:
        super().__init__()
        if not timm.is_model(name):
            close = ", ".join(timm.list_models(f"*{name.split('_')[0]}*")[:5]) or "tf_efficientnet_b0, mobilevitv2_150"
            raise UsageError(f"--backbone {name}: timm has no such model; for example {close}")
        try:
            network: Any = timm.create_model(name, pretrained=pretrained, num_classes=scores)
        except Exception as error:  # timm raises whatever its hub client raises
            raise EmobeamError(
                f"--backbone {name}: timm can't build it ({error}); without network name a local checkpoint"
            ) from error
        head = network.get_classifier() if hasattr(network, "get_classifier") else None
        if not hasattr(network, "forward_head") or not isinstance(head, (nn.Linear, nn.Identity)):
            raise UsageError(f"--backbone {name}: this model doesn't end in an embedding and one linear layer")
        self.network = network
        self.head_name = str(network.default_cfg.get("classifier", "classifier"))
        """What timm calls the last layer: ``classifier`` or ``head.fc``."""

    @property
    def embedding_length(self) -> int:
        """Length D of the embedding."""
        network: Any = self.network
        return int(network.head_hidden_size)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures ``[N, 3, H, W]`` to the embedding ``[N, D]`` and scores ``[N, K]``, K 0 without a last layer."""
        network: Any = self.network
        embedding = network.forward_head(network.forward_features(pictures), pre_logits=True)
        head = network.get_classifier()
        scores = head(embedding) if isinstance(head, nn.Linear) else embedding.new_zeros(len(embedding), 0)
        return embedding, scores

    def published_names(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A checkpoint under the names used here; heads that were ``Sequential(Linear)`` lose their ``.0``."""
        wrapped = f"{self.head_name}.0."
        plain = {
            f"{self.head_name}.{name.removeprefix(wrapped)}" if name.startswith(wrapped) else name: tensor
            for name, tensor in state.items()
        }
        return {name if name.startswith(_PREFIX) else _PREFIX + name: tensor for name, tensor in plain.items()}


def scores_length(state: Mapping[str, Tensor]) -> int:
    """How many class scores a checkpoint of a classifier gives: rows of its last linear layer, 0 if it has none."""
    for ending in ("classifier.0.weight", "classifier.weight", "head.fc.0.weight", "head.fc.weight", "fc.weight"):
        for name, tensor in state.items():
            if (name == ending or name.endswith(f".{ending}")) and tensor.ndim == 2 and "se." not in name:
                return int(tensor.shape[0])
    return 0
