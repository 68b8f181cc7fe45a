"""Heads that give one set of values for a whole video, from statistics of its frames.

As in the HSEmotion entries for mimicry intensity and video-level ambivalence (Savchenko, ABAW6 to 10): mean, standard
deviation, minimum and maximum over time of a backbone's scores or embeddings, a dense layer of 64 with ReLU, the output
layer. (The TAM in clip scope takes its statistics over the vectors of windows, see ``tam``.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from emobeam.emo_transforms.networks.heads.architectures.frame import FrameFeatures
from emobeam.emo_transforms.networks.heads.config import STATISTICS


class ClipStatistics(FrameFeatures):
    """Statistics over the frames of a video, optionally a hidden layer with ReLU, the output layer.

    Its windows are single frames, so ``pool`` sees every frame of a video once, however long it is.
    """

    def __init__(
        self,
        inputs: Sequence[str],
        outputs: int,
        *,
        map_shapes: Mapping[str, Sequence[int]],
        vector_lengths: Mapping[str, int],
        final_channels: int = 0,
        statistics: Sequence[str] = STATISTICS,
        hidden: int = 64,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(inputs, map_shapes=map_shapes, vector_lengths=vector_lengths, final_channels=final_channels)
        self.scope = "clip"
        self.statistics = tuple(statistics)
        self.add_output(self.width * len(self.statistics), outputs, hidden=hidden, dropout=dropout)

    def vectors(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Features ``[B, D]`` of windows of one frame."""
        return self.features(batch).squeeze(1)
