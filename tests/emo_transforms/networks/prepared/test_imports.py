"""What processes import that only run networks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("openvino", reason="OpenVINO isn't installed")

FORBIDDEN = ("torch", "torchvision", "timm", "apache_beam")

NETWORKS = """
import numpy as np
from emobeam.emo_transforms.networks.backbones import describe_backbone, embed, load_backbone, named
from emobeam.emo_transforms.networks.engines import head_engine, resolve_engine
from emobeam.emo_transforms.networks.heads.fresh_configs import has_ready_head
from emobeam.emo_transforms.networks.heads.prepared_heads import load_prepared_head
from emobeam.emo_transforms.networks.shipped import shipped
engine = resolve_engine("auto", "cpu")
described = describe_backbone(*named("", ""), engine=engine)
backbone = load_backbone(described.config, engine=engine)
crops = list(np.random.default_rng(0).integers(0, 256, (8, *2 * (described.config.input_size,), 3), np.uint8))
maps = embed(backbone, crops, ("s8", "s16", "s32"), 4)
for ours in shipped().heads.values():
    head = load_prepared_head(str(ours.folder))
    values = head.run({name: maps[name][None].astype(np.float16) for name in head.inputs})
    assert np.isfinite(values).all()
"""

STAGE_2 = """
import numpy as np
from emobeam.emo_transforms.cache.dataset import Dataset
from emobeam.emo_transforms.networks.backbones import describe_backbone, named
from emobeam.emo_transforms.prediction.predict_job import HeadSpec, VideoJob
from emobeam.emo_transforms.video.decoding_process import Decoders
from emobeam.schemas.config import ExtractConfig
from emobeam.schemas.predict_config import PredictConfig
described = describe_backbone(*named("", ""), engine="openvino-f32")
dataset = Dataset(ExtractConfig(backbone=described.config, store=("maps",)), dict(described.map_shapes))
specs = (HeadSpec("au", "shipped"),)
VideoJob(specs, dataset, "features", "out", PredictConfig(engine="openvino-f32")).open(Decoders())
"""

STAGE_1 = """
from emobeam.emo_transforms.extraction.segment_job import SegmentJob
from emobeam.emo_transforms.networks.engines import resolve_engine
from emobeam.emo_transforms.video.decoding_process import Decoders
from emobeam.pipelines.stages.extract import resolve_config
from emobeam.schemas.config import BackboneConfig, ExtractConfig
from emobeam.emo_transforms.networks.backbones import named
name, weights = named("", "")
asked = ExtractConfig(backbone=BackboneConfig(name=name, weights=weights, input_size=0))
from dataclasses import replace
resolved = resolve_config(replace(asked, engine=resolve_engine("auto", "cpu"))).config
SegmentJob(resolved, "features").open(Decoders())
"""

DEVICE = """
from emobeam.pipelines.requests import concrete_device
assert concrete_device("auto") == "cpu"
"""

MODELS = """
from emobeam.pipelines.models import describe_models, describe_shipped
from emobeam.pipelines.prepare_models import prepare_models
describe_models(), describe_shipped()
"""


@pytest.mark.parametrize(
    "code", [NETWORKS, STAGE_1, STAGE_2, DEVICE, MODELS], ids=["networks", "stage 1", "stage 2", "device", "models"]
)
def test_torch_stays_out(code: str, tmp_path: Path) -> None:
    end = f"import sys\nprint(*sorted(set(sys.modules) & set({FORBIDDEN!r})))"
    done = subprocess.run([sys.executable, "-c", code + end], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
