from __future__ import annotations

import math

import numpy as np
import pytest
import skimage.data
import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

from emobeam.emo_transforms.networks.heads.architectures.pooling import mean_and_std
from emobeam.emo_transforms.networks.heads.architectures.tam import LEVELS, FinalLayer, Mixer, Tam
from emobeam.schemas.records import EmobeamError

SHAPES = {"s8": (64, 28, 28), "s16": (96, 14, 14), "s32": (128, 7, 7)}
SMALL = {"s8": (2, 8, 8), "s16": (3, 4, 4), "s32": (4, 2, 2)}


def shapes(levels: int) -> dict[str, tuple[int, int, int]]:
    return {name: SHAPES[name] for name in LEVELS[levels]}


def small(levels: int = 3, **options: object) -> Tam:
    torch.manual_seed(0)
    maps = {name: SMALL[name] for name in LEVELS[levels]}
    return Tam(maps, 5, **{"dim": 8, "final_channels": 6, **options}).eval()


def small_maps(batch: int, window: int = 8) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(batch, window, *shape, generator=generator) for name, shape in SMALL.items()}


@pytest.fixture(scope="module")
def backbone() -> torch.nn.Module:
    torch.manual_seed(0)
    network = timm.create_model("mobilenetv4_conv_small", features_only=True)
    for module in network.modules():  # statistics of a fresh batch norm are 0 and 1, which would hide a mix-up
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


@pytest.mark.parametrize(("levels", "millions", "macs"), [(1, 2.459, 1590), (2, 3.066, 1655), (3, 4.328, 1784)])
def test_sizes_are_those_of_the_published_model(
    backbone: torch.nn.Module, levels: int, millions: float, macs: int
) -> None:
    tam = Tam(shapes(levels), 12).eval()
    own = sum(p.numel() for p in tam.parameters()) - sum(p.numel() for p in tam.final.parameters())
    assert round((own + sum(p.numel() for p in backbone.parameters())) / 1e6, 3) == millions
    assert [mixer.tokens for mixer in tam.mixers.values()] == [98] * levels

    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        backbone(torch.zeros(8, 3, 224, 224))
        final = counter.get_total_flops()
        tam.final(torch.zeros(8, *SHAPES["s32"]))  # in the backbone already
        final = counter.get_total_flops() - final
        tam({name: torch.zeros(1, 8, *shape) for name, shape in shapes(levels).items()})
    assert (counter.get_total_flops() - 2 * final) / 2e6 == pytest.approx(macs, abs=1)


def test_final_layer_continues_the_backbone(backbone: torch.nn.Module) -> None:
    picture = torch.from_numpy(skimage.data.astronaut()[:224, :224]).permute(2, 0, 1)[None].float() / 255
    seen = []
    hook = backbone.blocks[4].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    with torch.inference_mode():
        expected = backbone(picture)[-1]
        hook.remove()
        final = FinalLayer(128, 960).eval()
        final.load_timm(backbone.blocks[4].state_dict())
        assert seen[0].shape == (1, 128, 7, 7)
        assert torch.equal(final(seen[0]), expected)
        rounded = final(seen[0].half().float())
    assert expected.max() > 0
    assert (rounded - expected).abs().max() <= 1e-3 * expected.max()


def test_final_layer_of_another_backbone_is_refused(backbone: torch.nn.Module) -> None:
    with pytest.raises(EmobeamError, match="final layer doesn't fit"):
        FinalLayer(96, 480).load_timm(backbone.blocks[4].state_dict())


@pytest.mark.parametrize("per_step", [False, True])
def test_mixer_equals_a_slow_one_written_out(per_step: bool) -> None:
    torch.manual_seed(0)
    mixer = Mixer((3, 4, 6), window=4, patch=2, time_patch=2, dim=8).double()
    for parameter in mixer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    maps = torch.randn(2, 4, 3, 4, 6, dtype=torch.float64)
    weights = {name: p.detach().numpy() for name, p in mixer.named_parameters()}
    expected = np.stack([slow_mixer(clip, weights, 2, 2, per_step) for clip in maps.numpy()])
    found = mixer(maps, per_step=per_step).detach().numpy()
    assert found.shape == ((2, 2, 8) if per_step else (2, 8))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def slow_mixer(clip: np.ndarray, w: dict[str, np.ndarray], patch: int, time_patch: int, per_step: bool) -> np.ndarray:
    frames, channels, height, width = clip.shape
    tokens, steps = [], []
    for row in range(0, height, patch):
        for column in range(0, width, patch):
            for time in range(0, frames, time_patch):
                vector = []
                for dt in range(time_patch):
                    for dy in range(patch):
                        for dx in range(patch):
                            vector += [clip[time + dt, c, row + dy, column + dx] for c in range(channels)]
                tokens.append(w["embed.weight"] @ np.array(vector) + w["embed.bias"])
                steps.append(time // time_patch)

    def norm(vector: np.ndarray, name: str) -> np.ndarray:
        centred = vector - vector.mean()
        return centred / np.sqrt((centred**2).mean() + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def mlp(vector: np.ndarray, name: str) -> np.ndarray:
        hidden = w[f"{name}.0.weight"] @ vector + w[f"{name}.0.bias"]
        hidden = np.array([h * 0.5 * (1 + math.erf(h / math.sqrt(2))) for h in hidden])
        return w[f"{name}.2.weight"] @ hidden + w[f"{name}.2.bias"]

    normed = [norm(token, "token_norm") for token in tokens]
    for channel in range(len(tokens[0])):
        mixed = mlp(np.array([token[channel] for token in normed]), "token_mix")
        for token, value in zip(tokens, mixed, strict=True):
            token[channel] += value
    tokens = [token + mlp(norm(token, "channel_norm"), "channel_mix") for token in tokens]
    tokens = [norm(token, "norm") for token in tokens]

    def project(chosen: list[np.ndarray]) -> np.ndarray:
        return w["project.weight"] @ np.mean(chosen, axis=0) + w["project.bias"]

    if not per_step:
        return project(tokens)
    return np.stack([project([t for t, s in zip(tokens, steps, strict=True) if s == k]) for k in sorted(set(steps))])


def test_clip_form_copies_one_vector_to_all_frames() -> None:
    tam, maps = small(), small_maps(3)
    values = tam(maps)
    assert values.shape == (3, 8, 5)
    assert torch.equal(values, tam.output(tam.vectors(maps))[:, None].expand(3, 8, 5))


@pytest.mark.parametrize("time_patch", [1, 2, 4])
def test_frame_form_stays_tied_to_its_frames(time_patch: int) -> None:
    tam = small(form="frame", time_patch=time_patch)
    for mixer in tam.mixers.values():  # without mixing over tokens, a step can only know its own frames
        torch.nn.init.zeros_(mixer.token_mix[2].weight)
    maps = small_maps(1)
    before = tam(maps)[0]
    for frame in range(8):
        after = tam({name: disturbed(x, frame) for name, x in maps.items()})[0]
        changed = {t for t in range(8) if not torch.equal(before[t], after[t])}
        step = frame // time_patch
        assert changed == set(range(step * time_patch, (step + 1) * time_patch))


def disturbed(maps: torch.Tensor, frame: int) -> torch.Tensor:
    maps = maps.clone()
    maps[:, frame] += 1
    return maps


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_each_level_counts(levels: int) -> None:
    tam, maps = small(levels), small_maps(1)
    before = tam(maps)
    for name in SMALL:
        changed = not torch.equal(tam({**maps, name: maps[name] + 1}), before)
        assert changed == (name in LEVELS[levels])


def test_without_final_layer_the_map_is_taken_as_it_is() -> None:
    tam = small(1, final_channels=0)
    maps = small_maps(2)
    assert not any(name.startswith("final") for name in tam.state_dict())
    assert torch.equal(tam.vectors(maps), tam.mixers["s32"](maps["s32"]))


def test_mean_and_std_weigh_windows_by_their_frames() -> None:
    vectors = torch.randn(3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    frames = np.repeat(vectors.numpy(), [8, 8, 3], axis=0)  # each frame of a window stands for its vector
    expected = np.concatenate([frames.mean(0), frames.std(0)])
    found = mean_and_std(vectors, torch.tensor([8, 8, 3]))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


def test_pool_ignores_masked_windows_in_a_batch_of_videos() -> None:
    tam = small(scope="clip")
    vectors = torch.randn(2, 4, tam.dim, generator=torch.Generator().manual_seed(0))
    valid = torch.tensor([[8, 8, 8, 5], [8, 2, 0, 0]])
    both = tam.pool(vectors, valid)
    assert both.shape == (2, 5)
    torch.testing.assert_close(both[1], tam.pool(vectors[1, :2], valid[1, :2]))


def test_pool_of_one_window_can_be_trained() -> None:
    tam = small(scope="clip")
    vectors = torch.randn(1, tam.dim, requires_grad=True)
    tam.pool(vectors, torch.tensor([3])).sum().backward()
    assert vectors.grad is not None
    assert torch.isfinite(vectors.grad).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 6}, "6 frames is not a multiple of a time patch of 4"),
        ({"window": 0}, "0 frames"),
        ({"scope": "clip", "form": "frame"}, "scope 'clip' with form 'frame'"),
    ],
)
def test_impossible_heads_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(EmobeamError, match=message):
        small(**options)


def test_maps_that_do_not_reduce_to_one_grid_are_refused() -> None:
    with pytest.raises(EmobeamError, match=r"s16 of 7x7 can't be cut into the 4x4 patches"):
        Tam({"s16": (96, 7, 7), "s32": (128, 4, 4)}, 12)
    with pytest.raises(EmobeamError, match="not s8,s32"):
        Tam({"s8": (64, 28, 28), "s32": (128, 7, 7)}, 12)
