"""Backbones from the store: the numbers of the network compiled directly from torch, to the bit, and what they are.

The reference compiles what the tracer gives, as versions without a store did for every process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from emobeam.emo_transforms.networks.backbones import describe_backbone, load_backbone, named
from emobeam.emo_transforms.networks.backbones.prepared_backbones import backbone_key
from emobeam.emo_transforms.networks.backbones.published.catalogue import CATALOGUE
from emobeam.emo_transforms.networks.backbones.torch_backbones import TorchBackbone, build_backbone
from emobeam.emo_transforms.networks.engines import compile_model, openvino_module
from emobeam.emo_transforms.networks.prepared import from_torch
from emobeam.emo_transforms.networks.prepared.store import Store
from emobeam.emo_transforms.networks.shipped import shipped
from emobeam.schemas.config import to_json
from emobeam.schemas.records import EmobeamError, UsageError
from tests.emo_transforms.vector_networks import crops

pytest.importorskip("openvino", reason="OpenVINO isn't installed")

OPENVINO = "openvino-f32"
SMALL = "mobilenetv4_conv_small_050"
ARCHITECTURES = sorted({entry.architecture for entry in CATALOGUE})
DEARER = {SMALL: (), "mobilefacenet": pytest.mark.thorough, "tf_efficientnet_b0": pytest.mark.thorough}
"""One of each family; the others take minutes."""
FIXED = {"mobilefacenet", "ddamfn"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EMOBEAM_PREPARED", str(tmp_path / "prepared"))
    return tmp_path / "prepared"


def prepare(backbone: TorchBackbone, folder: Path) -> None:
    """What the preparing process does, in this one."""
    for key, entry in from_torch.make(
        backbone_key(backbone.config), {"make": "backbone", "config": to_json(backbone.config)}
    ):
        Store(folder).write(key, entry)


def compiled_directly(backbone: TorchBackbone) -> Callable[[NDArray[np.uint8]], Mapping[str, NDArray[np.float32]]]:
    size = backbone.config.input_size

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = backbone.network
            self.register_buffer("mean", torch.tensor(backbone.config.mean).view(1, 3, 1, 1))
            self.register_buffer("std", torch.tensor(backbone.config.std).view(1, 3, 1, 1))

        def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
            pictures = pixels.permute(0, 3, 1, 2).float() / 255
            found = backbone.forward((pictures - self.mean) / self.std)
            self.names = [name for name, values in found.items() if values.shape[1]]
            return tuple(found[name] for name in self.names)

    whole = Whole().eval()
    example = torch.zeros(1, size, size, 3, dtype=torch.uint8)
    traced = torch.jit.trace(whole, example, check_trace=False)  # type: ignore[no-untyped-call]
    model = openvino_module().convert_model(traced, example_input=example)
    model.reshape([1, size, size, 3])
    run = compile_model(model, "f32")

    def outputs(pixels: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
        parts = [[values.copy() for values in run(pixels[index : index + 1])] for index in range(len(pixels))]
        return {
            name: np.concatenate(values) for name, values in zip(whole.names, zip(*parts, strict=True), strict=True)
        }

    return outputs


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("vectors", [False, pytest.param(True, marks=pytest.mark.thorough)], ids=["maps", "vectors"])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=DEARER.get(name, pytest.mark.slow)) for name in ARCHITECTURES]
)
def test_the_numbers_are_those_of_the_network_compiled_directly(name: str, vectors: bool, folder: Path) -> None:
    if not vectors and not name.startswith("mobilenetv4"):
        pytest.skip("it has no maps")
    store = ("embedding", "scores") if vectors else ("maps",)
    backbone = build_backbone(name, "untrained", 0 if name in FIXED else 96, store)
    prepare(backbone, folder)
    loaded = load_backbone(backbone.config, engine=OPENVINO)
    assert not isinstance(loaded, TorchBackbone)
    assert (loaded.config, loaded.shapes) == (backbone.config, backbone.shapes)
    pixels = np.stack(crops(3, backbone.config.input_size))
    found, wanted, by_torch = loaded.run(pixels), compiled_directly(backbone)(pixels), backbone.run(pixels)
    assert list(found) == list(wanted)
    for output, values in wanted.items():
        assert found[output].tobytes() == values.tobytes(), output
        np.testing.assert_allclose(values, by_torch[output], rtol=0, atol=2e-4 * float(np.abs(values).max()))


@pytest.mark.filterwarnings("ignore")
def test_the_shipped_backbone_and_its_description(folder: Path) -> None:
    name, weights = named("", "")
    described = describe_backbone(name, weights, engine=OPENVINO)
    assert not folder.exists(), "planning with what comes with emobeam prepares nothing"
    backbone = build_backbone(name, weights)
    assert (described.config, described.shapes) == (backbone.config, backbone.shapes)
    assert described.config.weights_sha256 == shipped().backbone.weights_sha256
    assert describe_backbone(name, "shipped", described.config.input_size, engine=OPENVINO).config == backbone.config
    prepare(backbone, folder)
    pixels = np.stack(crops(4, described.config.input_size))
    found, wanted = load_backbone(described.config, engine=OPENVINO).run(pixels), compiled_directly(backbone)(pixels)
    assert {output: values.tobytes() for output, values in found.items()} == {
        output: values.tobytes() for output, values in wanted.items()
    }
    # They come along, so that one process is enough.
    assert sorted(place.name.partition("-")[0] for place in folder.iterdir()) == ["backbone", "head"]


def test_what_a_file_holds_is_known_by_its_content(tmp_path: Path, folder: Path) -> None:
    told: list[str] = []
    state = build_backbone(SMALL).network.state_dict()
    file = tmp_path / "w.safetensors"
    save_file({key: value.contiguous() for key, value in state.items()}, file)
    first = describe_backbone(SMALL, str(file), 64, engine=OPENVINO, tell=told.append)
    assert first == replace(first, config=build_backbone(SMALL, str(file), 64).config)
    assert len(told) == 1
    load_backbone(first.config, engine=OPENVINO, tell=told.append)
    assert len(told) == 1, "the network came along"
    copied = tmp_path / "copy.safetensors"
    copied.write_bytes(file.read_bytes())
    second = describe_backbone(SMALL, str(copied), 64, engine=OPENVINO, tell=told.append)
    assert len(told) == 1, "the same content is the same network"
    assert second.config == replace(first.config, weights=str(copied))
    state["conv_stem.weight"][0, 0, 0, 0] += 1
    save_file({key: value.contiguous() for key, value in state.items()}, file)
    third = describe_backbone(SMALL, str(file), 64, engine=OPENVINO, tell=told.append)
    assert len(told) == 2
    assert third.config.weights_sha256 != first.config.weights_sha256


@pytest.mark.parametrize(
    ("name", "weights", "kind", "message"),
    [
        ("mobilefacenet", "untrained", UsageError, "takes pictures of 112 px only"),
        (SMALL, "missing.safetensors", EmobeamError, "missing.safetensors: no such file"),
    ],
)
def test_mistakes_are_those_of_torch(
    name: str, weights: str, kind: type[EmobeamError], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EMOBEAM_MODELS", str(tmp_path))
    with pytest.raises(kind, match=message) as by_openvino:
        describe_backbone(name, weights, 96, engine=OPENVINO, tell=lambda text: None)
    with pytest.raises(kind, match=message) as by_torch:
        describe_backbone(name, weights, 96)
    assert type(by_openvino.value) is type(by_torch.value)


def test_other_weights_than_those_of_the_run_are_refused(tmp_path: Path) -> None:
    config = build_backbone(SMALL, input_size=64).config
    with pytest.raises(EmobeamError, match="not the weights of this run"):
        load_backbone(replace(config, weights_sha256="0" * 64), engine=OPENVINO, tell=lambda text: None)


def test_a_network_that_changes_on_disk_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the mark on its divisions OpenVINO rewrites them when it reads a file: their last bits are others."""
    from emobeam.emo_transforms.networks import engines

    def unmarked(xml: bytes, numbers: bytes) -> object:
        return openvino_module().Core().read_model(xml, numbers)

    monkeypatch.setattr(from_torch, "read_model", unmarked)
    backbone = build_backbone(*named("", ""))
    with pytest.raises(EmobeamError, match="gives other numbers once the network is written down"):
        prepare(backbone, folder)
    assert engines.read_model is not unmarked
    assert not list(folder.glob("backbone-*"))
