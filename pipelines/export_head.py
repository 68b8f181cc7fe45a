"""The job ``models export``: a head's folder to an ONNX file."""

from __future__ import annotations

from typing import Any

from emobeam.emo_transforms.networks.heads.architectures.costs import describe
from emobeam.emo_transforms.networks.heads.files import load_head
from emobeam.emo_transforms.networks.heads.onnx_export import export_head
from emobeam.schemas.records import UsageError
from emobeam.schemas.tables import column_of


def run_export(head_uri: str, output: str) -> dict[str, Any]:
    """Writes the head and tells what was written, as plain JSON data.

    Args:
        head_uri: folder of the head, local or any fsspec URI.
        output: the ONNX file.

    Raises:
        EmobeamError: the head can't be read, onnx isn't installed, or the export differs from torch.
        UsageError: an output that isn't called ``.onnx``.
    """
    if not output.endswith(".onnx"):
        raise UsageError(f"--output {output}: expected a name that ends in .onnx")
    head = load_head(head_uri)
    difference = export_head(head, output)
    config = head.config
    cost = describe(config)
    return {
        "head": config.name,
        "output": output,
        "task": config.task,
        "scope": config.scope,
        "inputs": {
            column_of(name): ["windows", config.window, *(config.map_shapes.get(name) or [config.vector_lengths[name]])]
            for name in config.inputs
        },
        "outputs": list(config.outputs),
        "parameters": cost.parameters + cost.final_parameters,
        "difference_from_torch": difference,
    }
