from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emobeam.emo_transforms.networks.heads.architectures.pooling import statistics_of
from emobeam.emo_transforms.networks.heads.architectures.registry import ARCHITECTURES
from emobeam.emo_transforms.networks.heads.architectures.tam import Tam
from emobeam.emo_transforms.networks.heads.architectures.tcn import Tcn
from emobeam.emo_transforms.networks.heads.config import ARCHITECTURES as NAMES
from emobeam.emo_transforms.networks.heads.files import load_head, save_head
from emobeam.emo_transforms.networks.heads.fresh_heads import new_head
from emobeam.schemas.tasks import TASKS
from tests.emo_transforms.networks.heads.architectures.test_tam import slow_mixer
from tests.emo_transforms.networks.heads.kinds import KINDS, OFFER, SHAPES, arrays, make, numbers, shaken, tensors

# --- all of them ------------------------------------------------------------------------------------------


def test_every_name_is_built() -> None:
    assert tuple(ARCHITECTURES) == NAMES
    assert {make(kind).config.architecture for kind in KINDS} | {"clip-statistics", "ready"} == set(NAMES)


@pytest.mark.parametrize("kind", KINDS)
def test_one_head_for_all_tasks_of_mtl(kind: str, tmp_path: Path) -> None:
    made = make(kind)
    window = made.config.window
    values = made.run(arrays(3, window))
    assert values.shape == (3, window, 22)
    logits = made.module({name: torch.from_numpy(array) for name, array in arrays(3, window).items()}).detach().numpy()
    np.testing.assert_allclose(values[..., :2], np.tanh(logits[..., :2]), atol=1e-6)
    np.testing.assert_allclose(values[..., 2:10].sum(axis=-1), 1, atol=1e-6)
    assert 0 <= values[..., 10:].min() <= values[..., 10:].max() <= 1

    save_head(made, str(tmp_path / "a"))
    back = load_head(str(tmp_path / "a"))
    assert (back.config, back.weights_sha256, back.inputs) == (made.config, made.weights_sha256, made.inputs)
    assert np.array_equal(back.run(arrays(3, window)), values)
    save_head(make(kind), str(tmp_path / "b"))
    save_head(back, str(tmp_path / "c"))
    for name in ("head.json", "head.safetensors"):
        assert len({(tmp_path / folder / name).read_bytes() for folder in "abc"}) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_named_inputs_matter_and_each_of_them_does(kind: str) -> None:
    made = make(kind)
    batch = arrays(1, made.config.window)
    before = made.run(batch)
    for name in batch:
        changed = not np.array_equal(made.run({**batch, name: batch[name] + 1}), before)
        assert changed == (name in made.inputs)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_weight(kind: str) -> None:
    module = make(kind).module.train()
    batch = tensors(4, make(kind).config.window)
    module(batch).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_a_binary_task_has_one_output(kind: str) -> None:
    for task in ("ah", "vd"):
        made = make(kind, task)
        values = made.run(arrays(2, made.config.window))
        assert values.shape[-1] == 1
        assert 0 < values.min() <= values.max() < 1


@pytest.mark.parametrize("kind", ["frame of an embedding", "frame of a map", "frame of all"])
def test_frames_are_judged_each_by_itself(kind: str) -> None:
    """A window holds one frame; of several frames at once no value depends on another frame."""
    made = make(kind)
    assert made.frame_window == 1
    batch = arrays(1, 6)
    together = made.run(batch)[0]
    for frame in range(6):
        alone = made.run({name: array[:, frame : frame + 1] for name, array in batch.items()})[0, 0]
        np.testing.assert_allclose(alone, together[frame], atol=1e-6)
        others = {name: array.copy() for name, array in batch.items()}
        for array in others.values():
            array[:, :frame] += 1
            array[:, frame + 1 :] += 1
        np.testing.assert_allclose(made.run(others)[0, frame], together[frame], atol=1e-6)


def slow_final(frame: np.ndarray, w: dict[str, np.ndarray]) -> np.ndarray:
    """Channels by places: 1x1 convolution, batch norm, ReLU, one place at a time."""
    flat = frame.reshape(frame.shape[0], -1)
    columns = []
    for place in range(flat.shape[1]):
        values = w["final.conv.weight"][:, :, 0, 0] @ flat[:, place]
        scale = w["final.norm.weight"] / np.sqrt(w["final.norm.running_var"] + 1e-5)
        values = (values - w["final.norm.running_mean"]) * scale + w["final.norm.bias"]
        columns.append(np.maximum(values, 0))
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_tam_equals_a_slow_one_written_out(levels: int) -> None:
    made = new_head(TASKS["au"], OFFER, levels=levels, final_channels=6, dim=8)
    module = shaken(made.module)
    assert isinstance(module, Tam)
    w = numbers(module)
    batch = tensors(2, 8)
    found = module(batch).detach().numpy()
    for clip in range(2):
        vectors = []
        for name in made.inputs:
            maps = batch[name][clip].double().numpy()
            if name == "s32":
                maps = np.stack([slow_final(frame, w).reshape(6, 2, 2) for frame in maps])
            own = {key.removeprefix(f"mixers.{name}."): values for key, values in w.items() if f".{name}." in key}
            vectors.append(slow_mixer(maps, own, maps.shape[-1] // 2, 4, per_step=False))
        expected = w["output.weight"] @ np.concatenate(vectors) + w["output.bias"]
        np.testing.assert_allclose(found[clip], np.tile(expected, (8, 1)), rtol=0, atol=1e-5)


def slow_features(batch: dict[str, torch.Tensor], clip: int, frame: int, w: dict[str, np.ndarray]) -> np.ndarray:
    parts = []
    for name in SHAPES:
        places = batch[name][clip, frame].double().numpy().reshape(SHAPES[name][0], -1)
        if name == "s32":
            places = slow_final(batch[name][clip, frame].double().numpy(), w)
        parts += [places.mean(axis=1), places.std(axis=1)]
    return np.concatenate(parts)


def slow_tcn(
    features: list[np.ndarray], w: dict[str, np.ndarray], kernel: int, dilations: tuple[int, ...], causal: bool
) -> np.ndarray:
    def norm(x: np.ndarray, name: str) -> np.ndarray:
        return (x - x.mean()) / np.sqrt(x.var() + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]

    frames = [w["embed.weight"] @ x + w["embed.bias"] for x in features]
    for block, dilation in enumerate(dilations):
        own = f"blocks.{block}"
        normed = [norm(x, f"{own}.norm") for x in frames]
        after = []
        for t, x in enumerate(frames):
            total = w[f"{own}.depthwise.bias"].copy()
            for tap in range(kernel):
                offset = tap - (kernel - 1 if causal else kernel // 2)
                source = t + offset * dilation
                if 0 <= source < len(frames):
                    total += w[f"{own}.depthwise.weight"][:, 0, tap] * normed[source]
            total = np.array([v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in total])
            after.append(x + w[f"{own}.pointwise.weight"] @ total + w[f"{own}.pointwise.bias"])
        frames = after
    return np.stack([w["output.weight"] @ norm(x, "norm") + w["output.bias"] for x in frames])


@pytest.mark.parametrize(("causal", "kernel"), [(True, 3), (True, 4), (False, 3), (False, 5)])
def test_tcn_equals_a_slow_one_written_out(causal: bool, kernel: int) -> None:
    made = make("tcn of maps", "au", causal=causal, kernel=kernel, dilations=(1, 2, 4))
    module = shaken(made.module)
    w = numbers(module)
    batch = tensors(2, 11)
    found = module(batch).detach().numpy()
    assert found.shape == (2, 11, 12)
    for clip in range(2):
        features = [slow_features(batch, clip, frame, w) for frame in range(11)]
        np.testing.assert_allclose(found[clip], slow_tcn(features, w, kernel, (1, 2, 4), causal), rtol=0, atol=1e-5)


@pytest.mark.parametrize("hidden", [0, 5])
def test_frame_heads_equal_plain_matrix_products(hidden: int) -> None:
    module = make("frame of all", "expr", hidden=hidden, final_channels=6).module
    shaken(module)
    w = numbers(module)
    batch = tensors(1, 3)
    for frame in range(3):
        x = np.concatenate(
            [
                batch["s8"][0, frame].double().numpy().mean(axis=(1, 2)),
                slow_final(batch["s32"][0, frame].double().numpy(), w).mean(axis=1),
                batch["embedding"][0, frame].double().numpy(),
                batch["scores"][0, frame].double().numpy(),
            ]
        )
        if hidden:
            x = np.maximum(w["hidden.weight"] @ x + w["hidden.bias"], 0)
        expected = w["output.weight"] @ x + w["output.bias"]
        np.testing.assert_allclose(module(batch)[0, frame].detach().numpy(), expected, atol=1e-5)


# --- causal networks and streaming ------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", [2, 3, 5])
def test_no_value_of_a_causal_tcn_depends_on_later_frames(kernel: int) -> None:
    made = make("tcn of an embedding", "va", kernel=kernel)
    assert isinstance(made.module, Tcn)
    assert made.module.receptive_field == 1 + (kernel - 1) * 15
    batch = tensors(1, 40)["embedding"]
    before = made.module({"embedding": batch})[0]
    for frame in (0, 5, 20, 39):
        other = batch.clone()
        other[0, frame] += 1
        after = made.module({"embedding": other})[0]
        assert torch.equal(after[:frame], before[:frame])
        assert not torch.equal(after[frame], before[frame])
        reach = min(frame + made.module.receptive_field, 40)
        assert torch.equal(after[reach:], before[reach:])


def test_one_that_looks_ahead_does() -> None:
    made = make("tcn of an embedding", "va", causal=False)
    batch = tensors(1, 40)["embedding"]
    other = batch.clone()
    other[0, 20] += 1
    before, after = (made.module({"embedding": x})[0] for x in (batch, other))
    changed = [t for t in range(40) if not torch.equal(before[t], after[t])]
    assert changed == list(range(5, 36))  # 15 frames to either side
    assert not made.streams
    with pytest.raises(NotImplementedError):
        made.module.stream({"embedding": batch}, None)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.sampled_from([1, 2, 3]))
@settings(deadline=None, max_examples=20)
def test_a_stream_in_pieces_equals_the_whole(lengths: list[int], kernel: int) -> None:
    made = make("tcn of maps", "va", kernel=kernel)
    total = sum(lengths)
    batch = arrays(2, total)
    whole = made.run(batch)
    state, start, parts = None, 0, []
    for length in lengths:
        piece = {name: array[:, start : start + length] for name, array in batch.items()}
        values, state = made.run_stream(piece, state)
        parts.append(values)
        start += length
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, rtol=0, atol=1e-6)


# --- clips ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", [0, 5])
@pytest.mark.parametrize("source", ["scores", "embedding", "s32"])
def test_clip_statistics_equal_numpy(source: str, hidden: int, tmp_path: Path) -> None:
    made = new_head(
        TASKS["emi"], OFFER, architecture="clip-statistics", inputs=(source,), hidden=hidden, final_channels=0
    )
    assert made.frame_window == 1
    batch = arrays(23, 1)
    vectors = made.run(batch)
    plain = batch[source][:, 0].astype(np.float64)
    plain = plain.mean(axis=(2, 3)) if plain.ndim == 4 else plain
    np.testing.assert_allclose(vectors, plain, atol=1e-6)
    x = np.concatenate([plain.mean(0), plain.std(0), plain.min(0), plain.max(0)])
    w = numbers(made.module)
    if hidden:
        x = np.maximum(w["hidden.weight"] @ x + w["hidden.bias"], 0)
    expected = 1 / (1 + np.exp(-(w["output.weight"] @ x + w["output.bias"])))
    found = made.pool(vectors, np.ones(23, np.int64))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    save_head(made, str(tmp_path / "head"))
    assert np.array_equal(load_head(str(tmp_path / "head")).pool(vectors, np.ones(23, np.int64)), found)


def test_clip_statistics_of_tam_vectors() -> None:
    made = new_head(
        TASKS["ah-video"], OFFER, statistics=("mean", "std", "min", "max"), hidden=5, dim=8, final_channels=6
    )
    vectors = made.run(arrays(4, 8))
    assert vectors.shape == (4, 24)
    valid = np.array([8, 8, 8, 2])
    frames = np.repeat(vectors.astype(np.float64), valid, axis=0)
    x = np.concatenate([frames.mean(0), frames.std(0), frames.min(0), frames.max(0)])
    w = numbers(made.module)
    x = np.maximum(w["hidden.weight"] @ x + w["hidden.bias"], 0)
    expected = 1 / (1 + np.exp(-(w["output.weight"] @ x + w["output.bias"])))
    np.testing.assert_allclose(made.pool(vectors, valid), expected, atol=1e-5)


def test_masked_frames_do_not_enter_statistics() -> None:
    vectors = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 0, 1, 1, 0, 0]])
    names = ("max", "mean", "min", "std")
    both = statistics_of(vectors, weights, names)
    plain = vectors[1, [0, 2, 3]].numpy()
    expected = np.concatenate([plain.max(0), plain.mean(0), plain.min(0), plain.std(0)])
    np.testing.assert_allclose(both[1].numpy(), expected, atol=1e-12)
    np.testing.assert_allclose(both[0, :3].numpy(), vectors[0].numpy().max(0), atol=1e-12)
