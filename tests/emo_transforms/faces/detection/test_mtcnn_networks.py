from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from facenet_pytorch.models.mtcnn import ONet, PNet, RNet
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from emobeam.emo_transforms.faces.detection.mtcnn_layers import TILE_EDGE, TILE_PLACES, TILE_STEP
from emobeam.emo_transforms.faces.detection.mtcnn_networks import MtcnnNetworks
from emobeam.emo_transforms.networks.engines import ENGINES
from emobeam.schemas.records import UsageError
from tests.clips import face, nobody

Networks = Callable[[str], MtcnnNetworks]
Values = NDArray[np.float32]

EDGES = {"propose": TILE_EDGE, "refine": 24, "output": 48}

TOLERANCES = {"torch": (1e-4, 1e-4), "openvino-f32": (1e-4, 1e-4), "openvino-bf16": (0.3, 0.02)}
"""Of logits, and of shifts and landmarks, which are parts of a box's edge. bfloat16 has 8 bits."""


@cache
def modules() -> dict[str, torch.nn.Module]:
    """facenet-pytorch's networks with logits in place of probabilities."""
    found = {"propose": PNet(), "refine": RNet(), "output": ONet()}
    for module, softmax in zip(found.values(), ("softmax4_1", "softmax5_1", "softmax6_1"), strict=True):
        setattr(module, softmax, torch.nn.Identity())
    return found


def wanted(step: str, pictures: Values) -> Values:
    """Logit, shifts and landmarks, last axis, as facenet-pytorch has them."""
    values = (torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous() - 127.5) * 0.0078125
    with torch.inference_mode():
        *others, logits = modules()[step](values)
    joined = torch.cat([logits[:, 1:] - logits[:, :1], *others], dim=1)
    return np.moveaxis(joined.numpy(), 1, -1)


@cache
def samples(step: str) -> Values:
    """Noise, plain colours, and parts of pictures with and without a face: 41 pictures, no multiple of any batch."""
    edge = EDGES[step]
    rng = np.random.default_rng(0)
    astronaut = Image.fromarray(data.astronaut())  # type: ignore[no-untyped-call]
    sources = [astronaut, Image.fromarray(nobody(2)), Image.fromarray(face(5, (300, 200)))]
    pictures = [rng.uniform(0, 255, (edge, edge, 3)) for _ in range(8)]
    pictures += [np.full((edge, edge, 3), value) for value in (0.0, 127.5, 255.0)]
    # The head of the astronaut, then anything.
    boxes = [(170.0 + 5 * k, 60.0 + 4 * k, 275.0 + 5 * k, 180.0 + 4 * k) for k in range(5)]
    pictures += [np.asarray(astronaut.resize((edge, edge), Image.Resampling.BOX, box), float) for box in boxes]
    for _ in range(25):
        source = sources[int(rng.integers(3))]
        side = float(rng.uniform(12, min(source.size)))
        left, top = rng.uniform(0, source.size[0] - side), rng.uniform(0, source.size[1] - side)
        cut = source.resize((edge, edge), Image.Resampling.BOX, (left, top, left + side, top + side))
        pictures.append(np.asarray(cut, float))
    return np.stack(pictures).astype(np.float32)


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("step", EDGES)
def test_networks_answer_as_those_of_facenet_pytorch(mtcnn_networks: Networks, engine: str, step: str) -> None:
    found, reference = getattr(mtcnn_networks(engine), step)(samples(step)), wanted(step, samples(step))
    assert found.dtype == np.float32
    of_logits, of_shifts = TOLERANCES[engine]
    np.testing.assert_allclose(found[..., 0], reference[..., 0], rtol=0, atol=of_logits)
    np.testing.assert_allclose(found[..., 1:], reference[..., 1:], rtol=0, atol=of_shifts)
    # The pictures tell faces from other things, or the rest would say little.
    assert reference[..., 0].min() < -3 < 3 < reference[..., 0].max()


@pytest.mark.parametrize("engine", ["torch", "openvino-f32"])
@pytest.mark.parametrize(("rows", "columns"), [(2, 3), (1, 4)])
def test_tiles_answer_as_the_whole_picture_does(mtcnn_networks: Networks, engine: str, rows: int, columns: int) -> None:
    height, width = rows * TILE_STEP + TILE_EDGE - TILE_STEP, columns * TILE_STEP + TILE_EDGE - TILE_STEP
    picture = face(3, (width, height)).astype(np.float32)
    tiles = [
        picture[top : top + TILE_EDGE, left : left + TILE_EDGE]
        for top in range(0, height - TILE_EDGE + 1, TILE_STEP)
        for left in range(0, width - TILE_EDGE + 1, TILE_STEP)
    ]
    found = mtcnn_networks(engine).propose(np.stack(tiles))
    joined = found.reshape(rows, columns, TILE_PLACES, TILE_PLACES, 5).transpose(0, 2, 1, 3, 4)
    reference = wanted("propose", picture[None])[0]
    np.testing.assert_allclose(joined.reshape(reference.shape), reference, rtol=0, atol=1e-4)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("step", EDGES)
def test_a_picture_gives_the_same_bits_whatever_its_place_neighbours_and_threads(
    mtcnn_networks: Networks, threads: Callable[[int], None], engine: str, step: str
) -> None:
    run = getattr(mtcnn_networks(engine), step)
    pictures = samples(step)
    threads(1)
    together = run(pictures)
    for index in (0, 9, 12, 40):
        np.testing.assert_array_equal(run(pictures[index : index + 1])[0], together[index])
    for count in (1, 2):
        threads(count)
        for seed in range(4):
            order = np.random.default_rng(seed).permutation(len(pictures))[: 41 - 5 * seed]
            np.testing.assert_array_equal(run(pictures[order]), together[order])
        assert torch.get_num_threads() == count
    # The same values, laid out otherwise in memory, as slices of a picture are.
    np.testing.assert_array_equal(run(np.asfortranarray(pictures)), together)
    np.testing.assert_array_equal(run(np.repeat(pictures, 2, axis=0)[::2]), together)


@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_in_nothing_out(mtcnn_networks: Networks, engine: str) -> None:
    networks = mtcnn_networks(engine)
    assert networks.propose(samples("propose")[:0]).shape == (0, TILE_PLACES, TILE_PLACES, 5)
    assert networks.refine(samples("refine")[:0]).shape == (0, 5)
    assert networks.output(samples("output")[:0]).shape == (0, 15)


@pytest.mark.parametrize("batches", [(1, 1, 1), (4, 4, 1), (7, 50, 3)])
def test_batches_of_any_size_agree(mtcnn_networks: Networks, batches: tuple[int, int, int]) -> None:
    others = MtcnnNetworks("torch", batches=batches)
    for step in EDGES:
        usual = getattr(mtcnn_networks("torch"), step)(samples(step))
        np.testing.assert_allclose(getattr(others, step)(samples(step)), usual, rtol=0, atol=1e-4)


def test_what_is_given_stays_as_it_is(mtcnn_networks: Networks) -> None:
    """Results of one call outlive the next, and inputs aren't written to."""
    networks = mtcnn_networks("torch")
    pictures = samples("refine").copy()
    first = networks.refine(pictures)
    kept = first.copy()
    networks.refine(pictures[::-1].copy())
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(pictures, samples("refine"))


def test_facenet_pytorch_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "facenet_pytorch"]:
        monkeypatch.setitem(sys.modules, name, None)
    assert MtcnnNetworks().refine(samples("refine")[:1]).shape == (1, 5)


def test_an_engine_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="unknown engine 'tensorrt'"):
        MtcnnNetworks("tensorrt")
    find: Any = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "openvino" else find(name))
    with pytest.raises(UsageError, match=r"openvino-f32.*isn't installed"):
        MtcnnNetworks("openvino-f32")
