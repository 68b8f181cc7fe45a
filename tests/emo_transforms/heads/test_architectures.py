from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emo_transforms.heads.architectures import ARCHITECTURES, build
from emo_transforms.heads.config import ARCHITECTURES as NAMES
from emo_transforms.heads.config import HeadConfig, check_config, config_from_json, config_to_json
from emo_transforms.heads.files import check_head, load_head, save_head
from emo_transforms.heads.head import Head
from emo_transforms.heads.new import (
    Offer,
    has_ready_head,
    new_head,
    offer_of,
    ready_head,
    untrained_for,
    untrained_head,
)
from emo_transforms.heads.pooling import statistics_of
from emo_transforms.heads.tam import Tam
from emo_transforms.heads.tcn import Tcn
from schemas.config import BackboneConfig, ExtractConfig
from schemas.records import EmobeamError, UsageError
from schemas.tasks import TASKS
from tests.emo_transforms.heads.test_tam import slow_mixer

SHAPES = {"s8": (2, 8, 8), "s16": (3, 4, 4), "s32": (4, 2, 2)}
LENGTHS = {"embedding": 7, "scores": 10}
EIGHT = ("Anger", "Contempt", "Disgust", "Fear", "Happiness", "Neutral", "Sadness", "Surprise")
OFFER = Offer("f00d", SHAPES, LENGTHS, (*EIGHT, "valence", "arousal"), backbone_weights="w.safetensors")

KINDS: dict[str, dict[str, Any]] = {
    "tam": {"final_channels": 6},
    "tam of frames": {"final_channels": 6, "form": "frame", "time_patch": 2},
    "tcn of maps": {"architecture": "tcn", "final_channels": 6, "window": 8, "dim": 12},
    "tcn that looks ahead": {"architecture": "tcn", "causal": False, "kernel": 5, "window": 8, "dim": 12},
    "tcn of an embedding": {"architecture": "tcn", "inputs": ("embedding",), "window": 8, "dim": 12},
    "frame of an embedding": {"architecture": "frame"},
    "frame of a map": {"architecture": "frame", "inputs": ("s32",), "final_channels": 6},
    "frame of all": {"architecture": "frame", "inputs": ("s8", "s32", "embedding", "scores"), "hidden": 0},
}


def make(kind: str, task: str = "mtl", **more: Any) -> Head:
    return new_head(TASKS[task], OFFER, **{**KINDS[kind], **more})


def arrays(batch: int, window: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    maps = {name: rng.normal(size=(batch, window, *shape)).astype(np.float16) for name, shape in SHAPES.items()}
    return maps | {name: rng.normal(size=(batch, window, n)).astype(np.float32) for name, n in LENGTHS.items()}


def tensors(batch: int, window: int, seed: int = 0) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array).float() for name, array in arrays(batch, window, seed).items()}


def shaken(module: torch.nn.Module) -> Any:
    """Statistics of a fresh batch norm are 0 and 1, which would hide a mix-up; so are the weights of layer norms."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, values in [*module.named_parameters(), *module.named_buffers()]:
            if "norm" in name and values.is_floating_point():
                values.copy_(0.5 + torch.rand(values.shape, generator=generator))
    return module.eval()


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


# --- against plain code -----------------------------------------------------------------------------------


def numbers(module: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: values.detach().double().numpy() for name, values in module.state_dict().items()}


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


# --- ready heads ------------------------------------------------------------------------------------------


def test_a_ready_head_gives_the_backbones_own_scores(tmp_path: Path) -> None:
    scores = arrays(1, 9)["scores"].reshape(9, 1, 10)
    expr = ready_head(TASKS["expr"], OFFER)
    assert expr.config.indices == (5, 0, 2, 3, 4, 6, 7, -1)
    chosen = np.exp(scores[:, 0, [5, 0, 2, 3, 4, 6, 7]].astype(np.float64))
    expected = chosen / chosen.sum(axis=1, keepdims=True)
    found = expr.run({"scores": scores})[:, 0]
    np.testing.assert_allclose(found[:, :7], expected, atol=1e-6)
    assert (found[:, 7] == 0).all()

    va = ready_head(TASKS["va"], OFFER)
    values = va.run({"scores": scores * 3})[:, 0]
    np.testing.assert_array_equal(values, np.clip(scores[:, 0, 8:] * 3, -1, 1))
    assert np.abs(scores[:, 0, 8:] * 3).max() > 1
    assert va.config.weights == "scores of mobilenetv4_conv_small"
    assert not va.module.state_dict()

    save_head(va, str(tmp_path / "va"))
    assert np.array_equal(load_head(str(tmp_path / "va")).run({"scores": scores * 3})[:, 0], values)


@pytest.mark.parametrize(
    ("task", "changes", "message"),
    [
        ("au", {}, "task au can't be read off the scores.*Anger, Contempt"),
        ("emi", {}, "task emi can't"),
        ("va", {"score_names": EIGHT}, "task va can't"),
        ("expr", {"vectors": {"embedding": 7}, "score_names": ()}, "the cache holds no scores"),
        ("expr", {"score_names": ()}, "the cache holds unnamed scores"),
    ],
)
def test_scores_of_something_else(task: str, changes: dict[str, Any], message: str) -> None:
    offer = Offer(**{**OFFER.__dict__, **changes})
    with pytest.raises(EmobeamError, match=message):
        ready_head(TASKS[task], offer)


def test_ready_heads_follow_the_catalogue_of_published_models() -> None:
    from emo_transforms.backbones.catalogue import CATALOGUE, ready_outputs

    compared = 0
    for entry in CATALOGUE:
        offer = Offer("f00d", {}, {"scores": len(entry.score_names)}, entry.score_names)
        for task in ("expr", "va"):
            try:
                told = ready_outputs(entry, task)
            except UsageError:
                with pytest.raises(EmobeamError):
                    ready_head(TASKS[task], offer)
                continue
            config = ready_head(TASKS[task], offer).config
            assert (config.outputs, config.indices) == (told.outputs, told.indices)
            compared += 1
    assert compared >= 5


# --- making them ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("architecture", "maps", "vectors", "inputs"),
    [
        ("tam", SHAPES, LENGTHS, ("s8", "s16", "s32")),
        ("tcn", SHAPES, LENGTHS, ("s8", "s16", "s32")),
        ("tcn", {}, LENGTHS, ("embedding",)),
        ("frame", SHAPES, LENGTHS, ("embedding",)),
        ("frame", SHAPES, {}, ("s32",)),
        ("frame", {}, {"scores": 8}, ("scores",)),
    ],
)
def test_a_head_reads_what_there_is(
    architecture: str, maps: dict[str, Any], vectors: dict[str, int], inputs: tuple[str, ...]
) -> None:
    made = new_head(TASKS["au"], Offer("f00d", maps, vectors), architecture=architecture, final_channels=6)
    assert made.inputs == made.config.inputs == inputs
    assert made.config.levels == len(made.maps) == len(made.config.map_shapes)
    assert made.config.vector_lengths == {name: vectors[name] for name in inputs if name in vectors}


def test_usual_sizes() -> None:
    windows = {kind: make(kind).config.window for kind in ("tam", "frame of a map")}
    assert windows == {"tam": 8, "frame of a map": 1}
    assert new_head(TASKS["au"], OFFER, architecture="tcn", inputs=("scores",)).config.window == 48
    assert new_head(TASKS["au"], OFFER, architecture="frame").config.hidden == 128
    clip = new_head(TASKS["emi"], OFFER, architecture="clip-statistics").config
    assert (clip.hidden, clip.statistics) == (64, ("mean", "std", "min", "max"))
    assert (clip.window_seconds, make("tam").config.window_seconds) == (pytest.approx(1 / 6), pytest.approx(8 / 6))
    native = Offer(**{**OFFER.__dict__, "rate": 0.0})
    assert new_head(TASKS["au"], native, final_channels=6).config.window_seconds == 0


def test_a_cache_tells_what_it_offers() -> None:
    from emo_transforms.cache import Dataset

    config = ExtractConfig(backbone=BackboneConfig(name="b0", weights="w", vectors=True, classes=8, score_names=EIGHT))
    dataset = Dataset(config, {}, embedding=1280, scores=8)
    offer = offer_of(dataset)
    assert dict(offer.vectors) == {"embedding": 1280, "scores": 8}
    assert (offer.features_id, offer.backbone, offer.score_names) == (config.features_id, "b0", EIGHT)
    made = new_head(TASKS["au"], dataset, architecture="frame", seed=3)
    assert made.config.vector_lengths == {"embedding": 1280}
    assert (made.config.seed, made.config.backbone, made.config.features_id) == (3, "b0", config.features_id)


def test_which_tasks_the_scores_of_a_backbone_answer() -> None:
    assert has_ready_head(TASKS["expr"], OFFER)
    assert has_ready_head(TASKS["va"], OFFER)
    assert not has_ready_head(TASKS["au"], OFFER)
    assert not has_ready_head(TASKS["expr"], Offer("f00d", SHAPES))


def test_an_untrained_head_is_untrained_and_fits_what_there_is() -> None:
    assert untrained_for(TASKS["expr"], OFFER).config.architecture == "tam"  # even where scores would answer
    vectors = Offer("f00d", {}, LENGTHS)
    assert untrained_for(TASKS["au"], vectors).config.architecture == "frame"
    assert untrained_for(TASKS["emi"], vectors).config.architecture == "clip-statistics"
    assert untrained_for(TASKS["au"], vectors).config.weights == "untrained"
    with pytest.raises(EmobeamError, match="nothing that heads read"):
        untrained_for(TASKS["au"], Offer("f00d"))


def test_new_heads_are_those_that_were_made_before() -> None:
    """The published model has the same bytes, whichever function makes it."""
    task = TASKS["au"]
    old = untrained_head("au", task.outputs, "frame", "sigmoid", "f00d", SHAPES, final_channels=6)
    new = make("tam", "au")
    assert (old.config, old.weights_sha256) == (new.config, new.weights_sha256)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"architecture": "transformer"}, UsageError, "unknown architecture 'transformer'"),
        ({"inputs": ("s4",)}, EmobeamError, "lacks s4"),
        ({"inputs": ("embedding",)}, EmobeamError, "a tam head reads maps alone"),
        ({"architecture": "frame", "window": 8}, EmobeamError, "a frame head has windows of 1 frame"),
        ({"architecture": "tcn", "causal": False, "kernel": 4}, EmobeamError, "must be odd"),
        ({"architecture": "tcn", "dilations": (1, 0)}, EmobeamError, "whole numbers above 0"),
        ({"architecture": "clip-statistics"}, EmobeamError, "no clip-statistics head of scope 'frame'"),
        ({"architecture": "ready"}, EmobeamError, "a ready head has 0 indices"),
        ({"architecture": "ready", "indices": (0,)}, EmobeamError, "an index for each output"),
        ({"architecture": "ready", "indices": (0, 99)}, EmobeamError, "there are 10 scores"),
        ({"hidden": -1}, EmobeamError, "hidden is -1"),
        ({"dropout": 1.0}, EmobeamError, "dropout is 1.0"),
        ({"statistics": ("median",)}, EmobeamError, "statistics is"),
    ],
)
def test_heads_that_make_no_sense(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        new_head(TASKS["va"], OFFER, **options)


def test_a_tam_without_maps_says_what_reads_vectors() -> None:
    with pytest.raises(EmobeamError, match=r"s32 missing .*embedding,scores: architecture frame, tcn"):
        new_head(TASKS["va"], Offer("f00d", {}, LENGTHS))


# --- head.json --------------------------------------------------------------------------------------------

OLD = """{"name": "va", "task": "va", "outputs": ["valence", "arousal"], "scope": "frame", "activation": "tanh",
"features_id": "f00d", "map_shapes": {"s16": [3, 4, 4], "s8": [2, 8, 8], "s32": [4, 2, 2]}, "schema_version": 1,
"architecture": "tam", "form": "clip", "levels": 3, "window": 8, "time_patch": 4, "dim": 256, "final_channels": 960,
"rate": 6.0, "crop_style": "square", "backbone": "mobilenetv4_conv_small", "thresholds": [], "smoothing": 0,
"weights": "untrained", "seed": 0, "metrics": {}, "provenance": {}, "trained_on": [], "tuned_on": []}"""


def test_heads_of_before_are_read_and_written_as_they_were() -> None:
    import json

    config = config_from_json(OLD)
    assert config.inputs == ("s8", "s16", "s32")
    assert json.loads(config_to_json(config)) == json.loads(OLD)


@pytest.mark.parametrize("kind", KINDS)
def test_descriptions_survive_json(kind: str) -> None:
    config = make(kind).config
    assert config_from_json(config_to_json(config)) == config
    assert build(config).inputs == config.inputs


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": ("s8", "s32")}, "inputs names .*, map_shapes others"),
        ({"inputs": ("s8", "s16", "s32", "embedding")}, "vector_lengths"),
        ({"inputs": ("s8", "s16", "s32", "s32")}, "expected different names"),
        ({"inputs": ("s8", "s16", "s32", "scores"), "vector_lengths": {"scores": 0}}, "whole numbers above 0"),
    ],
)
def test_descriptions_that_contradict_themselves(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(EmobeamError, match=message):
        check_config(HeadConfig(**{**config_from_json(OLD).__dict__, **changes}))


def test_flags_are_no_numbers() -> None:
    with pytest.raises(EmobeamError, match="window is True, expected a int"):
        config_from_json(OLD.replace('"window": 8', '"window": true'))
    with pytest.raises(EmobeamError, match="causal is 1, expected a bool"):
        config_from_json(OLD.replace('"window": 8', '"window": 8, "causal": 1'))


# --- against a cache --------------------------------------------------------------------------------------


def test_vectors_that_a_cache_lacks() -> None:
    made = make("frame of all", "va")
    fits: dict[str, Any] = {"features_id": "f00d", "map_shapes": SHAPES, "rate": 6.0, "crop_style": "square"}
    assert check_head(made, vectors=LENGTHS, **fits) == []
    with pytest.raises(EmobeamError, match="lacks embedding,scores; extract with --store maps,embedding,scores"):
        check_head(made, **fits)
    with pytest.raises(EmobeamError, match="lacks scores; extract with --store maps,embedding,scores"):
        check_head(made, vectors={"embedding": 7, "scores": 0}, **fits)
    with pytest.raises(EmobeamError, match="embedding of length 7, the cache holds 512"):
        check_head(made, vectors={"embedding": 512, "scores": 10}, **fits)
