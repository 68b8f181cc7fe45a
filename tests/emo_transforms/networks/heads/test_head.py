from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import timm
import torch
from safetensors.numpy import load_file, save_file

from emobeam.emo_transforms.networks.heads.config import config_from_json, config_to_json
from emobeam.emo_transforms.networks.heads.files import load_head, save_head
from emobeam.emo_transforms.networks.heads.folder import check_head
from emobeam.emo_transforms.networks.heads.fresh_heads import untrained_head
from emobeam.emo_transforms.networks.heads.head import Head, activate
from emobeam.emo_transforms.networks.heads.offer import Offer
from emobeam.emo_transforms.networks.weights_digest import tensors_sha256
from emobeam.schemas.records import EmobeamError
from emobeam.schemas.tasks import TASKS

SHAPES = {"s8": (2, 8, 8), "s16": (3, 4, 4), "s32": (4, 2, 2)}
REAL = {"s8": (64, 28, 28), "s16": (96, 14, 14), "s32": (128, 7, 7)}


def head(**options: Any) -> Head:
    arguments = {"map_shapes": SHAPES, "final_channels": 6, **options}
    return untrained_head("va", ("valence", "arousal"), "frame", "tanh", "f00d", **arguments)


def maps(count: int = 2) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=(count, 8, *shape)).astype(np.float16) for name, shape in SHAPES.items()}


def edit(folder: Path, **changes: Any) -> None:
    data = json.loads((folder / "head.json").read_text())
    data.update(changes)
    (folder / "head.json").write_text(json.dumps({key: value for key, value in data.items() if value is not ...}))


def test_untrained_heads_are_the_same_every_time_and_leave_the_random_state_alone() -> None:
    state = torch.get_rng_state()
    one, two, other = head(), head(), head(seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert one.weights_sha256 == two.weights_sha256 != other.weights_sha256
    assert one.config == two.config
    assert one.config.weights == "untrained"


@pytest.mark.parametrize("task", sorted(TASKS))
def test_every_task_has_a_head_with_values_in_range(task: str) -> None:
    spec = TASKS[task]
    made = untrained_head(
        task, spec.outputs, spec.scope, spec.activation, "f00d", {"s32": (4, 2, 2), "s8": (2, 8, 8)}, final_channels=6
    )
    assert made.maps == ("s32",)
    values = made.run(maps(3))
    if spec.scope == "clip":
        values = made.pool(values, np.array([8, 8, 3]))
        assert values.shape == (len(spec.outputs),)
    else:
        assert values.shape == (3, 8, len(spec.outputs))
    assert np.abs(values).max() <= 1
    assert spec.activation == "tanh" or values.min() >= 0


@pytest.mark.parametrize(
    ("held", "levels", "read"),
    [
        (("s8", "s16", "s32"), None, ("s8", "s16", "s32")),
        (("s32", "s16"), None, ("s16", "s32")),
        (("s8", "s32"), None, ("s32",)),
        (("s8", "s16", "s32"), 2, ("s16", "s32")),
    ],
)
def test_levels_follow_the_maps(held: tuple[str, ...], levels: int | None, read: tuple[str, ...]) -> None:
    made = head(map_shapes={name: SHAPES[name] for name in held}, levels=levels)
    assert made.maps == read == tuple(made.config.map_shapes)
    assert made.config.levels == len(read)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"map_shapes": {"s16": (3, 4, 4)}}, "reads the maps s32; s32 missing"),
        ({"map_shapes": {"s32": (4, 2, 2)}, "levels": 3}, "s8,s16 missing"),
        ({"levels": 4}, "1, 2 or 3 levels"),
        ({"window": 10}, "not a multiple"),
    ],
)
def test_impossible_heads_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(EmobeamError, match=message):
        head(**options)


def test_the_final_layer_can_start_from_the_backbone() -> None:
    backbone = timm.create_model("mobilenetv4_conv_small", features_only=True)
    made = head(map_shapes={"s32": REAL["s32"]}, final_channels=960, final=backbone.blocks[4].state_dict())
    assert torch.equal(made.module.final.conv.weight, backbone.blocks[4][0].conv.weight)
    assert made.weights_sha256 == tensors_sha256(made.module.state_dict())


def test_activations() -> None:
    logits = torch.tensor([[-1.0, 0.0, 2.0]])
    e = np.exp(logits.numpy())
    np.testing.assert_allclose(activate(logits, "softmax"), e / e.sum(), rtol=1e-6)
    np.testing.assert_allclose(activate(logits, "sigmoid"), e / (1 + e), rtol=1e-6)
    np.testing.assert_allclose(activate(logits, "tanh"), np.tanh(logits.numpy()), rtol=1e-6)
    torch.testing.assert_close(activate(logits, "none"), logits, rtol=0, atol=0)
    with pytest.raises(EmobeamError, match="relu"):
        activate(logits, "relu")


def test_groups_of_outputs_have_activations_of_their_own() -> None:
    logits = torch.randn(4, 22, generator=torch.Generator().manual_seed(1))
    values = activate(logits, "tanh:2,softmax:8,sigmoid:12")
    torch.testing.assert_close(values[:, :2], logits[:, :2].tanh())
    torch.testing.assert_close(values[:, 2:10].sum(dim=1), torch.ones(4))
    torch.testing.assert_close(values[:, 10:], logits[:, 10:].sigmoid())
    with pytest.raises(EmobeamError, match="does not fit 21 outputs"):
        activate(logits[:, :21], "tanh:2,softmax:8,sigmoid:12")


def test_a_saved_head_comes_back_as_it_was(tmp_path: Path) -> None:
    made = head(form="frame", time_patch=2)
    save_head(made, str(tmp_path / "a" / "head"))
    back = load_head(str(tmp_path / "a" / "head"))
    assert back.config == made.config
    assert back.weights_sha256 == made.weights_sha256
    assert np.array_equal(back.run(maps()), made.run(maps()))
    assert sorted(p.name for p in (tmp_path / "a").rglob("*")) == ["head", "head.json", "head.safetensors"]
    save_head(head(form="frame", time_patch=2), str(tmp_path / "b"))
    for name in ("head.json", "head.safetensors"):
        assert (tmp_path / "a" / "head" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_head_lives_in_an_object_store_too() -> None:
    save_head(head(), "memory://heads/va")
    assert load_head("memory://heads/va").weights_sha256 == head().weights_sha256
    fsspec.filesystem("memory").rm("/heads", recursive=True)


def test_a_head_replaces_a_head_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "head"
    target.mkdir()
    save_head(head(), str(target), backbone={"stem": torch.ones(2)})
    assert sorted(p.name for p in target.iterdir()) == ["backbone.safetensors", "head.json", "head.safetensors"]
    save_head(head(seed=1), str(target))
    assert load_head(str(target)).config.seed == 1
    assert sorted(p.name for p in target.iterdir()) == ["head.json", "head.safetensors"]
    assert list(tmp_path.iterdir()) == [target]

    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("years of work")
    with pytest.raises(EmobeamError, match="holds something that is no head"):
        save_head(head(), str(tmp_path / "thesis"))
    assert (tmp_path / "thesis" / "chapter1.tex").exists()


def test_a_failed_save_leaves_the_old_head(tmp_path: Path) -> None:
    save_head(head(), str(tmp_path / "head"))
    broken = head(seed=1)
    object.__setattr__(broken.config, "metrics", {"f1": object()})
    with pytest.raises(TypeError):
        save_head(broken, str(tmp_path / "head"))
    assert load_head(str(tmp_path / "head")).config.seed == 0
    assert [p.name for p in tmp_path.iterdir()] == ["head"]


def test_a_rename_that_fails_puts_the_old_head_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "head"
    save_head(head(), str(target))
    rename = os.rename

    def refuse_fresh(source: Path, destination: Path) -> None:
        if destination == target and load_head(str(source)).config.seed == 1:
            raise OSError("device busy")
        rename(source, destination)

    monkeypatch.setattr(os, "rename", refuse_fresh)
    with pytest.raises(OSError, match="busy"):
        save_head(head(seed=1), str(target))
    assert load_head(str(target)).config.seed == 0
    assert list(tmp_path.iterdir()) == [target]


def test_config_survives_json() -> None:
    config = untrained_head("au", ("AU1", "AU2"), "frame", "sigmoid", "f00d", REAL).config
    assert config_from_json(config_to_json(config)) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "transformer"}, "unknown architecture 'transformer'"),
        ({"activation": "relu"}, "unknown activation 'relu'"),
        ({"learning_rate": 1}, "unknown keys: learning_rate"),
        ({"task": ...}, "missing.*'task'"),
        ({"window": "8"}, "window is '8', expected a int"),
        ({"window": -8}, "must be positive"),
        ({"thresholds": [0.5]}, "1 thresholds for 2 outputs"),
        ({"map_shapes": {"s32": [4, 2]}}, "not enough values"),
        ({"levels": 2}, "levels is 2, map_shapes names 3"),
        ({"schema_version": 99}, "schema_version is 99, this program reads 1"),
        ({"form": "frames"}, "form 'frames'"),
    ],
)
def test_a_wrong_description_is_explained(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    save_head(head(), str(tmp_path / "h"))
    edit(tmp_path / "h", **changes)
    with pytest.raises(EmobeamError, match=rf"h/head\.json: .*{message}"):
        load_head(str(tmp_path / "h"))


@pytest.mark.parametrize("text", ["", "{", "[]", "\udcff"])
def test_a_description_that_is_no_json_is_explained(tmp_path: Path, text: str) -> None:
    save_head(head(), str(tmp_path / "h"))
    (tmp_path / "h" / "head.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(EmobeamError, match=r"head\.json: not (JSON|a JSON object)"):
        load_head(str(tmp_path / "h"))


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(EmobeamError, match=r"nowhere/head\.json: no such file"):
        load_head(str(tmp_path / "nowhere"))
    save_head(head(), str(tmp_path / "h"))
    (tmp_path / "h" / "head.safetensors").unlink()
    with pytest.raises(EmobeamError, match=r"h/head\.safetensors: no such file"):
        load_head(str(tmp_path / "h"))
    with pytest.raises(EmobeamError, match=r"no such file"):
        load_head(str(tmp_path / "h" / "head.json"))


@pytest.mark.parametrize("keep", [0, 4, 1000])
def test_a_cut_weights_file_is_explained(tmp_path: Path, keep: int) -> None:
    save_head(head(), str(tmp_path / "h"))
    file = tmp_path / "h" / "head.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(EmobeamError, match=r"head\.safetensors: damaged"):
        load_head(str(tmp_path / "h"))


def drop(tensors: dict[str, np.ndarray]) -> None:
    del tensors["output.bias"]


def add(tensors: dict[str, np.ndarray]) -> None:
    tensors["gate.weight"] = np.zeros(3, np.float32)


def reshape(tensors: dict[str, np.ndarray]) -> None:
    tensors["output.bias"] = np.zeros(7, np.float32)


def double(tensors: dict[str, np.ndarray]) -> None:
    tensors["output.bias"] = tensors["output.bias"].astype(np.float64)


def poison(tensors: dict[str, np.ndarray]) -> None:
    tensors["output.bias"][1] = np.nan


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (drop, "output.bias is missing"),
        (add, "gate.weight is unexpected"),
        (reshape, r"output.bias is float32 \[7\], the description asks for float32 \[2\]"),
        (double, r"output.bias is float64 \[2\]"),
        (poison, "output.bias holds NaN"),
    ],
)
def test_wrong_tensors_are_named(tmp_path: Path, damage: Any, message: str) -> None:
    save_head(head(), str(tmp_path / "h"))
    file = tmp_path / "h" / "head.safetensors"
    tensors = load_file(file)
    damage(tensors)
    save_file(tensors, file)
    with pytest.raises(EmobeamError, match=rf"head\.safetensors: not the tensors.*{message}"):
        load_head(str(tmp_path / "h"))


def test_weights_of_another_window_are_not_taken(tmp_path: Path) -> None:
    save_head(head(), str(tmp_path / "h"))
    edit(tmp_path / "h", window=16)
    with pytest.raises(EmobeamError, match=r"mixers\.s16\.token_mix.*and 8 more"):
        load_head(str(tmp_path / "h"))


def test_the_digest_is_of_the_tensors() -> None:
    tensors = {"b": torch.arange(4.0), "a": torch.tensor(3)}
    assert tensors_sha256(tensors) == tensors_sha256(dict(reversed(tensors.items())))
    others = [
        {"b": torch.arange(4.0).reshape(2, 2), "a": torch.tensor(3)},
        {"b": torch.arange(4.0).view(torch.int32), "a": torch.tensor(3)},
        {"c": torch.arange(4.0), "a": torch.tensor(3)},
        {"b": torch.arange(4.0) + 1e-7, "a": torch.tensor(3)},
    ]
    assert tensors_sha256(tensors) not in [tensors_sha256(other) for other in others]


def test_a_head_that_fits_gives_no_warnings() -> None:
    assert check_head(head(), Offer("f00d", SHAPES)) == []


def test_rate_and_crop_style_are_warnings() -> None:
    warnings = check_head(head(), Offer("f00d", SHAPES, rate=0.0, crop_style="5pt"))
    assert len(warnings) == 2
    assert "6 frames per second, the cache holds the native frame rate" in warnings[0]
    assert "'square' crops, the cache holds '5pt'" in warnings[1]


def test_other_features_or_maps_are_errors() -> None:
    with pytest.raises(EmobeamError, match=r"f00d.*beef"):
        check_head(head(), Offer("beef", SHAPES))
    with pytest.raises(EmobeamError, match=r"lacks s8,s16; extract with --maps s8,s16,s32"):
        check_head(head(), Offer("f00d", {"s32": (4, 2, 2)}))
    with pytest.raises(EmobeamError, match=r"map s8 of shape \(2, 8, 8\).*\(2, 16, 16\)"):
        check_head(head(), Offer("f00d", {**SHAPES, "s8": (2, 16, 16)}))


def test_running_leaves_torch_as_it_was() -> None:
    threads, tf32 = torch.get_num_threads(), torch.backends.cudnn.allow_tf32
    made = head()
    made.module.train()
    first, second = made.run(maps()), made.run(maps())
    assert np.array_equal(first, second)  # no dropout, no batch statistics
    assert (torch.get_num_threads(), torch.backends.cudnn.allow_tf32) == (threads, tf32)
    assert not torch.is_inference_mode_enabled()
