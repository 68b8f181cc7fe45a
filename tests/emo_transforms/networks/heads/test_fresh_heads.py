"""Heads that are made: ready ones, untrained ones, and what a cache or a backbone lets them read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emobeam.emo_transforms.cache.dataset import Dataset
from emobeam.emo_transforms.networks.heads.files import load_head, save_head
from emobeam.emo_transforms.networks.heads.folder import check_head
from emobeam.emo_transforms.networks.heads.fresh_configs import dropped_scores, has_ready_head, ready_config
from emobeam.emo_transforms.networks.heads.fresh_heads import new_head, ready_head, untrained_for, untrained_head
from emobeam.emo_transforms.networks.heads.offer import Offer
from emobeam.schemas.config import BackboneConfig, ExtractConfig
from emobeam.schemas.records import EmobeamError, UsageError
from emobeam.schemas.tasks import TASKS
from tests.emo_transforms.networks.heads.kinds import EIGHT, LENGTHS, OFFER, SHAPES, arrays, make

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
    from emobeam.emo_transforms.networks.backbones.published.catalogue import CATALOGUE, ready_outputs

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
    config = ExtractConfig(backbone=BackboneConfig(name="b0", weights="w", vectors=True, classes=8, score_names=EIGHT))
    dataset = Dataset(config, {}, embedding=1280, scores=8)
    offer = dataset.offer
    assert dict(offer.vectors) == {"embedding": 1280, "scores": 8}
    assert (offer.features_id, offer.backbone, offer.score_names) == (config.features_id, "b0", EIGHT)
    made = new_head(TASKS["au"], dataset.offer, architecture="frame", seed=3)
    assert made.config.vector_lengths == {"embedding": 1280}
    assert (made.config.seed, made.config.backbone, made.config.features_id) == (3, "b0", config.features_id)


def test_which_tasks_the_scores_of_a_backbone_answer() -> None:
    assert has_ready_head(TASKS["expr"], OFFER)
    assert has_ready_head(TASKS["va"], OFFER)
    assert not has_ready_head(TASKS["au"], OFFER)
    assert not has_ready_head(TASKS["expr"], Offer("f00d", SHAPES))


def test_what_ready_heads_leave_out_is_told() -> None:
    """Contempt was dropped before the softmax, without a word."""
    text = dropped_scores(ready_config(TASKS["expr"], OFFER), OFFER)
    assert "its class Contempt is dropped before the softmax, so such faces get other classes" in text
    assert text.endswith("; Other is unknown to it and never chosen")
    assert dropped_scores(ready_config(TASKS["va"], OFFER), OFFER) == ""
    seven = Offer(**{**OFFER.__dict__, "score_names": tuple(TASKS["expr"].outputs), "vectors": {"scores": 8}})
    assert dropped_scores(ready_config(TASKS["expr"], seven), seven) == ""


def test_other_columns_do_not_decide_whether_a_head_fits() -> None:
    """With ``--store maps,crops,embedding`` the shipped head was refused, by the same names on both sides."""
    plain = BackboneConfig(name="b0", weights="w")
    wider = replace(plain, vectors=True, classes=8, score_names=EIGHT)
    offers = [
        Dataset(ExtractConfig(backbone=each), SHAPES, embedding=length, scores=length).offer
        for each, length in ((plain, 0), (wider, 8))
    ]
    assert offers[0].features_id != offers[1].features_id
    for made_for in offers:
        head = new_head(TASKS["au"], made_for, final_channels=6)
        assert [check_head(head, offer) for offer in offers] == [[], []]
    of_vectors = new_head(TASKS["au"], offers[1], architecture="frame")
    with pytest.raises(EmobeamError, match="was made for features"):
        check_head(of_vectors, offers[0])


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


# --- against a cache --------------------------------------------------------------------------------------


def test_vectors_that_a_cache_lacks() -> None:
    made = make("frame of all", "va")
    assert check_head(made, Offer("f00d", SHAPES, LENGTHS)) == []
    with pytest.raises(EmobeamError, match="lacks embedding,scores; extract with --store maps,embedding,scores"):
        check_head(made, Offer("f00d", SHAPES))
    with pytest.raises(EmobeamError, match="lacks scores; extract with --store maps,embedding,scores"):
        check_head(made, Offer("f00d", SHAPES, {"embedding": 7}))
    with pytest.raises(EmobeamError, match="embedding of length 7, the cache holds 512"):
        check_head(made, Offer("f00d", SHAPES, {"embedding": 512, "scores": 10}))
