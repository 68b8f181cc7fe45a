"""What a file of weights says of itself: emobeam's own note in the metadata of a safetensors file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from safetensors import SafetensorError, safe_open

from emo_transforms.storage import local_copy

NOTE_KEY = "emobeam"
"""Key of the JSON text in the file's metadata."""

VA = ("valence", "arousal")
"""The outputs behind the classes, linear, as in the multi-task networks of the HSEmotion family."""


@dataclass(frozen=True)
class NetworkInfo:
    """What a file of weights says of itself.

    Attributes:
        architecture: timm's name, without a tag.
        outputs: names of the classes, then ``valence`` and ``arousal`` where they are there.
        input_size: edge in px it was trained at.
        mean, std: per RGB channel, for values in [0, 1].
    """

    architecture: str
    outputs: tuple[str, ...]
    input_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes alone."""
        return self.outputs[:-2] if self.outputs[-2:] == VA else self.outputs


def read_info(uri: str) -> NetworkInfo | None:
    """What ``emobeam pretrain`` noted in a file; None for files of others, and for those that aren't there."""
    if not uri.endswith(".safetensors"):
        return None
    try:
        with local_copy(uri) as path, safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(NOTE_KEY)
    except (SafetensorError, OSError):  # whoever reads the tensors will complain
        return None
    if text is None:
        return None
    try:
        data = json.loads(text)
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in data.items()}
        return NetworkInfo(**values)
    except (ValueError, TypeError, AttributeError):
        return None
