"""Networks that come as ONNX files: HSEmotion's and EmotiEffLib's, and whatever else ends in one linear layer.

The files take ``[N, 3, S, S]`` with any N and give scores ``[N, K]``. The embedding is what the last linear layer sees:
its tensor is made a second output of the graph. onnxruntime runs it in one thread, so that results don't depend on
the machine's number of cores.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emobeam.emo_transforms.storage import local_copy
from emobeam.schemas.records import EmobeamError

_LINEAR = ("Gemm", "MatMul")
_MOST_EDGE = 1024
"""Edge of pictures in px, and pictures at once: as much is set aside when the file is looked at."""

_AFTER = ("Add", "Softmax", "Identity", "Flatten", "Reshape", "Squeeze", "LogSoftmax", "Sigmoid", "Tanh")


class OnnxSession:
    """Runs normalised pictures [N, 3, S, S] and gives (embedding [N, D], scores [N, K]); ``numbers`` are its identity.

    Args:
        uri: an ONNX file, local or any fsspec URI, without external data.

    Raises:
        EmobeamError: onnx or onnxruntime isn't installed, the file can't be read, or it isn't a network of one
            picture input that ends in one linear layer.
    """

    def __init__(self, uri: str) -> None:
        onnx, onnxruntime = _libraries(uri)
        self.uri = uri
        try:
            with local_copy(uri) as path:
                model = onnx.load(path)
        except FileNotFoundError as error:
            raise EmobeamError(f"--backbone-weights {uri}: no such file") from error
        except Exception as error:  # protobuf has its own exceptions
            raise EmobeamError(f"--backbone-weights {uri}: not an ONNX file ({_line(error)})") from error
        try:
            self.numbers = dict(_numbers(onnx, model))
        except (ValueError, TypeError, MemoryError) as error:
            raise EmobeamError(
                f"--backbone-weights {uri}: a tensor in it isn't what it says ({_line(error)})"
            ) from error
        """Weights and other constants of the graph by name."""
        self._picture = _picture_input(model, uri)
        self.input_size, self._fixed_batch = _edges(self._picture, uri)
        cut = _before_last_linear(model, uri)
        scores = model.graph.output[0].name
        if cut not in [output.name for output in model.graph.output]:
            model.graph.output.append(onnx.helper.make_tensor_value_info(cut, onnx.TensorProto.FLOAT, None))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._names = [cut, scores]
        try:
            data = model.SerializeToString()
            self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
            embedding, logits = self.run(np.zeros((1, 3, self.input_size or 224, self.input_size or 224), np.float32))
        except EmobeamError:
            raise
        except Exception as error:  # onnxruntime has its own exceptions
            raise EmobeamError(f"--backbone-weights {uri}: onnxruntime can't run it ({_line(error)})") from error
        if embedding.ndim != 2 or logits.ndim != 2:
            shapes = f"{list(embedding.shape)} and {list(logits.shape)}"
            raise EmobeamError(f"--backbone-weights {uri}: its last layer and scores have shapes {shapes}, not vectors")
        self.embedding_length, self.scores_length = embedding.shape[1], logits.shape[1]

    def run(self, pictures: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Pictures ``[N, 3, H, W]`` to the embedding ``[N, D]`` and scores ``[N, K]``."""
        step = self._fixed_batch or max(len(pictures), 1)
        parts = []
        for start in range(0, max(len(pictures), 1), step):
            chunk = pictures[start : start + step]
            if self._fixed_batch and len(chunk) < step:
                chunk = np.concatenate([chunk, np.zeros((step - len(chunk), *chunk.shape[1:]), np.float32)])
            found = self._session.run(self._names, {self._picture.name: np.ascontiguousarray(chunk)})
            parts.append([value[: len(pictures) - start] for value in found])
        return [np.concatenate(values) for values in zip(*parts, strict=True)]


def _libraries(uri: str) -> tuple[Any, Any]:
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise EmobeamError(
            f"--backbone-weights {uri}: ONNX files need onnx and onnxruntime; pip install 'emobeam[onnx]'"
        ) from error
    return onnx, onnxruntime


def _numbers(onnx: Any, model: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    for tensor in model.graph.initializer:
        yield tensor.name, _array(onnx, tensor)
    for node in model.graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    yield node.output[0], _array(onnx, attribute.t)


def _array(onnx: Any, tensor: Any) -> NDArray[Any]:
    return np.array(onnx.numpy_helper.to_array(tensor))  # a copy: theirs can't be written to


def _picture_input(model: Any, uri: str) -> Any:
    given = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in given]
    if len(inputs) != 1 or len(inputs[0].type.tensor_type.shape.dim) != 4:
        names = ", ".join(value.name for value in inputs) or "none"
        raise EmobeamError(f"--backbone-weights {uri}: a backbone takes one input [N, 3, S, S]; this has {names}")
    return inputs[0]


def _edges(picture: Any, uri: str) -> tuple[int, int]:
    """Edge of the pictures in px and fixed number of pictures, each 0 where the file leaves it open."""
    batch, channels, height, width = (int(dim.dim_value) for dim in picture.type.tensor_type.shape.dim)
    if channels not in (0, 3) or height != width:
        shape = f"[{batch or 'N'}, {channels}, {height}, {width}]"
        raise EmobeamError(f"--backbone-weights {uri}: takes {shape}, not square RGB pictures [N, 3, S, S]")
    if not (0 <= height <= _MOST_EDGE and 0 <= batch <= _MOST_EDGE):
        shape = f"[{batch or 'N'}, 3, {height}, {width}]"
        raise EmobeamError(f"--backbone-weights {uri}: takes {shape}; pictures have at most {_MOST_EDGE} px")
    return height, batch


def _before_last_linear(model: Any, uri: str) -> str:
    """Name of the tensor that the last linear layer sees."""
    makers: Mapping[str, Any] = {name: node for node in model.graph.node for name in node.output}
    weights = {tensor.name for tensor in model.graph.initializer}
    node = makers.get(model.graph.output[0].name) if model.graph.output else None
    while node is not None and node.op_type in _AFTER:
        computed = [name for name in node.input if name in makers and makers[name].op_type != "Constant"]
        node = makers[computed[0]] if computed else None
    if node is None or node.op_type not in _LINEAR or node.input[0] in weights:
        kind = node.op_type if node is not None else "nothing known"
        raise EmobeamError(
            f"--backbone-weights {uri}: ends in {kind}, not in one linear layer; there is no embedding to take"
        )
    return str(node.input[0])


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
