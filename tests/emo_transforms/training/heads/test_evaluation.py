"""What a streaming head gives on the hold-out is what stage 2 gives, wherever reading cuts a video."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from emobeam.emo_transforms.abaw.labels.reading import read_labels
from emobeam.emo_transforms.networks.heads.head import Head
from emobeam.emo_transforms.networks.weights_digest import tensors_sha256
from emobeam.emo_transforms.prediction.windows import Row, predict_frames
from emobeam.emo_transforms.training.heads.evaluation import predict_logits, values_of
from emobeam.emo_transforms.training.heads.head_start import head_config, start_module
from emobeam.emo_transforms.training.heads.recipe import recipe_named
from emobeam.emo_transforms.training.heads.row_groups import Source, gathered, read_unit, source_of
from emobeam.emo_transforms.training.heads.samples import Joined, check_cut, join_labels
from emobeam.emo_transforms.training.heads.window_plans import Plan, evaluation_plan
from emobeam.schemas.predict_config import PredictConfig
from emobeam.schemas.records import EmobeamError
from emobeam.schemas.tasks import TASKS
from tests.emo_transforms.training.data import Clip, dataset, make_data

GAP = 0.5
WINDOW = 48
TASK = TASKS["va"]


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Joined]:
    folder = tmp_path_factory.mktemp("streams")
    # 48 rows and a gap right behind them; a gap inside a window; several units and shards; a short one.
    clips = [
        Clip("edge", 120, seed=1, gaps=(48, 49, 50, 51)),
        Clip("holes", 150, seed=2, gaps=(20, 70, 71, 72, 73, 74)),
        Clip("long", 1200, seed=3, segments=3, gaps=tuple(range(600, 606))),
        Clip("short", 9, seed=4),
    ]
    features, labels = make_data(folder, "va", clips)
    return str(features), join_labels(
        str(features), dataset(), TASK, list(read_labels(str(labels), TASK, warn=pytest.fail))
    )


@pytest.fixture(scope="module")
def head() -> Head:
    recipe = recipe_named("emobeam", "va", ["architecture=tcn", "levels=1", "final_start=random"])
    config = head_config(TASK, dataset(), recipe, 7, final_channels=16)
    assert config.window == WINDOW
    module = start_module(config).eval()
    return Head(config, module, tensors_sha256(module.state_dict()))


def rows_of(source: Source, plan: Plan, face: int) -> list[Row]:
    """Each row of a face, read by itself."""
    found: dict[int, Row] = {}
    known = plan.faces[face]
    for unit in plan.units:
        if unit.face == face:
            every = np.arange(len(unit.positions), dtype=np.int32)[:, None]
            maps = gathered(unit, read_unit(source, unit), every)
            for place, position in enumerate(unit.positions.tolist()):
                own = {name: values[place, 0].numpy() for name, values in maps.items()}
                found[position] = Row("a", int(known.frame[position]), float(known.time[position]), own)
    return [found[position] for position in sorted(found)]


@pytest.mark.parametrize("shape", [(3, 1, 1), (3, 4, 5)])
def test_maps_of_another_shape_are_not_spread(joined: tuple[str, Joined], shape: tuple[int, ...]) -> None:
    """As many values as the shard has would fit into larger ones without a word."""
    features, data = joined
    (unit, *_) = evaluation_plan(data, "frame", [0], length=WINDOW, gap=GAP).units
    with pytest.raises(EmobeamError, match=r"a shard's map_s16 is \[3, 4, 4\] instead of"):
        read_unit(Source(features, {"s16": shape}), unit)


@pytest.mark.parametrize("batch", [1, 2, 64])
def test_a_streaming_head_goes_on_as_in_stage_2(joined: tuple[str, Joined], head: Head, batch: int) -> None:
    torch.set_num_threads(1)
    features, data = joined
    source = source_of(features, dataset(), head.module.inputs)
    plan = evaluation_plan(data, "frame", range(len(data.faces)), length=WINDOW, gap=GAP)
    units = [unit.face for unit in plan.units]
    assert max(units.count(face) for face in units) > 1, "a video is read in several parts"
    values = values_of(predict_logits(head.module, source, plan, batch=batch * 6), head.config.activation)
    for index, face in enumerate(data.faces):
        rows = rows_of(source, plan, index)
        frames, expected = predict_frames(head, rows, PredictConfig(window_gap=GAP))["a"]
        assert frames.tolist() == face.frame.tolist()
        np.testing.assert_allclose(values[index], expected, atol=2e-5, err_msg=face.name)
    by_windows = replace_streams(head, source, plan)
    long = next(index for index, face in enumerate(data.faces) if face.name == "long")
    assert np.abs(by_windows[long] - values[long]).max() > 1e-3, "windows by themselves give something else"


def replace_streams(head: Head, source: Source, plan: Plan) -> dict[int, np.ndarray]:
    head.module.streams = False
    try:
        return values_of(predict_logits(head.module, source, plan), head.config.activation)
    finally:
        head.module.streams = True


def test_a_cut_is_looked_at_before_training(joined: tuple[str, Joined]) -> None:
    faces = joined[1].faces
    assert check_cut(TASK, faces, (0, 1), (2,)) == []
    assert check_cut(TASK, faces, (0, 1), ()) == []
    mute = replace(faces[3], valid=np.zeros_like(faces[3].valid))
    with pytest.raises(EmobeamError, match="none of the 1 held-out videos"):
        check_cut(TASK, (*faces[:3], mute), (0, 1), (3,))
    with pytest.raises(EmobeamError, match="none of the 1 training videos"):
        check_cut(TASK, (*faces[:3], mute), (3,), (0, 1))
    labels = np.tile(np.array([[2]], np.float32), (len(faces[0]), 1))
    (told,) = check_cut(TASKS["expr"], [replace(faces[0], labels=labels)], (0,), (0,))
    assert TASKS["expr"].outputs[2] not in told
    assert all(name in told for index, name in enumerate(TASKS["expr"].outputs) if index != 2)
