"""What a file of weights says of itself: emobeam's own note in the metadata of a safetensors file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from safetensors import SafetensorError, safe_open

from emobeam.emo_transforms.storage import local_copy
from emobeam.schemas.plain_json import parsed

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


def read_note(uri: str) -> dict[str, Any]:
    """The note as it stands in a file: all of :class:`NetworkInfo`, or ``architecture`` alone.

    Empty for files of others, and for those that aren't there: whoever reads the tensors tells what is wrong.
    """
    if not uri.endswith(".safetensors"):
        return {}
    try:
        with local_copy(uri) as path, safe_open(path, "np") as file:
            note = parsed((file.metadata() or {}).get(NOTE_KEY, "{}"))
    except (SafetensorError, OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def read_info(uri: str) -> NetworkInfo | None:
    """The note of ``emobeam pretrain`` and ``emobeam models convert``; None where a file doesn't say all of it."""
    note = read_note(uri)
    try:
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in note.items()}
        info = NetworkInfo(**values)
        plain = isinstance(info.architecture, str) and isinstance(info.input_size, int)
        return info if plain and len(info.mean) == len(info.std) == 3 and isinstance(info.outputs, tuple) else None
    except TypeError:
        return None
