"""The detector of a config."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from emobeam.emo_transforms.faces.crops import Detector
from emobeam.emo_transforms.faces.detection.facenet_detector import FacenetDetector
from emobeam.emo_transforms.faces.detection.following import FollowingDetector
from emobeam.emo_transforms.faces.detection.gate import shipped_gate
from emobeam.emo_transforms.faces.detection.mtcnn import MtcnnDetector
from emobeam.emo_transforms.faces.detection.mtcnn_networks import MtcnnNetworks
from emobeam.schemas.config import DetectorConfig

_NEAR_BATCHES = (4, 2, 1)
"""Tiles and crops per call where a frame has a face or two."""


def make_detector(config: DetectorConfig, engine: str = "torch", device: str = "cpu") -> Detector:
    """MTCNN as the config has it: every frame for itself (``exact``), with short cuts (``track``), or ``facenet``.

    Args:
        engine: a concrete one, see ``emobeam.emo_transforms.networks.engines``; facenet-pytorch runs on torch whatever
            it is.
        device: a torch device; with OpenVINO ``cpu``.

    Raises:
        UsageError: the engine is missing, or facenet-pytorch where it is asked for.
        EmobeamError: the package's weights are missing or damaged.
    """
    if config.mode == "facenet":
        return FacenetDetector(config, device)
    if config.mode == "exact":
        return _warm(MtcnnDetector(config, MtcnnNetworks(engine, device), shipped_gate()))
    every = replace(config, keep=0.0)
    scanner = _warm(MtcnnDetector(every, MtcnnNetworks(engine, device), shipped_gate()))
    # A lost face is looked for in a few tiles: to miss it would cost more than to look at them all.
    near = MtcnnDetector(every, MtcnnNetworks(engine, device, _NEAR_BATCHES), None)
    return FollowingDetector(scanner, near, config.keep)


def _warm(detector: MtcnnDetector) -> MtcnnDetector:
    """Loads, or compiles, its loops now: else the first video would seem slow."""
    frame = np.random.default_rng(0).integers(0, 256, (80, 80, 3), np.uint8)
    config = replace(detector.config, min_face=20, thresholds=(0.01, 0.01, 0.01), keep=0.0)
    MtcnnDetector(config, detector.networks, shipped_gate()).detect([frame])
    return detector
